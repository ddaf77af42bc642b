//! What was counted while one step was in force.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout::evidence::p99;
use crate::rollout::input::{Arm, Bad, Count, Test};
use crate::rollout::seconds;

use super::state::ArmNumbers;

/// One stay at one step. Returning to the step, or a restart of the process, opens another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The canary's percentage.
    pub weight: u32,
    /// When it began.
    #[serde(with = "seconds")]
    pub entered: Duration,
    /// When its warm-up was over; none: not yet. What was routed before is left out.
    #[serde(with = "seconds::option")]
    pub counted_from: Option<Duration>,
    /// When it ended; none: it is the current one.
    #[serde(with = "seconds::option")]
    pub left: Option<Duration>,
    /// How much of it a person had it paused.
    #[serde(with = "seconds")]
    pub paused: Duration,
    /// Whether it was told that both versions fail.
    pub told_both_fail: bool,
    /// Stable.
    pub stable: Tally,
    /// The canary.
    pub canary: Tally,
}

/// One version in one window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Counted requests routed.
    pub routed: u64,
    /// Counted requests finished.
    pub finished: u64,
    /// Errors among them. On a sticky route all of them, though the evidence takes one for each key.
    pub errors: u64,
    /// Slow ones among them; all, as above.
    pub slow: u64,
    /// By bucket of the plan's edges; empty before the first.
    pub latency: Vec<u64>,
}

impl Tally {
    /// Bad ones of this kind.
    #[must_use]
    pub fn bad(&self, test: Test) -> u64 {
        match test {
            Test::Error => self.errors,
            Test::Slow => self.slow,
        }
    }

    /// Requests that the bad ones are among. A slow one need not have finished.
    #[must_use]
    pub fn judged(&self, test: Test) -> u64 {
        self.finished.max(self.bad(test))
    }

    /// With what can be said about its p99.
    #[must_use]
    pub fn numbers(&self, edges: &[Duration]) -> ArmNumbers {
        let p99 = p99(edges, &self.latency);
        let Self { routed, finished, errors, slow, .. } = *self;
        ArmNumbers { routed, finished, errors, slow, p99 }
    }

    /// Counts what came since an earlier reading. A counter that went down began anew, and then gives nothing. Latencies of a
    /// reading with another number of buckets are left out.
    fn add(&mut self, now: &Count, before: &Count, buckets: usize) {
        self.routed += now.routed.saturating_sub(before.routed);
        self.finished += now.finished.saturating_sub(before.finished);
        if now.latency.len() == buckets && before.latency.len() == buckets {
            self.latency.resize(buckets, 0);
            let pairs = now.latency.iter().zip(&before.latency);
            self.latency.iter_mut().zip(pairs).for_each(|(sum, (now, before))| *sum += now.saturating_sub(*before));
        }
    }
}

impl Window {
    /// Nothing counted yet.
    #[must_use]
    pub(super) fn new(weight: u32, entered: Duration) -> Self {
        Self {
            weight,
            entered,
            counted_from: None,
            left: None,
            paused: Duration::ZERO,
            told_both_fail: false,
            stable: Tally::default(),
            canary: Tally::default(),
        }
    }

    /// One version.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> &Tally {
        match arm {
            Arm::Stable => &self.stable,
            Arm::Canary => &self.canary,
        }
    }

    /// Counts what came between two readings.
    pub(super) fn add(&mut self, arm: Arm, now: &Count, before: &Count, buckets: usize) {
        self.arm_mut(arm).add(now, before, buckets);
    }

    /// Counts a bad event; false if its request was routed outside.
    pub(super) fn bad(&mut self, bad: &Bad) -> bool {
        let counted = self.counted_from.is_some_and(|from| from <= bad.at);
        if counted {
            let tally = self.arm_mut(bad.arm);
            match bad.test {
                Test::Error => tally.errors += 1,
                Test::Slow => tally.slow += 1,
            }
        }
        counted
    }

    fn arm_mut(&mut self, arm: Arm) -> &mut Tally {
        match arm {
            Arm::Stable => &mut self.stable,
            Arm::Canary => &mut self.canary,
        }
    }
}
