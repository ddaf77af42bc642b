//! The weighted choice between destinations. Randomness is an argument: the caller brings the draw.

/// Destinations with their shares, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Split<T> {
    entries: Box<[Entry<T>]>,
    total: u64,
}

/// One destination of a split.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// What the weight points at.
    pub value: T,
    /// Share of the requests, 0 to 1. An entry with share 0 is never picked.
    pub share: f64,
    /// The sum of the weights up to and including this one.
    upper: u64,
}

impl<T> Split<T> {
    /// A split by weight relative to the sum of the weights. A single destination takes everything, whatever its weight
    /// (Istio ignores it). `None` if there is no destination, or several of which none has a weight.
    pub fn new(weighted: Vec<(T, u64)>) -> Option<Self> {
        let single = weighted.len() == 1;
        let weights: Vec<u64> = weighted.iter().map(|(_, weight)| if single { 1 } else { *weight }).collect();
        let total = weights.iter().fold(0, |sum: u64, weight| sum.saturating_add(*weight));
        if total == 0 {
            return None;
        }
        let mut upper: u64 = 0;
        let entries = weighted.into_iter().zip(weights).map(|((value, _), weight)| {
            upper = upper.saturating_add(weight);
            Entry { value, share: weight as f64 / total as f64, upper }
        });
        Some(Self { entries: entries.collect(), total })
    }

    /// The destination for a draw that is uniform over all of `u64`. The draw is scaled to the sum of the weights by a
    /// multiplication and a shift, so that shares are exact to within sum / 2⁶⁴. Larger draws fall to later entries.
    #[inline]
    pub fn pick(&self, draw: u64) -> &Entry<T> {
        &self.entries[self.position(draw)]
    }

    /// The place among all destinations of the one that [`pick`](Self::pick) gives.
    #[inline]
    pub fn position(&self, draw: u64) -> usize {
        let point = ((u128::from(draw) * u128::from(self.total)) >> 64) as u64;
        let last = self.entries.len() - 1;
        self.entries[..last].iter().position(|entry| point < entry.upper).unwrap_or(last)
    }

    /// All destinations in the order written, those with share 0 among them.
    pub fn entries(&self) -> &[Entry<T>] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn split(weights: &[u64]) -> Option<Split<usize>> {
        Split::new(weights.iter().copied().enumerate().collect())
    }

    /// A draw in the middle of the `step`-th of `steps` equal parts of the range.
    fn draw(step: u64, steps: u64) -> u64 {
        let part = (u128::from(u64::MAX) + 1) / u128::from(steps);
        (part * u128::from(step) + part / 2) as u64
    }

    #[test]
    fn ninety_ten_changes_hands_at_the_boundary() {
        let split = split(&[90, 10]).unwrap();
        let boundary = ((u128::from(u64::MAX) + 1) * 9 / 10) as u64;
        assert_eq!(split.pick(0).value, 0);
        assert_eq!(split.pick(boundary).value, 0);
        assert_eq!(split.pick(boundary + 1).value, 1);
        assert_eq!(split.pick(u64::MAX).value, 1);
        assert_eq!(split.entries()[1].share, 0.1);
    }

    #[test]
    fn a_weight_of_zero_gets_nothing_at_either_end() {
        for weights in [[0, 100, 0], [0, 1, 0]] {
            let split = split(&weights).unwrap();
            assert_eq!((split.pick(0).value, split.pick(u64::MAX).value), (1, 1));
            assert_eq!((split.entries()[0].share, split.entries()[2].share), (0.0, 0.0));
        }
    }

    #[test]
    fn a_single_destination_takes_everything_whatever_its_weight() {
        for weight in [0, 1, 37] {
            let split = split(&[weight]).unwrap();
            assert_eq!((split.pick(0).value, split.pick(u64::MAX).value, split.entries()[0].share), (0, 0, 1.0));
        }
    }

    #[test]
    fn nothing_to_choose_from_is_no_split() {
        assert!(split(&[]).is_none());
        assert!(split(&[0, 0]).is_none());
    }

    #[test]
    fn enormous_weights_do_not_overflow() {
        let split = split(&[u64::MAX, u64::MAX]).unwrap();
        assert_eq!(split.pick(0).value, 0);
    }

    /// Chance that a right splitter fails: below one in a million, and the draws are the same each time.
    #[test]
    fn shares_of_many_draws_are_the_weights() {
        const DRAWS: u32 = 1_000_000;
        let weights = [0, 1, 9, 0, 90, 400, 500];
        let (split, mut draws) = (split(&weights).unwrap(), SmallRng::seed_from_u64(11));
        let mut counts = [0_u32; 7];
        (0..DRAWS).for_each(|_| counts[split.pick(draws.next_u64()).value] += 1);
        let deviation = |(count, weight): (&u32, &u64)| {
            let expected = f64::from(DRAWS) * *weight as f64 / 1_000.0;
            if *weight == 0 { f64::from(*count) * 1e9 } else { (f64::from(*count) - expected).powi(2) / expected }
        };
        let chi_squared: f64 = counts.iter().zip(&weights).map(deviation).sum();
        // Four degrees of freedom: 33.4 is passed with probability 1e-6.
        assert!(chi_squared < 33.4, "{chi_squared}: {counts:?}");
    }

    proptest! {
        #[test]
        fn evenly_spread_draws_give_exact_proportions(weights in prop::collection::vec(0u64..50, 2..6)) {
            let total: u64 = weights.iter().sum();
            prop_assume!(total > 0);
            let split = split(&weights).unwrap();
            let mut counts = vec![0; weights.len()];
            for step in 0..total * 8 {
                counts[split.pick(draw(step, total * 8)).value] += 1;
            }
            prop_assert_eq!(counts, weights.iter().map(|weight| weight * 8).collect::<Vec<_>>());
        }

        #[test]
        fn agrees_with_laying_the_weights_out_one_by_one(weights in prop::collection::vec(0u64..20, 2..6), any in any::<u64>()) {
            let laid_out: Vec<usize> =
                weights.iter().enumerate().flat_map(|(index, weight)| vec![index; *weight as usize]).collect();
            prop_assume!(!laid_out.is_empty());
            let position = u128::from(any) * laid_out.len() as u128 / (u128::from(u64::MAX) + 1);
            let picked = split(&weights).unwrap().pick(any).value;
            prop_assert_eq!(picked, laid_out[position as usize]);
            prop_assert!(weights[picked] > 0);
        }

        /// Who keeps a draw (a cookie, a seed) moves only if it must, and never back.
        #[test]
        fn a_step_moves_only_the_difference(one in 0u64..=100, other in 0u64..=100) {
            let (less, more) = (one.min(other), one.max(other));
            let [before, after] = [less, more].map(|canary| split(&[100 - canary, canary]).unwrap());
            let mut moved = 0;
            for step in 0..1_000 {
                let draw = draw(step, 1_000);
                let (before, after) = (before.pick(draw).value, after.pick(draw).value);
                prop_assert!(before <= after, "step {} went back", step);
                moved += u64::from(before != after);
            }
            prop_assert_eq!(moved, (more - less) * 10);
        }
    }
}
