//! What a worker counts and says of connections, and of requests that have no record of their own.

use std::io;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use http::Method;
use tokio::time::Instant;

use super::Worker;
use crate::snapshot::Destination;
use crate::telemetry::access_log::Line;
use crate::telemetry::{Closing, Finished, Flag, ProxyError, Shed, Shortage};
use crate::upstream::{ConnectError, Endpoint};

/// The same trouble with an endpoint is logged at most this often by one worker …
const LOG_PERIOD: Duration = Duration::from_secs(1);
/// … and what lasts this often.
pub(super) const LONG_LOG_PERIOD: Duration = Duration::from_secs(10);

impl Worker {
    /// A request was turned away at the door.
    pub(in crate::proxy) fn count_shed(&self, why: Shed) {
        self.shared.overload.shed(self.shard(), why);
    }

    /// A request that hyper refused before it reached the handler.
    pub fn count_malformed(&self, error: &hyper::Error) {
        self.count_refused(if error.is_parse_too_large() { 431 } else { 400 }, Flag::DPE);
    }

    /// A request whose head did not arrive in time.
    pub fn count_slow(&self) {
        self.count_refused(408, Flag::SI);
    }

    /// A connection was closed from our side.
    pub(in crate::proxy) fn count_closed(&self, why: Closing) {
        self.shared.connections.closed(why);
    }

    fn count_refused(&self, status: u16, flag: Flag) {
        let unknown = Method::from_bytes(b"_OTHER").unwrap_or_default();
        let finished = Finished {
            method: &unknown,
            status,
            flags: flag.into(),
            error: Some(ProxyError::HttpRequestError),
            aborted: None,
            duration: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            grpc: None,
        };
        self.shared.unrouted.finished(self.shard(), &finished);
        if let Some(log) = self.log() {
            let (time, flags) = (Some(SystemTime::now()), finished.flags.to_string());
            log.log(Box::new(Line { time, method: unknown, status, flags, ..Line::default() }));
        }
    }

    /// Says that an endpoint cannot be reached, at most once a second for each.
    pub fn report_unreachable(&self, destination: &Destination, endpoint: &Endpoint, error: &ConnectError) {
        if let ConnectError::Exhausted(error) = error {
            self.shared.connections.connect_failed(Shortage::of(error.raw_os_error()));
        }
        let name = destination.cluster.name();
        if self.may_log(&format!("{name} {}", endpoint.name()), LOG_PERIOD) {
            tracing::warn!(
                "cannot reach {name} at {}: {error} (declared at {})",
                endpoint.name(),
                destination.declared_at
            );
        }
    }

    /// Says that connections cannot be accepted, now and then.
    pub fn report_accept_error(&self, error: &io::Error) {
        self.shared.connections.accept_failed(Shortage::of(error.raw_os_error()));
        if self.may_log("accept", LONG_LOG_PERIOD) {
            tracing::error!("cannot accept a connection: {error}; trying again");
        }
    }

    pub(super) fn may_log(&self, what: &str, period: Duration) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        logged.retain(|_, until| now < *until);
        if logged.contains_key(what) {
            return false;
        }
        logged.insert(what.to_owned(), now + period);
        true
    }
}
