//! One service: its ports and endpoints, and which of them a destination means.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::names;
use crate::config::place::Place;
use crate::config::resource::destination_rule::Subset;
use crate::config::resource::service_entry::Resolution;
use crate::config::value::StringMap;

/// The port of a host that no resource declares, when the destination names none: plain HTTP.
pub const DEFAULT_PORT: u16 = 80;

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

impl Service {
    /// The service of a host that no resource declares: its name is resolved.
    pub fn undeclared(host: &str) -> Self {
        Self {
            host: names::canonical(host).into_owned(),
            ports: Vec::new(),
            resolution: Resolution::Dns,
            endpoints: vec![Endpoint::by_name(host, Place::default())],
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
                let named = service_port.map(|port| {
                    let own = endpoint.ports.iter().find(|(name, _)| *name == port.name);
                    own.map_or(port.target, |(_, number)| *number)
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

impl Endpoint {
    /// One of which nothing else is said.
    pub(super) fn new(address: &str, place: Place) -> Self {
        Self {
            address: Address::parse(address),
            ports: Vec::new(),
            port: None,
            subset: None,
            every_subset: false,
            labels: Vec::new(),
            weight: 1,
            place,
        }
    }

    /// The host itself, to be resolved.
    pub(super) fn by_name(host: &str, place: Place) -> Self {
        Self::new(&names::canonical(host), place)
    }
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
