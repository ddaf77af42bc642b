//! One test's arithmetic: the ratio and the guard together. The live release and the replay of a report both run it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::absolute::{Floor, Guard};
use super::ratio::Ratio;
use super::{Arm, ln_add};

/// The part of the guard's stake that is kept for the time when the canary has all the traffic and the guard decides alone. So
/// α holds for the whole release, and what happened while there was a control is not held against the canary twice.
const STAKE_ALONE: f64 = 0.1;

/// The state of one test. Every change of it is one entry of the [`super::Tape`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    ratio: Ratio,
    guard: Guard,
    /// Begun when the canary first had all the traffic.
    alone: Option<Guard>,
    is_alone: bool,
}

impl Engine {
    /// `tolerance` is r0, `floor` p_f.
    #[must_use]
    pub fn new(tolerance: f64, floor: f64, since: Duration) -> Self {
        let guard = Guard::new(Floor::new(floor), since, 0);
        Self { ratio: Ratio::new(tolerance), guard, alone: None, is_alone: false }
    }

    /// Bad events whose requests were routed at this time.
    pub fn bad(&mut self, arm: Arm, share: f64, at: Duration, count: u64) {
        self.ratio.bad(arm, share, count);
        if arm == Arm::Canary {
            self.guard.bad(at, count);
            if let Some(guard) = &mut self.alone {
                guard.bad(at, count);
            }
        }
    }

    /// The counted requests routed to the canary in this release by now.
    pub fn requests(&mut self, requests: u64) {
        self.guard.requests(requests);
        if let Some(guard) = &mut self.alone {
            guard.requests(requests);
        }
    }

    /// Breakage may have begun now. Without a bad event since the last time the ratio has nothing to gain from it.
    pub fn restart(&mut self, at: Duration, ratio: bool) {
        if ratio {
            self.ratio.restart();
        }
        self.guard.restart(at);
        if let Some(guard) = &mut self.alone {
            guard.restart(at);
        }
    }

    /// Whether the guard decides alone from now on. `floor` is that of the guard which then begins, the first time.
    pub fn alone(&mut self, is_alone: bool, floor: f64, at: Duration, requests: u64) {
        self.is_alone = is_alone;
        if is_alone && self.alone.is_none() {
            self.alone = Some(Guard::new(Floor::new(floor), at, requests));
        }
    }

    /// When the newest start was.
    pub(super) fn newest(&self) -> Duration {
        self.alone.as_ref().unwrap_or(&self.guard).newest()
    }

    /// Whether the guard decides alone: the canary has all the traffic.
    #[must_use]
    pub fn is_decided_alone(&self) -> bool {
        self.is_alone
    }

    /// p_f of the guard that is in force.
    #[must_use]
    pub fn floor(&self) -> f64 {
        self.alone.as_ref().filter(|_| self.is_alone).unwrap_or(&self.guard).floor()
    }

    /// ln E of "worse than stable".
    #[must_use]
    pub fn ln_ratio(&self) -> f64 {
        self.ratio.ln_e()
    }

    /// ln E of "worse than the floor".
    #[must_use]
    pub fn ln_guard(&self) -> f64 {
        match &self.alone {
            Some(alone) if self.is_alone => STAKE_ALONE.ln() + alone.ln_e(),
            _ => ln_add((1.0 - STAKE_ALONE).ln() + self.guard.ln_e(), STAKE_ALONE.ln()),
        }
    }

    /// ln of the evidence that has to reach the limit for a rollback: the weaker of the two, or the guard's where there is no
    /// control. If the canary is no worse than tolerated, or not above the floor, this is at most an e-process.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        if self.is_alone { self.ln_guard() } else { self.ln_ratio().min(self.ln_guard()) }
    }

    /// The same, if it may be above this; the guard, which costs more, is not asked otherwise.
    #[must_use]
    pub fn ln_e_above(&self, bound: f64) -> Option<f64> {
        if !self.is_alone && self.ln_ratio() <= bound {
            return None;
        }
        Some(self.ln_e()).filter(|ln_e| *ln_e > bound)
    }
}
