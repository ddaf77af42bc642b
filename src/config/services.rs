//! The registry: which services exist and where their endpoints are, from ServiceEntry, WorkloadEntry and `--endpoint`.
//! It answers what was declared; it neither resolves names nor judges what it finds (`validate` does).

use std::net::IpAddr;
use std::path::PathBuf;

use foldhash::HashMap;

use super::names;
use super::place::{Place, Spanned};
use super::resource::destination_rule::Subset;
use super::resource::service_entry::{Resolution, ServiceEntry, ServicePort, WorkloadEntry};
use super::resource::{Metadata, Resource, Resources};
use super::settings::{ExtraEndpoint, Settings};
use super::value::StringMap;

/// The port of a host that no resource declares, when the destination names none: plain HTTP.
pub const DEFAULT_PORT: u16 = 80;

/// Every declared service, found by its host.
#[derive(Clone, Debug, Default)]
pub struct Services {
    services: Vec<Service>,
    by_host: HashMap<String, usize>,
    by_short_name: HashMap<String, usize>,
}

/// One host with its ports and endpoints.
#[derive(Clone, Debug)]
pub struct Service {
    /// In lower case, without a trailing dot; may begin with a wildcard.
    pub host: String,
    /// Its ports; none when only `--endpoint` declares it.
    pub ports: Vec<Port>,
    /// How its endpoints are found. `STATIC` for one that only `--endpoint` declares.
    pub resolution: Resolution,
    /// Its endpoints, in the order of the sources.
    pub endpoints: Vec<Endpoint>,
    /// Where its host is declared first; line 0 when only the command line does.
    pub place: Place,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number, as destinations name it.
    pub number: u16,
    /// Its name, as endpoints name it.
    pub name: String,
    /// Its protocol in upper case; empty when it is to be sniffed.
    pub protocol: String,
    /// Where endpoints listen that say nothing else.
    pub target: u16,
}

/// One endpoint of a service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// Its own ports, by name of the service port.
    pub ports: Vec<(String, u16)>,
    /// From `--endpoint`: the port it listens on, whatever the service port.
    pub port: Option<u16>,
    /// From `--endpoint HOST/SUBSET`: the only subset it belongs to.
    pub subset: Option<String>,
    /// Whether it belongs to every subset whatever their labels: from `--endpoint HOST`.
    pub every_subset: bool,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Share among its peers, at least 1.
    pub weight: u32,
    /// Where it is declared; line 0 for the command line.
    pub place: Place,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A name to resolve.
    Name(String),
    /// A Unix socket; an abstract one begins with `@`.
    Unix(PathBuf),
}

impl Address {
    /// From what was written: `unix://…`, an IP address, or else a name.
    pub fn parse(text: &str) -> Self {
        if let Some(path) = text.strip_prefix("unix://") {
            return Self::Unix(PathBuf::from(path));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Ip)
    }
}

/// A subset as a destination asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// Its name.
    pub name: &'a str,
    /// Labels that its endpoints carry; none when no DestinationRule declares it, so that only `--endpoint` can fill it.
    pub labels: Option<&'a StringMap>,
}

impl<'a> Selection<'a> {
    /// The subset of this name, as the DestinationRule declares it, if one does.
    pub fn new(name: &'a str, declared: Option<&'a Subset>) -> Self {
        Self { name, labels: declared.map(|subset| &subset.labels) }
    }

    fn takes(&self, endpoint: &Endpoint) -> bool {
        match (&endpoint.subset, self.labels) {
            (Some(subset), _) => subset == self.name,
            (None, _) if endpoint.every_subset => true,
            (None, Some(labels)) => labels.iter().all(|(key, value)| {
                endpoint.labels.iter().any(|(own, held)| own == &key.value && held == &value.value)
            }),
            (None, None) => false,
        }
    }
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
            service.endpoints.extend(reachable.map(|endpoint| from_workload(endpoint, None)));
            if let Some(selector) = &spec.workload_selector {
                service.endpoints.extend(workloads.select(&entry.metadata.namespace, selector));
            }
            let named = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            if named && spec.endpoints.is_empty() && spec.workload_selector.is_none() {
                service.endpoints.push(by_name(host));
            }
        }
    }

    fn add_extra(&mut self, extra: &ExtraEndpoint) {
        let service = self.entry(&extra.host, Resolution::Static, Place::default());
        self.services[service].endpoints.push(Endpoint {
            address: Address::parse(&extra.address),
            ports: Vec::new(),
            port: Some(extra.port),
            subset: extra.subset.clone(),
            every_subset: extra.subset.is_none(),
            labels: Vec::new(),
            weight: 1,
            place: Place::default(),
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

impl Service {
    /// The service of a host that no resource declares: its name is resolved.
    pub fn undeclared(host: &str) -> Self {
        Self {
            host: names::canonical(host).into_owned(),
            ports: Vec::new(),
            resolution: Resolution::Dns,
            endpoints: vec![by_name(&Spanned::new(host.to_owned(), Place::default()))],
            place: Place::default(),
        }
    }

    /// The port that a destination means: the one it names, the only one there is, or else the listener's.
    /// None if the service has ports and this is none of them.
    pub fn choose_port(&self, wanted: Option<u16>, listener: Option<u16>) -> Option<u16> {
        if self.ports.is_empty() {
            return Some(wanted.unwrap_or(DEFAULT_PORT));
        }
        let number = match (wanted, self.ports.as_slice()) {
            (Some(number), _) => Some(number),
            (None, [only]) => Some(only.number),
            (None, _) => listener,
        }?;
        self.ports.iter().any(|port| port.number == number).then_some(number)
    }

    /// Where requests for a port (none: the only one, or the first) and a subset (none: the whole service) may go:
    /// address, port there, and weight. Port order: Unix socket, `endpoint.ports[name]`, `targetPort`, number.
    pub fn endpoints_for(&self, port: Option<u16>, subset: Option<Selection<'_>>) -> Vec<(Address, u16, u32)> {
        let service_port = match port {
            Some(number) => self.ports.iter().find(|port| port.number == number),
            None => self.ports.first(),
        };
        self.endpoints
            .iter()
            .filter(|endpoint| subset.is_none_or(|subset| subset.takes(endpoint)))
            .map(|endpoint| {
                let named = service_port.and_then(|port| {
                    let own = endpoint.ports.iter().find(|(name, _)| *name == port.name).map(|(_, number)| *number);
                    own.or(Some(port.target))
                });
                let port = endpoint.port.or(named).or(port).unwrap_or(DEFAULT_PORT);
                let port = if matches!(endpoint.address, Address::Unix(_)) { 0 } else { port };
                (endpoint.address.clone(), port, endpoint.weight)
            })
            .collect()
    }

    /// The same for the port that [`choose_port`](Self::choose_port) chose: of several ports none is meant, so nowhere.
    pub fn endpoints_chosen(&self, chosen: Option<u16>, subset: Option<Selection<'_>>) -> Vec<(Address, u16, u32)> {
        chosen.map_or_else(Vec::new, |port| self.endpoints_for(Some(port), subset))
    }

    /// Whether a subset has an endpoint.
    pub fn has_endpoint(&self, subset: Option<Selection<'_>>) -> bool {
        self.endpoints.iter().any(|endpoint| subset.is_none_or(|subset| subset.takes(endpoint)))
    }
}

/// WorkloadEntry resources by namespace, and by one label, so that a selector looks at few of them.
struct Workloads<'a> {
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<&'a Resource<WorkloadEntry>>>,
}

impl<'a> Workloads<'a> {
    fn new(entries: &'a [Resource<WorkloadEntry>]) -> Self {
        let mut by_label: HashMap<_, Vec<_>> = HashMap::default();
        for entry in entries.iter().filter(|entry| !entry.spec.address.is_empty()) {
            for (key, value) in labels(entry) {
                let namespace = entry.metadata.namespace.as_str();
                by_label.entry((namespace, key.as_str(), value.as_str())).or_default().push(entry);
            }
        }
        Self { by_label }
    }

    /// Those of a namespace that carry every label of the selector; an empty selector selects nothing.
    fn select(&self, namespace: &str, selector: &StringMap) -> Vec<Endpoint> {
        let candidates = selector
            .iter()
            .map(|(key, value)| {
                self.by_label.get(&(namespace, key.as_str(), value.as_str())).map_or(&[][..], Vec::as_slice)
            })
            .min_by_key(|entries| entries.len())
            .unwrap_or_default();
        let carries = |entry: &&&Resource<WorkloadEntry>| {
            selector.iter().all(|(key, value)| labels(entry).any(|(own, held)| own == key && held == value))
        };
        candidates.iter().filter(carries).map(|entry| from_workload(&entry.spec, Some(&entry.metadata))).collect()
    }
}

/// The labels of a workload: those of its `spec`, and those of its metadata, as in Istio.
fn labels(entry: &Resource<WorkloadEntry>) -> impl Iterator<Item = &(Spanned<String>, Spanned<String>)> {
    entry.spec.labels.iter().chain(&entry.metadata.labels)
}

fn from_workload(entry: &WorkloadEntry, metadata: Option<&Metadata>) -> Endpoint {
    let more = metadata.map_or(&[][..], |metadata| metadata.labels.as_slice());
    let owned = |(key, value): &(Spanned<String>, Spanned<String>)| (key.value.clone(), value.value.clone());
    Endpoint {
        address: Address::parse(&entry.address),
        ports: entry.ports.iter().filter_map(|(name, port)| Some((name.value.clone(), number(port.value)?))).collect(),
        port: None,
        subset: None,
        every_subset: false,
        labels: entry.labels.iter().chain(more).map(owned).collect(),
        weight: entry.weight.as_ref().and_then(|weight| u32::try_from(weight.value).ok()).unwrap_or(0).max(1),
        place: if entry.address.place.line == 0 { entry.place } else { entry.address.place },
    }
}

fn by_name(host: &Spanned<String>) -> Endpoint {
    Endpoint {
        address: Address::parse(&names::canonical(host)),
        ports: Vec::new(),
        port: None,
        subset: None,
        every_subset: false,
        labels: Vec::new(),
        weight: 1,
        place: host.place,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spanned<T>(value: T) -> Spanned<T> {
        Spanned::new(value, Place { file: 0, line: 1, column: 1, length: 1 })
    }

    fn text(value: &str) -> Spanned<String> {
        spanned(value.to_owned())
    }

    fn map(pairs: &[(&str, &str)]) -> StringMap {
        pairs.iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    fn workload(address: &str, labels: &[(&str, &str)]) -> WorkloadEntry {
        WorkloadEntry { address: text(address), labels: map(labels), place: Place::default(), ..Default::default() }
    }

    fn service_port(number: i64, name: &str, target: Option<i64>) -> Option<ServicePort> {
        Some(ServicePort {
            number: spanned(number),
            name: text(name),
            target_port: target.map(spanned),
            ..Default::default()
        })
    }

    fn resource<S>(spec: S) -> Resource<S> {
        let metadata = Metadata { name: text("x"), namespace: text("shop"), ..Default::default() };
        Resource { metadata, spec, place: Place::default() }
    }

    fn canary() -> ServiceEntry {
        let mut v2 = workload("10.0.0.2", &[("version", "v2")]);
        v2.ports = vec![(text("http"), spanned(9000))];
        v2.weight = Some(spanned(3));
        ServiceEntry {
            hosts: vec![text("Product-Service.")],
            ports: vec![service_port(80, "http", Some(8081)), service_port(90, "grpc", None)],
            resolution: Some(spanned(Resolution::Static)),
            endpoints: vec![workload("10.0.0.1", &[("version", "v1")]), v2, workload("unix:///run/x", &[])],
            ..Default::default()
        }
    }

    fn registry(entries: Vec<ServiceEntry>, settings: &Settings) -> Services {
        let service_entries = entries.into_iter().map(resource).collect();
        Services::new(&Resources { service_entries, ..Default::default() }, settings)
    }

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    #[test]
    fn a_host_is_found_by_every_way_to_write_it() {
        let services = registry(vec![canary()], &Settings::default());
        for host in ["product-service", "PRODUCT-SERVICE", "product-service.", "product-service.shop.svc.cluster.local"]
        {
            assert_eq!(
                services.find(host, "default").map(|found| found.host.as_str()),
                Some("product-service"),
                "{host}"
            );
        }
        assert!(services.find("product-service.default.svc.cluster.local", "shop").is_none());
        assert!(services.find("product", "shop").is_none());
    }

    #[test]
    fn a_short_name_finds_the_long_one_of_its_namespace() {
        let long = ServiceEntry { hosts: vec![text("reviews.prod.svc.cluster.local")], ..canary() };
        let services = registry(vec![long], &Settings::default());
        assert!(services.find("reviews", "prod").is_some());
        assert!(services.find("reviews", "test").is_none());
    }

    #[test]
    fn the_port_is_that_of_the_endpoint_then_the_target_then_the_number() {
        let services = registry(vec![canary()], &Settings::default());
        let service = services.find("product-service", "shop").unwrap();
        let unix = Address::Unix("/run/x".into());
        assert_eq!(
            service.endpoints_for(Some(80), None),
            [(ip("10.0.0.1"), 8081, 1), (ip("10.0.0.2"), 9000, 3), (unix.clone(), 0, 1)]
        );
        assert_eq!(
            service.endpoints_for(Some(90), None),
            [(ip("10.0.0.1"), 90, 1), (ip("10.0.0.2"), 90, 3), (unix, 0, 1)]
        );
    }

    #[test]
    fn a_subset_takes_the_endpoints_that_carry_all_of_its_labels() {
        let services = registry(vec![canary()], &Settings::default());
        let service = services.find("product-service", "shop").unwrap();
        let of = |labels: &[(&str, &str)]| {
            let subset = Subset { name: text("s"), labels: map(labels), ..Default::default() };
            service.endpoints_for(Some(80), Some(Selection::new("s", Some(&subset)))).len()
        };
        assert_eq!(of(&[("version", "v2")]), 1);
        assert_eq!(of(&[("version", "v2"), ("zone", "a")]), 0);
        assert_eq!(of(&[]), 3);
    }

    #[test]
    fn endpoints_of_the_command_line_belong_where_it_says() {
        let extra = |subset: Option<&str>, port| ExtraEndpoint {
            host: "Reviews".to_owned(),
            subset: subset.map(str::to_owned),
            address: "localhost".to_owned(),
            port,
        };
        let endpoints = vec![extra(Some("v1"), 1), extra(Some("v2"), 2), extra(None, 3)];
        let services = registry(Vec::new(), &Settings { endpoints, ..Default::default() });
        let service = services.find("reviews", "shop").unwrap();
        let ports = |subset| service.endpoints_for(None, subset).iter().map(|(_, port, _)| *port).collect::<Vec<_>>();
        assert_eq!(ports(None), [1, 2, 3]);
        assert_eq!(ports(Some(Selection::new("v1", None))), [1, 3]);
        let declared = Subset { labels: map(&[("version", "v2")]), ..Default::default() };
        assert_eq!(ports(Some(Selection::new("v2", Some(&declared)))), [2, 3]);
    }

    #[test]
    fn a_selector_takes_workloads_of_its_namespace_by_all_labels() {
        let select = |labels: &[(&str, &str)]| {
            let mut elsewhere = resource(workload("10.0.0.9", &[("app", "reviews")]));
            elsewhere.metadata.namespace = text("other");
            let resources = Resources {
                service_entries: vec![resource(ServiceEntry {
                    hosts: vec![text("reviews")],
                    workload_selector: Some(spanned(map(labels))),
                    resolution: Some(spanned(Resolution::Static)),
                    ..Default::default()
                })],
                workload_entries: vec![
                    resource(workload("10.0.0.1", &[("app", "reviews"), ("version", "v1")])),
                    resource(workload("10.0.0.2", &[("app", "reviews"), ("version", "v2")])),
                    elsewhere,
                ],
                ..Default::default()
            };
            Services::new(&resources, &Settings::default()).find("reviews", "shop").unwrap().endpoints.len()
        };
        assert_eq!(select(&[("app", "reviews")]), 2);
        assert_eq!(select(&[("app", "reviews"), ("version", "v2")]), 1);
        assert_eq!(select(&[]), 0);
    }

    #[test]
    fn several_entries_for_one_host_are_one_service() {
        let more = ServiceEntry {
            ports: vec![service_port(80, "http", None), service_port(443, "https", None)],
            endpoints: vec![workload("10.0.0.7", &[])],
            ..canary()
        };
        let services = registry(vec![canary(), more], &Settings::default());
        let service = services.find("product-service", "shop").unwrap();
        assert_eq!(service.ports.iter().map(|port| port.number).collect::<Vec<_>>(), [80, 90, 443]);
        assert_eq!(service.endpoints.len(), 4);
        assert_eq!(services.iter().count(), 1);
    }

    #[test]
    fn a_dns_service_without_endpoints_is_its_own_endpoint() {
        let entry = ServiceEntry {
            hosts: vec![text("Example.com")],
            resolution: Some(spanned(Resolution::Dns)),
            endpoints: Vec::new(),
            ..canary()
        };
        let services = registry(vec![entry], &Settings::default());
        let service = services.find("example.com", "shop").unwrap();
        assert_eq!(service.endpoints_for(Some(80), None), [(Address::Name("example.com".to_owned()), 8081, 1)]);
    }

    #[test]
    fn the_port_is_chosen_by_the_destination_then_the_service_then_the_listener() {
        let services = registry(vec![canary()], &Settings::default());
        let two = services.find("product-service", "shop").unwrap();
        assert_eq!(two.choose_port(Some(90), None), Some(90));
        assert_eq!(two.choose_port(Some(91), None), None);
        assert_eq!(two.choose_port(None, Some(80)), Some(80));
        assert_eq!(two.choose_port(None, Some(8080)), None);
        let undeclared = Service::undeclared("example.com");
        assert_eq!(undeclared.choose_port(None, Some(8080)), Some(80));
        assert_eq!(undeclared.choose_port(Some(8081), None), Some(8081));
    }
}
