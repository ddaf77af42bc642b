//! What a plan can do at so much traffic, before anything is risked: per step, how long it takes, the smallest fault it would find,
//! and what finding it costs.
//!
//! Computed by the engine that decides, on the counts that are to be expected; half of the releases are quicker, half slower.

use std::time::Duration;

use serde::Serialize;

use super::evidence::{Engine, LN_ACCEPTED, ln_acceptance};
use super::input::Arm;
use super::plan::{Mode, Plan, Step};
use super::seconds;

/// A step is not forecast beyond this many requests.
const MOST_REQUESTS: u64 = 1 << 40;

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The canary's percentage.
    pub weight: u32,
    /// Requests of both versions that the step needs, without its warm-up.
    pub requests: u64,
    /// How long an equally good canary stays, warm-up and all; none: for ever, stable itself fails too much, or there is no
    /// traffic.
    #[serde(with = "seconds::option")]
    pub duration: Option<Duration>,
    /// The smallest error rate of the canary that is rolled back before the step is over; none: not even 100 %.
    pub smallest: Option<f64>,
    /// Failed canary requests until then.
    pub failures_at_smallest: Option<u64>,
    /// Failed canary requests until the rollback, if every request fails.
    pub failures_if_all_fail: Option<u64>,
}

/// Per step of the plan, with `rps` requests a second of which stable fails `stable_errors` (0 to 1).
#[must_use]
pub fn forecast(plan: &Plan, rps: f64, stable_errors: f64) -> Vec<Forecast> {
    let rates = Rates { plan, rps: rps.max(0.0), stable: stable_errors.clamp(0.0, 1.0) };
    plan.steps.iter().map(|step| rates.step(step)).collect()
}

struct Rates<'p> {
    plan: &'p Plan,
    rps: f64,
    stable: f64,
}

impl Rates<'_> {
    fn step(&self, step: &Step) -> Forecast {
        let share = f64::from(step.weight) / 100.0;
        let accepted = self.requests_until_accepted();
        let canary = accepted.unwrap_or(1).max(step.min_requests).max(1);
        let enough = (canary as f64 / share).ceil() as u64;
        let baking = (step.min_duration.as_secs_f64() * self.rps) as u64;
        let requests = enough.max(baking);
        let judged = Duration::try_from_secs_f64(requests as f64 / self.rps).ok();
        let duration = judged
            .filter(|_| accepted.is_some())
            .map(|judged| self.plan.analysis.warm_up.saturating_add(judged.max(step.min_duration)));
        let smallest = self.smallest(share, requests);
        let failures = |rate: f64| self.failures(share, rate);
        Forecast {
            weight: step.weight,
            requests,
            duration,
            smallest,
            failures_at_smallest: smallest.and_then(failures),
            failures_if_all_fail: failures(1.0),
        }
    }

    /// Canary requests until the absolute acceptance of an equally good canary, or 1 where stable itself is the measure.
    fn requests_until_accepted(&self) -> Option<u64> {
        let max = self.plan.analysis.max_error_rate;
        let each = self.stable * ln_acceptance(1, 1, max) + (1.0 - self.stable) * ln_acceptance(0, 1, max);
        let by_itself = (each > 0.0).then(|| (LN_ACCEPTED / each).ceil() as u64);
        // Above the floor, both fail: held.
        if self.stable > max { None } else { Some(by_itself.map_or(1, |requests| requests)).filter(|_| self.rps > 0.0) }
    }

    /// Whether a canary with this error rate is expected to be rolled back within so many requests.
    fn is_found(&self, share: f64, rate: f64, requests: u64) -> bool {
        let analysis = &self.plan.analysis;
        let mut engine = Engine::new(analysis.tolerance, analysis.max_error_rate, Duration::ZERO);
        let is_alone = self.plan.mode == Mode::Run && share >= 1.0;
        if is_alone {
            engine.alone(true, analysis.max_error_rate.max(analysis.tolerance * self.stable), Duration::ZERO, 0);
        }
        let canary = requests as f64 * share;
        let bad = |requests: f64, rate: f64| (requests * rate).round() as u64;
        engine.requests(canary.round() as u64);
        engine.bad(Arm::Canary, share, Duration::ZERO, bad(canary, rate));
        engine.bad(Arm::Stable, share, Duration::ZERO, bad(requests as f64 - canary, self.stable));
        engine.ln_e() >= analysis.ln_limit()
    }

    fn smallest(&self, share: f64, requests: u64) -> Option<f64> {
        if !self.is_found(share, 1.0, requests) {
            return None;
        }
        let (mut missed, mut found) = (0.0, 1.0);
        while found - missed > 1e-5 {
            let rate = f64::midpoint(missed, found);
            if self.is_found(share, rate, requests) { found = rate } else { missed = rate }
        }
        Some(found)
    }

    /// Failed canary requests until the rollback.
    fn failures(&self, share: f64, rate: f64) -> Option<u64> {
        let mut found = 1;
        while !self.is_found(share, rate, found) {
            found *= 2;
            if found > MOST_REQUESTS {
                return None;
            }
        }
        let mut missed = found / 2;
        while found - missed > 1 {
            let requests = missed + (found - missed) / 2;
            if self.is_found(share, rate, requests) { found = requests } else { missed = requests }
        }
        Some(((found as f64) * share * rate).round().max(1.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::plan::Analysis;
    use crate::rollout::testing;

    fn plan() -> Plan {
        Plan {
            steps: [10, 30, 50, 100].into_iter().map(Step::new).collect(),
            analysis: Analysis { slower_than: Some(Duration::from_millis(300)), ..Analysis::default() },
            ..testing::plan()
        }
    }

    #[test]
    fn more_traffic_finds_smaller_faults_in_less_time() {
        let (slow, quick) = (forecast(&plan(), 1.0, 0.005), forecast(&plan(), 1_000.0, 0.005));
        // 300 canary requests are 50 minutes at 0.1 a second; what acceptance needs is a little more.
        let first = slow[0].duration.unwrap();
        assert!(first > Duration::from_secs(3_010) && first < Duration::from_secs(4_500), "{first:?}");
        assert_eq!(quick[0].duration, Some(Duration::from_secs(70)));
        for (slow, quick) in slow.iter().zip(&quick) {
            assert!(quick.smallest < slow.smallest, "{slow:?} {quick:?}");
            assert!(quick.smallest > Some(0.01), "nothing is rolled back below the floor: {quick:?}");
        }
    }

    /// The simulation says 37 requests, and 5 % of errors after 1,550 of them.
    #[test]
    fn it_agrees_with_the_simulation() {
        let steps = forecast(&plan(), 1_000.0, 0.0);
        assert_eq!(steps[0].failures_if_all_fail, Some(4));
        let rates = Rates { plan: &plan(), rps: 1_000.0, stable: 0.005 };
        let failures = rates.failures(0.1, 0.05).unwrap();
        assert!((6..=11).contains(&failures), "{failures}");
    }

    #[test]
    fn without_traffic_or_with_a_stable_that_fails_it_takes_for_ever() {
        assert!(forecast(&plan(), 0.0, 0.0).iter().all(|step| step.duration.is_none()));
        assert!(forecast(&plan(), 10.0, 0.03).iter().all(|step| step.duration.is_none()));
    }
}
