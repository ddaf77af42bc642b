//! One address that answers for a destination: what it is doing now, and whether it can be reached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{self, ConnectError, Connection};
use super::pool::Pool;

/// After a failed connect an endpoint is passed over for this long, doubled with each further failure …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An address with its connections. Shared by every generation of the configuration that names it.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    addresses: Vec<SocketAddr>,
    pools: Box<[Pool]>,
    active: AtomicU32,
    /// Milliseconds since `started` until which the endpoint is passed over; 0: never failed since it last answered.
    paused_until: AtomicU64,
    failures: AtomicU32,
    started: Instant,
}

impl Endpoint {
    /// An endpoint that nothing is known about. `addresses` are tried in this order.
    pub fn new(name: String, addresses: Vec<SocketAddr>, workers: usize) -> Self {
        Self {
            name,
            addresses,
            pools: (0..workers).map(|_| Pool::default()).collect(),
            active: AtomicU32::new(0),
            paused_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            started: Instant::now(),
        }
    }

    /// The address as it is printed: `127.0.0.1:8081`, `localhost:8081`.
    pub fn name(&self) -> &str {
        &self.name
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

    /// Whether the last connect succeeded, or failed long enough ago to try again.
    pub fn is_reachable(&self) -> bool {
        let until = self.paused_until.load(Ordering::Relaxed);
        until == 0 || self.started.elapsed().as_millis() as u64 >= until
    }

    /// A new connection to it. The outcome decides whether the endpoint is passed over for a while.
    pub async fn connect(&self, limit: Duration) -> Result<Connection, ConnectError> {
        let outcome = connect::connect(&self.addresses, limit).await;
        match &outcome {
            Ok(_) => self.answered(),
            Err(ConnectError::Exhausted(_)) => {}
            Err(_) => self.failed(),
        }
        outcome
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
}

impl Lease {
    /// Counts one more active request.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self { endpoint }
    }

    /// Where the request goes.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
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

    #[tokio::test(start_paused = true)]
    async fn a_failed_endpoint_is_passed_over_longer_each_time() {
        let endpoint = Endpoint::new("x".into(), Vec::new(), 1);
        assert!(endpoint.is_reachable());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            endpoint.connect(Duration::from_secs(1)).await.unwrap_err();
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(2)).await;
            assert!(!endpoint.is_reachable(), "{seconds}");
            tokio::time::advance(Duration::from_millis(4)).await;
            assert!(endpoint.is_reachable(), "{seconds}");
        }
        endpoint.answered();
        assert!(endpoint.is_reachable());
    }

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let endpoint = Arc::new(Endpoint::new("x".into(), Vec::new(), 1));
        let (first, second) = (Lease::new(Arc::clone(&endpoint)), Lease::new(Arc::clone(&endpoint)));
        assert_eq!(endpoint.active(), 2);
        drop(first);
        assert_eq!(endpoint.active(), 1);
        drop(second);
        assert_eq!(endpoint.active(), 0);
    }
}
