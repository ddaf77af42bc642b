//! What happened to a test, in so few entries that a report can hold it and every decision can be computed again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::{Arm, Bad};
use crate::rollout::seconds;

/// More entries than this are shortened: the older half becomes a state of the engine.
const MOST_ENTRIES: usize = 600;

/// One thing that happened to a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// Bad events that came one after the other, in any order.
    Bad {
        /// The canary's share when they were routed.
        share: f64,
        /// Those of stable.
        stable: u64,
        /// Those of the canary.
        canary: u64,
        /// When the last of them was routed.
        #[serde(with = "seconds")]
        until: Duration,
        /// When the one event was routed, if that was before the newest start.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "seconds::option")]
        late: Option<Duration>,
    },
    /// A new stake was laid.
    Restart {
        /// When.
        #[serde(with = "seconds")]
        at: Duration,
        /// The canary's counted requests by then.
        requests: u64,
        /// Whether the ratio took part.
        ratio: bool,
    },
    /// The control was lost or came back.
    Alone {
        /// When.
        #[serde(with = "seconds")]
        at: Duration,
        /// The canary's counted requests by then.
        requests: u64,
        /// Lost?
        is: bool,
        /// The floor of the guard alone.
        floor: f64,
    },
    /// A decision was made on what was known here.
    Decision {
        /// The transition's number.
        sequence: u64,
        /// The canary's counted requests by then.
        requests: u64,
    },
}

/// What a decision was made on, computed again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replayed {
    /// The transition's number.
    pub sequence: u64,
    /// ln E of "worse than stable".
    pub ln_ratio: f64,
    /// ln E of "worse than the floor".
    pub ln_guard: f64,
}

/// What would have come of a release under other limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WhatIf {
    /// The largest ln E.
    pub peak: f64,
    /// When it would have been rolled back; none: not at all.
    #[serde(with = "seconds::option")]
    pub against: Option<Duration>,
}

/// The history of one test, from the beginning or from where it was shortened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tape {
    /// The engine before the first entry.
    base: Engine,
    entries: Vec<Entry>,
    /// Whether the beginning is in `base` only.
    shortened: bool,
}

impl Tape {
    /// An empty one.
    #[must_use]
    pub fn new(base: Engine) -> Self {
        Self { base, entries: Vec::new(), shortened: false }
    }

    /// What happened, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether its beginning was left out to keep it short.
    #[must_use]
    pub fn is_shortened(&self) -> bool {
        self.shortened
    }

    /// Adds a bad event to the last entry, if that is of the same kind.
    pub(super) fn bad(&mut self, bad: &Bad, is_late: bool) {
        let Bad { at, share, arm, .. } = *bad;
        let (one_stable, one_canary) = if arm == Arm::Stable { (1, 0) } else { (0, 1) };
        match self.entries.last_mut() {
            Some(Entry::Bad { share: same, stable, canary, until, late: None }) if *same == share && !is_late => {
                *stable += one_stable;
                *canary += one_canary;
                *until = at.max(*until);
            }
            _ => {
                let late = is_late.then_some(at);
                self.push(Entry::Bad { share, stable: one_stable, canary: one_canary, until: at, late });
            }
        }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        if self.entries.len() > MOST_ENTRIES {
            self.shortened = true;
            self.entries.drain(..MOST_ENTRIES / 2).for_each(|entry| {
                play(&mut self.base, &entry);
            });
        }
    }

    /// Computes again what each decision was made on.
    #[must_use]
    pub fn replay(&self) -> Vec<Replayed> {
        self.replay_on(self.base.clone())
    }

    fn replay_on(&self, mut engine: Engine) -> Vec<Replayed> {
        let mut decisions = Vec::new();
        for entry in &self.entries {
            play(&mut engine, entry);
            if let Entry::Decision { sequence, .. } = entry {
                let (ln_ratio, ln_guard) = (engine.ln_ratio(), engine.ln_guard());
                decisions.push(Replayed { sequence: *sequence, ln_ratio, ln_guard });
            }
        }
        decisions
    }

    /// What would have come of it with another tolerance, floor or limit: to within 20 bad events, or a minute, and for as long
    /// as the release really lasted. None if the beginning was left out. Where the guard was alone, the floor is at least what
    /// it was then.
    #[must_use]
    pub fn what_if(&self, tolerance: f64, floor: f64, ln_limit: f64) -> Option<WhatIf> {
        if self.shortened {
            return None;
        }
        let mut engine = Engine::new(tolerance, floor, self.base.newest());
        let mut found = WhatIf { peak: 0.0, against: None };
        let mut now = Duration::ZERO;
        for entry in &self.entries {
            match *entry {
                Entry::Alone { at, requests, is, floor: then } => {
                    play(&mut engine, &Entry::Alone { at, requests, is, floor: then.max(floor) });
                }
                _ => play(&mut engine, entry),
            }
            if let Entry::Bad { until, .. } = entry {
                now = now.max(*until);
            }
            found.peak = found.peak.max(engine.ln_e());
            if engine.ln_e() >= ln_limit && found.against.is_none() {
                found.against = Some(now);
            }
        }
        Some(found)
    }
}

fn play(engine: &mut Engine, entry: &Entry) {
    match *entry {
        Entry::Bad { share, stable, canary, late, .. } => {
            let at = late.unwrap_or(engine.newest());
            engine.bad(Arm::Stable, share, at, stable);
            engine.bad(Arm::Canary, share, at, canary);
        }
        Entry::Restart { at, requests, ratio } => {
            engine.requests(requests);
            engine.restart(at, ratio);
        }
        Entry::Alone { at, requests, is, floor } => {
            engine.requests(requests);
            engine.alone(is, floor, at, requests);
        }
        Entry::Decision { requests, .. } => engine.requests(requests),
    }
}
