//! `retries` of an HTTP rule.

use super::checks;
use super::report::{Report, conflict, no_effect, wrong};
use crate::config::names;
use crate::config::resource::virtual_service::HttpRetry;

/// The conditions of `retryOn` that Envoy knows, for HTTP and then for gRPC.
const CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Conditions that can never be met: nothing says which headers, and no endpoint speaks HTTP/3.
const NO_EFFECT: [&str; 2] = ["retriable-headers", "http3-post-connect-failure"];

/// Checks the retries of a rule.
pub(super) fn check(report: &mut Report, retries: Option<&HttpRetry>) {
    let Some(retries) = retries else { return };
    let attempts = retries.attempts.as_ref().map_or(0, |attempts| attempts.value);
    if let Some(attempts) = retries.attempts.as_ref().filter(|attempts| attempts.value < 0) {
        report.wrong(attempts.place, "`attempts` must not be negative");
    }
    checks::count(report, "attempts", retries.attempts.as_ref().filter(|attempts| attempts.value > 0));
    let retry_on = retries.retry_on.as_ref().filter(|conditions| !conditions.is_empty());
    if attempts == 0 {
        let fields = [
            ("perTryTimeout", retries.per_try_timeout.as_ref().map(|timeout| timeout.place)),
            ("retryOn", retry_on.map(|conditions| conditions.place)),
            ("retryRemoteLocalities", retries.retry_remote_localities.as_ref().map(|remote| remote.place)),
        ];
        for (name, place) in fields.into_iter().filter_map(|(name, place)| Some((name, place?))) {
            report.add(
                conflict(place, format!("`{name}` makes no sense with 0 attempts, which switch retries off"))
                    .help("set `attempts` to at least 1"),
            );
        }
    }
    if let Some(timeout) = &retries.per_try_timeout {
        checks::limit(report, timeout);
    }
    if let Some(backoff) = &retries.backoff {
        checks::duration(report, backoff);
    }
    if let Some(conditions) = retry_on {
        for condition in conditions.split(',').filter(|condition| !is_condition(condition)) {
            let found = wrong(conditions.place, format!("`{condition}` is no condition of `retryOn`"));
            report.add(match names::nearest(condition.trim(), CONDITIONS) {
                _ if is_condition(condition.trim()) => found.help("conditions are separated by `,` without blanks"),
                Some(meant) => found.help(format!("did you mean `{meant}`?")),
                None => found.help(format!("a status code, or one of {}", CONDITIONS.join(", "))),
            });
        }
    }
    if let Some(conditions) = retry_on {
        for condition in conditions.split(',').filter(|condition| NO_EFFECT.contains(condition)) {
            report.add(no_effect(conditions.place, format!("`{condition}` of `retryOn` has no effect in this proxy")));
        }
    }
    if let Some(remote) = retries.retry_remote_localities.as_ref().filter(|remote| remote.value) {
        report.add(no_effect(remote.place, "`retryRemoteLocalities` has no effect: this proxy has no locality"));
    }
}

fn is_condition(text: &str) -> bool {
    CONDITIONS.contains(&text) || text.parse().is_ok_and(is_registered)
}

/// The status codes that have a name, as Istio's own check (Go's `http.StatusText`) knows them.
fn is_registered(code: u16) -> bool {
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451)
        || matches!(code, 500..=508 | 510 | 511)
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_rule_fails, rule};

    #[test]
    fn attempts_and_conditions_fit_together() {
        each_rule_fails(&[
            ("    retries: {attempts: -1}", "must not be negative"),
            ("    retries: {retryOn: 5xx}", "makes no sense with 0 attempts"),
            ("    retries: {attempts: 0, perTryTimeout: 1s}", "makes no sense with 0 attempts"),
            ("    retries: {attempts: 1, perTryTimeout: 0s}", "at least 1ms"),
            ("    retries: {attempts: 1, backoff: 0s}", "at least 1ms"),
            ("    retries: {attempts: 1, retryOn: '5xx, reset'}", "` reset` is no condition"),
            ("    retries: {attempts: 1, retryOn: '599'}", "`599` is no condition"),
            ("    retries: {attempts: 1, retryOn: 'gateway-eror'}", "`gateway-eror` is no condition"),
        ]);
        for fine in ["{}", "{attempts: 0, backoff: 1s}", "{attempts: 3, retryOn: '5xx,reset,418'}"] {
            assert_eq!(rule(&format!("    retries: {fine}")), Vec::<String>::new(), "{fine}");
        }
    }
}
