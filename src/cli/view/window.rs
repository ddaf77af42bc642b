//! What the versions did lately: differences between two looks at counters that only grow. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::{Tally, VersionSummary};

/// How long a request is remembered.
const LENGTH: Duration = Duration::from_secs(10);

/// One look at all counters.
#[derive(Clone, Debug)]
struct Look {
    at: Instant,
    versions: Vec<VersionSummary>,
}

/// The looks of the last ten seconds.
#[derive(Debug, Default)]
pub(in crate::cli) struct Window(VecDeque<Look>);

impl Window {
    /// One more look; what is older than the window is forgotten.
    pub(in crate::cli) fn look(&mut self, at: Instant, versions: Vec<VersionSummary>) {
        self.0.push_back(Look { at, versions });
        while self.0.get(1).is_some_and(|second| at.duration_since(second.at) >= LENGTH) {
            self.0.pop_front();
        }
    }

    /// Forgets everything: the window begins with the next look.
    pub(in crate::cli) fn restart(&mut self) {
        self.0.clear();
    }

    /// The time between its first and its last look.
    pub(in crate::cli) fn length(&self) -> Duration {
        match (self.0.front(), self.0.back()) {
            (Some(first), Some(last)) => last.at.duration_since(first.at),
            _ => Duration::ZERO,
        }
    }

    /// What a version did between them.
    pub(in crate::cli) fn done(&self, app: &str, version: &str) -> Tally {
        self.between(|look| Some(&look.version(app, version)?.total))
    }

    /// What it did through one route.
    pub(in crate::cli) fn through(&self, route: &str, app: &str, version: &str) -> Tally {
        self.between(|look| {
            let routes = &look.version(app, version)?.routes;
            Some(&routes.iter().find(|one| one.route == route)?.done)
        })
    }

    /// In what unusual ways its requests ended, with how often.
    pub(in crate::cli) fn flags(&self, app: &str, version: &str) -> Vec<(String, u64)> {
        let of = |look: Option<&Look>, flag: &str| {
            look.and_then(|look| look.version(app, version)?.flags.get(flag).copied()).unwrap_or_default()
        };
        let Some(last) = self.0.back().and_then(|look| look.version(app, version)) else { return Vec::new() };
        let since = last.flags.iter().map(|(flag, now)| (flag.clone(), now.saturating_sub(of(self.0.front(), flag))));
        since.filter(|(_, count)| *count > 0).collect()
    }

    fn between<'w>(&'w self, of: impl Fn(&'w Look) -> Option<&'w Tally>) -> Tally {
        let Some(last) = self.0.back().and_then(&of) else { return Tally::default() };
        match self.0.front().and_then(&of) {
            Some(first) => last.since(first),
            None => last.clone(),
        }
    }
}

impl Look {
    fn version(&self, app: &str, version: &str) -> Option<&VersionSummary> {
        self.versions.iter().find(|one| one.app == app && one.version == version)
    }
}

/// How many of `draws` independent draws with this `chance` (0–1) hit in 95 % of all runs: the smallest number that at most
/// 2.5 % of runs stay below, and the smallest that at most 2.5 % exceed.
pub(in crate::cli) fn expected(draws: u64, chance: f64) -> (u64, u64) {
    if draws == 0 || chance <= 0.0 {
        return (0, 0);
    }
    if chance >= 1.0 {
        return (draws, draws);
    }
    let odds = chance / (1.0 - chance);
    let ratio = |hits: u64| (draws - hits) as f64 / (hits + 1) as f64 * odds;
    // Probabilities relative to that of the most likely number: nothing under- or overflows, however many draws there are.
    let mode = (((draws + 1) as f64 * chance) as u64).min(draws);
    let (mut first, mut below) = (mode, Vec::new());
    let mut weight = 1.0;
    while first > 0 && weight > 1e-12 {
        first -= 1;
        weight /= ratio(first);
        below.push(weight);
    }
    let mut weights: Vec<f64> = below.into_iter().rev().collect();
    weights.push(1.0);
    let (mut last, mut weight) = (mode, 1.0);
    while last < draws && weight > 1e-12 {
        weight *= ratio(last);
        last += 1;
        weights.push(weight);
    }
    let total: f64 = weights.iter().sum();
    let quantile = |share: f64| {
        let mut sum = 0.0;
        let found = weights.iter().position(|weight| {
            sum += weight;
            sum >= share * total
        });
        found.map_or(last, |at| first + at as u64)
    };
    (quantile(0.025), quantile(0.975))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::view::testing::counted;

    #[test]
    fn only_what_happened_within_the_window_counts() {
        let (mut window, start) = (Window::default(), Instant::now());
        assert_eq!((window.length(), window.done("shop", "v1").requests), (Duration::ZERO, 0));
        for second in 0..30 {
            window.look(start + Duration::from_secs(second), vec![counted("v1", second * 100, second, 0)]);
        }
        let done = window.done("shop", "v1");
        assert_eq!((window.length(), done.requests, done.errors), (LENGTH, 1000, 10));
        assert_eq!(window.through("a/0", "shop", "v1"), done);
        assert_eq!(window.through("a/1", "shop", "v1").requests, 0);
        assert_eq!(window.flags("shop", "v1"), [("UT".to_owned(), 10)]);
        assert_eq!(window.done("shop", "v2").requests, 0);
        window.restart();
        assert_eq!(window.length(), Duration::ZERO);
        window.look(start + Duration::from_secs(30), vec![counted("v1", 3000, 30, 0)]);
        assert_eq!(window.done("shop", "v1").requests, 0);
    }

    #[test]
    fn a_version_that_is_new_counts_from_nothing() {
        let (mut window, start) = (Window::default(), Instant::now());
        window.look(start, vec![counted("v1", 5, 0, 0)]);
        window.look(start + Duration::from_secs(1), vec![counted("v1", 6, 0, 0), counted("v2", 7, 1, 0)]);
        let done = window.done("shop", "v2");
        assert_eq!((done.requests, done.errors, window.done("shop", "v1").requests), (7, 1, 1));
    }

    #[test]
    fn ninety_five_of_a_hundred_runs() {
        assert_eq!(expected(100, 0.1), (5, 16));
        assert_eq!(expected(1, 0.5), (0, 1));
        assert_eq!(expected(0, 0.5), (0, 0));
        assert_eq!(expected(50, 0.0), (0, 0));
        assert_eq!(expected(50, 1.0), (50, 50));
        // 1.96 standard deviations of a normal distribution, within one.
        let (low, high) = expected(100_000, 0.3);
        assert!(low.abs_diff(30_000 - 284) <= 1 && high.abs_diff(30_000 + 284) <= 1, "{low} {high}");
    }

    proptest! {
        #[test]
        fn the_range_is_that_of_the_exact_distribution(draws in 1u64..120, chance in 0.001f64..0.999) {
            let mut probability = (1.0 - chance).powf(draws as f64);
            let (mut sum, mut exact) = (0.0, Vec::new());
            for hits in 0..=draws {
                sum += probability;
                exact.push(sum);
                probability *= (draws - hits) as f64 / (hits + 1) as f64 * chance / (1.0 - chance);
            }
            let (low, high) = expected(draws, chance);
            for (bound, share) in [(low, 0.025), (high, 0.975)] {
                prop_assert!(exact[bound as usize] > share - 1e-9);
                prop_assert!(bound == 0 || exact[bound as usize - 1] < share + 1e-9);
            }
        }
    }
}
