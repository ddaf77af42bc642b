//! What a destination resolves to: a set of endpoints and how one of them is chosen.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::balance::{Balance, Choice, EndpointSet};
use super::budget::{Budget, RetryBudget};
use super::endpoint::{Duties, Endpoint, Lease};
use super::hash::HashKey;
use super::http2::Use;
use super::limits::{Limits, Overloaded, Permit, Resource, Usage};
use super::outlier::{Outcome, OutlierPolicy};
use super::pool::Lifetime;
use super::transport::Transport;
use super::warmup::Warmup;

/// There is no endpoint to send a request to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no healthy endpoint")]
pub struct NoHealthyUpstream;

/// There is none because the destination's name was never resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of the destination does not resolve")]
pub struct Unresolved;

/// Why a cluster takes no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It has no endpoint, or none that is in use.
    #[error(transparent)]
    NoHealthyUpstream(#[from] NoHealthyUpstream),
    /// Nobody knows its endpoints.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// It has as many requests as it may have.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// Why a request is not sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRetry {
    /// As many retries are under way as there may be: `maxRetries`.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The budget is used up.
    #[error("no retry is left in the budget")]
    Spent,
}

/// How a cluster treats its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPolicy {
    /// How one endpoint is chosen.
    pub balance: Balance,
    /// How endpoints that are new get less at first; none: they do not. Means something to `ROUND_ROBIN` and
    /// `LEAST_REQUEST`.
    pub warmup: Option<Warmup>,
    /// What of a request chooses the endpoint, where `balance` goes by that. Without it in a request: at random.
    pub hash_key: Option<HashKey>,
    /// For TCP and whatever comes before the first request, and for waiting until another connection is free; Istio's
    /// default is 10 s.
    pub connect_timeout: Duration,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection takes no new request when it is this old; none: however old.
    pub max_connection_age: Option<Duration>,
    /// Requests a connection; 0: any number, 1: no keep-alive.
    pub max_requests: u32,
    /// What it may be asked at once.
    pub limits: Limits,
    /// How many of its requests may be retries; then `limits.retries` means nothing. None: as many as its version's own
    /// budget allows.
    pub retry_budget: Option<RetryBudget>,
    /// When answers take an endpoint out of use; none: never.
    pub outlier: Option<OutlierPolicy>,
    /// How endpoints are spoken to.
    pub transport: Transport,
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            warmup: None,
            hash_key: None,
            connect_timeout: Duration::from_secs(10),
            // Shorter than the 5 s after which common servers close theirs, so that a request rarely meets a closing one.
            idle_timeout: Duration::from_secs(4),
            max_connection_age: None,
            max_requests: 0,
            limits: Limits::default(),
            retry_budget: None,
            outlier: None,
            transport: Transport::default(),
        }
    }
}

impl ClusterPolicy {
    pub(super) fn lifetime(&self) -> Lifetime {
        Lifetime { idle: self.idle_timeout, age: self.max_connection_age }
    }

    pub(super) fn shared_use(&self) -> Use {
        let streams = self.transport.http2.map_or(0, |http2| http2.streams);
        Use { streams, requests: self.max_requests, max_age: self.max_connection_age }
    }
}

/// The endpoints of one (host, subset, port).
#[derive(Debug)]
pub struct Cluster {
    name: String,
    policy: ClusterPolicy,
    endpoints: ArcSwap<EndpointSet>,
    usage: Arc<Usage>,
    /// Held by who decides on an ejection: the limit on them is one of all endpoints together.
    ejecting: Mutex<()>,
}

impl Cluster {
    /// A cluster; `name` is printed in replies and logs: `product-service v2`.
    pub fn new(name: String, policy: ClusterPolicy, endpoints: EndpointSet) -> Self {
        Self::taking_over(name, policy, endpoints, Arc::default())
    }

    /// A cluster in the place of an earlier one, whose requests and connections count on.
    pub(super) fn taking_over(name: String, policy: ClusterPolicy, set: EndpointSet, usage: Arc<Usage>) -> Self {
        Self { name, policy, endpoints: ArcSwap::from_pointee(set), usage, ejecting: Mutex::default() }
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its policy.
    pub fn policy(&self) -> &ClusterPolicy {
        &self.policy
    }

    pub(super) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// A claim on one endpoint, other than those in `tried` where there is a choice. `draw` is a uniform random number, or
    /// the hash of what the request is to be kept together by.
    pub fn pick(self: &Arc<Self>, draw: u64, tried: &[Arc<Endpoint>]) -> Result<Lease, Unavailable> {
        let endpoints = self.endpoints.load();
        let choice = Choice { balance: self.policy.balance, outlier: self.policy.outlier.as_ref(), tried };
        let endpoint = endpoints.pick(&choice, draw).ok_or_else(|| none_of(&endpoints))?;
        let request = self.policy.limits.claim(&self.usage, Resource::Request)?;
        let judge = self.policy.outlier.is_some().then(|| Arc::clone(self));
        Ok(Lease::of(Arc::clone(endpoint), Some(Duties { judge, request })))
    }

    /// The right to send one request once more, until it is dropped; none where nothing limits how many may be at once.
    /// `budget` is that of its version, which has made so many `attempts` so far; the request counts as active still.
    pub fn admit_retry(&self, budget: &Budget, attempts: u64, now: Instant) -> Result<Option<Permit>, NoRetry> {
        let Some(policy) = &self.policy.retry_budget else {
            let permit = self.policy.limits.claim(&self.usage, Resource::Retry)?;
            return if budget.withdraw(attempts, now) { Ok(permit) } else { Err(NoRetry::Spent) };
        };
        let requests = match policy.memory() {
            None => self.endpoints.load().endpoints().iter().map(|one| u64::from(one.active())).sum(),
            Some(_) => budget.remembered(attempts, now),
        };
        self.usage.claim(Resource::Retry, policy.most(requests)).map(Some).map_err(|_| NoRetry::Spent)
    }

    /// Whether requests may go to this endpoint of it.
    pub fn is_in_use(&self, endpoint: &Endpoint) -> bool {
        endpoint.is_reachable() && (self.policy.outlier.is_none() || !endpoint.is_ejected())
    }

    /// Counts an outcome, and ejects the endpoint if it is time.
    pub(super) fn judge(&self, endpoint: &Arc<Endpoint>, outcome: Outcome) {
        let Some(policy) = &self.policy.outlier else { return };
        let now = endpoint.now();
        if !endpoint.health().observe(policy, outcome, now) {
            return;
        }
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.endpoints.load();
        let all = set.endpoints();
        let ejected = all.iter().filter(|one| one.is_ejected()).count();
        let known = all.iter().any(|one| Arc::ptr_eq(one, endpoint));
        if known && !endpoint.is_ejected() && policy.may_eject(ejected, all.len()) {
            endpoint.health().eject(policy, now);
            set.ejected(endpoint);
            let (of, percent) = (all.len(), policy.max_ejection_percent);
            tracing::warn!(
                "{} of {} is ejected for its errors: {} of {of} endpoints are now, at most {percent} % may be",
                endpoint.name(),
                self.name,
                ejected + 1
            );
        }
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
            endpoint.pool(worker).evict(self.policy.lifetime(), self.policy.shared_use(), now);
        }
    }
}

fn none_of(endpoints: &EndpointSet) -> Unavailable {
    if endpoints.is_unresolved() { Unresolved.into() } else { NoHealthyUpstream.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Address;
    use crate::upstream::budget::MEMORY;

    fn cluster(policy: ClusterPolicy) -> Arc<Cluster> {
        let endpoint = |name: &str| (Arc::new(Endpoint::new(name.into(), Address::Tcp(Vec::new()), 1)), 1);
        let set = EndpointSet::new(vec![endpoint("x"), endpoint("y")], policy.balance).warming_up(policy.warmup);
        Arc::new(Cluster::new("a v1".into(), policy, set))
    }

    #[tokio::test]
    async fn a_share_of_the_requests_under_way_may_be_retries() {
        let retry_budget = Some(RetryBudget { percent: 50.0, minimum: 1, ..Default::default() });
        let limits = Limits { retries: Some(1), ..Default::default() };
        let cluster = cluster(ClusterPolicy { retry_budget, limits, ..Default::default() });
        let (version, now) = (Budget::new(0, MEMORY), Instant::now());
        let admit = || cluster.admit_retry(&version, 0, now);
        let mut leases: Vec<Lease> = (0..6).map(|_| cluster.pick(0, &[]).unwrap()).collect();
        let mut permits: Vec<_> = (0..3).map(|_| admit().unwrap()).collect();
        assert_eq!(admit().unwrap_err(), NoRetry::Spent, "the limit of one does not count beside a budget");
        permits.pop();
        permits.push(admit().unwrap());
        leases.truncate(1);
        permits.clear();
        let _one = admit().unwrap();
        assert_eq!(admit().unwrap_err(), NoRetry::Spent);
    }

    #[tokio::test]
    async fn a_share_of_the_requests_of_an_interval_may_be_retries() {
        let interval = Duration::from_secs(1);
        let retry_budget = Some(RetryBudget { percent: 10.0, minimum: 1, interval });
        let cluster = cluster(ClusterPolicy { retry_budget, ..Default::default() });
        let (version, now) = (Budget::new(0, interval), Instant::now());
        let permits: Vec<_> = (0..4).map_while(|_| cluster.admit_retry(&version, 30, now).ok()).collect();
        assert_eq!(permits.len(), 3);
        drop(permits);
        let later = now + interval * 2;
        let permits: Vec<_> = (0..4).map_while(|_| cluster.admit_retry(&version, 30, later).ok()).collect();
        assert_eq!(permits.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_was_ejected_warms_up_when_it_is_back() {
        let outlier = OutlierPolicy { server_errors: 1, max_ejection_percent: 50, ..Default::default() };
        let warmup = Warmup { duration: Duration::from_secs(100), minimum: 0.1, aggression: 1.0 };
        let (balance, warmup) = (Balance::RoundRobin, Some(warmup));
        let cluster = cluster(ClusterPolicy { balance, warmup, outlier: Some(outlier), ..Default::default() });
        let picked = |name: &str| {
            let leases = (0..1100).map(|_| cluster.pick(0, &[]).unwrap());
            leases.filter(|lease| lease.endpoint().name() == name).count()
        };
        tokio::time::advance(Duration::from_secs(101)).await;
        assert_eq!(picked("x"), 550);
        cluster.pick(0, &[]).unwrap().report(|| Outcome::Status(500));
        assert_eq!(picked("x"), 0);
        // Ejected for 30 s, to the next multiple of ten.
        tokio::time::advance(Duration::from_secs(40)).await;
        let part = picked("x");
        assert!((99..=101).contains(&part), "{part}");
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(picked("x"), 550);
    }

    #[tokio::test]
    async fn without_a_budget_the_limit_and_the_budget_of_the_version_hold() {
        let limits = Limits { retries: Some(1), ..Default::default() };
        let limited = cluster(ClusterPolicy { limits, ..Default::default() });
        let (version, now) = (Budget::new(0, MEMORY), Instant::now());
        let first = limited.admit_retry(&version, 0, now).unwrap();
        assert_eq!(limited.admit_retry(&version, 0, now).unwrap_err(), NoRetry::Overloaded(Overloaded));
        drop(first);
        let unlimited = cluster(ClusterPolicy::default());
        let granted = (0..40).take_while(|_| unlimited.admit_retry(&version, 0, now).is_ok()).count();
        assert_eq!(granted, 29);
        assert_eq!(unlimited.admit_retry(&version, 0, now).unwrap_err(), NoRetry::Spent);
    }
}
