//! How a cluster's endpoints are spoken to. Two clusters that differ in it share no connection.

use std::sync::Arc;
use std::time::Duration;

use http::Version;

use super::tls::Tls;

/// How a cluster's endpoints are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// HTTP/2 from the first byte; none: HTTP/1.1.
    pub http2: Option<Http2Policy>,
    /// HTTP/2 only for requests that came as HTTP/2, HTTP/1.1 for others: `useClientProtocol`.
    pub as_client: bool,
    /// TLS; none: plain text.
    pub tls: Option<Arc<Tls>>,
    /// Probes of idle TCP connections.
    pub keepalive: Keepalive,
}

impl Transport {
    /// Names what makes a connection of one transport useless for another.
    pub fn identity(&self) -> String {
        let protocol = match (self.http2, self.as_client) {
            (None, _) => "http/1.1",
            (Some(_), false) => "h2",
            (Some(_), true) => "both",
        };
        let tls = self.tls.as_ref().map_or("", |tls| tls.fingerprint());
        format!("{protocol}|{tls}")
    }

    /// How HTTP/2 is spoken for a request of a client that speaks this version; none: HTTP/1.1 is.
    pub fn http2_for(&self, client: Version) -> Option<Http2Policy> {
        self.http2.filter(|_| !self.as_client || client == Version::HTTP_2)
    }
}

/// Limits of an HTTP/2 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Policy {
    /// The most streams at once, if the endpoint allows as many: `http.maxConcurrentStreams`.
    pub streams: u32,
    /// A PING after this long without a frame (`http2KeepAlive.interval`; 10 s if not given).
    pub ping_interval: Duration,
    /// How long its answer may take (`http2KeepAlive.timeout`; 10 s if not given).
    pub ping_timeout: Duration,
}

impl Default for Http2Policy {
    fn default() -> Self {
        Self { streams: u32::MAX >> 1, ping_interval: Duration::from_secs(10), ping_timeout: Duration::from_secs(10) }
    }
}

/// TCP keep-alive: a peer that vanished without a word is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe: `tcpKeepalive.time`; 15 s if not given.
    pub time: Duration,
    /// Between probes: `tcpKeepalive.interval`; 5 s if not given.
    pub interval: Duration,
    /// Probes without an answer after which the connection is gone: `tcpKeepalive.probes`; 3 if not given.
    pub probes: u32,
}

/// Bytes that nobody acknowledges are given up after this, if probes do not say so before.
const MOST_PATIENCE: Duration = Duration::from_secs(20);

impl Keepalive {
    /// The nearest that the system takes (tcp(7)): whole seconds from 1 to 32,767, and 1 to 127 probes. With anything else no
    /// connection could be opened.
    pub(super) fn possible(self) -> Self {
        let seconds = |time: Duration| Duration::from_secs(time.as_secs().clamp(1, 32_767));
        Self { time: seconds(self.time), interval: seconds(self.interval), probes: self.probes.clamp(1, 127) }
    }

    /// How long a peer may leave bytes unacknowledged, or probes unanswered: the system counts this time instead of the probes.
    pub(super) fn patience(self) -> Duration {
        (self.time + self.interval * self.probes).min(MOST_PATIENCE)
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(15), interval: Duration::from_secs(5), probes: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_as_the_system_takes_them() {
        let of = |time, interval, probes| {
            let (time, interval) = (Duration::from_millis(time), Duration::from_millis(interval));
            let Keepalive { time, interval, probes } = Keepalive { time, interval, probes }.possible();
            (time.as_millis(), interval.as_millis(), probes)
        };
        assert_eq!(of(15_000, 5_000, 3), (15_000, 5_000, 3));
        assert_eq!(of(100, 1_999, 0), (1_000, 1_000, 1));
        assert_eq!(of(40_000_000, 40_000_000, 200), (32_767_000, 32_767_000, 127));
    }

    #[test]
    fn who_probes_more_often_is_less_patient() {
        let patience = |time, interval, probes| {
            let (time, interval) = (Duration::from_secs(time), Duration::from_secs(interval));
            Keepalive { time, interval, probes }.patience().as_secs()
        };
        assert_eq!([patience(1, 1, 2), patience(4, 2, 7), patience(15, 5, 3), patience(7_200, 75, 9)], [3, 18, 20, 20]);
        assert_eq!(patience(32_767, 32_767, 127), 20);
    }

    #[test]
    fn the_client_decides_only_where_it_may() {
        let versions = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2];
        let spoken = |transport: &Transport| versions.map(|version| transport.http2_for(version).is_some());
        let http1 = Transport::default();
        let http2 = Transport { http2: Some(Http2Policy::default()), ..Transport::default() };
        let both = Transport { as_client: true, ..http2.clone() };
        assert_eq!(spoken(&http1), [false; 3]);
        assert_eq!(spoken(&http2), [true; 3]);
        assert_eq!(spoken(&both), [false, false, true]);
        let mut identities = [http1, http2, both].map(|transport| transport.identity()).to_vec();
        identities.dedup();
        assert_eq!(identities.len(), 3);
    }
}
