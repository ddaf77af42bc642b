//! Every live cluster and endpoint by identity, so that a new generation of the configuration finds the connections and
//! the health of the last one. Used when a configuration is built and when a name resolves anew, never by a request.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::{HashMap, HashSet, HashSetExt};

use super::balance::EndpointSet;
use super::budget::Budget;
use super::cluster::{Cluster, ClusterPolicy};
use super::connect::Address;
use super::endpoint::Endpoint;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One endpoint in a known place.
    Fixed {
        /// As printed: `localhost:8081`.
        name: String,
        /// What it stands for.
        address: Address,
    },
    /// A name in DNS: each of its addresses is an endpoint.
    Name {
        /// The name.
        host: String,
        /// The port on each address.
        port: u16,
    },
    /// A name in DNS that is one endpoint: each new connection goes to its first address, and connections stay while theirs is
    /// among the addresses. When one is not any more, it is another endpoint, so that new requests leave the old address.
    FirstOfName {
        /// The name.
        host: String,
        /// The port.
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
#[derive(Clone, Debug, PartialEq)]
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
            Target::Name { host, .. } | Target::FirstOfName { host, .. } => Some(host.as_str()),
            Target::Fixed { .. } => None,
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
    endpoints: HashMap<Identity, Weak<Endpoint>>,
    /// In the order of the answer.
    addresses: HashMap<String, Vec<IpAddr>>,
    budgets: HashMap<(String, String, Duration), Weak<Budget>>,
}

/// What makes an endpoint the same one in the next generation: its cluster, its place, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    cluster: String,
    name: String,
    transport: String,
}

impl Identity {
    fn new(spec: &ClusterSpec, name: String) -> Self {
        Self { cluster: spec.key.clone(), name, transport: spec.policy.transport.identity() }
    }
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
        let known =
            live.clusters.get(&spec.key).and_then(|(known, cluster)| Some((*known == spec, cluster.upgrade()?)));
        let earlier = match known {
            Some((true, same)) => return same,
            Some((false, earlier)) => Some(earlier),
            None => None,
        };
        let set = live.endpoint_set(&spec, earlier.as_deref(), self.workers);
        let usage = earlier.map_or_else(Arc::default, |earlier| Arc::clone(earlier.usage()));
        let cluster = Arc::new(Cluster::taking_over(spec.name.clone(), spec.policy.clone(), set, usage));
        live.clusters.insert(spec.key.clone(), (spec, Arc::downgrade(&cluster)));
        cluster
    }

    /// The retry budget of a version with this memory, which it keeps from one generation to the next. A new one begins
    /// when it has made `attempts`.
    pub fn budget(&self, app: &str, version: &str, memory: Duration, attempts: u64) -> Arc<Budget> {
        let mut live = self.lock();
        let known = live.budgets.entry((app.to_owned(), version.to_owned(), memory)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let budget = Arc::new(Budget::new(attempts, memory));
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

    /// Whether addresses of this name are known, perhaps from an earlier generation that needed it.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.lock().addresses.get(name).is_some_and(|known| !known.is_empty())
    }

    /// Puts the addresses of a name in force in every cluster that uses it. Requests under way keep their endpoint.
    pub fn resolved(&self, name: &str, mut addresses: Vec<IpAddr>) {
        let mut seen = HashSet::new();
        addresses.retain(|one| seen.insert(*one));
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
            cluster.set_endpoints(live.endpoint_set(&spec, Some(&cluster), self.workers));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // Each method leaves the maps consistent before anything in it could panic.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// The endpoints of a cluster at this moment; those that `earlier` does not have join it now.
    fn endpoint_set(&mut self, spec: &ClusterSpec, earlier: Option<&Cluster>, workers: usize) -> EndpointSet {
        let mut weighted = Vec::with_capacity(spec.endpoints.len());
        for EndpointSpec { target, weight } in &spec.endpoints {
            match target {
                Target::Fixed { name, address } => {
                    weighted
                        .push((self.endpoint(Identity::new(spec, name.clone()), address.clone(), workers), *weight));
                }
                Target::Name { host, port } => {
                    let mut addresses = self.addresses.get(host).cloned().unwrap_or_default();
                    // Name servers shuffle their answers, and that is no change of the set.
                    addresses.sort_unstable();
                    for ip in addresses {
                        let address = SocketAddr::new(ip, *port);
                        let place = Address::Tcp(vec![address]);
                        weighted
                            .push((self.endpoint(Identity::new(spec, address.to_string()), place, workers), *weight));
                    }
                }
                Target::FirstOfName { host, port } => {
                    let addresses = self.addresses.get(host).into_iter().flatten();
                    let places: Vec<_> = addresses.map(|ip| SocketAddr::new(*ip, *port)).collect();
                    let Some(first) = places.first() else { continue };
                    let identity = Identity::new(spec, format!("{host}:{port}"));
                    let known = self.endpoints.get(&identity).and_then(Weak::upgrade);
                    if known.is_some_and(|known| known.leads_elsewhere(&places)) {
                        self.endpoints.remove(&identity);
                    }
                    let endpoint = self.endpoint(identity, Address::Tcp(vec![*first]), workers);
                    endpoint.leads_to(*first);
                    weighted.push((endpoint, *weight));
                }
            }
        }
        let earlier = earlier.map(Cluster::endpoints);
        let known: HashSet<*const Endpoint> = earlier.iter().flat_map(|set| set.endpoints()).map(Arc::as_ptr).collect();
        weighted.iter().filter(|(one, _)| !known.contains(&Arc::as_ptr(one))).for_each(|(one, _)| one.joins());
        let unresolved = spec.names().any(|name| !self.addresses.contains_key(name));
        EndpointSet::new(weighted, spec.policy.balance).warming_up(spec.policy.warmup).awaiting_names(unresolved)
    }

    fn endpoint(&mut self, identity: Identity, address: Address, workers: usize) -> Arc<Endpoint> {
        if let Some(known) = self.endpoints.get(&identity).and_then(Weak::upgrade) {
            return known;
        }
        let endpoint = Arc::new(Endpoint::new(identity.name.clone(), address, workers));
        self.endpoints.insert(identity, Arc::downgrade(&endpoint));
        endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::budget::MEMORY;
    use crate::upstream::transport::Http2Policy;
    use crate::upstream::{NoHealthyUpstream, Overloaded, Unavailable, Unresolved, Warmup};

    fn fixed(port: u16) -> EndpointSpec {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        EndpointSpec {
            target: Target::Fixed { name: address.to_string(), address: Address::Tcp(vec![address]) },
            weight: 1,
        }
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
        let first = registry.budget("a", "v1", MEMORY, 0);
        assert!(Arc::ptr_eq(&first, &registry.budget("a", "v1", MEMORY, 9)));
        assert!(!Arc::ptr_eq(&first, &registry.budget("a", "v2", MEMORY, 0)));
        assert!(!Arc::ptr_eq(&first, &registry.budget("a", "v1", MEMORY / 2, 0)));
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

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_new_when_it_joins_again_and_stays_old_over_a_reload() {
        let registry = Registry::new(1);
        let named = EndpointSpec { target: Target::Name { host: "svc.test".into(), port: 80 }, weight: 1 };
        let cluster = registry.cluster(spec(vec![named.clone()]));
        let resolved = |last: &[u8]| {
            registry.resolved("svc.test", last.iter().map(|&last| [10, 0, 0, last].into()).collect());
        };
        let ages = |cluster: &Cluster| -> Vec<u64> {
            let set = cluster.endpoints();
            set.endpoints().iter().map(|one| one.in_use_since().elapsed().as_secs()).collect()
        };
        let second = || tokio::time::advance(Duration::from_secs(1));
        resolved(&[1, 2]);
        second().await;
        resolved(&[1, 2, 3]);
        second().await;
        assert_eq!(ages(&cluster), [2, 2, 1]);
        // Held by a request on its way, the second one leaves and comes back.
        let _held = Arc::clone(&cluster.endpoints().endpoints()[1]);
        resolved(&[1, 3]);
        resolved(&[1, 2, 3]);
        second().await;
        assert_eq!(ages(&cluster), [3, 1, 2]);
        let mut changed = spec(vec![named]);
        changed.policy.warmup = Some(Warmup { duration: Duration::from_secs(9), minimum: 0.1, aggression: 1.0 });
        assert_eq!(ages(&registry.cluster(changed)), [3, 1, 2]);
    }

    #[tokio::test]
    async fn a_name_as_one_endpoint_follows_the_first_address_in_its_place() {
        let registry = Registry::new(1);
        let first = EndpointSpec { target: Target::FirstOfName { host: "svc.test".into(), port: 80 }, weight: 1 };
        let cluster = registry.cluster(spec(vec![first]));
        registry.resolved("svc.test", vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
        let endpoint = Arc::clone(&cluster.endpoints().endpoints()[0]);
        assert_eq!(*endpoint.address(), Address::Tcp(vec!["10.0.0.2:80".parse().unwrap()]));
        registry.resolved("svc.test", vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()]);
        assert!(Arc::ptr_eq(&endpoint, &cluster.endpoints().endpoints()[0]));
        assert_eq!(*endpoint.address(), Address::Tcp(vec!["10.0.0.1:80".parse().unwrap()]));
        // It may have connections to the one that is gone now.
        registry.resolved("svc.test", vec!["10.0.0.1".parse().unwrap()]);
        let other = Arc::clone(&cluster.endpoints().endpoints()[0]);
        assert!(!Arc::ptr_eq(&endpoint, &other));
        assert_eq!((other.name(), &*other.address()), ("svc.test:80", &*endpoint.address()));
        registry.resolved("svc.test", vec!["10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap()]);
        assert!(Arc::ptr_eq(&other, &cluster.endpoints().endpoints()[0]));
    }

    #[tokio::test]
    async fn a_cluster_knows_whether_its_names_were_ever_resolved() {
        let registry = Registry::new(1);
        let named = EndpointSpec { target: Target::Name { host: "svc.test".into(), port: 80 }, weight: 1 };
        let cluster = registry.cluster(spec(vec![named]));
        assert_eq!(cluster.pick(0, &[]).unwrap_err(), Unavailable::Unresolved(Unresolved));
        registry.resolved("svc.test", vec!["10.0.0.2".parse().unwrap()]);
        assert!(cluster.pick(0, &[]).is_ok());
        registry.resolved("svc.test", Vec::new());
        assert_eq!(cluster.pick(0, &[]).unwrap_err(), Unavailable::NoHealthyUpstream(NoHealthyUpstream));
    }

    #[tokio::test]
    async fn another_transport_means_other_endpoints_and_other_limits_do_not() {
        let registry = Registry::new(1);
        let first = registry.cluster(spec(vec![fixed(1)]));
        let mut limited = spec(vec![fixed(1)]);
        limited.policy.limits.requests = Some(1);
        let second = registry.cluster(limited.clone());
        assert!(Arc::ptr_eq(&first.endpoints().endpoints()[0], &second.endpoints().endpoints()[0]));
        let _lease = second.pick(0, &[]).unwrap();
        limited.policy.limits.pending = Some(5);
        let third = registry.cluster(limited.clone());
        assert_eq!(third.pick(0, &[]).unwrap_err(), Unavailable::Overloaded(Overloaded), "what is under way counts on");
        limited.policy.transport.http2 = Some(Http2Policy::default());
        let fourth = registry.cluster(limited);
        assert!(!Arc::ptr_eq(&first.endpoints().endpoints()[0], &fourth.endpoints().endpoints()[0]));
    }
}
