//! Which VirtualServices answer for which host of a port, and which of their blocks can match there at all. Istio's rules;
//! what a request is asked is no concern of this file.

use std::borrow::Cow;
use std::fmt;

use foldhash::{HashMap, HashSet};

use super::gateways::{GatewayServer, ServedHost, named};
use super::names;
use super::resource::virtual_service::HttpMatch;
use super::resource::{Resource, Resources, VirtualService};
use super::traffic::seniority;
use super::value::StringMatch;

/// The gateway name that means "every listener without a Gateway".
const MESH: &str = "mesh";

/// A VirtualService with hosts, and where it is served.
#[derive(Debug)]
pub struct Bound<'a> {
    /// As written.
    pub resource: &'a Resource<VirtualService>,
    /// Its hosts; a short name is also what Kubernetes makes of it, if a ServiceEntry declares that.
    pub hosts: Vec<Cow<'a, str>>,
    /// Whether it is served on the listeners of the mesh.
    pub mesh: bool,
    /// Namespace and name of each Gateway that it lists.
    gateways: Vec<(&'a str, &'a str)>,
}

/// By which way a VirtualService came to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way<'g> {
    /// As one of the mesh.
    Mesh,
    /// Through the Gateway of this namespace and name.
    Gateway(&'g str, &'g str),
}

/// One host of a port that Gateways serve.
#[derive(Debug)]
pub struct Claim<'g> {
    /// The narrower of the host that a server has and that of a VirtualService.
    pub host: &'g str,
    /// The VirtualServices whose rules apply, by their number, in the order in which they do.
    pub services: Vec<(usize, Way<'g>)>,
    /// Whether every plain request is sent to `https`.
    pub https_redirect: bool,
}

impl<'a> Bound<'a> {
    /// Every VirtualService with hosts, the most senior first. Never the order of the files.
    pub fn all(resources: &'a Resources) -> Vec<Self> {
        let declared = resources.service_entries.iter().flat_map(|entry| &entry.spec.hosts);
        let declared: HashSet<&str> = declared.map(|host| host.as_str()).collect();
        let mut services: Vec<_> = resources.with_hosts().collect();
        services.sort_by(|left, right| seniority(&left.metadata).cmp(&seniority(&right.metadata)));
        services.into_iter().map(|service| Self::new(service, &declared)).collect()
    }

    /// `declared`: the hosts of all ServiceEntries.
    fn new(resource: &'a Resource<VirtualService>, declared: &HashSet<&str>) -> Self {
        let namespace = resource.metadata.namespace.as_str();
        let mut hosts = Vec::with_capacity(resource.spec.hosts.len());
        for host in &resource.spec.hosts {
            hosts.push(Cow::Borrowed(host.as_str()));
            if !declared.is_empty() {
                let full = names::expand(host, namespace).filter(|full| declared.contains(&**full));
                hosts.extend(full.map(Cow::Owned));
            }
        }
        let listed = || resource.spec.gateways.iter().flatten();
        let mesh = listed().next().is_none() || listed().any(|name| name.value == MESH);
        let gateways = listed().filter(|name| name.value != MESH).map(|name| named(name, namespace)).collect();
        Self { resource, hosts, mesh, gateways }
    }
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh => f.write_str(MESH),
            Self::Gateway(namespace, name) => write!(f, "{namespace}/{name}"),
        }
    }
}

impl Way<'_> {
    /// Whether this is what a VirtualService of a namespace means by a gateway name.
    pub fn is_called(self, written: &str, namespace: &str) -> bool {
        match self {
            Self::Mesh => written == MESH,
            Self::Gateway(own, name) => written != MESH && named(written, namespace) == (own, name),
        }
    }
}

/// Why a block can never match on a listener.
#[derive(Debug)]
pub struct Obstacle {
    /// The condition.
    pub condition: &'static str,
    /// What it wants.
    pub wanted: String,
    /// What there is, if anything is.
    pub actual: Option<String>,
}

/// Why a block can never match on a listener of this port, for a VirtualService of a namespace that came to it by this way;
/// none if it can. Serin has neither labels nor a namespace.
pub fn obstacle(block: &HttpMatch, port: u16, way: Way<'_>, namespace: &str) -> Option<Obstacle> {
    if let Some(wanted) = block.port.filter(|wanted| wanted.value != 0 && wanted.value != i64::from(port)) {
        let (wanted, actual) = (wanted.value.to_string(), Some(port.to_string()));
        return Some(Obstacle { condition: "port", wanted, actual });
    }
    if !block.gateways.is_empty() {
        // As in Istio: a block with gateways is not asked about its source.
        let names: Vec<_> = block.gateways.iter().map(|name| name.as_str()).collect();
        let (wanted, actual) = (names.join(", "), Some(way.to_string()));
        let fits = names.iter().any(|name| way.is_called(name, namespace));
        return (!fits).then_some(Obstacle { condition: "gateways", wanted, actual });
    }
    if let Some((name, value)) = block.source_labels.first() {
        let wanted = format!("{}: {}", name.value, value.value);
        return Some(Obstacle { condition: "sourceLabels", wanted, actual: None });
    }
    let source = block.source_namespace.as_ref().filter(|namespace| !namespace.is_empty());
    source.map(|source| Obstacle { condition: "sourceNamespace", wanted: source.value.clone(), actual: None })
}

/// Whether a block matches every request by Istio's definition, so that no block after it is asked.
pub fn is_catch_all(block: Option<&HttpMatch>) -> bool {
    let Some(block) = block else { return true };
    let any_path = match block.uri.as_deref() {
        None | Some(StringMatch::Present) => true,
        Some(StringMatch::Prefix(text)) => text == "/",
        Some(StringMatch::Regex(pattern)) => pattern.text == ".*",
        Some(StringMatch::Exact(_)) => false,
    };
    let lists = [&block.headers, &block.without_headers, &block.query_params];
    let fixed = [&block.method, &block.scheme, &block.authority];
    any_path && lists.iter().all(|list| list.is_empty()) && fixed.iter().all(|condition| condition.is_none())
}

/// The hosts of a port, in no particular order. `servers` are all of the port, `services` in order of seniority.
pub fn claims<'g>(servers: &[&'g GatewayServer<'g>], services: &'g [Bound<'g>]) -> Vec<Claim<'g>> {
    let mut by_gateway: HashMap<(&str, &str), Vec<usize>> = HashMap::default();
    for (number, service) in services.iter().enumerate() {
        for gateway in &service.gateways {
            let listing = by_gateway.entry(*gateway).or_default();
            // A name that is listed twice binds once.
            if listing.last() != Some(&number) {
                listing.push(number);
            }
        }
    }
    let mut claims = Claims::default();
    for server in servers {
        let served = Served::new(server);
        for number in by_gateway.get(&(server.namespace, server.gateway)).into_iter().flatten() {
            let service = &services[*number];
            let namespace = service.resource.metadata.namespace.as_str();
            for host in service.hosts.iter().flat_map(|host| served.intersect(host, namespace)) {
                claims.add(host, (*number, Way::Gateway(server.namespace, server.gateway)), server.https_redirect);
            }
        }
        for host in server.hosts.iter().filter(|_| server.https_redirect) {
            claims.at(host.name).https_redirect = true;
        }
    }
    claims.all
}

/// The hosts of one server, found without looking at each.
struct Served<'g> {
    server: &'g GatewayServer<'g>,
    exact: HashMap<Cow<'g, str>, Vec<ServedHost<'g>>>,
    /// By what follows the `*`.
    wildcards: HashMap<String, Vec<ServedHost<'g>>>,
}

impl<'g> Served<'g> {
    fn new(server: &'g GatewayServer<'g>) -> Self {
        let mut served = Self { server, exact: HashMap::default(), wildcards: HashMap::default() };
        for host in &server.hosts {
            let name = names::canonical(host.name);
            match name.strip_prefix('*') {
                Some(suffix) => served.wildcards.entry(suffix.to_owned()).or_default().push(*host),
                None => served.exact.entry(name).or_default().push(*host),
            }
        }
        served
    }

    /// What of a VirtualService's host is served here.
    fn intersect(&self, host: &'g str, namespace: &str) -> Vec<&'g str> {
        if names::is_wildcard(host) {
            let hosts = self.server.hosts.iter();
            return hosts.filter_map(|own| own.serves(host, namespace)).collect();
        }
        let name = names::canonical(host);
        let wider = || {
            let endings = name.char_indices().map(|(at, _)| &name[at..]).chain([""]);
            endings.filter_map(|ending| self.wildcards.get(ending)).flatten()
        };
        let mut candidates = self.exact.get(&name).into_iter().flatten().chain(wider());
        candidates.find_map(|own| own.serves(host, namespace)).into_iter().collect()
    }
}

/// The claims so far, by host.
#[derive(Default)]
struct Claims<'g> {
    all: Vec<Claim<'g>>,
    numbers: HashMap<Cow<'g, str>, usize>,
}

impl<'g> Claims<'g> {
    fn at(&mut self, host: &'g str) -> &mut Claim<'g> {
        let number = *self.numbers.entry(names::canonical(host)).or_insert(self.all.len());
        if number == self.all.len() {
            self.all.push(Claim { host, services: Vec::new(), https_redirect: false });
        }
        &mut self.all[number]
    }

    fn add(&mut self, host: &'g str, service: (usize, Way<'g>), https_redirect: bool) {
        let claim = self.at(host);
        claim.https_redirect |= https_redirect;
        // Two servers of one Gateway may both serve it.
        if !claim.services.contains(&service) {
            claim.services.push(service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::gateways::Protocol;
    use crate::config::place::Place;
    use crate::config::resource::Metadata;
    use crate::config::testing::{at, text};
    use crate::config::value::Pattern;

    #[test]
    fn catch_alls_are_what_istio_calls_so() {
        let catch_all = |block: &HttpMatch| is_catch_all(Some(block));
        let on_uri = |uri: StringMatch| HttpMatch { uri: Some(at(uri)), ..HttpMatch::default() };
        let regex = Pattern { text: ".*".to_owned(), regex: crate::config::re2::whole(".*") };
        assert!(catch_all(&HttpMatch::default()) && is_catch_all(None));
        assert!(catch_all(&on_uri(StringMatch::Prefix("/".to_owned()))));
        assert!(catch_all(&on_uri(StringMatch::Regex(regex))));
        assert!(!catch_all(&on_uri(StringMatch::Exact("/".to_owned()))));
        assert!(!catch_all(&on_uri(StringMatch::Prefix("/a".to_owned()))));
        assert!(!catch_all(&HttpMatch { headers: vec![(text("x-a"), None)], ..HttpMatch::default() }));
        assert!(!catch_all(&HttpMatch { query_params: vec![(text("a"), None)], ..HttpMatch::default() }));
        let method = Some(at(StringMatch::Exact("GET".to_owned())));
        assert!(!catch_all(&HttpMatch { method, ..HttpMatch::default() }));
    }

    fn server<'g>(gateway: &'g str, hosts: &[&'g str]) -> GatewayServer<'g> {
        GatewayServer {
            place: Place::default(),
            namespace: "infra",
            gateway,
            name: "http",
            protocol: Protocol::Http,
            hosts: hosts.iter().map(|host| ServedHost::new(host, "infra")).collect(),
            tls: None,
            https_redirect: false,
        }
    }

    fn redirecting<'g>(gateway: &'g str, hosts: &[&'g str]) -> GatewayServer<'g> {
        GatewayServer { https_redirect: true, ..server(gateway, hosts) }
    }

    fn listing(name: &str, hosts: &[&str], gateways: &[&str]) -> Resource<VirtualService> {
        let texts = |names: &[&str]| names.iter().map(|name| text(name)).collect();
        let spec = VirtualService { hosts: texts(hosts), gateways: Some(texts(gateways)), ..VirtualService::default() };
        let metadata = Metadata { name: text(name), namespace: text("default"), ..Metadata::default() };
        Resource { metadata, spec, place: Place::default() }
    }

    /// `host: names of services`, with `!` for a redirect.
    fn claimed(servers: &[GatewayServer<'_>], services: &[Resource<VirtualService>]) -> Vec<String> {
        let bound: Vec<_> = services.iter().map(|service| Bound::new(service, &HashSet::default())).collect();
        let servers: Vec<_> = servers.iter().collect();
        let mut all: Vec<_> = claims(&servers, &bound)
            .iter()
            .map(|claim| {
                let names = claim.services.iter().map(|(number, _)| services[*number].metadata.name.value.as_str());
                let mark = if claim.https_redirect { "!" } else { "" };
                format!("{}{mark}: {}", claim.host, names.collect::<Vec<_>>().join(" "))
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_service_is_bound_by_any_of_three_names() {
        for (name, bound) in [
            ("infra/edge", true),
            ("edge.infra.svc.cluster.local", true),
            ("edge", false),
            ("infra/other", false),
            ("mesh", false),
        ] {
            let claims = claimed(&[server("edge", &["*"])], &[listing("a", &["a.x"], &[name])]);
            assert_eq!(!claims.is_empty(), bound, "{name}");
        }
    }

    #[test]
    fn the_narrower_host_is_claimed() {
        let services = [listing("a", &["a.x", "*.b.x", "c.y"], &["infra/edge"])];
        for (hosts, wanted) in [
            (&["*"][..], &["*.b.x: a", "a.x: a", "c.y: a"][..]),
            (&["*.x"], &["*.b.x: a", "a.x: a"]),
            (&["1.b.x", "2.b.x", "A.x"], &["1.b.x: a", "2.b.x: a", "a.x: a"]),
            (&["*.x", "a.x"], &["*.b.x: a", "a.x: a"]),
            (&["default/a.x", "other/c.y", "./c.y"], &["a.x: a"]),
            (&["z"], &[]),
        ] {
            assert_eq!(claimed(&[server("edge", hosts)], &services), wanted, "{hosts:?}");
        }
    }

    #[test]
    fn services_of_one_host_follow_each_other_once_each() {
        let services = [
            listing("a", &["a.x"], &["infra/edge", "infra/edge", "infra/inner"]),
            listing("b", &["A.x", "b.x"], &["infra/edge"]),
        ];
        let servers = [server("edge", &["*"]), server("edge", &["*.x"])];
        assert_eq!(claimed(&servers, &services), ["a.x: a b", "b.x: b"]);
        let servers = [server("edge", &["*"]), server("inner", &["*"])];
        assert_eq!(claimed(&servers, &services), ["a.x: a b a", "b.x: b"], "its blocks may differ by gateway");
    }

    #[test]
    fn a_redirect_holds_for_each_host_of_its_server_and_what_was_claimed_there() {
        let services = [listing("a", &["a.x", "c.y"], &["infra/edge"]), listing("b", &["b.x"], &["infra/plain"])];
        let servers = [redirecting("edge", &["*.x", "d.x"]), server("plain", &["*"]), server("edge", &["c.y"])];
        assert_eq!(claimed(&servers, &services), ["*.x!: ", "a.x!: a", "b.x: b", "c.y: a", "d.x!: "]);
    }
}
