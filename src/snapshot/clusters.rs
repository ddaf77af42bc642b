//! The clusters of one generation: each destination of a route is resolved to endpoints, policy and metrics, once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::policy::cluster_policy;
use super::{Builder, Destination, tls};
use crate::config::credentials::Named;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::resource::Resources;
use crate::config::resource::service_entry::Resolution;
use crate::config::services::{Address as Written, Service, Services};
use crate::config::traffic::Traffic;
use crate::routing::Wanted;
use crate::upstream::budget::MEMORY;
use crate::upstream::{Address, Cluster, ClusterSpec, EndpointSpec, Target};

/// The version of a destination that says none: Istio's word for it.
const UNKNOWN_VERSION: &str = "unknown";

/// A cluster with what its metrics go by.
pub(super) struct Known {
    pub(super) cluster: Arc<Cluster>,
    pub(super) app: String,
    pub(super) version: String,
}

/// The clusters that were asked for so far.
pub(super) struct Clusters<'a> {
    builder: &'a Builder,
    files: Named<'a>,
    problems: Vec<Diagnostic>,
    services: Services,
    traffic: Traffic<'a>,
    known: HashMap<String, Known>,
}

impl<'a> Clusters<'a> {
    /// None was asked for yet.
    pub(super) fn new(builder: &'a Builder, resources: &'a Resources, files: Named<'a>) -> Self {
        Self {
            builder,
            files,
            problems: Vec::new(),
            services: Services::new(resources, &builder.settings),
            traffic: Traffic::new(resources),
            known: HashMap::new(),
        }
    }

    /// Each cluster that was asked for.
    ///
    /// # Errors
    /// What is wrong with the files of their policies.
    pub(super) fn known(self) -> Result<impl Iterator<Item = Known>, Vec<Diagnostic>> {
        if self.problems.is_empty() { Ok(self.known.into_values()) } else { Err(self.problems) }
    }

    /// What a destination of a route means.
    pub(super) fn destination(&mut self, wanted: Wanted<'_>, place: &dyn Fn(Place) -> String) -> Destination {
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
            let sought = Sought { service, namespace: wanted.namespace, port, subset };
            let (known, problems) = self.resolve(&key, sought);
            self.problems.extend(problems);
            self.known.insert(key.clone(), known);
        }
        let Known { cluster, app, version } = &self.known[&key];
        let metrics = self.builder.metrics.route(wanted.route, app, version);
        let attempts = metrics.destination().attempts_made();
        let memory = cluster.policy().retry_budget.and_then(|budget| budget.memory()).unwrap_or(MEMORY);
        Destination {
            cluster: Arc::clone(cluster),
            budget: self.builder.registry.budget(app, version, memory, attempts),
            metrics,
            declared_at: place(written.place).into(),
        }
    }

    fn resolve(&self, key: &str, sought: Sought<'_>) -> (Known, Vec<Diagnostic>) {
        let Sought { service, namespace, port, subset } = sought;
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
        let first_only = service.resolution == Resolution::DnsRoundRobin;
        let endpoint = |(address, port, weight)| EndpointSpec { target: target(address, port, first_only), weight };
        let endpoints = service.endpoints_chosen(port, selection).into_iter().map(endpoint).collect();
        let protocol = service.ports.iter().find(|known| Some(known.number) == port).map(|port| port.protocol.as_str());
        let written = self.traffic.policy(&service.host, namespace, port, subset);
        let mut policy = cluster_policy(written, protocol);
        let tls = written.tls.map_or(Ok(None), |tls| tls::client(tls, self.files));
        let (tls, problems) = tls.map_or_else(|problems| (None, problems), |tls| (tls, Vec::new()));
        policy.transport.tls = tls.map(Arc::new);
        let spec = ClusterSpec { key: key.to_owned(), name, policy, endpoints };
        (Known { cluster: self.builder.registry.cluster(spec), app, version }, problems)
    }
}

/// What a destination names.
#[derive(Clone, Copy)]
struct Sought<'s> {
    service: &'s Service,
    namespace: &'s str,
    port: Option<u16>,
    subset: Option<&'s str>,
}

fn target(address: Written, port: u16, first_only: bool) -> Target {
    match address {
        Written::Ip(ip) => {
            let address = SocketAddr::new(ip, port);
            Target::Fixed { name: address.to_string(), address: Address::Tcp(vec![address]) }
        }
        Written::Name(host) if host == "localhost" => {
            let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            let addresses = loopback.map(|ip| SocketAddr::new(ip, port)).to_vec();
            Target::Fixed { name: format!("localhost:{port}"), address: Address::Tcp(addresses) }
        }
        Written::Name(host) if first_only => Target::FirstOfName { host, port },
        Written::Name(host) => Target::Name { host, port },
        Written::Unix(path) => {
            Target::Fixed { name: format!("unix://{}", path.display()), address: Address::Unix(socket(&path)) }
        }
    }
}

/// `@name` is an abstract socket, which the system knows by a zero byte instead.
fn socket(path: &Path) -> PathBuf {
    match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => path.to_owned(),
    }
}
