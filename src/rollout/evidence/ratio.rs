//! The canary beside stable: of the bad events, how many are the canary's?
//!
//! The proxy gave each request to the canary with the known probability ρ. If the canary is at most r0 times as bad, a bad event is
//! its own with probability θ(ρ, r0) = ρ·r0/(1 + ρ(r0 − 1)) at most, whatever the rate of failures, its course or their common
//! causes. So only bad events are counted, and an outage of both moves nothing. (Lindon and Malek, arXiv 2011.03567.)

use serde::{Deserialize, Serialize};

use super::{Arm, ln_add};

/// How many times worse than tolerated the canary may be: the alternatives that are mixed, evenly.
pub const GRID: [f64; 6] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0];

/// The ratio test: ln E(r) for each r of the grid, from the beginning and mixed over later starts.
///
/// E = Σ_s π_s·E_{s→now} with π_s = 1/(s(s+1)); what is not yet laid counts 1. The sum over the starts is kept for each r, not for
/// each start: every event multiplies all of them by the same factor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    tolerance: f64,
    from_beginning: [f64; GRID.len()],
    mixed: [f64; GRID.len()],
    started: u64,
}

impl Ratio {
    /// `tolerance` is r0, at least 1.
    #[must_use]
    pub fn new(tolerance: f64) -> Self {
        Self { tolerance, from_beginning: [0.0; GRID.len()], mixed: [-std::f64::consts::LN_2; GRID.len()], started: 1 }
    }

    /// Bad events of requests that were the canary's with probability `share`. Where only one version could have got them, they
    /// say nothing.
    pub fn bad(&mut self, arm: Arm, share: f64, count: u64) {
        if !(share > 0.0 && share < 1.0) {
            return;
        }
        let ln_d = |x: f64| (share * (x - 1.0)).ln_1p();
        let at_tolerance = ln_d(self.tolerance);
        for (index, r) in GRID.into_iter().enumerate() {
            let taken = if arm == Arm::Canary { r.ln() } else { 0.0 };
            let factor = count as f64 * (taken - (ln_d(r * self.tolerance) - at_tolerance));
            self.from_beginning[index] += factor;
            self.mixed[index] += factor;
        }
    }

    /// Lays the next stake: from here on the canary may have become worse now.
    pub fn restart(&mut self) {
        self.started += 1;
        let s = self.started as f64;
        let stake = -(s * (s + 1.0)).ln();
        self.mixed.iter_mut().for_each(|mixed| *mixed = ln_add(*mixed, stake));
    }

    /// ln E of the plain test, from the beginning only.
    #[must_use]
    pub fn ln_plain(&self) -> f64 {
        ln_mean(&self.from_beginning)
    }

    /// ln E mixed over the starts: what decisions are made on.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let idle = -((self.started + 1) as f64).ln();
        ln_add(ln_mean(&self.mixed), idle)
    }
}

fn ln_mean(logs: &[f64; GRID.len()]) -> f64 {
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - largest).exp()).sum();
    largest + (sum / GRID.len() as f64).ln()
}
