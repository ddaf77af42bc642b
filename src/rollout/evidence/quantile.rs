//! What a histogram can honestly say about a p99, and what a count can say about a proportion.

use std::time::Duration;

use super::beta::{binomial_quantile, ln_incomplete};
use crate::rollout::input::Interval;

/// Confidence of the intervals that are shown.
pub const CONFIDENCE: f64 = 0.95;
/// Below this many requests nothing is said about a p99: with fewer, all of them may be below it (0.99²⁹⁹ < 5 %).
pub const FEWEST_FOR_P99: u64 = 299;

/// Where the p99 lies with [`CONFIDENCE`], as bucket edges: between the order statistics of the binomial ranks. `counts` has one
/// bucket more than there are edges, for what is longer. None below [`FEWEST_FOR_P99`] requests, if nothing but "above 0" can be
/// said, or if the two do not fit.
#[must_use]
pub fn p99(edges: &[Duration], counts: &[u64]) -> Option<Interval> {
    let n: u64 = counts.iter().sum();
    if n < FEWEST_FOR_P99 || counts.len() != edges.len() + 1 {
        return None;
    }
    let alpha = 1.0 - CONFIDENCE;
    let low = binomial_quantile(alpha / 2.0, n, 0.99);
    let high = binomial_quantile(1.0 - alpha / 2.0, n, 0.99) + 1;
    let bucket = |rank: u64| {
        let mut seen = 0;
        counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })
    };
    let above = bucket(low).and_then(|bucket| bucket.checked_sub(1)).map_or(Duration::ZERO, |below| edges[below]);
    // A rank beyond the last request is beyond every edge.
    let up_to = bucket(high).and_then(|bucket| edges.get(bucket).copied());
    (!above.is_zero() || up_to.is_some()).then_some(Interval { above, up_to })
}

/// τ for `slowerThan: auto`: the smallest bucket edge that is at least 1.2 times the p99 of stable; none if there is none.
#[must_use]
pub fn slower_than(p99: Duration, edges: &[Duration]) -> Option<Duration> {
    let wanted = p99.mul_f64(1.2);
    edges.iter().copied().find(|edge| *edge >= wanted)
}

/// The Clopper–Pearson interval of a proportion, `bad` of `n`, with [`CONFIDENCE`]: never narrower than it should be.
#[must_use]
pub fn proportion(bad: u64, n: u64) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let (x, rest) = (bad as f64, n.saturating_sub(bad) as f64);
    // Both ends solve I_p(…) = tail, which rises with p.
    let solve = |a: f64, b: f64, level: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if ln_incomplete(a, b, middle).0 < level.ln() {
                low = middle;
            } else {
                high = middle;
            }
        }
        f64::midpoint(low, high)
    };
    let low = if bad == 0 { 0.0 } else { solve(x, rest + 1.0, tail) };
    let high = if bad >= n { 1.0 } else { solve(x + 1.0, rest, 1.0 - tail) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [u64; 15] = [5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2500, 5000];
    const V1: [u64; 16] = [90, 1260, 3600, 2250, 810, 396, 306, 126, 81, 36, 18, 15, 9, 3, 0, 0];
    const V2: [u64; 16] = [9, 132, 392, 245, 92, 46, 36, 16, 10, 6, 4, 5, 4, 2, 1, 0];

    fn edges() -> Vec<Duration> {
        EDGES.into_iter().map(Duration::from_millis).collect()
    }

    fn interval(above: u64, up_to: Option<u64>) -> Option<Interval> {
        Some(Interval { above: Duration::from_millis(above), up_to: up_to.map(Duration::from_millis) })
    }

    #[test]
    fn the_p99_of_vector_l() {
        assert_eq!(p99(&edges(), &V1), interval(200, Some(400)));
        assert_eq!(p99(&edges(), &V2), interval(300, Some(1000)));
    }

    #[test]
    fn a_p99_needs_299_requests() {
        let mut counts = [0; 16];
        counts[2] = 298;
        assert_eq!(p99(&edges(), &counts), None);
        counts[2] = 299;
        assert_eq!(p99(&edges(), &counts), interval(10, None));
        counts[2] = 100_000;
        assert_eq!(p99(&edges(), &counts), interval(10, Some(25)));
        counts[2] = 0;
        counts[0] = 100_000;
        assert_eq!(p99(&edges(), &counts), interval(0, Some(5)));
        assert_eq!(p99(&edges()[1..], &counts), None);
        counts[0] = 300;
        assert_eq!(p99(&edges(), &counts), None, "somewhere above 0");
    }

    #[test]
    fn tau_is_the_next_edge_above_the_p99_and_a_fifth() {
        let tau = |p99| slower_than(Duration::from_millis(p99), &edges());
        assert_eq!(tau(250), Some(Duration::from_millis(300)));
        assert_eq!(tau(251), Some(Duration::from_millis(400)));
        assert_eq!(tau(4999), None);
    }

    #[test]
    fn proportions_are_clopper_and_pearsons() {
        for (bad, n, low, high) in
            [(0, 299, 0.0, 0.012_26), (5, 1000, 0.001_625, 0.011_63), (10, 10, 0.691_5, 1.0), (1, 2, 0.012_58, 0.987_4)]
        {
            let got = proportion(bad, n);
            assert!((got.0 - low).abs() < 1e-4 && (got.1 - high).abs() < 1e-4, "{bad} of {n}: {got:?}");
        }
    }
}
