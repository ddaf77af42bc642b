//! The cap on label sets: a scraper must not be flooded by a configuration of ten thousand routes.
//!
//! Enforced where series are read, not where they are counted, so that it costs a request nothing. What is folded stays
//! folded, and keeps its sum when its object is forgotten: a series may never go backwards.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use prometheus::proto::LabelPair;

use super::destination::DestinationMetrics;

/// The most label sets one metric shows; what is beyond is folded into [`OTHER`].
pub const LABEL_SETS: usize = 2_000;

/// The label value of what was folded together.
pub const OTHER: &str = "_other";

/// One label set of one metric and its value, before the cap.
#[derive(Debug)]
pub(super) struct Set<V> {
    pub(super) destination: Arc<DestinationMetrics>,
    /// Which object counts it, and which of its cells: the identity of the set.
    pub(super) id: (u64, u32),
    pub(super) labels: Vec<LabelPair>,
    pub(super) value: V,
}

/// Stands for everything of a destination that was folded; no cell has this number.
const FOLD: u32 = u32::MAX;

type Owner = (Arc<str>, Arc<str>);

/// Which label sets of one metric are shown.
#[derive(Debug)]
pub(super) struct Limit<V> {
    known: BTreeMap<(u64, u32), bool>,
    shown: usize,
    /// What forgotten objects had added to the folded sums.
    buried: BTreeMap<Owner, V>,
    /// Label sets that were not shown so far.
    pub(super) dropped: u64,
}

impl<V> Limit<V>
where
    V: Default + Clone + for<'a> AddAssign<&'a V>,
{
    pub(super) fn new() -> Self {
        Self { known: BTreeMap::new(), shown: 0, buried: BTreeMap::new(), dropped: 0 }
    }

    /// Splits `sets` into those shown and the folded sums, whose labels other than `app` and `version` are all
    /// [`OTHER`]: sums by version stay exact. Room for that is kept for as many `destinations` as half the cap; a
    /// destination beyond is folded into one series of [`OTHER`] alone.
    pub(super) fn apply(&mut self, sets: Vec<Set<V>>, destinations: usize) -> (Vec<Set<V>>, BTreeMap<Owner, V>) {
        let room = LABEL_SETS - 1 - destinations.min(LABEL_SETS / 2);
        let mut folded = self.buried.clone();
        let mut shown = Vec::with_capacity(sets.len());
        for set in sets {
            if self.admit(set.id, room) {
                shown.push(set);
            } else {
                *folded.entry(self.owner(&set.destination)).or_default() += &set.value;
            }
        }
        (shown, folded)
    }

    /// Forgets an object, whose last values are `sets`.
    pub(super) fn forget(&mut self, object: u64, sets: Vec<Set<V>>) {
        for set in sets {
            if self.known.get(&set.id) == Some(&false) {
                let owner = self.owner(&set.destination);
                *self.buried.entry(owner).or_default() += &set.value;
            }
        }
        let forgotten = self.known.extract_if((object, 0)..=(object, FOLD), |_, _| true);
        self.shown -= forgotten.filter(|(_, shown)| *shown).count();
    }

    /// Forgets a destination and the folded sums that carry its name.
    pub(super) fn forget_destination(&mut self, destination: &DestinationMetrics, sets: Vec<Set<V>>) {
        self.forget(destination.id, sets);
        self.buried.remove(&(Arc::clone(&destination.app), Arc::clone(&destination.version)));
    }

    fn admit(&mut self, id: (u64, u32), room: usize) -> bool {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let shown = self.shown < room;
        self.known.insert(id, shown);
        if shown {
            self.shown += 1;
        } else {
            self.dropped += 1;
        }
        shown
    }

    /// Under whose name a set of this destination is folded.
    fn owner(&mut self, destination: &DestinationMetrics) -> Owner {
        let fold = (destination.id, FOLD);
        let known = self.known.get(&fold).copied();
        let named = known.unwrap_or(self.shown < LABEL_SETS - 1);
        if known.is_none() {
            self.known.insert(fold, named);
            self.shown += usize::from(named);
        }
        if named {
            (Arc::clone(&destination.app), Arc::clone(&destination.version))
        } else {
            (OTHER.into(), OTHER.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::scale::{Buckets, Scale};

    fn destination(id: u64, version: &str) -> Arc<DestinationMetrics> {
        Arc::new(DestinationMetrics::new(id, "shop", version, Arc::new(Scale::new(Buckets::Small)), 1))
    }

    fn sets(
        destination: &Arc<DestinationMetrics>,
        object: u64,
        cells: std::ops::Range<u32>,
        value: u64,
    ) -> Vec<Set<u64>> {
        let set = |cell| Set { destination: Arc::clone(destination), id: (object, cell), labels: Vec::new(), value };
        cells.map(set).collect()
    }

    fn folded(folded: &BTreeMap<Owner, u64>) -> Vec<(&str, u64)> {
        folded.iter().map(|((_, version), value)| (&**version, *value)).collect()
    }

    #[test]
    fn below_the_cap_everything_is_shown() {
        let mut limit = Limit::new();
        let (shown, rest) = limit.apply(sets(&destination(1, "v1"), 2, 0..1_998, 1), 1);
        assert_eq!((shown.len(), rest.len(), limit.dropped), (1_998, 0, 0));
    }

    #[test]
    fn what_is_beyond_is_folded_by_version_and_no_sum_is_lost() {
        let (mut limit, v1, v2) = (Limit::new(), destination(1, "v1"), destination(2, "v2"));
        let mut all = sets(&v1, 3, 0..1_500, 1);
        all.extend(sets(&v2, 4, 0..1_500, 10));
        let (shown, rest) = limit.apply(all, 2);
        assert_eq!(shown.len(), LABEL_SETS - 3, "one series is kept for each version and one for all the rest");
        assert_eq!(folded(&rest), [("v2", 10 * (3_000 - 1_997))]);
        assert_eq!(limit.dropped, 3_000 - 1_997);
        let total: u64 = shown.iter().map(|s| s.value).chain(rest.into_values()).sum();
        assert_eq!(total, 1_500 + 15_000);
    }

    #[test]
    fn never_more_than_the_cap_with_more_versions_than_it() {
        let mut limit = Limit::new();
        let all = (0..3_000).flat_map(|n| sets(&destination(n, &format!("v{n}")), n, 0..3, 1)).collect();
        let (shown, rest) = limit.apply(all, 3_000);
        assert_eq!(shown.len() + rest.len(), LABEL_SETS);
        assert_eq!(shown.len() as u64 + rest.values().sum::<u64>(), 9_000);
        assert!(rest.contains_key(&(OTHER.into(), OTHER.into())));
    }

    #[test]
    fn the_folded_stay_folded_and_keep_their_sum_when_forgotten() {
        let (mut limit, v1) = (Limit::new(), destination(1, "v1"));
        limit.apply(sets(&v1, 2, 0..1_998, 1), 1);
        let (_, rest) = limit.apply(sets(&v1, 3, 0..5, 7), 1);
        assert_eq!(folded(&rest), [("v1", 35)]);
        limit.forget(3, sets(&v1, 3, 0..5, 8));
        let (shown, rest) = limit.apply(Vec::new(), 1);
        assert_eq!((shown.len(), folded(&rest)), (0, vec![("v1", 40)]));
        limit.forget(2, sets(&v1, 2, 0..1_998, 1));
        let (shown, rest) = limit.apply(sets(&v1, 4, 0..5, 1), 1);
        assert_eq!((shown.len(), folded(&rest)), (5, vec![("v1", 40)]), "room again");
        limit.forget_destination(&v1, Vec::new());
        assert!(limit.apply(Vec::new(), 0).1.is_empty());
    }
}
