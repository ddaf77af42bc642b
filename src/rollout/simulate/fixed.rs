//! The rule that people write by hand and that controllers such as Flagger run: look at the canary's good answers once a minute, and
//! compare their share with a number. Here to be measured beside the evidence, on traffic of the same making.

use std::time::Duration;

use rand::Rng;

use super::run::Outcome;
use super::traffic::Traffic;
use crate::rollout::input::Arm;
use crate::rollout::machine::State;

/// A fixed rule, and the weights that it goes through.
#[derive(Debug, Clone, PartialEq)]
pub struct FixedRule {
    /// A check fails when fewer of the canary's requests of its interval went well, 0 to 1.
    pub success: f64,
    /// Between two checks.
    pub interval: Duration,
    /// So many failed checks roll back, wherever in the release they were.
    pub threshold: u32,
    /// The canary's share, 0 to 1, in each interval; a failed check or one without a canary request repeats its weight. Promoted
    /// after the last.
    pub weights: Vec<f64>,
}

impl FixedRule {
    /// A check a minute, two failed ones roll back, and weights that rise by the same step to 50 % within about `length`, in whole
    /// percent.
    #[must_use]
    pub fn each_minute(success: f64, length: Duration) -> Self {
        let interval = Duration::from_secs(60);
        let checks = (length.as_secs_f64() / interval.as_secs_f64()).ceil().clamp(1.0, 1e6) as u64;
        let weights = (1..=checks).map(|check| (50 * check).div_ceil(checks) as f64 / 100.0).collect();
        Self { success, interval, threshold: 2, weights }
    }

    /// One release under this rule, without a warm-up. Answers are known when their requests come.
    pub fn run(&self, traffic: &Traffic, random: &mut impl Rng) -> Outcome {
        let mut outcome = Outcome::nothing();
        let (mut failed, mut step) = (0, 0);
        while let Some(share) = self.weights.get(step) {
            if outcome.at >= traffic.longest {
                return outcome;
            }
            let (canary, bad) = self.interval(*share, traffic, &mut outcome, random);
            // Compared as a share of good ones, as the rule is written.
            if canary > 0 && ((canary - bad) as f64) < self.success * canary as f64 {
                failed += 1;
                if failed >= self.threshold {
                    outcome.state = State::RolledBack;
                    return outcome;
                }
            } else if canary > 0 {
                step += 1;
            }
        }
        outcome.state = State::Promoted;
        outcome
    }

    /// The requests of one interval: those of the canary, and the bad ones among them. The next interval begins afresh: arrivals
    /// have no memory.
    fn interval(&self, share: f64, traffic: &Traffic, outcome: &mut Outcome, random: &mut impl Rng) -> (u64, u64) {
        let end = outcome.at + self.interval;
        let (mut canary, mut bad) = (0, 0);
        let mut request = traffic.next(outcome.at, share, random);
        while request.at <= end {
            outcome.requests += 1;
            let is_canary = request.version == Arm::Canary;
            canary += u64::from(is_canary);
            bad += u64::from(is_canary && request.bad);
            request = traffic.next(request.at, share, random);
        }
        outcome.at = end;
        outcome.counted = outcome.requests;
        outcome.canary_requests += canary;
        outcome.canary_failures += bad;
        (canary, bad)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::rollout::simulate::{Behaviour, Latency, Summary};

    fn traffic(rps: f64, canary: f64) -> Traffic {
        let answers = |error_rate| Behaviour { error_rate, latency: Latency::Fixed(Duration::from_millis(10)) };
        let longest = Duration::from_secs(24 * 3_600);
        Traffic { rps, stable: answers(0.0), canary: answers(canary), change: None, declared: 0.0, longest }
    }

    fn run(rule: &FixedRule, traffic: &Traffic) -> Outcome {
        rule.run(traffic, &mut SmallRng::seed_from_u64(7))
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn weights_rise_to_a_half() {
        assert_eq!(FixedRule::each_minute(0.99, minutes(5)).weights, [0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(FixedRule::each_minute(0.99, Duration::from_secs(61)).weights, [0.25, 0.5]);
        assert_eq!(FixedRule::each_minute(0.99, Duration::ZERO).weights, [0.5]);
        let long = FixedRule::each_minute(0.99, minutes(120)).weights;
        assert_eq!((long.len(), long[0], long[119]), (120, 0.01, 0.5));
        assert!(long.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn a_canary_without_failures_takes_each_step_once() {
        let outcome = run(&FixedRule::each_minute(0.99, minutes(5)), &traffic(100.0, 0.0));
        assert_eq!((outcome.state, outcome.at, outcome.canary_failures), (State::Promoted, minutes(5), 0));
        let share = outcome.canary_requests as f64 / outcome.requests as f64;
        assert!((0.28..0.32).contains(&share), "{share}");
    }

    #[test]
    fn the_second_failed_check_rolls_back() {
        let outcome = run(&FixedRule::each_minute(0.99, minutes(5)), &traffic(100.0, 1.0));
        assert_eq!((outcome.state, outcome.at), (State::RolledBack, minutes(2)));
        assert_eq!(outcome.canary_failures, outcome.canary_requests);
        let patient = FixedRule { threshold: 9, ..FixedRule::each_minute(0.99, minutes(5)) };
        assert_eq!(run(&patient, &traffic(100.0, 1.0)).at, minutes(9));
    }

    /// 60 requests a minute at 10 %: one failure of six is 83 %.
    #[test]
    fn few_requests_make_a_fixed_rule_jumpy() {
        let rule = FixedRule::each_minute(0.99, minutes(120));
        let outcome = |seed| rule.run(&traffic(1.0, 0.005), &mut SmallRng::seed_from_u64(seed));
        let summary = Summary::of(&(0..50).map(outcome).collect::<Vec<_>>());
        assert!(summary.rolled_back >= 45, "{summary:?}");
    }

    #[test]
    fn without_requests_nothing_is_decided() {
        let quiet = Traffic { longest: minutes(30), ..traffic(1e-6, 1.0) };
        let outcome = run(&FixedRule::each_minute(0.99, minutes(5)), &quiet);
        assert_eq!((outcome.state, outcome.at), (State::Idle, minutes(30)));
    }
}
