//! When a request is tried again, and after which pause. Only the rules; [`attempt`](super::attempt) acts on them.
//!
//! Three things can call for another try. *The request was never written*: any method is sent again. *No answer came*: only
//! idempotent methods are sent again, and only if `retryOn` says so, because the application may have done its work
//! (RFC 9110 §9.2.2); Envoy would send POST as well. *An answer came that `retryOn` names*: any method is sent again, since the
//! operator says that such an answer means nothing was done; gRPC is all POST and could not be tried again otherwise.

use std::time::Duration;

use http::{HeaderMap, Method, Response};

use crate::routing::{RetryOn, RetryPolicy};

/// The longest pause before another try, as a multiple of the policy's backoff (Envoy's default).
const LONGEST_BACKOFF: u32 = 10;

/// What a retry policy means for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'r> {
    policy: &'r RetryPolicy,
    /// Whether the client speaks gRPC.
    grpc: bool,
    idempotent: bool,
}

impl<'r> Rules<'r> {
    /// The rules for a request.
    pub(super) fn new(policy: &'r RetryPolicy, method: &Method, grpc: bool) -> Self {
        Self { policy, grpc, idempotent: is_idempotent(method) }
    }

    /// The policy.
    pub(super) fn policy(&self) -> &'r RetryPolicy {
        self.policy
    }

    /// Whether the method may be sent twice without being asked to (RFC 9110 §9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Whether the request may have to be sent again after it was written, so that it has to be kept until then.
    pub(super) fn may_repeat(&self) -> bool {
        self.policy.retries > 0 && (self.may_repeat_answered() || self.repeats_unanswered())
    }

    /// Whether a connection that did not come about calls for another try.
    pub(super) fn repeats_unconnected(&self) -> bool {
        self.policy.on.meets(RetryOn::ANY_CONNECT)
    }

    /// Whether an endpoint's word that it did nothing about a request calls for another try.
    pub(super) fn repeats_refused(&self) -> bool {
        self.policy.retries > 0 && self.policy.on.meets(RetryOn::REFUSED_STREAM.union(RetryOn::ANY_RESET))
    }

    /// Whether a request that was written and got no answer, or none in time, may be sent again.
    pub(super) fn repeats_unanswered(&self) -> bool {
        self.idempotent && self.policy.on.meets(RetryOn::ANY_RESET)
    }

    /// Whether this answer calls for another try.
    pub(super) fn repeats_answered<B>(&self, answer: &Response<B>) -> bool {
        self.may_repeat_answered() && self.names(answer.status().as_u16(), answer.headers())
    }

    fn may_repeat_answered(&self) -> bool {
        let policy = self.policy;
        policy.on.meets(RetryOn::ANY_ANSWER)
            || !policy.statuses.is_empty()
            || self.grpc && policy.on.meets(RetryOn::ANY_GRPC)
    }

    fn names(&self, status: u16, headers: &HeaderMap) -> bool {
        let policy = self.policy;
        if headers.contains_key("x-envoy-ratelimited") {
            return policy.on.contains(RetryOn::RATE_LIMITED);
        }
        let by_status = match status {
            502..=504 => RetryOn::SERVER_ERROR.union(RetryOn::GATEWAY_ERROR),
            500..=599 => RetryOn::SERVER_ERROR,
            409 => RetryOn::RETRIABLE_4XX,
            _ => RetryOn::default(),
        };
        policy.on.meets(by_status)
            || policy.statuses.contains(&status)
            || self.grpc && policy.on.meets(grpc_condition(headers))
    }

    /// A random pause of up to backoff · (2ⁿ − 1), as Envoy makes it before the n-th retry. `draw` is a uniform random number.
    pub(super) fn pause(&self, retry: u32, draw: u64) -> Duration {
        let longest = self.policy.backoff * ((1 << retry.min(16)) - 1).min(LONGEST_BACKOFF);
        longest.mul_f64(draw as f64 / u64::MAX as f64)
    }
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

/// The condition that a gRPC answer without messages fulfils: only there is the status in the first headers.
fn grpc_condition(headers: &HeaderMap) -> RetryOn {
    match headers.get("grpc-status").map(|status| status.as_bytes()) {
        Some(b"1") => RetryOn::CANCELLED,
        Some(b"4") => RetryOn::DEADLINE_EXCEEDED,
        Some(b"8") => RetryOn::RESOURCE_EXHAUSTED,
        Some(b"13") => RetryOn::INTERNAL,
        Some(b"14") => RetryOn::UNAVAILABLE,
        _ => RetryOn::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(on: RetryOn, statuses: &[u16]) -> RetryPolicy {
        RetryPolicy { on, statuses: statuses.to_vec(), ..RetryPolicy::default() }
    }

    fn repeats(policy: &RetryPolicy, grpc: bool, status: u16, fields: &[(&str, &str)]) -> bool {
        let mut answer = Response::builder().status(status);
        for &(name, value) in fields {
            answer = answer.header(name, value);
        }
        Rules::new(policy, &Method::POST, grpc).repeats_answered(&answer.body(()).unwrap())
    }

    #[test]
    fn conditions_are_met_by_their_statuses_alone() {
        let met = |on, statuses: &[u16]| -> Vec<u16> {
            (100..600).filter(|&status| repeats(&policy(on, statuses), false, status, &[])).collect()
        };
        assert_eq!(met(RetryOn::SERVER_ERROR, &[]), (500..600).collect::<Vec<_>>());
        assert_eq!(met(RetryOn::GATEWAY_ERROR, &[]), [502, 503, 504]);
        assert_eq!(met(RetryOn::RETRIABLE_4XX, &[]), [409]);
        assert_eq!(met(RetryOn::RESET.union(RetryOn::CONNECT_FAILURE), &[429, 503]), [429, 503]);
        assert!(met(RetryPolicy::default().on, &[]).is_empty());
    }

    #[test]
    fn grpc_statuses_count_for_grpc_clients_where_there_are_no_messages() {
        let default = RetryPolicy::default();
        for (number, name, on) in [
            ("1", "cancelled", RetryOn::CANCELLED),
            ("4", "deadline-exceeded", RetryOn::DEADLINE_EXCEEDED),
            ("8", "resource-exhausted", RetryOn::RESOURCE_EXHAUSTED),
            ("13", "internal", RetryOn::INTERNAL),
            ("14", "unavailable", RetryOn::UNAVAILABLE),
        ] {
            assert!(repeats(&policy(on, &[]), true, 200, &[("grpc-status", number)]), "{name}");
            assert!(!repeats(&policy(on, &[]), true, 200, &[("grpc-status", "2")]), "{name}");
            assert!(!repeats(&policy(on, &[]), true, 200, &[]), "{name}");
        }
        assert!(repeats(&default, true, 200, &[("grpc-status", "14")]));
        assert!(!repeats(&default, false, 200, &[("grpc-status", "14")]));
    }

    #[test]
    fn an_answer_that_limits_the_rate_is_only_tried_again_where_that_is_asked_for() {
        let limited = [("x-envoy-ratelimited", "true")];
        assert!(!repeats(&policy(RetryOn::SERVER_ERROR, &[429]), false, 429, &limited));
        assert!(repeats(&policy(RetryOn::RATE_LIMITED, &[]), false, 429, &limited));
    }

    #[test]
    fn what_may_have_been_done_is_only_repeated_if_that_is_harmless() {
        for on in [RetryOn::RESET, RetryOn::SERVER_ERROR, RetryOn::GATEWAY_ERROR] {
            let policy = policy(on, &[]);
            assert!(Rules::new(&policy, &Method::PUT, false).repeats_unanswered());
            assert!(!Rules::new(&policy, &Method::POST, false).repeats_unanswered());
            assert!(Rules::new(&policy, &Method::POST, false).repeats_unconnected());
        }
        let default = RetryPolicy::default();
        assert!(!Rules::new(&default, &Method::GET, false).repeats_unanswered());
        assert!(Rules::new(&default, &Method::GET, false).repeats_unconnected());
        assert!(!Rules::new(&policy(RetryOn::RETRIABLE_4XX, &[503]), &Method::GET, false).repeats_unconnected());
    }

    #[test]
    fn methods_that_may_be_repeated_are_those_of_the_standard() {
        let may = |name: &str| Rules::new(&RetryPolicy::default(), &name.parse().unwrap(), false).is_idempotent();
        for name in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"] {
            assert!(may(name), "{name}");
        }
        for name in ["POST", "PATCH", "CONNECT", "PURGE", "get"] {
            assert!(!may(name), "{name}");
        }
    }

    #[test]
    fn what_was_refused_unseen_is_repeated_whatever_its_method_if_the_policy_says_so() {
        let repeats = |policy: &RetryPolicy| Rules::new(policy, &Method::POST, false).repeats_refused();
        for on in [RetryOn::REFUSED_STREAM, RetryOn::RESET, RetryOn::SERVER_ERROR, RetryOn::GATEWAY_ERROR] {
            assert!(repeats(&policy(on, &[])), "{on:?}");
            assert!(!repeats(&RetryPolicy { retries: 0, ..policy(on, &[]) }), "{on:?}");
        }
        for on in [RetryOn::CONNECT_FAILURE, RetryOn::RETRIABLE_4XX, RetryOn::default()] {
            assert!(!repeats(&policy(on, &[503])), "{on:?}");
        }
    }

    #[test]
    fn only_what_a_policy_may_repeat_is_kept() {
        let default = RetryPolicy::default();
        assert!(!Rules::new(&default, &Method::PUT, false).may_repeat());
        assert!(Rules::new(&default, &Method::POST, true).may_repeat());
        assert!(Rules::new(&policy(RetryOn::default(), &[503]), &Method::POST, false).may_repeat());
        assert!(!Rules::new(&policy(RetryOn::RESET, &[]), &Method::POST, false).may_repeat());
        let off = RetryPolicy { retries: 0, ..policy(RetryOn::SERVER_ERROR, &[]) };
        assert_eq!(Rules::new(&off, &Method::GET, false).policy().retries, 0);
        assert!(!Rules::new(&off, &Method::GET, true).may_repeat());
    }

    #[test]
    fn the_pause_doubles_up_to_ten_times_the_base() {
        let policy = RetryPolicy::default();
        let rules = Rules::new(&policy, &Method::GET, false);
        let longest: Vec<u128> = (1..=6).map(|retry| rules.pause(retry, u64::MAX).as_millis()).collect();
        assert_eq!(longest, [25, 75, 175, 250, 250, 250]);
        assert_eq!(rules.pause(3, 0), Duration::ZERO);
        assert_eq!(rules.pause(u32::MAX, u64::MAX).as_millis(), 250);
    }
}
