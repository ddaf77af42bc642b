//! Taking an endpoint out of use for a while because of what it answered: Envoy's outlier detection with the defaults that
//! Istio gives it. Pure: the clock is an argument, in milliseconds on whatever scale the caller keeps to.
//!
//! Envoy looks every `interval` whether an ejection is over. Nothing runs here for that: the end of an ejection is known
//! when it begins, so it is rounded up to the next multiple of the interval and compared with the clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// An ejection lasts no longer than this, or the base time if that is longer (Envoy's `max_ejection_time`).
const LONGEST_EJECTION: Duration = Duration::from_secs(300);

/// When an endpoint is ejected. A threshold of 0 is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// Errors of the server (5xx) in a row. Istio's default, 5.
    pub server_errors: u32,
    /// 502, 503 and 504 in a row; they count as server errors too. Istio's default, off.
    pub gateway_errors: u32,
    /// Failures to get an answer in a row, where they are told apart from answers. Envoy's default, 5.
    pub local_failures: u32,
    /// Whether a failure to get an answer counts apart from server errors. Istio's default, no.
    pub split: bool,
    /// How often the end of ejections is looked for. Istio's default, 10 s.
    pub interval: Duration,
    /// How long an ejection lasts, times the number of recent ejections. Istio's default, 30 s.
    pub base_ejection: Duration,
    /// The most endpoints of a cluster that may be ejected at once, in percent. Istio's default, 10.
    pub max_ejection_percent: u32,
    /// With fewer endpoints than this in use, in percent, ejections are ignored. Istio's default, 0: never.
    pub min_health_percent: u32,
    /// The statuses that are server errors; empty: 5xx.
    pub error_codes: Vec<u16>,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            server_errors: 5,
            gateway_errors: 0,
            local_failures: 5,
            split: false,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
            error_codes: Vec::new(),
        }
    }
}

impl OutlierPolicy {
    /// Whether one more endpoint of `total` may be ejected when `ejected` are. The first one is no exception.
    pub fn may_eject(&self, ejected: usize, total: usize) -> bool {
        100 * (ejected + 1) <= self.max_ejection_percent as usize * total
    }

    /// Whether so few of `total` endpoints are left that ejections are ignored.
    pub fn is_panic(&self, ejected: usize, total: usize) -> bool {
        100 * total.saturating_sub(ejected) < self.min_health_percent as usize * total
    }

    /// The status as it counts.
    fn judge(&self, status: u16) -> u16 {
        match (self.error_codes.as_slice(), status) {
            ([], status) => status,
            (codes, status) if codes.contains(&status) => 500,
            _ => 200,
        }
    }
}

/// What came of sending a request to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The head of an answer, with the status that counts.
    Status(u16),
    /// No connection, or it broke before there was an answer.
    Failed,
    /// No answer in time.
    TimedOut,
}

impl Outcome {
    /// Of an answer: gRPC that fails at once says so in a field, with a status of 200.
    pub fn of_answer(status: StatusCode, headers: &HeaderMap) -> Self {
        let grpc = headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u8>().ok());
        Self::Status(grpc.map_or(status.as_u16(), http_status))
    }
}

/// The HTTP status that Envoy takes a gRPC status for.
fn http_status(grpc: u8) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// What the outcomes of requests say about one endpoint.
#[derive(Debug, Default)]
pub struct Health {
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// When the ejection ends; 0: none is on.
    ejected_until: AtomicU64,
    /// When the last ejection ended or will end.
    last_end: AtomicU64,
    /// What the next ejection is multiplied by, but for the time that has passed since.
    times: AtomicU32,
}

impl Health {
    /// Whether an ejection is on. The clock is read only if one was.
    pub fn is_ejected(&self, now: impl FnOnce() -> u64) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        if now() < until {
            return true;
        }
        // Whoever else changed it meanwhile began a new ejection, which stays.
        let _ = self.ejected_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        false
    }

    /// When the last ejection ended or will end; 0: there was none.
    pub fn last_end(&self) -> u64 {
        self.last_end.load(Ordering::Relaxed)
    }

    /// Counts an outcome. True when a threshold is reached: the endpoint is to be ejected, if enough others are left.
    pub fn observe(&self, policy: &OutlierPolicy, outcome: Outcome, now: u64) -> bool {
        if self.is_ejected(|| now) {
            return false;
        }
        let status = match outcome {
            Outcome::Failed | Outcome::TimedOut if policy.split => {
                return reached(&self.local_failures, policy.local_failures);
            }
            Outcome::Failed => 503,
            Outcome::TimedOut => 504,
            Outcome::Status(status) => {
                clear(&self.local_failures);
                policy.judge(status)
            }
        };
        if !(500..600).contains(&status) {
            clear(&self.server_errors);
            clear(&self.gateway_errors);
            return false;
        }
        let gateway = if matches!(status, 502..=504) {
            reached(&self.gateway_errors, policy.gateway_errors)
        } else {
            clear(&self.gateway_errors);
            false
        };
        reached(&self.server_errors, policy.server_errors) || gateway
    }

    /// Begins an ejection: longer each time, shorter again with each interval in use since the last.
    pub fn eject(&self, policy: &OutlierPolicy, now: u64) {
        let interval = millis(policy.interval).max(1);
        let (base, longest) = (millis(policy.base_ejection), millis(policy.base_ejection.max(LONGEST_EJECTION)));
        let in_use = (now / interval).saturating_sub(self.last_end.load(Ordering::Relaxed) / interval);
        let recent = u64::from(self.times.load(Ordering::Relaxed)).saturating_sub(in_use);
        let times = if base.saturating_mul(recent) < longest { recent + 1 } else { recent };
        let lasts = base.saturating_mul(times).min(longest);
        let end = (now + lasts).div_ceil(interval) * interval;
        for counter in [&self.server_errors, &self.gateway_errors, &self.local_failures] {
            clear(counter);
        }
        self.times.store(u32::try_from(times).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.last_end.store(end, Ordering::Relaxed);
        self.ejected_until.store(end, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One more; true, and from the start again, when that makes `threshold`.
fn reached(counter: &AtomicU32, threshold: u32) -> bool {
    if threshold == 0 || counter.fetch_add(1, Ordering::Relaxed) + 1 < threshold {
        return false;
    }
    counter.store(0, Ordering::Relaxed);
    true
}

fn clear(counter: &AtomicU32) {
    // Almost always it is 0 already: reading leaves the other workers' cache lines alone.
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ejecting(policy: &OutlierPolicy, outcomes: &[Outcome]) -> Vec<bool> {
        let health = Health::default();
        outcomes.iter().map(|&outcome| health.observe(policy, outcome, 0)).collect()
    }

    #[test]
    fn the_fifth_server_error_in_a_row_reaches_the_default() {
        let policy = OutlierPolicy::default();
        let (bad, good) = (Outcome::Status(500), Outcome::Status(404));
        assert_eq!(ejecting(&policy, &[bad, bad, bad, bad, good, bad]), [false; 6]);
        assert_eq!(ejecting(&policy, &[bad, bad, bad, Outcome::Failed, Outcome::TimedOut])[4..], [true]);
        let off = OutlierPolicy { server_errors: 0, ..policy };
        assert_eq!(ejecting(&off, &[bad; 20]), [false; 20]);
    }

    #[test]
    fn gateway_errors_count_apart_and_as_server_errors() {
        let policy = OutlierPolicy { gateway_errors: 2, server_errors: 3, ..Default::default() };
        let status = Outcome::Status;
        assert_eq!(ejecting(&policy, &[status(502), status(504)]), [false, true]);
        assert_eq!(ejecting(&policy, &[status(503), status(500), status(502)]), [false, false, true]);
        assert_eq!(ejecting(&policy, &[status(503), status(200), status(503)]), [false; 3]);
        let only = OutlierPolicy { gateway_errors: 2, server_errors: 0, ..Default::default() };
        assert_eq!(ejecting(&only, &[status(500), status(501), status(505), status(500)]), [false; 4]);
        assert_eq!(ejecting(&only, &[Outcome::Failed, Outcome::TimedOut]), [false, true]);
    }

    #[test]
    fn local_failures_count_apart_when_split() {
        let policy = OutlierPolicy { split: true, local_failures: 2, server_errors: 2, ..Default::default() };
        let (bad, cut) = (Outcome::Status(500), Outcome::Failed);
        assert_eq!(ejecting(&policy, &[bad, cut, cut]), [false, false, true]);
        assert_eq!(ejecting(&policy, &[cut, bad, cut, bad]), [false, false, false, true]);
    }

    #[test]
    fn listed_codes_replace_those_of_the_server() {
        let policy = OutlierPolicy { error_codes: vec![429, 503], server_errors: 2, ..Default::default() };
        let status = Outcome::Status;
        assert_eq!(ejecting(&policy, &[status(429), status(503)]), [false, true]);
        assert_eq!(ejecting(&policy, &[status(500), status(500), status(502)]), [false; 3]);
    }

    #[test]
    fn a_failure_of_grpc_counts_by_its_own_status() {
        let mut headers = HeaderMap::new();
        assert_eq!(Outcome::of_answer(StatusCode::OK, &headers), Outcome::Status(200));
        for (grpc, status) in [("0", 200), ("14", 503), ("5", 404), ("13", 500), ("x", 200)] {
            headers.insert("grpc-status", grpc.parse().unwrap());
            assert_eq!(Outcome::of_answer(StatusCode::OK, &headers), Outcome::Status(status), "{grpc}");
        }
    }

    #[test]
    fn an_ejection_ends_with_the_interval_and_grows_with_each_one() {
        let policy = OutlierPolicy::default();
        let health = Health::default();
        let is_ejected = |at: u64| health.is_ejected(|| at);
        health.eject(&policy, 12_000);
        assert!(is_ejected(49_999));
        assert!(!is_ejected(50_000), "42 s, at the next multiple of 10 s");
        health.eject(&policy, 51_000);
        assert!(is_ejected(119_999), "twice as long");
        assert!(!is_ejected(120_000));
        // One interval in use takes one back: 120 s to 131 s.
        health.eject(&policy, 131_000);
        assert!(is_ejected(199_999) && !is_ejected(200_000));
        // Long in use: as the first time.
        health.eject(&policy, 400_000);
        assert!(is_ejected(429_999) && !is_ejected(430_000));
    }

    #[test]
    fn an_ejection_is_never_longer_than_five_minutes_or_the_base_time() {
        let health = Health::default();
        let policy = OutlierPolicy { base_ejection: Duration::from_secs(200), ..Default::default() };
        for start in [0, 200_000, 500_000] {
            health.eject(&policy, start);
        }
        assert!(!health.is_ejected(|| 800_000));
        let long = OutlierPolicy { base_ejection: Duration::from_secs(600), ..Default::default() };
        health.eject(&long, 800_000);
        assert!(health.is_ejected(|| 1_399_999) && !health.is_ejected(|| 1_400_000));
    }

    #[test]
    fn what_comes_in_during_an_ejection_does_not_count() {
        let policy = OutlierPolicy { server_errors: 2, ..Default::default() };
        let health = Health::default();
        health.eject(&policy, 0);
        assert!(!health.observe(&policy, Outcome::Failed, 5));
        assert!(!health.observe(&policy, Outcome::Failed, 30_000));
        assert!(health.observe(&policy, Outcome::Failed, 30_001));
    }

    #[test]
    fn the_share_of_ejected_endpoints_has_a_limit_from_the_first_on() {
        let policy = OutlierPolicy::default();
        assert!(!policy.may_eject(0, 9), "a small pool ejects none");
        assert!(policy.may_eject(0, 10) && !policy.may_eject(1, 19) && policy.may_eject(1, 20));
        let all = OutlierPolicy { max_ejection_percent: 100, min_health_percent: 50, ..policy };
        assert!(all.may_eject(0, 1) && all.may_eject(2, 3));
        assert!(!all.is_panic(1, 2) && all.is_panic(2, 3) && !all.is_panic(0, 3));
        assert!(!OutlierPolicy::default().is_panic(3, 3), "off by default");
    }
}
