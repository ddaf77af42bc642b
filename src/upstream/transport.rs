//! How a cluster's endpoints are spoken to. Two clusters that differ in it share no connection.

use std::sync::Arc;
use std::time::Duration;

use super::tls::Tls;

/// How a cluster's endpoints are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// HTTP/2 from the first byte; none: HTTP/1.1.
    pub http2: Option<Http2Policy>,
    /// TLS; none: plain text.
    pub tls: Option<Arc<Tls>>,
    /// Probes of idle TCP connections.
    pub keepalive: Keepalive,
}

impl Transport {
    /// Names what makes a connection of one transport useless for another.
    pub fn identity(&self) -> String {
        let protocol = if self.http2.is_some() { "h2" } else { "http/1.1" };
        let tls = self.tls.as_ref().map_or("", |tls| tls.fingerprint());
        format!("{protocol}|{tls}")
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

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(15), interval: Duration::from_secs(5), probes: 3 }
    }
}
