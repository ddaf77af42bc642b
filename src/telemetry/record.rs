//! What the proxy says once about a finished request and about each of its attempts, and where in the counters those
//! words fall. Only plain values: nothing here is kept.

use std::time::Duration;

use http::Method;

use super::failure::{Blame, ProxyError};
use super::flag::{Flag, Flags};

/// One finished client request: what [`RouteMetrics::finished`](super::RouteMetrics::finished) records.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// The client's method; others than the nine standard ones are counted as `_OTHER`.
    pub method: &'a Method,
    /// The status the client got; 499 when it went away. Outside 100–599 it is counted as `other`. With 101, the duration is
    /// that of a tunnel, and counted as such.
    pub status: u16,
    /// In which ways it ended unusually, if it did.
    pub flags: Flags,
    /// Why it failed, if it did. That its client went away is no failure.
    pub error: Option<ProxyError>,
    /// Who ended its answer after it had begun and before it was complete, if somebody did.
    pub aborted: Option<Blame>,
    /// First request byte in to last response byte out; of a connection that was upgraded (status 101), to its end.
    pub duration: Duration,
    /// Body bytes the client sent.
    pub bytes_in: u64,
    /// Body bytes the client was sent.
    pub bytes_out: u64,
    /// How the call of gRPC ended, if it is one: 0–16, others are counted as `other`.
    pub grpc: Option<u8>,
}

/// How one attempt at an upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// The upstream answered with this status.
    Status(u16),
    /// It did not answer, for this reason.
    Failed(Flag),
}

impl AttemptResult {
    pub(super) const COUNT: usize = Class::COUNT + Flag::COUNT;

    pub(super) fn index(self) -> usize {
        match self {
            Self::Status(status) => Class::of(status) as usize,
            Self::Failed(flag) => Class::COUNT + flag as usize,
        }
    }

    /// The label value of the result counted at `index`.
    pub(super) fn label(index: usize) -> &'static str {
        match Class::ALL.get(index) {
            Some(class) => class.as_str(),
            None => Flag::ALL[index - Class::COUNT].as_str(),
        }
    }
}

/// What became of one copy of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorResult {
    /// It was answered, with whatever status.
    Sent,
    /// Too many copies were under way.
    DroppedBusy,
    /// The request's body was too large to be kept for it.
    DroppedSize,
    /// All bodies that are kept have as much memory as they may.
    DroppedMemory,
    /// It could not be sent, or was not answered in time.
    Error,
}

impl MirrorResult {
    pub(super) const ALL: [Self; 5] =
        [Self::Sent, Self::DroppedBusy, Self::DroppedSize, Self::DroppedMemory, Self::Error];

    /// The label value.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::DroppedBusy => "dropped_busy",
            Self::DroppedSize => "dropped_size",
            Self::DroppedMemory => "dropped_memory",
            Self::Error => "error",
        }
    }
}

/// The class of a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Informational,
    Successful,
    Redirection,
    ClientError,
    ServerError,
    Other,
}

impl Class {
    pub(super) const COUNT: usize = Self::ALL.len();
    pub(super) const ALL: [Self; 6] =
        [Self::Informational, Self::Successful, Self::Redirection, Self::ClientError, Self::ServerError, Self::Other];

    pub(super) fn of(status: u16) -> Self {
        match status {
            100..200 => Self::Informational,
            200..300 => Self::Successful,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500..600 => Self::ServerError,
            _ => Self::Other,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Other => "other",
        }
    }
}

/// The label values of `method`, in the order of [`method_index`].
pub(super) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "_OTHER"];

pub(super) fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::CONNECT => 5,
        Method::OPTIONS => 6,
        Method::TRACE => 7,
        Method::PATCH => 8,
        _ => 9,
    }
}

/// The label values of `grpc_status`, in the order of [`grpc_index`].
pub(super) const GRPC_STATUSES: [&str; 18] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "other"];

pub(super) fn grpc_index(status: u8) -> usize {
    usize::from(status).min(GRPC_STATUSES.len() - 1)
}

/// The code of a request that turned its connection into a tunnel.
pub(super) const SWITCHED: u16 = 101;

/// The code that a client which went away is recorded with (nginx's, known from its logs).
pub(super) const CLIENT_WENT_AWAY: u16 = 499;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_at_their_edges() {
        let labels = [0, 99, 100, 199, 200, 299, 300, 499, 500, 599, 600, u16::MAX].map(|s| Class::of(s).as_str());
        assert_eq!(
            labels,
            ["other", "other", "1xx", "1xx", "2xx", "2xx", "3xx", "4xx", "5xx", "5xx", "other", "other"]
        );
    }

    #[test]
    fn results_have_distinct_indices_that_give_their_label_back() {
        assert_eq!(AttemptResult::label(AttemptResult::Status(204).index()), "2xx");
        assert_eq!(AttemptResult::label(AttemptResult::Status(999).index()), "other");
        for flag in Flag::ALL {
            assert_eq!(AttemptResult::label(AttemptResult::Failed(flag).index()), flag.as_str());
        }
        assert_eq!(AttemptResult::Failed(Flag::UT).index(), AttemptResult::COUNT - 1);
    }

    #[test]
    fn every_grpc_status_that_is_none_is_other() {
        let labels = [0, 1, 16, 17, u8::MAX].map(|status| GRPC_STATUSES[grpc_index(status)]);
        assert_eq!(labels, ["0", "1", "16", "other", "other"]);
    }

    #[test]
    fn methods() {
        for name in &METHODS[..9] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(METHODS[method_index(&method)], *name);
        }
        for name in ["get", "PURGE", "PROPFIND", "_OTHER", "A_VERY_LONG_METHOD_NAME_INDEED"] {
            assert_eq!(METHODS[method_index(&Method::from_bytes(name.as_bytes()).unwrap())], "_OTHER");
        }
    }
}
