//! What the releases do: the `serin_rollout_*` metrics. Told by the control side, never by a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::identity::KEPT;
use super::limit::LABEL_SETS;

/// Every state that a release can be shown in, in the order of its life: the values of the label `state`.
pub const ROLLOUT_STATES: [&str; 9] =
    ["idle", "warming", "gathering", "held", "awaitingApproval", "paused", "promoted", "rolledBack", "aborted"];

/// One release at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutGauges {
    /// Its name in the configuration: the label `rollout`.
    pub name: String,
    /// One of [`ROLLOUT_STATES`].
    pub state: &'static str,
    /// The step it is at, counted from 1; 0 where it is at none.
    pub step: usize,
    /// The canary's share in the file, 0 to 1.
    pub declared: f64,
    /// The canary's share in force, 0 to 1.
    pub effective: f64,
    /// One entry for each test.
    pub evidence: Vec<EvidenceGauges>,
}

/// How much speaks against the canary in one test.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceGauges {
    /// The label `test`, of a fixed set.
    pub test: &'static str,
    /// ln E of "worse than stable".
    pub ln_ratio: f64,
    /// ln E of "worse than the floor".
    pub ln_guard: f64,
    /// ln E that a rollback needs.
    pub ln_limit: f64,
}

/// The metrics of releases.
#[derive(Debug, Default)]
pub struct RolloutMetrics {
    rollouts: Mutex<Rollouts>,
    unsaved: AtomicU64,
}

/// From, to and why, as labels.
pub(super) type Move = [&'static str; 3];

type Key = (Arc<str>, Move);

#[derive(Debug, Default)]
pub(super) struct Rollouts {
    /// By name.
    pub(super) gauges: Vec<RolloutGauges>,
    pub(super) moves: BTreeMap<Key, u64>,
    /// Those that found no room. They stay folded, or their counts would be in two series.
    turned_away: BTreeSet<Key>,
    /// The moves of all of them.
    pub(super) folded: u64,
    /// How many there ever were.
    pub(super) dropped: u64,
    /// Releases that left the configuration, and when.
    retired: BTreeMap<Arc<str>, Instant>,
}

impl RolloutMetrics {
    /// Says how every release of the configuration in force stands. One that is missing loses its gauges now and its counters in
    /// an hour.
    pub fn set(&self, mut gauges: Vec<RolloutGauges>) {
        gauges.sort_by(|a, b| a.name.cmp(&b.name));
        self.lock().set(gauges, Instant::now());
    }

    /// Counts one move of a release. The words are names of states and reasons, from fixed sets.
    pub fn moved(&self, name: &str, from: &'static str, to: &'static str, reason: &'static str) {
        self.lock().moved((name.into(), [from, to, reason]));
    }

    /// Counts one write of a state that failed.
    pub fn not_saved(&self) {
        self.unsaved.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes of states that failed.
    pub(super) fn unsaved(&self) -> u64 {
        self.unsaved.load(Ordering::Relaxed)
    }

    /// Shows what there is now.
    pub(super) fn read<T>(&self, show: impl FnOnce(&Rollouts) -> T) -> T {
        let mut rollouts = self.lock();
        rollouts.sweep(Instant::now());
        show(&rollouts)
    }

    fn lock(&self) -> MutexGuard<'_, Rollouts> {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rollouts {
    fn set(&mut self, gauges: Vec<RolloutGauges>, now: Instant) {
        self.gauges = gauges;
        let known = |name: &str| self.gauges.binary_search_by(|one| one.name.as_str().cmp(name)).is_ok();
        self.retired.retain(|name, _| !known(name));
        let counted = self.moves.keys().chain(&self.turned_away).map(|(name, _)| name);
        for name in counted.filter(|name| !known(name)) {
            self.retired.entry(Arc::clone(name)).or_insert(now);
        }
    }

    fn moved(&mut self, key: Key) {
        if let Some(count) = self.moves.get_mut(&key) {
            *count += 1;
        } else if self.turned_away.contains(&key) {
            self.folded += 1;
        } else if self.moves.len() < LABEL_SETS - 1 {
            self.moves.insert(key, 1);
        } else {
            self.turned_away.insert(key);
            self.folded += 1;
            self.dropped += 1;
        }
    }

    /// Forgets releases that are long gone. What was folded of them stays in the sum, which must not fall.
    fn sweep(&mut self, now: Instant) {
        let gone: Vec<_> = self.retired.extract_if(.., |_, since| now.duration_since(*since) >= KEPT).collect();
        if !gone.is_empty() {
            let is_gone = |key: &Key| gone.iter().any(|(name, _)| *name == key.0);
            self.moves.retain(|key, _| !is_gone(key));
            self.turned_away.retain(|key| !is_gone(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gauges(name: &str) -> RolloutGauges {
        RolloutGauges {
            name: name.to_owned(),
            state: "held",
            step: 2,
            declared: 0.0,
            effective: 0.3,
            evidence: Vec::new(),
        }
    }

    fn started(name: &str) -> Key {
        (name.into(), ["idle", "warming", "started"])
    }

    #[test]
    fn a_release_that_left_loses_its_gauges_at_once_and_its_counters_in_an_hour() {
        let (mut rollouts, now) = (Rollouts::default(), Instant::now());
        rollouts.set(vec![gauges("a"), gauges("b")], now);
        rollouts.moved(started("a"));
        rollouts.moved(started("b"));
        rollouts.set(vec![gauges("b")], now);
        assert_eq!(rollouts.gauges, [gauges("b")]);
        rollouts.set(vec![gauges("b")], now + Duration::from_secs(60));
        rollouts.sweep(now + KEPT - Duration::from_secs(1));
        assert_eq!(rollouts.moves.len(), 2);
        rollouts.sweep(now + KEPT);
        assert_eq!(rollouts.moves.into_keys().collect::<Vec<_>>(), [started("b")]);
    }

    #[test]
    fn one_that_comes_back_goes_on_counting() {
        let (mut rollouts, now) = (Rollouts::default(), Instant::now());
        rollouts.moved(started("a"));
        rollouts.set(Vec::new(), now);
        rollouts.set(vec![gauges("a")], now);
        rollouts.sweep(now + 2 * KEPT);
        rollouts.moved(started("a"));
        assert_eq!(rollouts.moves.get(&started("a")), Some(&2));
    }

    #[test]
    fn beyond_the_cap_moves_are_folded_stay_folded_and_none_is_lost() {
        let (mut rollouts, now) = (Rollouts::default(), Instant::now());
        for name in 0..LABEL_SETS + 1 {
            rollouts.moved(started(&format!("{name:05}")));
        }
        assert_eq!((rollouts.moves.len(), rollouts.folded, rollouts.dropped), (LABEL_SETS - 1, 2, 2));
        rollouts.set(vec![gauges("02000")], now);
        rollouts.sweep(now + KEPT);
        rollouts.moved(started("02000"));
        assert_eq!((rollouts.moves.len(), rollouts.folded, rollouts.dropped), (0, 3, 2));
        rollouts.moved(started("new"));
        assert_eq!((rollouts.moves.len(), rollouts.folded), (1, 3), "room again");
    }
}
