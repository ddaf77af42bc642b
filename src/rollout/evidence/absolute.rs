//! Judged by itself: is the canary's share of bad requests above the floor (the guard), or safely below it (acceptance)?
//!
//! The guard is the mixture likelihood ratio of a Beta prior cut off below the floor p_f against p_f itself. For any true share
//! up to p_f it is a supermartingale, so by Ville's inequality it passes 1/α with probability α at most, at any number of looks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::beta::ln_upper_against;
use super::ln_add;
use crate::rollout::seconds;

/// What [`ln_acceptance`] has to reach: twenty to one.
pub const LN_ACCEPTED: f64 = 2.995_732_273_553_991;
/// The part of the guard's stake that is laid at the beginning; the rest is for breakage that begins later. With less, the
/// first failures of a canary that fails every request would need one more.
const STAKE_AT_FIRST: f64 = 0.8;
/// Starts that are followed at the same time.
const MOST_STARTS: usize = 8;

/// A share of bad requests that is still good enough, with what the test against it needs again and again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Floor {
    share: f64,
    a: f64,
    b: f64,
    ln_prior: f64,
}

impl From<f64> for Floor {
    fn from(share: f64) -> Self {
        Self::new(share)
    }
}

impl From<Floor> for f64 {
    fn from(floor: Floor) -> Self {
        floor.share
    }
}

impl Floor {
    /// p_f; taken into 1e-9 … 0.95.
    #[must_use]
    pub fn new(share: f64) -> Self {
        let share = share.clamp(1e-9, 0.95);
        let a = 0.5;
        let b = a * (1.0 - share) / share;
        Self { share, a, b, ln_prior: ln_upper_against(a, b, share) }
    }

    /// p_f.
    #[must_use]
    pub fn share(self) -> f64 {
        self.share
    }

    /// ln E_abs: the evidence that more than p_f of the requests are bad, after `bad` of `requests` were. 0 without requests.
    #[must_use]
    pub fn ln_e(self, bad: u64, requests: u64) -> f64 {
        if requests == 0 {
            return 0.0;
        }
        let good = requests.saturating_sub(bad);
        // Both integrals are measured against p^(a−½)·(1−p)^(b−½), so x·ln p_f and (n−x)·ln(1−p_f) are already in it.
        ln_upper_against(self.a + bad as f64, self.b + good as f64, self.share) - self.ln_prior
    }
}

/// ln E′: the evidence that the share of bad requests is `max_share`/2 rather than 2·`max_share`, Wald's sequential test.
#[must_use]
pub fn ln_acceptance(bad: u64, requests: u64, max_share: f64) -> f64 {
    let (p_good, p_bad) = (max_share / 2.0, (2.0 * max_share).min(0.999));
    let good = requests.saturating_sub(bad) as f64;
    bad as f64 * (p_good / p_bad).ln() + good * ((-p_good).ln_1p() - (-p_bad).ln_1p())
}

/// The guard over a release: mixed over the moments at which the breakage may have begun, so that a long clean record is no debt.
///
/// E = ⅘·E₁ + ⅕·Σ E_s/(s(s−1)) over the later starts s, and what is not yet laid counts 1. At most 8 starts are followed: the
/// weakest hands its capital to the next one, which keeps the sum a supermartingale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    floor: Floor,
    requests: u64,
    starts: Vec<Start>,
    started: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Start {
    /// Events of requests that were routed before this are not its own.
    #[serde(with = "seconds")]
    since: Duration,
    /// Grows when a weaker start hands its capital over.
    ln_stake: f64,
    /// Requests before it.
    before: u64,
    bad: u64,
}

impl Guard {
    /// Begins at this moment, after this many counted requests.
    #[must_use]
    pub fn new(floor: Floor, since: Duration, requests: u64) -> Self {
        let first = Start { since, ln_stake: STAKE_AT_FIRST.ln(), before: requests, bad: 0 };
        Self { floor, requests, starts: vec![first], started: 1 }
    }

    /// Bad events of the canary, whose requests were routed at this time.
    pub fn bad(&mut self, at: Duration, count: u64) {
        self.starts.iter_mut().filter(|start| start.since <= at).for_each(|start| start.bad += count);
    }

    /// The counted requests routed to the canary by now.
    pub fn requests(&mut self, requests: u64) {
        self.requests = self.requests.max(requests);
    }

    /// Lays the next stake: from here on breakage may have begun now.
    pub fn restart(&mut self, at: Duration) {
        self.started += 1;
        let s = self.started as f64;
        let mut ln_stake = ((1.0 - STAKE_AT_FIRST) / (s * (s - 1.0))).ln();
        if self.starts.len() == MOST_STARTS {
            let weakest = (0..MOST_STARTS).map(|index| (index, self.ln_capital(&self.starts[index])));
            if let Some((index, capital)) = weakest.min_by(|x, y| x.1.total_cmp(&y.1)) {
                self.starts.remove(index);
                ln_stake = ln_add(ln_stake, capital);
            }
        }
        self.starts.push(Start { since: at, ln_stake, before: self.requests, bad: 0 });
    }

    /// p_f.
    #[must_use]
    pub fn floor(&self) -> f64 {
        self.floor.share()
    }

    /// When the newest start was. Events of older requests are no business of its.
    pub(super) fn newest(&self) -> Duration {
        self.starts.last().map_or(Duration::ZERO, |start| start.since)
    }

    fn ln_capital(&self, start: &Start) -> f64 {
        let requests = (self.requests - start.before).max(start.bad);
        start.ln_stake + self.floor.ln_e(start.bad, requests)
    }

    /// ln of the evidence so far.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let idle = (1.0 - STAKE_AT_FIRST) / self.started as f64;
        self.starts.iter().fold(idle.ln(), |sum, start| ln_add(sum, self.ln_capital(start)))
    }
}
