//! How long a request may take and when it is tried again, as data.

use std::time::Duration;

use crate::config::resource::virtual_service::HttpRetry;

/// When, and how often, a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first; 0 is never.
    pub retries: u32,
    /// What must have happened.
    pub on: RetryOn,
    /// Response codes that are tried again. Empty by default.
    pub statuses: Vec<u16>,
    /// Bound of one try; none by default.
    pub per_try_timeout: Option<Duration>,
    /// Base of the exponential pause between tries. Envoy's default, 25 ms.
    pub backoff: Duration,
    /// Whether endpoints that failed this request are passed over. Istio's default, true.
    pub other_endpoint: bool,
}

/// A set of Envoy's retry conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u16);

/// The names of all conditions.
const NAMES: [&str; 12] = [
    "connect-failure",
    "refused-stream",
    "reset",
    "reset-before-request",
    "gateway-error",
    "5xx",
    "retriable-4xx",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

impl RetryOn {
    /// `connect-failure`: no connection came about.
    pub const CONNECT_FAILURE: Self = Self(1);
    /// `refused-stream`: HTTP/2 said that it did not begin.
    pub const REFUSED_STREAM: Self = Self(1 << 1);
    /// `reset`: the connection broke, or the time was up, before any response.
    pub const RESET: Self = Self(1 << 2);
    /// `reset-before-request`: it broke before the request's headers were sent.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    /// `gateway-error`: 502, 503, 504.
    pub const GATEWAY_ERROR: Self = Self(1 << 4);
    /// `5xx`: any of them, or no response.
    pub const SERVER_ERROR: Self = Self(1 << 5);
    /// `retriable-4xx`: 409.
    pub const RETRIABLE_4XX: Self = Self(1 << 6);
    /// gRPC `cancelled`.
    pub const CANCELLED: Self = Self(1 << 7);
    /// gRPC `deadline-exceeded`.
    pub const DEADLINE_EXCEEDED: Self = Self(1 << 8);
    /// gRPC `internal`.
    pub const INTERNAL: Self = Self(1 << 9);
    /// gRPC `resource-exhausted`.
    pub const RESOURCE_EXHAUSTED: Self = Self(1 << 10);
    /// gRPC `unavailable`.
    pub const UNAVAILABLE: Self = Self(1 << 11);
    /// `envoy-ratelimited`: the answer says `x-envoy-ratelimited`. Without it such an answer is never tried again.
    pub const RATE_LIMITED: Self = Self(1 << 12);

    /// What an HTTP answer alone can fulfil.
    pub const ANY_ANSWER: Self =
        Self(Self::GATEWAY_ERROR.0 | Self::SERVER_ERROR.0 | Self::RETRIABLE_4XX.0 | Self::RATE_LIMITED.0);
    /// What a gRPC status can fulfil.
    pub const ANY_GRPC: Self = Self(
        Self::CANCELLED.0
            | Self::DEADLINE_EXCEEDED.0
            | Self::INTERNAL.0
            | Self::RESOURCE_EXHAUSTED.0
            | Self::UNAVAILABLE.0,
    );
    /// What a request without any answer fulfils: as in Envoy, 5xx and gateway errors are among it.
    pub const ANY_RESET: Self = Self(Self::RESET.0 | Self::SERVER_ERROR.0 | Self::GATEWAY_ERROR.0);
    /// What a request fulfils for which no connection came about.
    pub const ANY_CONNECT: Self = Self(Self::CONNECT_FAILURE.0 | Self::ANY_RESET.0);

    /// Whether all of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in it.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of what is in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |name| Self::named(name).is_some_and(|condition| self.contains(condition)))
    }

    /// The condition of this name; none for one that is not a set member here.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "connect-failure" => Self::CONNECT_FAILURE,
            "refused-stream" => Self::REFUSED_STREAM,
            "reset" => Self::RESET,
            "reset-before-request" => Self::RESET_BEFORE_REQUEST,
            "gateway-error" => Self::GATEWAY_ERROR,
            "5xx" => Self::SERVER_ERROR,
            "retriable-4xx" => Self::RETRIABLE_4XX,
            "cancelled" => Self::CANCELLED,
            "deadline-exceeded" => Self::DEADLINE_EXCEEDED,
            "internal" => Self::INTERNAL,
            "resource-exhausted" => Self::RESOURCE_EXHAUSTED,
            "unavailable" => Self::UNAVAILABLE,
            "envoy-ratelimited" => Self::RATE_LIMITED,
            _ => return None,
        })
    }
}

impl Default for RetryPolicy {
    /// Istio's policy for rules without `retries`: two retries, of what never reached the application.
    fn default() -> Self {
        let on = RetryOn::CONNECT_FAILURE.union(RetryOn::REFUSED_STREAM);
        Self {
            retries: 2,
            on: on.union(RetryOn::UNAVAILABLE).union(RetryOn::CANCELLED),
            statuses: Vec::new(),
            per_try_timeout: None,
            backoff: Duration::from_millis(25),
            other_endpoint: true,
        }
    }
}

impl RetryPolicy {
    /// The policy of a rule. `retries` without attempts switches retries off; what it does not say is the default.
    pub(super) fn new(written: Option<&HttpRetry>) -> Self {
        let Some(written) = written else { return Self::default() };
        let retries = written.attempts.map_or(0, |attempts| u32::try_from(attempts.value).unwrap_or(0));
        let mut policy = Self { retries, ..Self::default() };
        policy.per_try_timeout = written.per_try_timeout.map(|timeout| timeout.value);
        policy.other_endpoint = written.retry_ignore_previous_hosts.is_none_or(|flag| flag.value);
        if let Some(backoff) = written.backoff {
            policy.backoff = backoff.value;
        }
        if let Some(conditions) = written.retry_on.as_ref().filter(|text| !text.is_empty()) {
            policy.on = RetryOn::default();
            for name in conditions.split(',').map(str::trim) {
                match (RetryOn::named(name), name.parse()) {
                    (Some(condition), _) => policy.on = policy.on.union(condition),
                    (None, Ok(status)) => policy.statuses.push(status),
                    (None, Err(_)) => {}
                }
            }
        }
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::{at, text};

    fn with(conditions: &str) -> RetryPolicy {
        let written = HttpRetry { attempts: Some(at(3)), retry_on: Some(text(conditions)), ..HttpRetry::default() };
        RetryPolicy::new(Some(&written))
    }

    #[test]
    fn without_retries_two_of_what_never_reached_the_application() {
        let policy = RetryPolicy::new(None);
        assert_eq!(policy.retries, 2);
        assert!(policy.on.contains(RetryOn::CONNECT_FAILURE.union(RetryOn::REFUSED_STREAM)));
        assert!(policy.on.contains(RetryOn::UNAVAILABLE.union(RetryOn::CANCELLED)));
        assert!(!policy.on.contains(RetryOn::SERVER_ERROR) && !policy.on.contains(RetryOn::GATEWAY_ERROR));
        assert!(policy.statuses.is_empty());
    }

    #[test]
    fn every_condition_has_its_name() {
        assert!(NAMES.iter().all(|name| RetryOn::named(name).unwrap().names().eq([*name])));
        let default: Vec<_> = RetryPolicy::default().on.names().collect();
        assert_eq!(default, ["connect-failure", "refused-stream", "cancelled", "unavailable"]);
    }

    #[test]
    fn retries_without_attempts_are_none() {
        assert_eq!(RetryPolicy::new(Some(&HttpRetry::default())).retries, 0);
        let negative = HttpRetry { attempts: Some(at(-1)), ..HttpRetry::default() };
        assert_eq!(RetryPolicy::new(Some(&negative)).retries, 0);
    }

    #[test]
    fn what_a_policy_does_not_say_is_the_default() {
        let written = HttpRetry {
            attempts: Some(at(5)),
            per_try_timeout: Some(at(Duration::from_secs(1))),
            ..HttpRetry::default()
        };
        let wanted =
            RetryPolicy { retries: 5, per_try_timeout: Some(Duration::from_secs(1)), ..RetryPolicy::default() };
        assert_eq!(RetryPolicy::new(Some(&written)), wanted);
    }

    #[test]
    fn conditions_and_codes_replace_the_default_ones() {
        let policy = with("5xx,503,retriable-status-codes,429");
        assert_eq!((policy.on, policy.statuses), (RetryOn::SERVER_ERROR, vec![503, 429]));
        let policy = with("gateway-error, reset");
        assert_eq!(policy.on, RetryOn::GATEWAY_ERROR.union(RetryOn::RESET));
        assert_eq!(with("").on, RetryPolicy::default().on);
    }
}
