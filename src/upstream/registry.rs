//! Every live cluster and endpoint by identity, so that a new generation of the configuration finds the connections and
//! the health of the last one. Used when a configuration is built and when a name resolves anew, never by a request.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::balance::EndpointSet;
use super::budget::Budget;
use super::cluster::{Cluster, ClusterPolicy};
use super::endpoint::Endpoint;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Fixed addresses of one endpoint, tried in this order (`localhost` has two).
    Addresses {
        /// As printed: `localhost:8081`.
        name: String,
        /// What it stands for.
        addresses: Vec<SocketAddr>,
    },
    /// A name in DNS: each of its addresses is an endpoint.
    Name {
        /// The name.
        host: String,
        /// The port on each address.
        port: u16,
    },
}

/// One endpoint as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Where it is.
    pub target: Target,
    /// Its share among the endpoints of the cluster.
    pub weight: u32,
}

/// A cluster as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Identity: host, subset and port. Two generations that agree on it share endpoints.
    pub key: String,
    /// For people: `product-service v2`.
    pub name: String,
    /// How endpoints are treated.
    pub policy: ClusterPolicy,
    /// Its endpoints.
    pub endpoints: Vec<EndpointSpec>,
}

impl ClusterSpec {
    /// The names that have to be resolved for it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().filter_map(|one| match &one.target {
            Target::Name { host, .. } => Some(host.as_str()),
            Target::Addresses { .. } => None,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    clusters: HashMap<String, (ClusterSpec, Weak<Cluster>)>,
    endpoints: HashMap<(String, String), Weak<Endpoint>>,
    addresses: HashMap<String, Vec<IpAddr>>,
    budgets: HashMap<(String, String), Weak<Budget>>,
}

impl Registry {
    /// An empty registry for this many data-plane workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, live: Mutex::default() }
    }

    /// The cluster of this specification: the very one of the last generation when nothing about it changed, else a new one
    /// that shares the endpoints which stay.
    pub fn cluster(&self, spec: ClusterSpec) -> Arc<Cluster> {
        let mut live = self.lock();
        if let Some((known, cluster)) = live.clusters.get(&spec.key)
            && *known == spec
            && let Some(cluster) = cluster.upgrade()
        {
            return cluster;
        }
        let set = live.endpoint_set(&spec, self.workers);
        let cluster = Arc::new(Cluster::new(spec.name.clone(), spec.policy.clone(), set));
        live.clusters.insert(spec.key.clone(), (spec, Arc::downgrade(&cluster)));
        cluster
    }

    /// The retry budget of a version, which it keeps from one generation to the next. A new one begins when it has made
    /// `attempts`.
    pub fn budget(&self, app: &str, version: &str, attempts: u64) -> Arc<Budget> {
        let mut live = self.lock();
        let known = live.budgets.entry((app.to_owned(), version.to_owned())).or_default();
        known.upgrade().unwrap_or_else(|| {
            let budget = Arc::new(Budget::new(attempts));
            *known = Arc::downgrade(&budget);
            budget
        })
    }

    /// Forgets what no generation uses any more.
    pub fn prune(&self) {
        let mut live = self.lock();
        live.clusters.retain(|_, (_, cluster)| cluster.strong_count() > 0);
        live.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        live.budgets.retain(|_, budget| budget.strong_count() > 0);
    }

    /// The names that the live clusters need, each once.
    pub fn names(&self) -> Vec<String> {
        let live = self.lock();
        let alive = live.clusters.values().filter(|(_, cluster)| cluster.strong_count() > 0);
        let mut names: Vec<String> = alive.flat_map(|(spec, _)| spec.names().map(str::to_owned)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Puts the addresses of a name in force in every cluster that uses it. Requests under way keep their endpoint.
    pub fn resolved(&self, name: &str, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        let mut live = self.lock();
        if live.addresses.get(name) == Some(&addresses) {
            return;
        }
        live.addresses.insert(name.to_owned(), addresses);
        let affected: Vec<(ClusterSpec, Arc<Cluster>)> = live
            .clusters
            .values()
            .filter(|(spec, _)| spec.names().any(|one| one == name))
            .filter_map(|(spec, cluster)| Some((spec.clone(), cluster.upgrade()?)))
            .collect();
        for (spec, cluster) in affected {
            cluster.set_endpoints(live.endpoint_set(&spec, self.workers));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // Each method leaves the maps consistent before anything in it could panic.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn endpoint_set(&mut self, spec: &ClusterSpec, workers: usize) -> EndpointSet {
        let mut weighted = Vec::with_capacity(spec.endpoints.len());
        for EndpointSpec { target, weight } in &spec.endpoints {
            match target {
                Target::Addresses { name, addresses } => {
                    weighted.push((self.endpoint(&spec.key, name.clone(), addresses.clone(), workers), *weight));
                }
                Target::Name { host, port } => {
                    for ip in self.addresses.get(host).cloned().unwrap_or_default() {
                        let address = SocketAddr::new(ip, *port);
                        weighted.push((self.endpoint(&spec.key, address.to_string(), vec![address], workers), *weight));
                    }
                }
            }
        }
        EndpointSet::new(weighted)
    }

    fn endpoint(&mut self, key: &str, name: String, addresses: Vec<SocketAddr>, workers: usize) -> Arc<Endpoint> {
        let identity = (key.to_owned(), name);
        if let Some(known) = self.endpoints.get(&identity).and_then(Weak::upgrade) {
            return known;
        }
        let endpoint = Arc::new(Endpoint::new(identity.1.clone(), addresses, workers));
        self.endpoints.insert(identity, Arc::downgrade(&endpoint));
        endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(port: u16) -> EndpointSpec {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        EndpointSpec { target: Target::Addresses { name: address.to_string(), addresses: vec![address] }, weight: 1 }
    }

    fn spec(endpoints: Vec<EndpointSpec>) -> ClusterSpec {
        ClusterSpec { key: "a|v1|80".into(), name: "a v1".into(), policy: ClusterPolicy::default(), endpoints }
    }

    fn names(cluster: &Cluster) -> Vec<String> {
        cluster.endpoints().endpoints().iter().map(|one| one.name().to_owned()).collect()
    }

    #[tokio::test]
    async fn an_unchanged_cluster_is_the_same_one_and_a_changed_one_keeps_its_endpoints() {
        let registry = Registry::new(1);
        let first = registry.cluster(spec(vec![fixed(1), fixed(2)]));
        assert!(Arc::ptr_eq(&first, &registry.cluster(spec(vec![fixed(1), fixed(2)]))));
        let second = registry.cluster(spec(vec![fixed(2), fixed(3)]));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first.endpoints().endpoints()[1], &second.endpoints().endpoints()[0]));
        assert_eq!(names(&first), ["127.0.0.1:1", "127.0.0.1:2"], "the old generation still sees its own endpoints");
        drop((first, second));
        registry.prune();
        assert!(registry.lock().endpoints.is_empty() && registry.lock().clusters.is_empty());
    }

    #[test]
    fn a_version_keeps_its_budget_while_a_generation_names_it() {
        let registry = Registry::new(1);
        let first = registry.budget("a", "v1", 0);
        assert!(Arc::ptr_eq(&first, &registry.budget("a", "v1", 9)));
        assert!(!Arc::ptr_eq(&first, &registry.budget("a", "v2", 0)));
        drop(first);
        registry.prune();
        assert!(registry.lock().budgets.is_empty());
    }

    #[tokio::test]
    async fn a_name_brings_an_endpoint_for_each_of_its_addresses() {
        let registry = Registry::new(1);
        let named = EndpointSpec { target: Target::Name { host: "svc.test".into(), port: 80 }, weight: 1 };
        let cluster = registry.cluster(spec(vec![named]));
        assert_eq!(registry.names(), ["svc.test"]);
        assert!(cluster.pick(0, &[]).is_err());
        registry.resolved("svc.test", vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
        assert_eq!(names(&cluster), ["10.0.0.1:80", "10.0.0.2:80"]);
        let kept = Arc::clone(&cluster.endpoints().endpoints()[1]);
        registry.resolved("svc.test", vec!["10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap()]);
        assert_eq!(names(&cluster), ["10.0.0.2:80", "10.0.0.3:80"]);
        assert!(Arc::ptr_eq(&kept, &cluster.endpoints().endpoints()[0]));
    }
}
