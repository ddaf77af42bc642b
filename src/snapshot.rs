//! One generation of the configuration as a request sees it: routes whose destinations are live clusters, with their
//! metrics. Built off the request path, then never changed; the only shared handle to it is [`Snapshots`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::config::place::Place;
use crate::config::resource::Resources;
use crate::config::resource::destination_rule::SimpleLb;
use crate::config::services::{Address, Service, Services};
use crate::config::settings::Settings;
use crate::config::traffic::{Policy, Traffic};
use crate::routing::{self, Action, RouteTable, Wanted};
use crate::telemetry::{DestinationMetrics, EndpointMetrics, Metrics, RouteMetrics, SnapshotToken};
use crate::upstream::cluster::ClusterPolicy;
use crate::upstream::{Balance, Budget, Cluster, ClusterSpec, EndpointSpec, Registry, Target};

/// The version of a destination that says none: Istio's word for it.
const UNKNOWN_VERSION: &str = "unknown";

/// Where a weight points.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its endpoints.
    pub cluster: Arc<Cluster>,
    /// Its counters, for the route it is on.
    pub metrics: Arc<RouteMetrics>,
    /// How many retries its version may cost.
    pub budget: Arc<Budget>,
    /// File and line of the destination, for messages.
    pub declared_at: Arc<str>,
}

/// All that one request may consult.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configurations of this process, from 1.
    pub generation: u64,
    /// The decision.
    pub routes: RouteTable<Destination>,
    clusters: Vec<Arc<Cluster>>,
    versions: Vec<Arc<DestinationMetrics>>,
    endpoints: Mutex<Vec<Arc<EndpointMetrics>>>,
    _alive: SnapshotToken,
}

impl Snapshot {
    /// Every cluster, once.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// Counts connections and looks at endpoints, for the gauges that are about to be shown.
    pub fn show_connections(&self, metrics: &Metrics) {
        let mut counts: HashMap<(&str, &str), (usize, usize)> = HashMap::new();
        let mut gauges = Vec::new();
        for (cluster, version) in self.clusters.iter().zip(&self.versions) {
            let (active, idle) = counts.entry((version.app(), version.version())).or_default();
            for endpoint in cluster.endpoints().endpoints() {
                *active += endpoint.active() as usize;
                *idle += endpoint.idle();
                let gauge = metrics.endpoint(version.app(), version.version(), endpoint.name());
                gauge.set_healthy(endpoint.is_reachable());
                gauges.push(gauge);
            }
            version.set_connections(*active, *idle);
        }
        *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }

    /// Every destination with its share, for each rule that forwards; mirrors with 0, because clients get nothing from them.
    pub fn destinations(&self) -> impl Iterator<Item = (&Destination, f64)> {
        self.routes.rules().flat_map(|(_, rule)| {
            let entries = match &rule.action {
                Action::Forward(split) => split.entries(),
                Action::Redirect(_) | Action::Respond(_) => &[],
            };
            let mirrors = rule.filters.iter().flat_map(|filters| &filters.mirrors).map(|mirror| (&mirror.to, 0.0));
            entries.iter().map(|entry| (&entry.value.to, entry.share)).chain(mirrors)
        })
    }
}

/// The configuration in force, for everybody.
#[derive(Debug)]
pub struct Snapshots(ArcSwap<Snapshot>);

impl Snapshots {
    /// Puts a first generation in force.
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// Puts the next generation in force: every request that begins after this sees it.
    pub fn publish(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }

    /// The generation of this moment, for a moment only.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// The generation of this moment, to be kept.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

/// Builds snapshots on top of what is alive.
#[derive(Debug)]
pub struct Builder {
    /// What the command line says.
    pub settings: Settings,
    /// Live clusters and endpoints.
    pub registry: Arc<Registry>,
    /// Live counters.
    pub metrics: Metrics,
}

impl Builder {
    /// A snapshot of resources that passed validation. `place` says where something stands, for messages.
    pub fn build(&self, resources: &Resources, place: &dyn Fn(Place) -> String, generation: u64) -> Snapshot {
        let mut clusters = Clusters {
            builder: self,
            services: Services::new(resources, &self.settings),
            traffic: Traffic::new(resources),
            known: HashMap::new(),
        };
        let options = routing::Options {
            mesh_ports: self.settings.mesh_ports.clone(),
            any_host: !self.settings.strict_hosts && resources.virtual_services.len() == 1,
        };
        let routes = routing::compile(resources, &options, &mut |wanted| clusters.destination(wanted, place));
        let version = |known: Known| (known.cluster, self.metrics.destination(&known.app, &known.version));
        let (clusters, versions) = clusters.known.into_values().map(version).unzip();
        let (endpoints, _alive) = (Mutex::default(), self.metrics.reloads().snapshot());
        Snapshot { generation, routes, clusters, versions, endpoints, _alive }
    }

    /// A snapshot without a route: what is in force before the first configuration.
    pub fn empty(&self) -> Snapshot {
        self.build(&Resources::default(), &|_| String::new(), 0)
    }
}

struct Known {
    cluster: Arc<Cluster>,
    app: String,
    version: String,
}

struct Clusters<'a> {
    builder: &'a Builder,
    services: Services,
    traffic: Traffic<'a>,
    known: HashMap<String, Known>,
}

impl Clusters<'_> {
    fn destination(&mut self, wanted: Wanted<'_>, place: &dyn Fn(Place) -> String) -> Destination {
        let written = wanted.destination;
        let undeclared;
        let service = match self.services.find(&written.host, wanted.namespace) {
            Some(service) => service,
            None => {
                undeclared = Service::undeclared(&written.host);
                &undeclared
            }
        };
        let named = written.port.and_then(|port| u16::try_from(port.value).ok());
        let port = service.choose_port(named, Some(wanted.listener_port));
        let subset = written.subset.as_ref().map(|subset| subset.value.as_str());
        let key = format!("{}|{}|{}", service.host, subset.unwrap_or_default(), port.unwrap_or_default());
        if !self.known.contains_key(&key) {
            let known = self.resolve(&key, service, wanted.namespace, port, subset);
            self.known.insert(key.clone(), known);
        }
        let Known { cluster, app, version } = &self.known[&key];
        let metrics = self.builder.metrics.route(wanted.route, app, version);
        let attempts = metrics.destination().attempts_made();
        Destination {
            cluster: Arc::clone(cluster),
            budget: self.builder.registry.budget(app, version, attempts),
            metrics,
            declared_at: place(written.place).into(),
        }
    }

    fn resolve(&self, key: &str, service: &Service, namespace: &str, port: Option<u16>, subset: Option<&str>) -> Known {
        let selection = subset.map(|name| self.traffic.selection(&service.host, namespace, name));
        let labels = selection.and_then(|selection| selection.labels);
        let label = |wanted: &str| {
            labels
                .and_then(|labels| labels.iter().find(|(name, _)| name.value == wanted))
                .map(|(_, value)| value.value.clone())
        };
        let app = label("app").unwrap_or_else(|| service.host.split('.').next().unwrap_or_default().to_owned());
        let version =
            label("version").or_else(|| subset.map(str::to_owned)).unwrap_or_else(|| UNKNOWN_VERSION.to_owned());
        let name = match subset {
            Some(subset) => format!("{} {subset}", service.host),
            None => service.host.clone(),
        };
        let endpoints = service.endpoints_for(port, selection).into_iter().filter_map(endpoint).collect();
        let policy = policy(self.traffic.policy(&service.host, namespace, port, subset));
        let spec = ClusterSpec { key: key.to_owned(), name, policy, endpoints };
        Known { cluster: self.builder.registry.cluster(spec), app, version }
    }
}

fn endpoint((address, port, weight): (Address, u16, u32)) -> Option<EndpointSpec> {
    let target = match address {
        Address::Ip(ip) => {
            let address = SocketAddr::new(ip, port);
            Target::Addresses { name: address.to_string(), addresses: vec![address] }
        }
        Address::Name(host) if host == "localhost" => {
            let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            let addresses = loopback.map(|ip| SocketAddr::new(ip, port)).to_vec();
            Target::Addresses { name: format!("localhost:{port}"), addresses }
        }
        Address::Name(host) => Target::Name { host, port },
        Address::Unix(_) => return None,
    };
    Some(EndpointSpec { target, weight })
}

fn policy(written: Policy<'_>) -> ClusterPolicy {
    let mut policy = ClusterPolicy::default();
    policy.balance = match written.load_balancer.and_then(|one| one.simple).map(|simple| simple.value) {
        Some(SimpleLb::RoundRobin) => Balance::RoundRobin,
        Some(SimpleLb::Random) => Balance::Random,
        _ => Balance::LeastRequest,
    };
    let Some(pool) = written.connection_pool else { return policy };
    if let Some(tcp) = &pool.tcp {
        policy.connect_timeout = tcp.connect_timeout.map_or(policy.connect_timeout, |timeout| timeout.value);
        policy.idle_timeout = tcp.idle_timeout.map_or(policy.idle_timeout, |timeout| timeout.value);
    }
    if let Some(http) = &pool.http {
        policy.idle_timeout = http.idle_timeout.map_or(policy.idle_timeout, |timeout| timeout.value);
        policy.keep_alive = http.max_requests_per_connection.is_none_or(|most| most.value != 1);
    }
    if policy.idle_timeout.is_zero() {
        policy.idle_timeout = Duration::MAX;
    }
    policy
}
