//! Durations counted: in classic Prometheus buckets, and on an exponential scale for quantiles.
//!
//! The two are counted side by side. The classic bounds (5 ms, 7.5 ms …) are no powers of one factor, so buckets summed
//! from exponential cells would be wrong by up to a cell; and the classic histograms split by route and code class,
//! where an exponential one each would cost twenty times the memory.

use std::ops::AddAssign;
use std::time::Duration;

use super::scale::{CELLS, CLASSIC, OCTAVES, PER_OCTAVE, Place, cell_start};
use super::shard::{Cell, Lazy};

/// One worker's classic histogram.
#[derive(Debug)]
pub(super) struct Classic {
    buckets: [Cell; CLASSIC],
    nanos: Cell,
}

impl Default for Classic {
    fn default() -> Self {
        Self { buckets: [const { Cell::new() }; CLASSIC], nanos: Cell::new() }
    }
}

impl Classic {
    #[inline]
    pub(super) fn record(&self, place: Place) {
        self.buckets[place.bucket].add(1);
        self.nanos.add(place.nanos);
    }
}

/// Classic histograms added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClassicSum {
    /// Not cumulative.
    pub(super) buckets: [u64; CLASSIC],
    /// 2^64 ns are 584 years of summed durations.
    pub(super) nanos: u64,
}

impl Default for ClassicSum {
    fn default() -> Self {
        Self { buckets: [0; CLASSIC], nanos: 0 }
    }
}

impl ClassicSum {
    pub(super) fn add(&mut self, worker: &Classic) {
        for (sum, cell) in self.buckets.iter_mut().zip(&worker.buckets) {
            *sum += cell.get();
        }
        self.nanos = self.nanos.wrapping_add(worker.nanos.get());
    }

    pub(super) fn record(&mut self, place: Place) {
        self.buckets[place.bucket] += 1;
        self.nanos = self.nanos.wrapping_add(place.nanos);
    }
}

impl AddAssign<&Self> for ClassicSum {
    fn add_assign(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }
}

/// One worker's exponential histogram: at most 7 KiB, an octave at a time as durations fall into it.
#[derive(Debug, Default)]
pub(super) struct Exponential([Lazy<[Cell; PER_OCTAVE]>; OCTAVES]);

impl Exponential {
    #[inline]
    pub(super) fn record(&self, place: Place) {
        let octave = self.0[place.cell / PER_OCTAVE].get_or_init(|| [const { Cell::new() }; PER_OCTAVE]);
        octave[place.cell % PER_OCTAVE].add(1);
    }
}

/// How durations are distributed, to within 1.1 %: exponential histograms added up.
///
/// Covers 1 µs to 275 s; what is beyond counts at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    cells: Box<[u64; CELLS]>,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { cells: Box::new([0; CELLS]) }
    }
}

impl Distribution {
    pub(super) fn add(&mut self, worker: &Exponential) {
        for (octave, sums) in worker.0.iter().zip(self.cells.chunks_exact_mut(PER_OCTAVE)) {
            for (cell, sum) in octave.get().into_iter().flatten().zip(sums) {
                *sum += cell.get();
            }
        }
    }

    /// The cells that are not empty, with how many durations they hold; see [`cell_start`] for where they begin.
    pub(super) fn cells(&self) -> impl Iterator<Item = (usize, u64)> {
        self.cells.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// The opposite of [`cells`](Self::cells); none when there is no such cell.
    pub(super) fn from_cells(cells: &[(usize, u64)]) -> Option<Self> {
        let mut distribution = Self::default();
        for (cell, count) in cells {
            *distribution.cells.get_mut(*cell)? = *count;
        }
        Some(distribution)
    }

    /// Adds another distribution to this one.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.cells.iter_mut().zip(&*other.cells) {
            *sum += more;
        }
    }

    /// What was counted since `earlier`, an older state of the same distribution.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (now, then) in difference.cells.iter_mut().zip(&*earlier.cells) {
            *now = now.saturating_sub(*then);
        }
        difference
    }

    /// How many durations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// The duration that a share `q` (0–1) of all durations does not exceed; `None` without any.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let index = self.cells.iter().position(|cell| {
            below += cell;
            below >= rank
        })?;
        let middle = (cell_start(index) as f64 * 2f64.powf(0.5 / PER_OCTAVE as f64)).round();
        Some(Duration::from_nanos(middle as u64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::scale::{Buckets, Scale};

    fn distribution(nanos: &[u64]) -> Distribution {
        let (scale, histogram) = (Scale::new(Buckets::Fine), Exponential::default());
        for n in nanos {
            histogram.record(scale.place(Duration::from_nanos(*n)));
        }
        let mut sum = Distribution::default();
        sum.add(&histogram);
        sum
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn the_sum_of_classic_histograms_is_exact() {
        let (scale, one, two) = (Scale::new(Buckets::Fine), Classic::default(), Classic::default());
        one.record(scale.place(Duration::from_millis(5)));
        two.record(scale.place(Duration::from_micros(5_001)));
        two.record(scale.place(Duration::from_secs(61)));
        let mut sum = ClassicSum::default();
        sum.add(&one);
        sum.add(&two);
        assert_eq!(sum.nanos, 5_000_000 + 5_001_000 + 61_000_000_000);
        assert_eq!((sum.buckets[7], sum.buckets[8], sum.buckets[36]), (1, 1, 1));
        assert_eq!(sum.buckets.iter().sum::<u64>(), 3);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_cell(mut nanos in prop::collection::vec(2_000u64..200_000_000_000, 1..200), q in 0.0f64..=1.0) {
            let found = distribution(&nanos).quantile(q).unwrap().as_nanos() as f64;
            nanos.sort_unstable();
            let rank = ((q * nanos.len() as f64).ceil() as usize).max(1);
            let exact = nanos[rank - 1] as f64;
            prop_assert!((found / exact - 1.0).abs() < 0.012, "{found} for {exact}");
        }

        #[test]
        fn merging_is_counting_together(left in prop::collection::vec(0u64..100_000_000, 0..50), right in prop::collection::vec(0u64..100_000_000, 0..50)) {
            let mut merged = distribution(&left);
            merged.merge(&distribution(&right));
            prop_assert_eq!(merged.since(&distribution(&left)), distribution(&right));
            let together = distribution(&[left, right].concat());
            prop_assert_eq!(merged, together);
        }
    }
}
