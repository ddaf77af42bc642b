//! What is slow: found before a release begins, from what the stable version does, and fixed from then on.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Latency;
use crate::rollout::{SLOW_MARGIN, edge_from};
use crate::telemetry::Distribution;

/// How often the stable version is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looks that are kept: the last minutes.
const LOOKS: usize = 6;
/// A p99 needs this many answers.
const ENOUGH: u64 = 299;

/// How long the answers of the stable version took lately.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    looks: VecDeque<(Instant, Distribution)>,
}

impl Baseline {
    /// Whether it is time to look again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.looks.back().is_none_or(|(last, _)| now.duration_since(*last) >= LOOK_EVERY)
    }

    /// Takes note of all that was counted so far.
    pub(super) fn look(&mut self, now: Instant, all: Distribution) {
        self.looks.push_back((now, all));
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
    }

    /// What was counted in the last minutes, `all` being what was counted so far.
    pub(super) fn recent(&self, all: &Distribution) -> Distribution {
        let first = self.looks.front().filter(|_| self.looks.len() == LOOKS);
        first.map_or_else(|| all.clone(), |(_, then)| all.since(then))
    }
}

/// Beyond which time an answer is slow: a bucket edge. None: latency is not judged; then the reason, if nobody wished so.
pub(super) fn freeze(latency: Latency, recent: &Distribution, edges: &[Duration]) -> Result<Option<Duration>, String> {
    let wanted = match latency {
        Latency::Off => return Ok(None),
        Latency::Fixed(limit) => limit,
        Latency::Auto => {
            let seen = recent.count();
            let p99 = recent.quantile(0.99).filter(|_| seen >= ENOUGH);
            let p99 = p99.ok_or_else(|| {
                format!("the stable version has had {seen} answers lately, and its p99 needs {ENOUGH}")
            })?;
            p99.mul_f64(SLOW_MARGIN)
        }
    };
    edge_from(edges, wanted).map(Some).ok_or_else(|| format!("{wanted:?} lies beyond the last bucket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Buckets, Metrics, Worker};

    fn distribution(answers: u32, each: Duration) -> Distribution {
        let metrics = Metrics::new(1, Buckets::Fine);
        let version = metrics.destination("a", "v1");
        (0..answers).for_each(|_| version.upstream_duration(Worker(0), each));
        version.upstream_latency()
    }

    fn edges() -> Vec<Duration> {
        [100, 150, 200, 300].map(Duration::from_millis).to_vec()
    }

    #[test]
    fn auto_is_the_next_edge_above_the_margin() {
        let recent = distribution(300, Duration::from_millis(100));
        assert_eq!(freeze(Latency::Auto, &recent, &edges()), Ok(Some(Duration::from_millis(150))));
        let slower = distribution(300, Duration::from_millis(130));
        assert_eq!(freeze(Latency::Auto, &slower, &edges()), Ok(Some(Duration::from_millis(200))));
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let few = distribution(298, Duration::from_millis(100));
        assert!(freeze(Latency::Auto, &few, &edges()).unwrap_err().contains("298 answers"));
        let enough = distribution(300, Duration::from_secs(100));
        assert!(freeze(Latency::Auto, &enough, &edges()).unwrap_err().contains("last bucket"));
    }

    #[test]
    fn a_limit_that_is_given_needs_no_traffic() {
        let none = Distribution::default();
        let limit = Latency::Fixed(Duration::from_millis(250));
        assert_eq!(freeze(limit, &none, &edges()), Ok(Some(Duration::from_millis(300))));
        assert_eq!(freeze(Latency::Off, &none, &edges()), Ok(None));
    }

    #[test]
    fn only_the_last_minutes_count() {
        let (mut baseline, mut now) = (Baseline::default(), Instant::now());
        let slow = distribution(300, Duration::from_secs(1));
        for _ in 0..LOOKS {
            assert!(baseline.is_due(now));
            baseline.look(now, slow.clone());
            assert!(!baseline.is_due(now));
            now += LOOK_EVERY;
        }
        let mut all = slow.clone();
        all.merge(&distribution(300, Duration::from_millis(100)));
        let recent = baseline.recent(&all);
        assert_eq!(recent.count(), 300);
        assert_eq!(freeze(Latency::Auto, &recent, &edges()), Ok(Some(Duration::from_millis(150))));
    }
}
