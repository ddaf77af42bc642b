//! Bad events in the order in which their requests were routed.
//!
//! A version that fails at once is heard of before one that fails slowly. Judged as they come, the quick failures of a canary
//! would outrun the slow ones of stable that belong beside them. So an event waits until nothing older can still turn bad.

use std::collections::BTreeMap;
use std::time::Duration;

use super::input::{Bad, Test};

/// How long an event waits for older requests that have not finished.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// More events than this do not wait: the oldest go first. 5 s of 13,000 failures a second.
const MOST: usize = 65_536;

/// Holds bad events until every older request has finished, or is older than 5 s. For [`Test::Slow`] a request is settled as
/// soon as it is older than τ, when it must have been reported: so its events wait for τ at most.
#[derive(Debug, Clone)]
pub struct Watermark {
    waiting: BTreeMap<(Duration, u64), Bad>,
    slow_wait: Duration,
    taken: u64,
}

impl Watermark {
    /// `slower_than` is the plan's.
    #[must_use]
    pub fn new(slower_than: Option<Duration>) -> Self {
        let slow_wait = slower_than.map_or(LONGEST_WAIT, |tau| tau.min(LONGEST_WAIT));
        Self { waiting: BTreeMap::new(), slow_wait, taken: 0 }
    }

    /// Takes an event in, from whatever time.
    pub fn hold(&mut self, bad: Bad) {
        self.taken += 1;
        self.waiting.insert((bad.at, self.taken), bad);
    }

    /// Gives out what nothing has to wait for any more, by routing time. `oldest_open` is when the oldest counted request that
    /// has not finished was routed; none: all have.
    pub fn release(&mut self, now: Duration, oldest_open: Option<Duration>) -> Vec<Bad> {
        let settled = |wait: Duration| oldest_open.unwrap_or(now).max(now.saturating_sub(wait));
        let (errors, slow) = (settled(LONGEST_WAIT), settled(self.slow_wait));
        let surplus = self.waiting.len().saturating_sub(MOST);
        let horizon = errors.max(slow);
        let due = |(&(at, _), bad): (&(Duration, u64), &Bad)| at <= if bad.test == Test::Slow { slow } else { errors };
        let keys: Vec<(Duration, u64)> = self
            .waiting
            .iter()
            .enumerate()
            .take_while(|(position, ((at, _), _))| *position < surplus || *at <= horizon)
            .filter(|(position, entry)| *position < surplus || due(*entry))
            .map(|(_, (key, _))| *key)
            .collect();
        keys.iter().filter_map(|key| self.waiting.remove(key)).collect()
    }

    /// Events that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::input::Arm;
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn bad(millis: u64, test: Test) -> Bad {
        Bad { at: at(millis), arm: Arm::Canary, test, share: 0.1, key: None }
    }

    fn times(events: &[Bad]) -> Vec<u128> {
        events.iter().map(|bad| bad.at.as_millis()).collect()
    }

    #[test]
    fn a_quick_failure_waits_for_the_older_request_that_is_still_open() {
        let mut watermark = Watermark::new(None);
        watermark.hold(bad(200, Test::Error));
        assert!(watermark.release(at(210), Some(at(100))).is_empty());
        watermark.hold(bad(100, Test::Error));
        assert_eq!(times(&watermark.release(at(300), None)), [100, 200]);
        assert!(watermark.is_empty());
    }

    #[test]
    fn it_waits_five_seconds_at_most() {
        let mut watermark = Watermark::new(None);
        watermark.hold(bad(200, Test::Error));
        assert!(watermark.release(at(5_199), Some(at(100))).is_empty());
        assert_eq!(times(&watermark.release(at(5_200), Some(at(100)))), [200]);
    }

    #[test]
    fn a_slow_one_waits_only_until_older_ones_would_be_slow_too() {
        let mut watermark = Watermark::new(Some(at(300)));
        watermark.hold(bad(200, Test::Slow));
        watermark.hold(bad(200, Test::Error));
        assert!(watermark.release(at(499), Some(at(100))).is_empty());
        let released = watermark.release(at(500), Some(at(100)));
        assert_eq!(released, [bad(200, Test::Slow)]);
        assert_eq!(watermark.len(), 1);
    }

    #[test]
    fn what_arrives_too_late_is_given_out_at_once() {
        let mut watermark = Watermark::new(None);
        assert!(watermark.release(at(9_000), None).is_empty());
        watermark.hold(bad(1_000, Test::Error));
        assert_eq!(times(&watermark.release(at(9_000), Some(at(500)))), [1_000]);
    }

    #[test]
    fn a_flood_does_not_grow_without_bound() {
        let mut watermark = Watermark::new(None);
        (0..MOST as u64 + 3).for_each(|n| watermark.hold(bad(1_000 + n, Test::Error)));
        assert_eq!(times(&watermark.release(at(1_000), Some(at(0)))), [1_000, 1_001, 1_002]);
        assert_eq!(watermark.len(), MOST);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_release_is_in_order(
            arrivals in prop::collection::vec((0u64..10_000, 0u64..8_000, any::<bool>()), 0..200),
        ) {
            let mut arrivals: Vec<_> =
                arrivals.into_iter().map(|(routed, took, slow)| (routed + took, routed, slow)).collect();
            arrivals.sort_unstable();
            let mut watermark = Watermark::new(Some(at(400)));
            let mut seen = 0;
            for (position, (now, routed, slow)) in arrivals.iter().enumerate() {
                watermark.hold(bad(*routed, if *slow { Test::Slow } else { Test::Error }));
                let open = arrivals[position + 1..].iter().filter(|(_, routed, _)| routed <= now).map(|(_, r, _)| at(*r));
                let released = watermark.release(at(*now), open.min());
                prop_assert!(released.is_sorted_by_key(|bad| bad.at));
                seen += released.len();
            }
            seen += watermark.release(at(60_000), None).len();
            prop_assert_eq!(seen, arrivals.len());
        }
    }
}
