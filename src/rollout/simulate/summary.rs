//! Many releases in a few numbers.

use std::time::Duration;

use serde::Serialize;

use super::run::Outcome;
use crate::rollout::evidence::proportion;
use crate::rollout::machine::State;

/// Of so many releases, how many ended how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Releases that were run.
    pub runs: u64,
    /// Those that were rolled back.
    pub rolled_back: u64,
    /// Their share, with 95 % confidence (Clopper and Pearson). For a canary that is as good as stable, the false rollbacks.
    pub rolled_back_between: (f64, f64),
    /// Those that were promoted.
    pub promoted: u64,
    /// Those that were not over when they were given up.
    pub undecided: u64,
    /// What those that were rolled back took.
    pub rollback: Option<Spread>,
    /// What those that were promoted took.
    pub promotion: Option<Spread>,
}

/// What a number of releases took: half of them at most the median, 19 of 20 at most the p95.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// Counted requests of both versions: median and p95.
    pub requests: (u64, u64),
    /// Time since the start: median and p95, in seconds.
    pub seconds: (f64, f64),
    /// Failed canary requests: median and p95.
    pub canary_failures: (u64, u64),
}

impl Summary {
    /// Sums outcomes up.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Self {
        let ended =
            |state: State| -> Vec<&Outcome> { outcomes.iter().filter(|outcome| outcome.state == state).collect() };
        let (rolled_back, promoted) = (ended(State::RolledBack), ended(State::Promoted));
        let runs = outcomes.len() as u64;
        let (back, on) = (rolled_back.len() as u64, promoted.len() as u64);
        Self {
            runs,
            rolled_back: back,
            rolled_back_between: proportion(back, runs),
            promoted: on,
            undecided: runs - back - on,
            rollback: Spread::of(&rolled_back),
            promotion: Spread::of(&promoted),
        }
    }
}

impl Spread {
    fn of(outcomes: &[&Outcome]) -> Option<Self> {
        let pair = |number: fn(&Outcome) -> u64| {
            let mut numbers: Vec<u64> = outcomes.iter().map(|outcome| number(outcome)).collect();
            numbers.sort_unstable();
            let at = |share: f64| numbers.get((numbers.len() as f64 * share) as usize).copied();
            Some((at(0.5)?, at(0.95)?))
        };
        let (median, p95) = pair(|outcome| outcome.at.as_nanos() as u64)?;
        let seconds = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
        Some(Self {
            requests: pair(|outcome| outcome.counted)?,
            seconds: (seconds(median), seconds(p95)),
            canary_failures: pair(|outcome| outcome.canary_failures)?,
        })
    }
}
