//! The registry: which services exist and where their endpoints are, from ServiceEntry, WorkloadEntry and `--endpoint`.
//! It answers what was declared; it neither resolves names nor judges what it finds (`validate` does).

mod service;
#[cfg(test)]
mod tests;
mod workloads;

use foldhash::HashMap;

pub use self::service::{Address, DEFAULT_PORT, Endpoint, Port, Selection, Service};
use self::workloads::{Workloads, from_workload};
use super::names;
use super::place::Place;
use super::resource::service_entry::{Resolution, ServiceEntry, ServicePort};
use super::resource::{Resource, Resources};
use super::settings::{ExtraEndpoint, Settings};

/// Every declared service, found by its host.
#[derive(Clone, Debug, Default)]
pub struct Services {
    services: Vec<Service>,
    by_host: HashMap<String, usize>,
    by_short_name: HashMap<String, usize>,
}

impl Services {
    /// The registry that these resources and the command line declare. Takes time in proportion to their number.
    pub fn new(resources: &Resources, settings: &Settings) -> Self {
        let mut services = Self::default();
        let workloads = Workloads::new(&resources.workload_entries);
        for entry in &resources.service_entries {
            services.add(entry, &workloads);
        }
        for extra in &settings.endpoints {
            services.add_extra(extra);
        }
        services
    }

    /// The service that a host names in a namespace: literally, else as `host.namespace.svc.cluster.local`.
    /// Case and a trailing dot do not count.
    pub fn find(&self, host: &str, namespace: &str) -> Option<&Service> {
        let canonical = names::canonical(host);
        let index = self.by_host.get(canonical.as_ref()).or_else(|| match names::expand(&canonical, namespace) {
            Some(expanded) => self.by_host.get(&expanded),
            None => self.by_short_name.get(canonical.as_ref()),
        })?;
        self.services.get(*index)
    }

    /// All of them, in the order of their declaration.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    fn add(&mut self, entry: &Resource<ServiceEntry>, workloads: &Workloads<'_>) {
        let spec = &entry.spec;
        let ports: Vec<Port> = spec.ports.iter().flatten().filter_map(port).collect();
        let resolution = spec.resolution.as_ref().map_or(Resolution::None, |resolution| resolution.value);
        for host in spec.hosts.iter().filter(|host| !host.is_empty()) {
            let service = self.entry(host, resolution, host.place);
            if let Some(name) = names::expand(host, &entry.metadata.namespace) {
                self.by_short_name.entry(name).or_insert(service);
            }
            let service = &mut self.services[service];
            for port in &ports {
                if service.ports.iter().all(|known| known.number != port.number) {
                    service.ports.push(port.clone());
                }
            }
            // One without an address, in another network, cannot be reached from here.
            let reachable = spec.endpoints.iter().filter(|endpoint| !endpoint.address.is_empty());
            service.endpoints.extend(reachable.map(|endpoint| from_workload(endpoint, &endpoint.labels)));
            if let Some(selector) = &spec.workload_selector {
                service.endpoints.extend(workloads.select(&entry.metadata.namespace, selector));
            }
            let named = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            if named && spec.endpoints.is_empty() && spec.workload_selector.is_none() {
                service.endpoints.push(Endpoint::by_name(host, host.place));
            }
        }
    }

    fn add_extra(&mut self, extra: &ExtraEndpoint) {
        let service = self.entry(&extra.host, Resolution::Static, Place::default());
        self.services[service].endpoints.push(Endpoint {
            port: Some(extra.port),
            subset: extra.subset.clone(),
            every_subset: extra.subset.is_none(),
            ..Endpoint::new(&extra.address, Place::default())
        });
    }

    fn entry(&mut self, host: &str, resolution: Resolution, place: Place) -> usize {
        let host = names::canonical(host).into_owned();
        if let Some(index) = self.by_host.get(&host) {
            return *index;
        }
        let index = self.services.len();
        self.by_host.insert(host.clone(), index);
        self.services.push(Service { host, ports: Vec::new(), resolution, endpoints: Vec::new(), place });
        index
    }
}

fn port(port: &ServicePort) -> Option<Port> {
    let own = number(port.number.value)?;
    Some(Port {
        number: own,
        name: port.name.value.clone(),
        protocol: port.protocol.as_ref().map(|protocol| protocol.to_ascii_uppercase()).unwrap_or_default(),
        target: port.target_port.as_ref().and_then(|target| number(target.value)).unwrap_or(own),
    })
}

fn number(port: i64) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}
