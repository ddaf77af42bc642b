//! Which endpoint of a set takes the next request. Pure: randomness is an argument, state is a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::hash::Table;
use super::outlier::OutlierPolicy;
use super::warmup::{Warming, Warmup, weighted};

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
    /// By the hash of a key of the request, on a ring: `consistentHash.ringHash`.
    Ring {
        /// `minimumRingSize`; Istio's default is 1024.
        minimum: u32,
    },
    /// By the hash of a key of the request, in a Maglev table: `consistentHash.maglev`.
    Maglev {
        /// `tableSize`, a prime.
        size: u32,
    },
}

/// The longest round that weights are turned into; coarser weights beyond it.
const LONGEST_ROUND: u64 = 4096;

/// The endpoints of a cluster at one moment, with the order that their weights ask for.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Vec<Arc<Endpoint>>,
    weights: Vec<u32>,
    /// Where keys choose.
    table: Option<Table>,
    /// Indices into `endpoints`, spread evenly, each as often as its weight asks. Empty when all weights are equal.
    round: Vec<u32>,
    next: AtomicUsize,
    /// None where cold endpoints get as much as others.
    warming: Option<Warming>,
    unresolved: bool,
}

impl EndpointSet {
    /// A set of endpoints with their weights (0 counts as 1), for this way to choose.
    pub fn new(weighted: Vec<(Arc<Endpoint>, u32)>, balance: Balance) -> Self {
        let (endpoints, weights): (Vec<_>, Vec<_>) =
            weighted.into_iter().map(|(one, weight)| (one, weight.max(1))).unzip();
        let round = if weights.windows(2).all(|pair| pair[0] == pair[1]) { Vec::new() } else { smooth_round(&weights) };
        let named: Vec<_> = endpoints.iter().map(|one| one.name()).zip(weights.iter().copied()).collect();
        let table = match balance {
            Balance::Ring { minimum } => Some(Table::ring(&named, minimum)),
            Balance::Maglev { size } => Some(Table::maglev(&named, size)),
            Balance::LeastRequest | Balance::RoundRobin | Balance::Random => None,
        };
        Self { endpoints, weights, table, round, next: AtomicUsize::new(0), warming: None, unresolved: false }
    }

    /// The same set, whose endpoints get less at first. Means something to [`Balance::RoundRobin`] and
    /// [`Balance::LeastRequest`].
    pub fn warming_up(mut self, warmup: Option<Warmup>) -> Self {
        self.warming = warmup.map(|warmup| Warming::new(warmup, &self.endpoints));
        self
    }

    /// The same set, of which more is not known because a name was never resolved.
    #[must_use]
    pub fn awaiting_names(mut self, unresolved: bool) -> Self {
        self.unresolved = unresolved;
        self
    }

    /// Whether it is empty for want of a name that was ever resolved.
    pub fn is_unresolved(&self) -> bool {
        self.unresolved && self.endpoints.is_empty()
    }

    /// Takes note that an endpoint was ejected: it will be cold when it comes back.
    pub(super) fn ejected(&self, endpoint: &Endpoint) {
        self.warming.iter().for_each(|warming| warming.expect(endpoint));
    }

    /// All of them.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// One endpoint for a request. `draw` is a uniform random number. Of those in use, those that can be reached and were not
    /// tried are preferred. None only when none is in use.
    pub fn pick(&self, choice: &Choice<'_>, draw: u64) -> Option<&Arc<Endpoint>> {
        if let ([only], None) = (self.endpoints.as_slice(), choice.outlier) {
            return Some(only);
        }
        if let Some(warming) = self.warming.as_ref().filter(|warming| warming.is_on())
            && let Some(index) = self.pick_warming(warming, choice, draw)
        {
            return Some(&self.endpoints[index]);
        }
        let first = self.choose(choice, draw)?;
        let keyed = self.table.is_some();
        let fits = |one: &Arc<Endpoint>| one.is_reachable() && (keyed || !is_among(one, choice.tried));
        if fits(first) && !choice.is_out(first) {
            return Some(first);
        }
        match &self.table {
            Some(table) => self.pick_along(table, choice, draw),
            None => self.pick_around(choice, draw, first),
        }
    }

    /// Rare: by what each gets of its share now, of those that fit. None if none does.
    fn pick_warming(&self, warming: &Warming, choice: &Choice<'_>, draw: u64) -> Option<usize> {
        let panic = self.is_panic(choice);
        let fits = |one: &Endpoint| one.is_reachable() && (panic || !choice.is_out(one));
        let now = Instant::now();
        let factor = |one: &Arc<Endpoint>| match fits(one) && !is_among(one, choice.tried) {
            true => warming.factor(one, now),
            false => 0.0,
        };
        let factors: Vec<f64> = self.endpoints.iter().map(factor).collect();
        let warmest = factors.iter().copied().fold(0.0, f64::max);
        if warmest == 0.0 {
            return None;
        }
        if choice.balance == Balance::RoundRobin {
            // The warmest takes each of its turns, so it is found within a round, unless other workers are quicker.
            let turns = (0..2 * self.slots()).map(|_| self.turn());
            let mut taken = turns.filter(|&index| factors[index] > 0.0);
            let found = taken.find(|&index| warming.takes_turn(index, factors[index] / warmest));
            if found.is_some() {
                return found;
            }
        }
        let weights: Vec<f64> = factors.iter().zip(&self.weights).map(|(part, &all)| part * f64::from(all)).collect();
        let one = weighted(&weights, draw & 0xffff_ffff_0000_0000)?;
        let other = weighted(&weights, draw << 32)?;
        let load = |index: usize| f64::from(self.endpoints[index].active()) / weights[index];
        Some(if load(other) < load(one) { other } else { one })
    }

    /// Rare: the endpoints that stand in for the one of a key, in the order of the table. A request that is sent again stays
    /// with its key, as in Istio.
    fn pick_along(&self, table: &Table, choice: &Choice<'_>, draw: u64) -> Option<&Arc<Endpoint>> {
        let panic = self.is_panic(choice);
        let in_use = |one: &&Arc<Endpoint>| panic || !choice.is_out(one);
        let reachable = self.endpoints.iter().any(|one| in_use(&one) && one.is_reachable());
        // Nothing is looked for in the table that is not there.
        self.endpoints.iter().find(in_use)?;
        let mut along = table.from(draw).filter_map(|index| self.endpoints.get(index)).filter(in_use);
        along.find(|one| !reachable || one.is_reachable())
    }

    fn is_panic(&self, choice: &Choice<'_>) -> bool {
        choice.outlier.is_some_and(|policy| {
            policy.min_health_percent > 0
                && policy.is_panic(self.endpoints.iter().filter(|one| one.is_ejected()).count(), self.endpoints.len())
        })
    }

    /// Rare: from a random start, the first that fits; then any that was not tried; else the first choice.
    fn pick_around<'s>(
        &'s self,
        choice: &Choice<'_>,
        draw: u64,
        first: &'s Arc<Endpoint>,
    ) -> Option<&'s Arc<Endpoint>> {
        let panic = self.is_panic(choice);
        let in_use = |one: &&'s Arc<Endpoint>| panic || !choice.is_out(one);
        let untried = |one: &&'s Arc<Endpoint>| !is_among(one, choice.tried);
        let start = below(draw.rotate_left(17), self.endpoints.len());
        let around =
            || [first].into_iter().chain(&self.endpoints[start..]).chain(&self.endpoints[..start]).filter(in_use);
        around()
            .find(|one| one.is_reachable() && untried(one))
            .or_else(|| around().find(untried))
            .or_else(|| around().next())
    }

    fn choose(&self, choice: &Choice<'_>, draw: u64) -> Option<&Arc<Endpoint>> {
        if self.endpoints.is_empty() {
            return None;
        }
        let index = match choice.balance {
            Balance::RoundRobin => self.turn(),
            Balance::Ring { .. } | Balance::Maglev { .. } => self.table.as_ref()?.from(draw).next()?,
            Balance::Random => self.slot(below(draw, self.slots())),
            Balance::LeastRequest => {
                let one = self.slot(below(draw & 0xffff_ffff_0000_0000, self.slots()));
                let other = self.slot(below(draw << 32, self.slots()));
                let load = |index: usize| (choice.is_out(&self.endpoints[index]), self.load(index));
                if load(other) < load(one) { other } else { one }
            }
        };
        Some(&self.endpoints[index])
    }

    /// Whose turn it is.
    fn turn(&self) -> usize {
        self.slot(self.next.fetch_add(1, Ordering::Relaxed) % self.slots())
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

/// What decides between the endpoints of a set.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// How one is chosen.
    pub balance: Balance,
    /// Endpoints that are ejected under this policy are not in use; none: all are in use.
    pub outlier: Option<&'a OutlierPolicy>,
    /// Endpoints that this request has been sent to already.
    pub tried: &'a [Arc<Endpoint>],
}

impl Choice<'_> {
    fn is_out(&self, endpoint: &Endpoint) -> bool {
        self.outlier.is_some() && endpoint.is_ejected()
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
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::upstream::{Address, ConnectError, Lease};

    fn by(balance: Balance) -> Choice<'static> {
        Choice { balance, outlier: None, tried: &[] }
    }

    fn set(weights: &[u32]) -> EndpointSet {
        let endpoints = weights
            .iter()
            .enumerate()
            .map(|(n, &w)| (Arc::new(Endpoint::new(n.to_string(), Address::Tcp(Vec::new()), 1)), w));
        EndpointSet::new(endpoints.collect(), Balance::default())
    }

    fn names(set: &EndpointSet, balance: Balance, draws: impl Iterator<Item = u64>) -> Vec<String> {
        draws.map(|draw| set.pick(&by(balance), draw).unwrap().name().to_owned()).collect()
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
            assert_eq!(set.pick(&by(Balance::LeastRequest), draw).unwrap().name(), "1");
        }
        assert_eq!(set.pick(&by(Balance::LeastRequest), low).unwrap().name(), "0");
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
        let other = set.pick(&Choice { tried: std::slice::from_ref(&first), ..by(Balance::Random) }, 0).unwrap();
        assert_eq!(other.name(), "1");
        first.tried::<()>(&Err(ConnectError::Unresolved));
        assert_eq!(set.pick(&by(Balance::Random), 0).unwrap().name(), "1");
        let both = set.endpoints().to_vec();
        assert!(set.pick(&Choice { tried: &both, ..by(Balance::Random) }, 0).is_some());
    }

    /// An old and a new endpoint in a set that warms up for 100 s, at least at a tenth.
    async fn old_and_new(balance: Balance, weights: [u32; 2]) -> EndpointSet {
        let policy = Warmup { duration: Duration::from_secs(100), minimum: 0.1, aggression: 1.0 };
        let endpoints = set(&[1, 1]).endpoints().to_vec();
        advance(Duration::from_secs(1000)).await;
        endpoints[1].joins();
        EndpointSet::new(endpoints.into_iter().zip(weights).collect(), balance).warming_up(Some(policy))
    }

    fn new_of(set: &EndpointSet, balance: Balance, picks: u64) -> usize {
        let draws = (0..picks).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        names(set, balance, draws).iter().filter(|name| *name == "1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_endpoint_takes_a_part_of_its_turns() {
        let set = old_and_new(Balance::RoundRobin, [1, 1]).await;
        // A tenth of its share to begin with: one turn of eleven.
        assert!((99..=101).contains(&new_of(&set, Balance::RoundRobin, 1100)));
        advance(Duration::from_secs(50)).await;
        let half = new_of(&set, Balance::RoundRobin, 900);
        assert!((299..=301).contains(&half), "one of three: {half}");
        advance(Duration::from_secs(51)).await;
        assert_eq!(new_of(&set, Balance::RoundRobin, 100), 50);
        let weighted = old_and_new(Balance::RoundRobin, [1, 5]).await;
        let part = new_of(&weighted, Balance::RoundRobin, 1500);
        assert!((499..=501).contains(&part), "a half against one: {part}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_endpoint_is_less_often_one_of_the_two_and_its_load_weighs_more() {
        let balance = Balance::LeastRequest;
        let set = old_and_new(balance, [1, 1]).await;
        let part = new_of(&set, balance, 11_000);
        assert!((900..=1100).contains(&part), "a tenth against one: {part}");
        // One request at a tenth is as much as ten; nine on the other one are less.
        let _one = Lease::new(Arc::clone(&set.endpoints()[1]));
        let _nine: Vec<Lease> = (0..9).map(|_| Lease::new(Arc::clone(&set.endpoints()[0]))).collect();
        let (old, new) = (0_u64, u64::MAX);
        for draw in [new << 32 | old >> 32, new >> 32] {
            assert_eq!(set.pick(&by(balance), draw).unwrap().name(), "0");
        }
        advance(Duration::from_secs(101)).await;
        assert_eq!(set.pick(&by(balance), new >> 32).unwrap().name(), "1");
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_that_are_equally_cold_share_equally_and_a_lone_one_takes_all() {
        let policy = Warmup { duration: Duration::from_secs(100), minimum: 0.1, aggression: 1.0 };
        for balance in [Balance::RoundRobin, Balance::LeastRequest] {
            let set = set(&[1, 1]).warming_up(Some(policy));
            let half = new_of(&set, balance, 10_000);
            assert!((4800..=5200).contains(&half), "{balance:?}: {half}");
            // While it is the only one that can be reached, a cold one takes everything.
            set.endpoints()[0].tried::<()>(&Err(ConnectError::Unresolved));
            assert_eq!(new_of(&set, balance, 100), 100);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_comes_back_from_an_ejection_is_cold() {
        let policy = OutlierPolicy::default();
        let set = old_and_new(Balance::RoundRobin, [1, 1]).await;
        advance(Duration::from_secs(101)).await;
        let picked = |picks| {
            let choice = Choice { outlier: Some(&policy), ..by(Balance::RoundRobin) };
            (0..picks).filter(|_| set.pick(&choice, 0).unwrap().name() == "0").count()
        };
        assert_eq!(picked(100), 50);
        let first = &set.endpoints()[0];
        first.health().eject(&policy, first.now());
        set.ejected(first);
        assert_eq!(picked(100), 0);
        advance(Duration::from_secs(69)).await;
        assert!(!first.is_ejected());
        let part = picked(1300);
        assert!((299..=301).contains(&part), "in use again for 30 s: {part}");
    }

    #[test]
    fn an_empty_set_has_nothing_to_offer() {
        assert!(EndpointSet::default().pick(&by(Balance::Random), 7).is_none());
    }

    #[tokio::test]
    async fn an_ejected_endpoint_gets_nothing_while_others_are_in_use() {
        let policy = OutlierPolicy::default();
        let set = set(&[1, 1, 1]);
        let draws = || (0..300_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let out = |balance| Choice { outlier: Some(&policy), ..by(balance) };
        set.endpoints()[1].health().eject(&policy, 0);
        for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
            let picked: Vec<&str> = draws().map(|draw| set.pick(&out(balance), draw).unwrap().name()).collect();
            assert!(!picked.contains(&"1") && picked.contains(&"0") && picked.contains(&"2"), "{balance:?}");
            assert!(names(&set, balance, draws()).contains(&"1".to_owned()), "without a policy it is in use");
        }
        // Tried or not, an ejected one is no way out.
        let tried = [Arc::clone(&set.endpoints()[0]), Arc::clone(&set.endpoints()[2])];
        let picked = set.pick(&Choice { tried: &tried, ..out(Balance::Random) }, 5).unwrap();
        assert_ne!(picked.name(), "1");
    }

    #[tokio::test]
    async fn when_all_are_ejected_there_is_none_unless_that_is_ignored() {
        let policy = OutlierPolicy::default();
        for weights in [&[1][..], &[1, 1]] {
            let set = set(weights);
            set.endpoints().iter().for_each(|one| one.health().eject(&policy, 0));
            assert!(set.pick(&Choice { outlier: Some(&policy), ..by(Balance::Random) }, 3).is_none());
            let panicking = OutlierPolicy { min_health_percent: 50, ..policy.clone() };
            assert!(set.pick(&Choice { outlier: Some(&panicking), ..by(Balance::Random) }, 3).is_some());
        }
    }

    #[tokio::test]
    async fn a_key_keeps_its_endpoint_and_has_the_same_one_to_stand_in() {
        let policy = OutlierPolicy::default();
        for balance in [Balance::Ring { minimum: 64 }, Balance::Maglev { size: 251 }] {
            let endpoints = set(&[1, 1, 1, 1]).endpoints().to_vec();
            let set = EndpointSet::new(endpoints.iter().map(|one| (Arc::clone(one), 1)).collect(), balance);
            let keys = || (0..200_u64).map(|key| crate::upstream::hash::hash(&key.to_le_bytes()));
            let out = Choice { outlier: Some(&policy), ..by(balance) };
            let pick = |key| set.pick(&out, key).unwrap().name().to_owned();
            let before: Vec<String> = keys().map(pick).collect();
            // Sent again, a request stays where its key is.
            let tried = Choice { tried: &endpoints, ..out };
            assert!(keys().zip(&before).all(|(key, name)| set.pick(&tried, key).unwrap().name() == name));
            endpoints[2].health().eject(&policy, 0);
            let after: Vec<String> = keys().map(pick).collect();
            assert!(before.iter().zip(&after).all(|(old, new)| if old == "2" { new != "2" } else { new == old }));
            assert_eq!(after, keys().map(pick).collect::<Vec<_>>());
        }
    }
}
