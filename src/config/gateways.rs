//! What the Gateways ask for, regrouped by the socket that serves it: which ports are to listen, and which hosts each of
//! their servers answers to. Both the listeners and the routes are derived from it. It reads; it does not judge.

use std::collections::BTreeMap;

use super::names;
use super::place::Place;
use super::resource::gateway::{Gateway, Server, ServerTls};
use super::resource::{Metadata, Resource, Resources};
use super::traffic::seniority;

/// One port on one address, and everything that is served there.
#[derive(Clone, Debug)]
pub struct GatewayListener<'a> {
    /// The port as rules see it (before `--port-map`); 0 for a Unix socket.
    pub port: u16,
    /// `bind`: an IP address, or `unix://` with a path. None: every address.
    pub bind: Option<&'a str>,
    /// Its servers: those of the oldest Gateway first, and in its order. Never empty.
    pub servers: Vec<GatewayServer<'a>>,
}

/// One of `servers` of a Gateway.
#[derive(Clone, Debug)]
pub struct GatewayServer<'a> {
    /// The namespace of the Gateway.
    pub namespace: &'a str,
    /// The name of the Gateway.
    pub gateway: &'a str,
    /// The name of the server, else of its port.
    pub name: &'a str,
    /// Where its port stands.
    pub place: Place,
    /// What it speaks.
    pub protocol: Protocol,
    /// The hosts that it answers to.
    pub hosts: Vec<ServedHost<'a>>,
    /// How it speaks TLS; always there with [`Protocol::Https`] that passed validation, never with [`Protocol::Http`].
    pub tls: Option<&'a ServerTls>,
    /// Whether every request for its hosts is sent to `https`. Never with [`Protocol::Https`].
    pub https_redirect: bool,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP, of either version.
    Http,
    /// HTTP within TLS that ends here.
    Https,
}

/// One of `hosts` of a server: `[namespace/]name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedHost<'a> {
    /// The only namespace whose VirtualServices may serve it; none: any.
    pub namespace: Option<&'a str>,
    /// A name, an address, `*.suffix` or `*`.
    pub name: &'a str,
}

impl Protocol {
    /// What the `protocol` of a server's port means; none for what is not HTTP by the time it is here.
    pub fn new(written: &str) -> Option<Self> {
        match written.to_ascii_uppercase().as_str() {
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "GRPC-WEB-TEXT" | "HTTP_PROXY" => Some(Self::Http),
            "HTTPS" => Some(Self::Https),
            _ => None,
        }
    }
}

impl<'a> ServedHost<'a> {
    /// As written in a Gateway of this namespace.
    pub fn new(written: &'a str, own: &'a str) -> Self {
        let (namespace, name) = written.split_once('/').unwrap_or(("*", written));
        let namespace = match namespace {
            "*" => None,
            "." => Some(own),
            other => Some(other),
        };
        Self { namespace, name }
    }

    /// What is served of a host of a VirtualService in this namespace: the narrower of both names, if they overlap.
    pub fn serves<'n>(&self, host: &'n str, namespace: &str) -> Option<&'n str>
    where
        'a: 'n,
    {
        if self.namespace.is_some_and(|only| only != namespace) || !names::overlap(self.name, host) {
            return None;
        }
        Some(if names::covers(self.name, host) { host } else { self.name })
    }
}

impl GatewayServer<'_> {
    /// Whether it belongs to this Gateway.
    pub fn is_of(&self, namespace: &str, gateway: &str) -> bool {
        self.namespace == namespace && self.gateway == gateway
    }
}

/// Namespace and name of the Gateway that a resource of a namespace means by `name`, `namespace/name`, or the old form
/// `name.namespace` with whatever follows.
pub fn named<'a>(written: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    if let Some((namespace, name)) = written.split_once('/') {
        return (namespace, name);
    }
    match written.split_once('.') {
        Some((name, rest)) => (rest.split('.').next().unwrap_or(rest), name),
        None => (namespace, written),
    }
}

/// Everything that the Gateways want served, by port and then by address. Servers of protocols that are not HTTP, or of a
/// port that is none, are left out.
pub fn gateways(resources: &Resources) -> Vec<GatewayListener<'_>> {
    let mut gateways: Vec<&Resource<Gateway>> = resources.gateways.iter().collect();
    gateways.sort_by(|one, other| seniority(&one.metadata).cmp(&seniority(&other.metadata)));
    let mut listeners: BTreeMap<(u16, Option<&str>), Vec<GatewayServer<'_>>> = BTreeMap::new();
    for gateway in gateways {
        for server in &gateway.spec.servers {
            let Some((port, served)) = served(server, &gateway.metadata) else { continue };
            let bind = server.bind.as_ref().map(|bind| bind.as_str()).filter(|bind| !bind.is_empty());
            listeners.entry((port, bind)).or_default().push(served);
        }
    }
    listeners.into_iter().map(|((port, bind), servers)| GatewayListener { port, bind, servers }).collect()
}

fn served<'a>(server: &'a Server, metadata: &'a Metadata) -> Option<(u16, GatewayServer<'a>)> {
    let port = server.port.as_ref()?;
    let protocol = Protocol::new(&port.protocol)?;
    let number = u16::try_from(port.number.value).ok()?;
    let redirect = server.tls.as_ref().and_then(|tls| tls.https_redirect.as_ref()).is_some_and(|flag| flag.value);
    let name = server.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(&port.name);
    let served = GatewayServer {
        namespace: &metadata.namespace,
        gateway: &metadata.name,
        name,
        place: port.number.place,
        protocol,
        hosts: server.hosts.iter().map(|host| ServedHost::new(host, &metadata.namespace)).collect(),
        tls: server.tls.as_ref().filter(|_| protocol == Protocol::Https),
        https_redirect: redirect && protocol == Protocol::Http,
    };
    Some((number, served))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::config::place::Place;
    use crate::config::resource::gateway::ServerPort;
    use crate::config::testing::{at, text};

    fn server(number: i64, protocol: &str, hosts: &[&str]) -> Server {
        let port = ServerPort { number: at(number), protocol: text(protocol), name: text("p"), ..Default::default() };
        let hosts = hosts.iter().map(|host| text(host)).collect();
        Server { port: Some(port), hosts, ..Default::default() }
    }

    fn redirecting(mut server: Server) -> Server {
        server.tls = Some(ServerTls { https_redirect: Some(at(true)), ..Default::default() });
        server
    }

    fn gateway(name: &str, servers: Vec<Server>) -> Resource<Gateway> {
        Resource {
            metadata: Metadata { name: text(name), namespace: text("shop"), ..Default::default() },
            spec: Gateway { servers, ..Default::default() },
            place: Place::default(),
        }
    }

    fn resources(gateways: Vec<Resource<Gateway>>) -> Resources {
        Resources { gateways, ..Default::default() }
    }

    #[test]
    fn servers_are_grouped_by_port_and_address_the_oldest_gateway_first() {
        let mut bound = server(80, "HTTP", &["b.com"]);
        bound.bind = Some(text("10.0.0.1"));
        let mut unbound = server(80, "http2", &["c.com"]);
        unbound.bind = Some(text(""));
        unbound.name = Some(text("named"));
        let mut young = gateway("a", vec![server(443, "HTTPS", &["a.com"]), server(80, "HTTP", &["a.com"]), bound]);
        young.metadata.created = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        let all = resources(vec![young, gateway("b", vec![unbound])]);
        let listeners = gateways(&all);
        let got: Vec<_> = listeners
            .iter()
            .map(|listener| {
                let servers: Vec<_> = listener.servers.iter().map(|server| (server.gateway, server.name)).collect();
                (listener.port, listener.bind, servers)
            })
            .collect();
        assert_eq!(
            got,
            [
                (80, None, vec![("b", "named"), ("a", "p")]),
                (80, Some("10.0.0.1"), vec![("a", "p")]),
                (443, None, vec![("a", "p")]),
            ]
        );
        assert_eq!(listeners[2].servers[0].protocol, Protocol::Https);
    }

    #[test]
    fn what_is_not_http_has_no_listener() {
        let mut portless = server(80, "HTTP", &["a.com"]);
        portless.port = None;
        let servers = vec![
            server(80, "TCP", &["a.com"]),
            server(443, "TLS", &["a.com"]),
            server(80, "", &["a.com"]),
            server(70_000, "HTTP", &["a.com"]),
            portless,
        ];
        assert!(gateways(&resources(vec![gateway("g", servers)])).is_empty());
    }

    #[test]
    fn tls_belongs_to_https_and_the_redirect_to_http() {
        let servers = ["HTTP", "HTTPS"].map(|protocol| redirecting(server(80, protocol, &["a.com"])));
        let all = resources(vec![gateway("g", servers.into())]);
        let servers = &gateways(&all)[0].servers;
        assert!(servers[0].https_redirect && servers[0].tls.is_none());
        assert!(!servers[1].https_redirect && servers[1].tls.is_some());
    }

    #[test]
    fn the_narrower_host_is_served_to_whom_it_is_for() {
        for (written, host, namespace, wanted) in [
            ("a.com", "a.com", "x", Some("a.com")),
            ("*", "a.com", "x", Some("a.com")),
            ("*.com", "*", "x", Some("*.com")),
            ("a.b.com", "*.com", "x", Some("a.b.com")),
            ("*.com", "*.b.com", "x", Some("*.b.com")),
            ("a.com", "b.com", "x", None),
            ("*.a.com", "a.com", "x", None),
            ("*/a.com", "a.com", "x", Some("a.com")),
            ("x/a.com", "a.com", "x", Some("a.com")),
            ("y/a.com", "a.com", "x", None),
            ("./a.com", "a.com", "shop", Some("a.com")),
            ("./a.com", "a.com", "x", None),
        ] {
            assert_eq!(ServedHost::new(written, "shop").serves(host, namespace), wanted, "{written} {host}");
        }
    }

    #[test]
    fn a_gateway_has_three_names() {
        assert_eq!(named("edge", "shop"), ("shop", "edge"));
        assert_eq!(named("infra/edge", "shop"), ("infra", "edge"));
        assert_eq!(named("edge.infra.svc.cluster.local", "shop"), ("infra", "edge"));
        assert_eq!(named("edge.infra", "shop"), ("infra", "edge"));
        let all = resources(vec![gateway("edge", vec![server(80, "HTTP", &["a.com"])])]);
        let server = &gateways(&all)[0].servers[0];
        assert!(server.is_of("shop", "edge") && !server.is_of("x", "edge") && !server.is_of("shop", "x"));
    }
}
