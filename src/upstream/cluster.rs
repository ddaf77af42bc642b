//! What a destination resolves to: a set of endpoints and how one of them is chosen.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::balance::{Balance, EndpointSet};
use super::endpoint::{Endpoint, Lease};

/// There is no endpoint to send a request to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no healthy endpoint")]
pub struct NoHealthyUpstream;

/// How a cluster treats its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPolicy {
    /// How one endpoint is chosen.
    pub balance: Balance,
    /// For TCP and whatever comes before the first request; Istio's default is 10 s.
    pub connect_timeout: Duration,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// False: one request a connection (`maxRequestsPerConnection: 1`).
    pub keep_alive: bool,
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            connect_timeout: Duration::from_secs(10),
            // Shorter than the 5 s after which common servers close theirs, so that a request rarely meets a closing one.
            idle_timeout: Duration::from_secs(4),
            keep_alive: true,
        }
    }
}

/// The endpoints of one (host, subset, port).
#[derive(Debug)]
pub struct Cluster {
    name: String,
    policy: ClusterPolicy,
    endpoints: ArcSwap<EndpointSet>,
}

impl Cluster {
    /// A cluster; `name` is printed in replies and logs: `product-service v2`.
    pub fn new(name: String, policy: ClusterPolicy, endpoints: EndpointSet) -> Self {
        Self { name, policy, endpoints: ArcSwap::from_pointee(endpoints) }
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its policy.
    pub fn policy(&self) -> &ClusterPolicy {
        &self.policy
    }

    /// A claim on one endpoint, other than those in `tried` where there is a choice. `draw` is a uniform random number.
    pub fn pick(&self, draw: u64, tried: &[Arc<Endpoint>]) -> Result<Lease, NoHealthyUpstream> {
        let endpoints = self.endpoints.load();
        let endpoint = endpoints.pick(self.policy.balance, draw, tried).ok_or(NoHealthyUpstream)?;
        Ok(Lease::new(Arc::clone(endpoint)))
    }

    /// The endpoints of this moment.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.load_full()
    }

    /// Replaces the endpoints: a name resolves to other addresses now.
    pub fn set_endpoints(&self, endpoints: EndpointSet) {
        self.endpoints.store(Arc::new(endpoints));
    }

    /// Closes one worker's connections that have been idle too long.
    pub fn evict_idle(&self, worker: usize, now: Instant) {
        for endpoint in self.endpoints.load().endpoints() {
            endpoint.pool(worker).evict(self.policy.idle_timeout, now);
        }
    }
}
