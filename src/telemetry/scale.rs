//! Where a duration falls: its cell on the exponential scale and its classic Prometheus bucket, found together in a
//! few instructions. Pure arithmetic; the counting is `histogram.rs`.

use std::time::Duration;

/// Which classic buckets the histograms have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Buckets {
    /// 36 buckets, neighbours at most a factor 1.5 apart below ten seconds: a p99 within 9 %.
    #[default]
    Fine,
    /// The eleven default buckets of Prometheus' client libraries.
    Small,
}

impl Buckets {
    /// The upper bounds in seconds, without `+Inf`.
    #[must_use]
    pub fn bounds(self) -> &'static [f64] {
        match self {
            Self::Fine => &[
                0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03,
                0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5,
                10.0, 30.0, 60.0,
            ],
            Self::Small => &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
        }
    }
}

/// Cells an octave (a factor of two) is cut into: each is 2^(1/32) = 2.2 % wide.
pub(super) const PER_OCTAVE: usize = 32;
/// The first octave begins at 2^10 ns, about a microsecond; what is shorter counts in its first cell.
const FIRST: u32 = 10;
/// Octaves covered: up to 2^38 ns, 275 seconds; what is longer counts in the last cell.
pub(super) const OCTAVES: usize = 28;
/// Cells of the exponential scale.
pub(super) const CELLS: usize = OCTAVES * PER_OCTAVE;
/// Room for the classic buckets, `+Inf` included.
pub(super) const CLASSIC: usize = 37;

/// 2^(k/32) in units of 2^-63, for k = 0 … 31, then a bound nothing reaches.
const ROOTS: [u64; PER_OCTAVE + 1] = roots();
/// For each 64th of an octave, the cell that its beginning is in.
const GUESS: [u8; 64] = guesses();

const fn roots() -> [u64; PER_OCTAVE + 1] {
    let mut step: u128 = 1 << 64;
    let mut halvings = 0;
    while halvings < PER_OCTAVE.ilog2() {
        step = (step << 63).isqrt();
        halvings += 1;
    }
    let mut roots = [u64::MAX; PER_OCTAVE + 1];
    let mut root: u128 = 1 << 63;
    let mut k = 0;
    while k < PER_OCTAVE {
        roots[k] = root as u64;
        root = (root * step) >> 63;
        k += 1;
    }
    roots
}

const fn guesses() -> [u8; 64] {
    let mut guesses = [0; 64];
    let mut slot = 0;
    let mut cell = 0;
    while slot < 64 {
        let beginning = (1 << 63) | ((slot as u64) << 57);
        while ROOTS[cell + 1] <= beginning {
            cell += 1;
        }
        guesses[slot] = cell as u8;
        slot += 1;
    }
    guesses
}

/// The cell of a duration. A 64th of an octave is narrower than a cell, so it holds at most one border.
#[inline]
fn cell(nanos: u64) -> usize {
    let nanos = nanos.clamp(1 << FIRST, (1 << (FIRST as usize + OCTAVES)) - 1);
    let zeros = nanos.leading_zeros();
    let mantissa = nanos << zeros;
    let guess = usize::from(GUESS[(mantissa >> 57) as usize & 63]);
    let within = guess + usize::from(mantissa >= ROOTS[guess + 1]);
    (63 - zeros - FIRST) as usize * PER_OCTAVE + within
}

/// The shortest duration, in nanoseconds, that falls into the cell.
pub(super) fn cell_start(cell: usize) -> u64 {
    let exponent = FIRST as usize + cell / PER_OCTAVE;
    let shift = 63 - exponent;
    ROOTS[cell % PER_OCTAVE].div_ceil(1 << shift)
}

/// Where one duration counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Cell of the exponential scale.
    pub(super) cell: usize,
    /// Classic bucket; the one after the last bound is `+Inf`.
    pub(super) bucket: usize,
    /// The duration itself.
    pub(super) nanos: u64,
}

/// The classic buckets in force, laid over the exponential scale.
#[derive(Debug)]
pub(super) struct Scale {
    buckets: Buckets,
    /// Upper bounds in nanoseconds; after the last, bounds that nothing exceeds.
    bounds: [u64; CLASSIC],
    /// For each cell, the bucket that its beginning is in.
    bucket_of: [u8; CELLS],
}

impl Scale {
    pub(super) fn new(buckets: Buckets) -> Self {
        let mut bounds = [u64::MAX; CLASSIC];
        for (bound, seconds) in bounds.iter_mut().zip(buckets.bounds()) {
            *bound = nanos(Duration::from_secs_f64(*seconds));
        }
        let mut bucket_of = [0; CELLS];
        for (cell, bucket) in bucket_of.iter_mut().enumerate() {
            let first = bounds.partition_point(|bound| *bound < cell_start(cell));
            *bucket = u8::try_from(first).expect("there are 37 buckets");
        }
        Self { buckets, bounds, bucket_of }
    }

    /// The bounds in seconds, without `+Inf`.
    pub(super) fn bounds(&self) -> &'static [f64] {
        self.buckets.bounds()
    }

    /// A cell is narrower than a bucket, so it holds at most one bound.
    #[inline]
    pub(super) fn place(&self, duration: Duration) -> Place {
        let nanos = nanos(duration);
        let cell = cell(nanos);
        let guess = usize::from(self.bucket_of[cell]);
        Place { cell, bucket: guess + usize::from(nanos > self.bounds[guess]), nanos }
    }
}

#[inline]
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive_bucket(buckets: Buckets, duration: Duration) -> usize {
        let bounds = buckets.bounds();
        bounds.iter().position(|b| duration <= Duration::from_secs_f64(*b)).unwrap_or(bounds.len())
    }

    #[test]
    fn bounds_are_inclusive_and_a_nanosecond_more_is_the_next_bucket() {
        for buckets in [Buckets::Fine, Buckets::Small] {
            let scale = Scale::new(buckets);
            for (index, bound) in buckets.bounds().iter().enumerate() {
                let bound = Duration::from_secs_f64(*bound);
                assert_eq!(scale.place(bound).bucket, index, "{bound:?}");
                assert_eq!(scale.place(bound + Duration::from_nanos(1)).bucket, index + 1, "{bound:?} and a bit");
                assert_eq!(scale.place(bound - Duration::from_nanos(1)).bucket, index, "{bound:?} less a bit");
            }
        }
    }

    #[test]
    fn the_buckets_are_the_documented_ones() {
        assert_eq!(Buckets::Fine.bounds().len(), CLASSIC - 1);
        assert_eq!(Buckets::Small.bounds(), prometheus::DEFAULT_BUCKETS);
        for pair in Buckets::Fine.bounds()[..34].windows(2) {
            assert!(pair[1] / pair[0] <= 1.5 + 1e-9, "{pair:?}");
        }
    }

    #[test]
    fn cells_begin_where_they_say_and_are_narrow() {
        for index in 1..CELLS {
            let start = cell_start(index);
            assert_eq!(cell(start), index);
            assert_eq!(cell(start - 1), index - 1);
            let previous = cell_start(index - 1);
            assert!((start - previous) as f64 <= previous as f64 * 0.022 + 1.0, "cell {index}");
        }
    }

    #[test]
    fn extremes_count_at_the_ends() {
        let scale = Scale::new(Buckets::Fine);
        assert_eq!(scale.place(Duration::ZERO), Place { cell: 0, bucket: 0, nanos: 0 });
        let last = scale.place(Duration::MAX);
        assert_eq!((last.cell, last.bucket), (CELLS - 1, CLASSIC - 1));
    }

    proptest! {
        #[test]
        fn any_duration_is_where_a_search_would_put_it(exponent in 0.0f64..42.0, small: bool) {
            let buckets = if small { Buckets::Small } else { Buckets::Fine };
            let duration = Duration::from_nanos(exponent.exp2() as u64);
            let place = Scale::new(buckets).place(duration);
            prop_assert_eq!(place.bucket, naive_bucket(buckets, duration));
            let start = cell_start(place.cell);
            prop_assert!(place.cell == 0 || start <= place.nanos);
            prop_assert!(place.cell == CELLS - 1 || place.nanos < cell_start(place.cell + 1));
        }
    }
}
