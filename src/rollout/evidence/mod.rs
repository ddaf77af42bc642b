//! The evidence against a canary, valid at every look.
//!
//! Two tests run side by side for errors, and two more for slowness: [`Ratio`] asks whether the canary is worse than stable,
//! [`Guard`] whether it is worse than the floor; a rollback needs both. Each is an e-process: a fair bet against "the canary is good
//! enough", which multiplies its stake by 1/α with a probability of α at most, however often and whenever one looks (Ville 1939).
//! The formulas are in `docs/rollout.md`.

mod absolute;
mod beta;
mod engine;
mod keys;
mod quantile;
mod ratio;
mod tape;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::input::{Arm, Bad, Test};
use super::seconds;

pub use absolute::{Floor, Guard, LN_ACCEPTED, ln_acceptance};
pub use engine::Engine;
pub use keys::Keys;
pub use quantile::{CONFIDENCE, FEWEST_FOR_P99, p99, proportion, slower_than};
pub use ratio::{GRID, Ratio};
pub use tape::{Entry, Replayed, Tape, WhatIf};

/// Bad events between two starts of the mixture.
const RESTART_EVENTS: u64 = 20;
/// Time between two starts of the mixture.
const RESTART_TIME: Duration = Duration::from_secs(60);

/// ln(e^a + e^b).
fn ln_add(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    large + (small - large).exp().ln_1p()
}

/// All evidence of one test in one release. Never reset between steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    test: Test,
    engine: Engine,
    keys: Keys,
    /// The largest ln E so far.
    peak: f64,
    stable_bad: u64,
    canary_bad: u64,
    /// The canary's counted requests.
    requests: u64,
    /// Smallest and largest share at which a bad event was routed.
    shares: Option<(f64, f64)>,
    bad_since_restart: u64,
    requests_at_restart: u64,
    #[serde(with = "seconds")]
    restarted: Duration,
    tape: Tape,
}

impl Evidence {
    /// None yet. `tolerance` is r0, `floor` p_f.
    #[must_use]
    pub fn new(test: Test, tolerance: f64, floor: f64, since: Duration) -> Self {
        let engine = Engine::new(tolerance, floor, since);
        Self {
            test,
            tape: Tape::new(engine.clone()),
            engine,
            keys: Keys::default(),
            peak: 0.0,
            stable_bad: 0,
            canary_bad: 0,
            requests: 0,
            shares: None,
            bad_since_restart: 0,
            requests_at_restart: 0,
            restarted: since,
        }
    }

    /// Takes a bad event in; false if its key has erred before in this step.
    pub fn bad(&mut self, bad: &Bad) -> bool {
        if bad.key.is_some_and(|key| !self.keys.is_first(key)) {
            return false;
        }
        match bad.arm {
            Arm::Stable => self.stable_bad += 1,
            Arm::Canary => self.canary_bad += 1,
        }
        let (low, high) = self.shares.unwrap_or((bad.share, bad.share));
        self.shares = Some((low.min(bad.share), high.max(bad.share)));
        self.bad_since_restart += 1;
        let late = bad.arm == Arm::Canary && bad.at < self.engine.newest();
        self.tape.bad(bad, late);
        self.engine.bad(bad.arm, bad.share, bad.at, 1);
        if let Some(higher) = self.engine.ln_e_above(self.peak) {
            self.peak = higher;
        }
        true
    }

    /// The counted requests routed to the canary in this release by now.
    pub fn requests(&mut self, requests: u64, at: Duration) {
        self.requests = self.requests.max(requests);
        self.engine.requests(self.requests);
        let is_time = at.saturating_sub(self.restarted) >= RESTART_TIME && self.requests > self.requests_at_restart;
        if is_time || self.bad_since_restart >= RESTART_EVENTS {
            let ratio = self.bad_since_restart > 0;
            self.engine.restart(at, ratio);
            self.tape.push(Entry::Restart { at, requests: self.requests, ratio });
            (self.restarted, self.bad_since_restart, self.requests_at_restart) = (at, 0, self.requests);
        }
    }

    /// A step begins: keys may err anew, and the guard may be alone, with this floor.
    pub fn step(&mut self, is_alone: bool, floor: f64, at: Duration) {
        self.keys.clear();
        self.engine.alone(is_alone, floor, at, self.requests);
        self.tape.push(Entry::Alone { at, requests: self.requests, is: is_alone, floor });
    }

    /// A decision is made on what is known now.
    pub fn decided(&mut self, sequence: u64) {
        self.tape.push(Entry::Decision { sequence, requests: self.requests });
    }

    /// Which test it is.
    #[must_use]
    pub fn test(&self) -> Test {
        self.test
    }

    /// Its arithmetic.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What happened to it.
    #[must_use]
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Always-valid p = min(1, 1/max E).
    #[must_use]
    pub fn p(&self) -> f64 {
        (-self.peak).exp().min(1.0)
    }

    /// Whether ln E is at this limit now.
    #[must_use]
    pub fn is_against(&self, ln_limit: f64) -> bool {
        (self.engine.is_decided_alone() || self.engine.ln_ratio() >= ln_limit) && self.engine.ln_e() >= ln_limit
    }

    /// Counted bad events of stable and of the canary.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.stable_bad, self.canary_bad)
    }

    /// The canary's counted requests.
    #[must_use]
    pub fn canary_requests(&self) -> u64 {
        self.requests
    }

    /// Smallest and largest share of the canary at which a bad event was routed.
    #[must_use]
    pub fn shares(&self) -> Option<(f64, f64)> {
        self.shares
    }
}
