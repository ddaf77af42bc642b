//! What became of connections that did not simply serve requests: those of clients that were closed before their time, and those
//! that there was no room for. All of it is rare, so the counters are shared by all workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a client's connection was closed from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The head of a request did not arrive in time.
    HeadTimeout,
    /// There was no request for too long, or its place was needed.
    Idle,
    /// No byte moved while a request was under way.
    Stalled,
    /// The client did not take its answer.
    WriteStalled,
    /// The client reset too many streams before they were answered (HTTP/2).
    RapidReset,
    /// Too many bytes that carried nothing (HTTP/2).
    EmptyFlood,
    /// A limit of the HTTP/2 library against abuse.
    Http2Limit,
    /// The client broke the protocol.
    ProtocolError,
}

impl Closing {
    pub(super) const ALL: [Self; 8] = [
        Self::HeadTimeout,
        Self::Idle,
        Self::Stalled,
        Self::WriteStalled,
        Self::RapidReset,
        Self::EmptyFlood,
        Self::Http2Limit,
        Self::ProtocolError,
    ];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HeadTimeout => "head_timeout",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::WriteStalled => "write_stalled",
            Self::RapidReset => "rapid_reset",
            Self::EmptyFlood => "empty_flood",
            Self::Http2Limit => "http2_limit",
            Self::ProtocolError => "protocol_error",
        }
    }
}

/// What the operating system had no more of, by the number of its error on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Descriptors of the whole system.
    Enfile,
    /// Descriptors of the process.
    Emfile,
    /// Memory.
    Enomem,
    /// Local ports.
    Eaddrnotavail,
    /// Buffers.
    Enobufs,
    /// Something else.
    Other,
}

impl Shortage {
    pub(super) const ALL: [Self; 6] =
        [Self::Enfile, Self::Emfile, Self::Enomem, Self::Eaddrnotavail, Self::Enobufs, Self::Other];

    /// The shortage that an error of the operating system speaks of.
    #[must_use]
    pub fn of(errno: Option<i32>) -> Self {
        match errno {
            Some(12) => Self::Enomem,
            Some(23) => Self::Enfile,
            Some(24) => Self::Emfile,
            Some(99) => Self::Eaddrnotavail,
            Some(105) => Self::Enobufs,
            _ => Self::Other,
        }
    }

    /// The label value: the name that manuals know.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enfile => "ENFILE",
            Self::Emfile => "EMFILE",
            Self::Enomem => "ENOMEM",
            Self::Eaddrnotavail => "EADDRNOTAVAIL",
            Self::Enobufs => "ENOBUFS",
            Self::Other => "other",
        }
    }
}

/// The counters of connections. All series exist from the start.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    closed: [AtomicU64; Closing::ALL.len()],
    accept: [AtomicU64; Shortage::ALL.len()],
    connect: [AtomicU64; Shortage::ALL.len()],
}

impl ConnectionMetrics {
    /// A client's connection was closed from our side.
    pub fn closed(&self, why: Closing) {
        self.closed[why as usize].fetch_add(1, Relaxed);
    }

    /// A connection could not be accepted for want of something.
    pub fn accept_failed(&self, for_want_of: Shortage) {
        self.accept[for_want_of as usize].fetch_add(1, Relaxed);
    }

    /// A connection to an endpoint could not be opened for want of something.
    pub fn connect_failed(&self, for_want_of: Shortage) {
        self.connect[for_want_of as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn closings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Closing::ALL.iter().map(|why| (why.as_str(), self.closed[*why as usize].load(Relaxed)))
    }

    pub(super) fn accept_errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        of_shortages(&self.accept)
    }

    pub(super) fn connect_errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        of_shortages(&self.connect)
    }
}

fn of_shortages(counts: &[AtomicU64]) -> impl Iterator<Item = (&'static str, u64)> {
    Shortage::ALL.iter().map(|of| (of.as_str(), counts[*of as usize].load(Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_under_its_own_name() {
        let metrics = ConnectionMetrics::default();
        for (number, why) in Closing::ALL.into_iter().enumerate() {
            (0..=number).for_each(|_| metrics.closed(why));
        }
        let counted: Vec<_> = metrics.closings().collect();
        assert_eq!((counted[0], counted[7]), (("head_timeout", 1), ("protocol_error", 8)));
        metrics.accept_failed(Shortage::of(Some(24)));
        metrics.connect_failed(Shortage::of(Some(99)));
        metrics.connect_failed(Shortage::of(None));
        let some = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| -> Vec<_> {
            counts.filter(|(_, count)| *count > 0).collect()
        };
        assert_eq!(some(&mut metrics.accept_errors()), [("EMFILE", 1)]);
        assert_eq!(some(&mut metrics.connect_errors()), [("EADDRNOTAVAIL", 1), ("other", 1)]);
    }
}
