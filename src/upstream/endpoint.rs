//! One address that answers for a destination: what it is doing now, whether it can be reached, and what its answers say.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::connect::{Address, ConnectError};
use super::limits::Permit;
use super::outlier::{Health, Outcome};
use super::pool::Pool;

/// After a failed connect an endpoint is passed over for this long, doubled with each further failure …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An address with its connections. Shared by every generation of the configuration that names it.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    address: ArcSwap<Address>,
    /// Where its connections may lead, if it moves.
    places: Mutex<Vec<SocketAddr>>,
    pools: Box<[Pool]>,
    health: Health,
    active: AtomicU32,
    /// Milliseconds since `started` until which the endpoint is passed over; 0: never failed since it last answered.
    paused_until: AtomicU64,
    failures: AtomicU32,
    started: Instant,
    /// Milliseconds since `started` when it joined the endpoints of its cluster.
    joined: AtomicU64,
}

impl Endpoint {
    /// An endpoint that nothing is known about.
    pub fn new(name: String, address: Address, workers: usize) -> Self {
        Self {
            name,
            address: ArcSwap::from_pointee(address),
            places: Mutex::default(),
            pools: (0..workers).map(|_| Pool::default()).collect(),
            health: Health::default(),
            active: AtomicU32::new(0),
            paused_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            started: Instant::now(),
            joined: AtomicU64::new(0),
        }
    }

    /// The address as it is printed: `127.0.0.1:8081`, `localhost:8081`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the next connection goes.
    pub(super) fn address(&self) -> Arc<Address> {
        self.address.load_full()
    }

    /// New connections lead to this address from now on. Open ones stay.
    pub(super) fn leads_to(&self, address: SocketAddr) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if !places.contains(&address) {
            places.push(address);
        }
        self.address.store(Arc::new(Address::Tcp(vec![address])));
    }

    /// Whether a connection may lead to an address that is none of these.
    pub(super) fn leads_elsewhere(&self, than: &[SocketAddr]) -> bool {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|place| !than.contains(place))
    }

    /// Requests on their way to it, over all workers.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Idle connections, over all workers.
    pub fn idle(&self) -> usize {
        self.pools.iter().map(Pool::len).sum()
    }

    /// The idle connections of one worker.
    pub fn pool(&self, worker: usize) -> &Pool {
        &self.pools[worker]
    }

    /// Those of every worker.
    pub(super) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// What its answers say about it.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// The clock of its health.
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// It belongs to its cluster from now on: for the first time, or again.
    pub(super) fn joins(&self) {
        self.joined.store(self.now(), Ordering::Relaxed);
    }

    /// Since when it may be used: since it joined, or since the end of its last ejection, which may be still to come.
    pub(super) fn in_use_since(&self) -> Instant {
        let since = self.joined.load(Ordering::Relaxed).max(self.health.last_end());
        self.started + Duration::from_millis(since)
    }

    /// Whether its answers took it out of use for now. Only a cluster with outlier detection cares.
    pub fn is_ejected(&self) -> bool {
        self.health.is_ejected(|| self.now())
    }

    /// Whether the last connect succeeded, or failed long enough ago to try again.
    pub fn is_reachable(&self) -> bool {
        let until = self.paused_until.load(Ordering::Relaxed);
        until == 0 || self.now() >= until
    }

    /// Takes note of a connect: its outcome decides whether the endpoint is passed over for a while.
    pub(super) fn tried<T>(&self, outcome: &Result<T, ConnectError>) {
        match outcome {
            Ok(_) => self.answered(),
            Err(error) if error.blames_endpoint() => self.failed(),
            Err(_) => {}
        }
    }

    fn answered(&self) {
        if self.paused_until.load(Ordering::Relaxed) != 0 {
            self.paused_until.store(0, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn failed(&self) {
        let doublings = self.failures.fetch_add(1, Ordering::Relaxed).min(5);
        let pause = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        self.paused_until.store((self.started.elapsed() + pause).as_millis() as u64, Ordering::Relaxed);
    }
}

/// One request's claim on an endpoint: it counts as active until this is dropped.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    /// Boxed, because most clusters have none: a lease is handed around with every request.
    duties: Option<Box<Duties>>,
}

/// What a lease owes to its cluster.
#[derive(Debug)]
pub(super) struct Duties {
    /// Where outcomes are judged; none where nothing is.
    pub(super) judge: Option<Arc<Cluster>>,
    /// Its place among the requests that the cluster may have.
    pub(super) request: Option<Permit>,
}

impl Duties {
    fn is_any(&self) -> bool {
        self.judge.is_some() || self.request.is_some()
    }
}

impl Lease {
    /// Counts one more active request.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self::of(endpoint, None)
    }

    /// The same, of a cluster that wants to know the outcome, or that has a limit on requests.
    pub(super) fn of(endpoint: Arc<Endpoint>, duties: Option<Duties>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, duties: duties.filter(Duties::is_any).map(Box::new) }
    }

    /// Where the request goes.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Says what came of the request; it may take the endpoint out of use for a while. The one way in which the outcome of
    /// requests has a say in that. A connection that did not come about was reported already by who tried.
    pub fn report(&self, outcome: impl FnOnce() -> Outcome) {
        if let Some(cluster) = self.duties.as_ref().and_then(|duties| duties.judge.as_ref()) {
            cluster.judge(&self.endpoint, outcome());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::limits::Overloaded;

    #[tokio::test(start_paused = true)]
    async fn a_failed_endpoint_is_passed_over_longer_each_time() {
        let endpoint = Endpoint::new("x".into(), Address::Tcp(Vec::new()), 1);
        assert!(endpoint.is_reachable());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            endpoint.tried::<()>(&Err(ConnectError::Unresolved));
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(2)).await;
            assert!(!endpoint.is_reachable(), "{seconds}");
            tokio::time::advance(Duration::from_millis(4)).await;
            assert!(endpoint.is_reachable(), "{seconds}");
        }
        endpoint.tried::<()>(&Err(ConnectError::Overloaded(Overloaded)));
        assert!(endpoint.is_reachable(), "it is not the endpoint's fault");
        endpoint.tried(&Ok(()));
        assert!(endpoint.is_reachable());
    }

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let endpoint = Arc::new(Endpoint::new("x".into(), Address::Tcp(Vec::new()), 1));
        let (first, second) = (Lease::new(Arc::clone(&endpoint)), Lease::new(Arc::clone(&endpoint)));
        assert_eq!(endpoint.active(), 2);
        drop(first);
        assert_eq!(endpoint.active(), 1);
        drop(second);
        assert_eq!(endpoint.active(), 0);
    }
}
