//! Which endpoint of a set takes the next request. Pure: randomness is an argument, state is a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint::Endpoint;

/// Istio's `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    /// The less busy of two drawn at random (Istio's default since 1.14).
    #[default]
    LeastRequest,
    /// Each in turn.
    RoundRobin,
    /// Drawn at random.
    Random,
}

/// The longest round that weights are turned into; coarser weights beyond it.
const LONGEST_ROUND: u64 = 4096;

/// The endpoints of a cluster at one moment, with the order that their weights ask for.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Vec<Arc<Endpoint>>,
    weights: Vec<u32>,
    /// Indices into `endpoints`, spread evenly, each as often as its weight asks. Empty when all weights are equal.
    round: Vec<u32>,
    next: AtomicUsize,
}

impl EndpointSet {
    /// A set of endpoints with their weights (0 counts as 1).
    pub fn new(weighted: Vec<(Arc<Endpoint>, u32)>) -> Self {
        let (endpoints, weights): (Vec<_>, Vec<_>) =
            weighted.into_iter().map(|(one, weight)| (one, weight.max(1))).unzip();
        let round = if weights.windows(2).all(|pair| pair[0] == pair[1]) { Vec::new() } else { smooth_round(&weights) };
        Self { endpoints, weights, round, next: AtomicUsize::new(0) }
    }

    /// All of them.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// One endpoint for a request, preferring those that can be reached and are not in `tried`. `draw` is a uniform random
    /// number. None only when the set is empty.
    pub fn pick(&self, balance: Balance, draw: u64, tried: &[Arc<Endpoint>]) -> Option<&Arc<Endpoint>> {
        if let [only] = self.endpoints.as_slice() {
            return Some(only);
        }
        let first = self.choose(balance, draw)?;
        let fits = |one: &Arc<Endpoint>| one.is_reachable() && !is_among(one, tried);
        if fits(first) {
            return Some(first);
        }
        // Rare: from a random start, the first that fits; then any that was not tried; else the first choice.
        let start = below(draw.rotate_left(17), self.endpoints.len());
        let mut around = self.endpoints[start..].iter().chain(&self.endpoints[..start]);
        let around_again = around.clone();
        around
            .find(|one| fits(one))
            .or_else(|| around_again.into_iter().find(|one| !is_among(one, tried)))
            .or(Some(first))
    }

    fn choose(&self, balance: Balance, draw: u64) -> Option<&Arc<Endpoint>> {
        if self.endpoints.is_empty() {
            return None;
        }
        let index = match balance {
            Balance::RoundRobin => self.slot(self.next.fetch_add(1, Ordering::Relaxed) % self.slots()),
            Balance::Random => self.slot(below(draw, self.slots())),
            Balance::LeastRequest => {
                let one = self.slot(below(draw & 0xffff_ffff_0000_0000, self.slots()));
                let other = self.slot(below(draw << 32, self.slots()));
                if self.load(other) < self.load(one) { other } else { one }
            }
        };
        Some(&self.endpoints[index])
    }

    /// Active requests per unit of weight, scaled so that whole numbers compare well.
    fn load(&self, index: usize) -> u64 {
        (u64::from(self.endpoints[index].active()) << 20) / u64::from(self.weights[index])
    }

    fn slots(&self) -> usize {
        if self.round.is_empty() { self.endpoints.len() } else { self.round.len() }
    }

    fn slot(&self, at: usize) -> usize {
        if self.round.is_empty() { at } else { self.round[at] as usize }
    }
}

fn is_among(endpoint: &Arc<Endpoint>, tried: &[Arc<Endpoint>]) -> bool {
    tried.iter().any(|one| Arc::ptr_eq(one, endpoint))
}

/// A uniform draw, as a number below `end`.
fn below(draw: u64, end: usize) -> usize {
    ((u128::from(draw) * end as u128) >> 64) as usize
}

/// Nginx's smooth weighted round robin, one whole round of it.
fn smooth_round(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, &b| gcd(a, u64::from(b)));
    let sum: u64 = weights.iter().map(|&w| u64::from(w) / divisor).sum();
    let shrink = sum.div_ceil(LONGEST_ROUND).max(1);
    let parts: Vec<i64> = weights.iter().map(|&w| (u64::from(w) / divisor / shrink).max(1) as i64).collect();
    let total: i64 = parts.iter().sum();
    let mut current = vec![0_i64; parts.len()];
    (0..total)
        .map(|_| {
            for (value, part) in current.iter_mut().zip(&parts) {
                *value += part;
            }
            let best = (0..current.len()).rev().max_by_key(|&index| current[index]).unwrap_or(0);
            current[best] -= total;
            best as u32
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Lease;

    fn set(weights: &[u32]) -> EndpointSet {
        let endpoints =
            weights.iter().enumerate().map(|(n, &w)| (Arc::new(Endpoint::new(n.to_string(), Vec::new(), 1)), w));
        EndpointSet::new(endpoints.collect())
    }

    fn names(set: &EndpointSet, balance: Balance, draws: impl Iterator<Item = u64>) -> Vec<String> {
        draws.map(|draw| set.pick(balance, draw, &[]).unwrap().name().to_owned()).collect()
    }

    #[tokio::test]
    async fn round_robin_follows_the_weights_and_spreads_them() {
        let picked = names(&set(&[5, 1, 1]), Balance::RoundRobin, std::iter::repeat_n(0, 7));
        assert_eq!(picked, ["0", "0", "1", "0", "2", "0", "0"]);
        let equal = names(&set(&[3, 3]), Balance::RoundRobin, std::iter::repeat_n(0, 4));
        assert_eq!(equal, ["0", "1", "0", "1"]);
    }

    #[tokio::test]
    async fn least_request_prefers_the_less_busy_of_two() {
        let set = set(&[1, 1]);
        let _lease = Lease::new(Arc::clone(&set.endpoints()[0]));
        let (low, high) = (0_u64, u64::MAX);
        // One of the draw's halves decides each candidate: busy and free in either order gives the free one.
        for draw in [high << 32, high >> 32] {
            assert_eq!(set.pick(Balance::LeastRequest, draw, &[]).unwrap().name(), "1");
        }
        assert_eq!(set.pick(Balance::LeastRequest, low, &[]).unwrap().name(), "0");
    }

    #[tokio::test]
    async fn random_is_even_over_the_draws() {
        let set = set(&[1, 3]);
        let draws = (0..400_u64).map(|n| n * (u64::MAX / 400));
        let second = names(&set, Balance::Random, draws).iter().filter(|name| *name == "1").count();
        assert!((299..=301).contains(&second), "{second}");
    }

    #[tokio::test]
    async fn a_tried_or_unreachable_endpoint_is_passed_over_while_another_is_left() {
        let set = set(&[1, 1]);
        let first = Arc::clone(&set.endpoints()[0]);
        let other = set.pick(Balance::Random, 0, std::slice::from_ref(&first)).unwrap();
        assert_eq!(other.name(), "1");
        first.connect(std::time::Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(set.pick(Balance::Random, 0, &[]).unwrap().name(), "1");
        let both = set.endpoints().to_vec();
        assert!(set.pick(Balance::Random, 0, &both).is_some());
    }

    #[test]
    fn an_empty_set_has_nothing_to_offer() {
        assert!(EndpointSet::default().pick(Balance::Random, 7, &[]).is_none());
    }
}
