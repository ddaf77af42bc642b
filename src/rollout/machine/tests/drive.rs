//! What drives a release in tests: traffic, people and a clock.

use super::*;
use crate::rollout::input::Count;
use crate::rollout::testing::plan;

/// A release, with the counters and the clock that the driver would have.
#[derive(Clone)]
pub(super) struct Drive {
    pub(super) rollout: Rollout,
    pub(super) totals: Totals,
    pub(super) now: Duration,
}

impl Drive {
    pub(super) fn idle(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = plan();
        change(&mut plan);
        let count = || Count { latency: vec![0; plan.latency_edges.len() + 1], ..Count::default() };
        let totals = Totals { stable: count(), canary: count() };
        Self { rollout: Rollout::new(plan).unwrap(), totals, now: Duration::ZERO }
    }

    pub(super) fn started(change: impl FnOnce(&mut Plan)) -> Self {
        let mut drive = Self::idle(change);
        drive.say(Verb::Start);
        drive
    }

    /// Started, and past the warm-up.
    pub(super) fn counting(change: impl FnOnce(&mut Plan)) -> Self {
        let mut drive = Self::started(change);
        drive.pass(10);
        assert_eq!(drive.rollout.state(), State::Running { step: 0, phase: Phase::Gathering });
        drive
    }

    pub(super) fn say(&mut self, verb: Verb) -> Vec<Transition> {
        self.rollout.apply(verb, self.now).unwrap()
    }

    pub(super) fn refused(&mut self, verb: Verb) -> String {
        let before = self.rollout.clone();
        let refused = self.rollout.apply(verb, self.now).unwrap_err().to_string();
        assert_eq!(self.rollout, before, "a refusal changes nothing");
        refused
    }

    /// Time goes on, with a reading and a decision at its end.
    pub(super) fn pass(&mut self, for_seconds: u64) -> Vec<Transition> {
        self.now += seconds(for_seconds);
        self.look()
    }

    pub(super) fn look(&mut self) -> Vec<Transition> {
        self.rollout.totals(&self.totals, self.now);
        self.rollout.decide(self.now)
    }

    /// Requests that went well, all faster than 100 ms.
    pub(super) fn good(&mut self, stable: u64, canary: u64) {
        for (count, requests) in [(&mut self.totals.stable, stable), (&mut self.totals.canary, canary)] {
            count.routed += requests;
            count.finished += requests;
            count.latency[0] += requests;
        }
    }

    /// Failures, one after the other.
    pub(super) fn fail(&mut self, arm: Arm, failures: u64) -> Vec<Transition> {
        self.bad(arm, Test::Error, failures)
    }

    pub(super) fn bad(&mut self, arm: Arm, test: Test, failures: u64) -> Vec<Transition> {
        let mut moved = Vec::new();
        for _ in 0..failures {
            let count = if arm == Arm::Stable { &mut self.totals.stable } else { &mut self.totals.canary };
            count.routed += 1;
            count.finished += 1;
            *count.latency.last_mut().unwrap() += 1;
            self.rollout.totals(&self.totals, self.now);
            let share = self.rollout.weight().map_or(0.1, |weight| f64::from(weight) / 100.0);
            self.rollout.bad(&Bad { at: self.now, arm, test, share, key: None });
            moved.extend(self.rollout.decide(self.now));
        }
        moved
    }

    /// A whole good step: warm-up, bake time, 300 canary requests and more of stable.
    pub(super) fn good_step(&mut self) -> Vec<Transition> {
        let mut moved = self.pass(10);
        self.good(2_700, 300);
        moved.extend(self.pass(60));
        moved
    }
}
