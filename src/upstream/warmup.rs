//! Endpoints that get less than their share at first: Envoy's slow start. An endpoint warms up from when it joins its
//! cluster, the endpoints of the first set too, and again from the end of an ejection; beside others that are as cold as
//! itself it gets an equal share. Nothing here costs a request anything once all are warm.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::Endpoint;

/// A whole turn.
const TURN: u32 = 1 << 16;
/// Spreads the turns of endpoints that are equally cold: the golden ratio.
const SPREAD: u32 = 40_503;

/// `loadBalancer.warmup`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// How long an endpoint warms up; not zero.
    pub duration: Duration,
    /// The least that it gets of its share: `minimumPercent` as a number from 0 to 1. Istio's default, 0.1.
    pub minimum: f64,
    /// The share grows with the time to the power of 1 / `aggression`. Istio's default, 1: evenly.
    pub aggression: f64,
}

impl Warmup {
    /// What part of its share an endpoint gets when it has been in use for so long.
    pub fn factor(&self, in_use: Duration) -> f64 {
        if in_use >= self.duration {
            return 1.0;
        }
        let part = in_use.max(Duration::from_millis(1)).as_secs_f64() / self.duration.as_secs_f64();
        part.min(1.0).powf(1.0 / self.aggression).max(self.minimum)
    }
}

/// The warming up of one set of endpoints.
#[derive(Debug)]
pub(super) struct Warming {
    policy: Warmup,
    started: Instant,
    /// Milliseconds since `started` until which one of them may be cold; 0: none is.
    until: AtomicU64,
    /// What of a turn each of them has saved up.
    turns: Box<[AtomicU32]>,
}

impl Warming {
    /// For these endpoints, as many as will be asked about.
    pub(super) fn new(policy: Warmup, endpoints: &[Arc<Endpoint>]) -> Self {
        let turns =
            (0..endpoints.len() as u32).map(|index| AtomicU32::new(index.wrapping_mul(SPREAD) % TURN)).collect();
        let warming = Self { policy, started: Instant::now(), until: AtomicU64::new(0), turns };
        endpoints.iter().for_each(|endpoint| warming.expect(endpoint));
        warming
    }

    /// Takes note that an endpoint comes into use, now or later.
    pub(super) fn expect(&self, endpoint: &Endpoint) {
        let warm = endpoint.in_use_since() + self.policy.duration;
        let until = warm.saturating_duration_since(self.started).as_millis();
        self.until.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether one of them may be cold.
    pub(super) fn is_on(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        if self.started.elapsed() <= Duration::from_millis(until) {
            return true;
        }
        // Whoever changed it meanwhile expects another one.
        let _ = self.until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        false
    }

    /// What part of its share an endpoint gets now. One that is in use although it is ejected gets all of it.
    pub(super) fn factor(&self, endpoint: &Endpoint, now: Instant) -> f64 {
        let in_use = now.checked_duration_since(endpoint.in_use_since());
        in_use.map_or(1.0, |in_use| self.policy.factor(in_use))
    }

    /// Whether an endpoint takes this turn, when it is to take every one in 1 / `part`: it saves up what it gets of each.
    pub(super) fn takes_turn(&self, index: usize, part: f64) -> bool {
        let Some(saved) = self.turns.get(index) else { return true };
        let more = (part * f64::from(TURN)).ceil() as u32;
        let take = |saved: u32| Some(if saved + more >= TURN { saved + more - TURN } else { saved + more });
        // Never refused: `take` always gives a number.
        saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok_and(|before| before + more >= TURN)
    }
}

/// The index that a uniform draw chooses, each with the chance of its weight; none if there is no weight.
pub(super) fn weighted(weights: &[f64], draw: u64) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    let mut left = draw as f64 / u64::MAX as f64 * total;
    let mut last = None;
    for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        if left < weight {
            return Some(index);
        }
        left -= weight;
        // What rounding leaves over belongs to the last one.
        last = Some(index);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Address, OutlierPolicy};

    fn warmup(minimum: f64, aggression: f64) -> Warmup {
        Warmup { duration: Duration::from_secs(100), minimum, aggression }
    }

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint::new("x".into(), Address::Tcp(Vec::new()), 1))
    }

    fn factor(warming: &Warming, endpoint: &Endpoint) -> f64 {
        warming.factor(endpoint, Instant::now())
    }

    #[test]
    fn the_factor_is_the_one_of_envoy() {
        let after = |policy: Warmup, seconds| policy.factor(Duration::from_secs_f64(seconds));
        for (seconds, wanted) in [(0.0, 0.1), (5.0, 0.1), (10.0, 0.1), (25.0, 0.25), (99.0, 0.99), (100.0, 1.0)] {
            assert!((after(warmup(0.1, 1.0), seconds) - wanted).abs() < 1e-9, "{seconds}");
        }
        assert!((after(warmup(0.0, 2.0), 25.0) - 0.5).abs() < 1e-9, "the square root of a quarter");
        assert!((after(warmup(0.7, 2.0), 25.0) - 0.7).abs() < 1e-9);
        assert!((after(warmup(0.0, 1.0), 0.0) - 1e-5).abs() < 1e-12, "a millisecond is the least");
        let short = Warmup { duration: Duration::from_millis(1), ..warmup(0.1, 1.0) };
        assert_eq!(after(short, 0.0), 1.0);
        assert_eq!(after(warmup(0.1, 1.0), 1e9), 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_on_until_the_last_one_is_warm() {
        let (old, young) = (endpoint(), endpoint());
        tokio::time::advance(Duration::from_secs(60)).await;
        young.joins();
        let warming = Warming::new(warmup(0.1, 1.0), &[Arc::clone(&old), Arc::clone(&young)]);
        assert_eq!((factor(&warming, &old), factor(&warming, &young)), (0.6, 0.1));
        tokio::time::advance(Duration::from_secs(99)).await;
        assert!(warming.is_on());
        assert_eq!((factor(&warming, &old), factor(&warming, &young)), (1.0, 0.99));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!warming.is_on());
        let warm = Warming::new(warmup(0.1, 1.0), &[old, young]);
        assert!(!warm.is_on(), "a new set of old endpoints");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_cold_again_when_its_ejection_ends() {
        let policy = OutlierPolicy::default();
        let endpoint = endpoint();
        tokio::time::advance(Duration::from_secs(1000)).await;
        let warming = Warming::new(warmup(0.1, 1.0), &[Arc::clone(&endpoint)]);
        assert!(!warming.is_on());
        endpoint.health().eject(&policy, endpoint.now());
        warming.expect(&endpoint);
        assert!(warming.is_on());
        assert_eq!(factor(&warming, &endpoint), 1.0, "should all be out, it takes what there is");
        tokio::time::advance(Duration::from_secs(30 + 50)).await;
        assert!(!endpoint.is_ejected() && warming.is_on());
        assert_eq!(factor(&warming, &endpoint), 0.5);
        tokio::time::advance(Duration::from_secs(51)).await;
        assert!(!warming.is_on());
    }

    #[test]
    fn a_draw_falls_on_a_weight_and_never_on_none() {
        let weights = [0.0, 1.0, 3.0, 0.0];
        let draws = (0..400_u64).map(|n| n * (u64::MAX / 400));
        let second = draws.filter(|&draw| weighted(&weights, draw) == Some(2)).count();
        assert!((299..=301).contains(&second), "{second}");
        assert_eq!((weighted(&weights, 0), weighted(&weights, u64::MAX)), (Some(1), Some(2)));
        assert_eq!((weighted(&[0.0], 7), weighted(&[], 7)), (None, None));
    }

    #[tokio::test]
    async fn a_part_of_a_turn_is_saved_up() {
        let warming = Warming::new(warmup(0.1, 1.0), &[endpoint(), endpoint()]);
        let turns = |index, part| (0..1000).filter(|_| warming.takes_turn(index, part)).count();
        assert_eq!(turns(0, 1.0), 1000);
        assert_eq!(turns(0, 0.1), 100);
        assert!((249..=251).contains(&turns(1, 0.25)));
        assert_eq!(turns(1, 0.0), 0);
    }
}
