//! `fault`, as data: what is injected, and into how many requests. The two draws are independent.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::filters::Chance;
use crate::config::resource::virtual_service::{FaultAbort, FaultDelay, HttpFault};
use crate::config::value::GRPC_STATUSES;

/// Faults that a rule injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    delay: Option<(Duration, Chance)>,
    abort: Option<(Abort, Chance)>,
}

/// The answer that stands for the destination's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// This HTTP status.
    Http(StatusCode),
    /// HTTP 200 with this gRPC status.
    Grpc(u8),
}

impl Fault {
    /// None if it never happens.
    pub(super) fn new(written: &HttpFault) -> Option<Self> {
        let fault =
            Self { delay: written.delay.as_ref().and_then(delay), abort: written.abort.as_ref().and_then(abort) };
        (fault.delay.is_some() || fault.abort.is_some()).then_some(fault)
    }

    /// How long to hold a request back, if it is one of those. `draw` is asked for a uniform random number.
    pub fn delay(&self, draw: impl FnOnce() -> u64) -> Option<Duration> {
        self.delay.filter(|(_, chance)| chance.hits(draw())).map(|(time, _)| time)
    }

    /// The answer that a request gets, if it is one of those.
    pub fn abort(&self, draw: impl FnOnce() -> u64) -> Option<Abort> {
        self.abort.filter(|(_, chance)| chance.hits(draw())).map(|(abort, _)| abort)
    }
}

impl fmt::Display for Fault {
    /// `50 % delayed by 5s, 10 % aborted with 500`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((time, chance)) = self.delay {
            write!(f, "{} % delayed by {time:?}", chance.share() * 100.0)?;
        }
        if self.delay.is_some() && self.abort.is_some() {
            f.write_str(", ")?;
        }
        match self.abort {
            Some((Abort::Http(status), chance)) => {
                write!(f, "{} % aborted with {}", chance.share() * 100.0, status.as_u16())
            }
            Some((Abort::Grpc(code), chance)) => {
                write!(f, "{} % aborted with grpc-status {code}", chance.share() * 100.0)
            }
            None => Ok(()),
        }
    }
}

fn delay(written: &FaultDelay) -> Option<(Duration, Chance)> {
    let chance = match (&written.percentage, &written.percent) {
        (None, Some(percent)) => Chance::of(percent.value as f64),
        (percentage, _) => Chance::written(percentage.as_ref()),
    };
    Some((written.fixed_delay.as_ref()?.value, chance?))
}

fn abort(written: &FaultAbort) -> Option<(Abort, Chance)> {
    let chance = Chance::written(written.percentage.as_ref())?;
    let abort = match (&written.http_status, &written.grpc_status) {
        (Some(status), _) => Abort::Http(u16::try_from(status.value).ok()?.try_into().ok()?),
        (None, Some(name)) => Abort::Grpc(GRPC_STATUSES.iter().position(|known| *known == name.value)? as u8),
        (None, None) => return None,
    };
    Some((abort, chance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::{at, text};

    fn http(status: i64, percent: Option<f64>) -> HttpFault {
        let abort = FaultAbort { http_status: Some(at(status)), percentage: percent.map(at), ..FaultAbort::default() };
        HttpFault { abort: Some(abort), ..HttpFault::default() }
    }

    #[test]
    fn without_a_percentage_nothing_happens() {
        assert_eq!(Fault::new(&http(500, None)), None);
        assert_eq!(Fault::new(&http(500, Some(0.0))), None);
        assert_eq!(Fault::new(&HttpFault::default()), None);
    }

    #[test]
    fn an_abort_has_a_status_of_http_or_grpc() {
        let fault = Fault::new(&http(555, Some(100.0))).unwrap();
        assert_eq!(fault.abort(|| u64::MAX), Some(Abort::Http(StatusCode::from_u16(555).unwrap())));
        assert_eq!(fault.delay(|| 0), None);
        let abort =
            FaultAbort { grpc_status: Some(text("UNAVAILABLE")), percentage: Some(at(50.0)), ..FaultAbort::default() };
        let fault = Fault::new(&HttpFault { abort: Some(abort), ..HttpFault::default() }).unwrap();
        assert_eq!((fault.abort(|| 0), fault.abort(|| u64::MAX)), (Some(Abort::Grpc(14)), None));
        assert_eq!(fault.to_string(), "50 % aborted with grpc-status 14");
    }

    #[test]
    fn the_deprecated_percent_counts_only_where_there_is_no_percentage() {
        let second = Duration::from_secs(1);
        let with = |percent, percentage: Option<f64>| {
            let delay = FaultDelay {
                fixed_delay: Some(at(second)),
                percent: Some(at(percent)),
                percentage: percentage.map(at),
                ..FaultDelay::default()
            };
            Fault::new(&HttpFault { delay: Some(delay), ..HttpFault::default() })
        };
        assert_eq!(with(100, None).unwrap().delay(|| u64::MAX), Some(second));
        assert_eq!(with(100, Some(0.0)), None);
    }
}
