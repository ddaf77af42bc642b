//! From resources as written to the table that requests consult. Expects what passed validation; what did not becomes a rule
//! that never matches or answers 500.

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::HashMap;
use http::header::HeaderValue;

use super::assemble::{Assembly, Lines};
use super::filters::Filters;
use super::headers::{self, HeaderOps};
use super::policy::RetryPolicy;
use super::redirect::{DirectResponse, Redirect};
use super::rewrite::PathRewrite;
use super::split::Split;
use super::sticky::Sticky;
use super::table::{Action, Origin, RouteTable, Rule, Target};
use crate::config::binding::{Bound, Way, claims, obstacle};
use crate::config::delegates::{Delegates, RuleInForce};
use crate::config::gateways::{GatewayServer, gateways};
use crate::config::names;
use crate::config::resource::virtual_service::{
    Destination, HeaderOperations, Headers, HttpMatch, HttpRewrite, HttpRoute, HttpRouteDestination,
};
use crate::config::resource::{Metadata, Resources};
use crate::config::settings::Settings;
use crate::config::sticky::{ANNOTATION, StickyBy};

/// What the table depends on besides the resources.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ports of the listeners that serve the mesh, as rules see them. Those of Gateways come from the resources; a port of
    /// both serves both, the Gateways' hosts first.
    pub mesh_ports: Vec<u16>,
    /// Whether a VirtualService that is alone on a listener of the mesh answers any Host. Gateways name their hosts.
    pub any_host: bool,
}

impl Options {
    /// The options of a proxy that serves these resources with these settings.
    pub fn new(resources: &Resources, settings: &Settings) -> Self {
        let any_host = !settings.strict_hosts && resources.with_hosts().count() == 1;
        Self { mesh_ports: settings.mesh_ports.clone(), any_host }
    }
}

/// A destination for which the caller is to say what stands for it in the table.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// As written.
    pub destination: &'a Destination,
    /// The namespace of its VirtualService, in which short names are resolved.
    pub namespace: &'a str,
    /// The port of the listener that the rule is for, as rules see it.
    pub listener_port: u16,
    /// The label of its rule.
    pub route: &'a str,
}

/// Compiles the table. `destination` is asked once for each destination of each rule and listener.
pub fn compile<D>(
    resources: &Resources,
    options: &Options,
    destination: &mut dyn FnMut(Wanted<'_>) -> D,
) -> RouteTable<D> {
    let services = Bound::all(resources);
    let delegates = Delegates::new(resources);
    let gateways = gateways(resources);
    let mut ports = options.mesh_ports.clone();
    ports.extend(gateways.iter().map(|listener| listener.port).filter(|port| !options.mesh_ports.contains(port)));
    ports.dedup();
    let (mut listeners, mut numbers) = (Vec::with_capacity(ports.len()), 0);
    for port in ports {
        let servers: Vec<_> = gateways.iter().filter(|one| one.port == port).flat_map(|one| &one.servers).collect();
        let rules = services.iter().map(|_| None).collect();
        let numbers = &mut numbers;
        let mut compiler = Compiler { port, services: &services, delegates: &delegates, rules, numbers, destination };
        let mut assembly = Assembly::default();
        compiler.gateways(&servers, &mut assembly);
        if options.mesh_ports.contains(&port) {
            compiler.mesh(options.any_host, &mut assembly);
        }
        listeners.push((port, assembly.finish(compiler.numbers)));
    }
    RouteTable::new(listeners)
}

/// A rule in force, and what was made of it once a listener needed it.
type Compiled<'c, D> = (RuleInForce<'c>, Option<Arc<Rule<D>>>);

/// Compiles for one listener.
struct Compiler<'c, D> {
    port: u16,
    services: &'c [Bound<'c>],
    delegates: &'c Delegates<'c>,
    /// The rules of each service, once it was looked at.
    rules: Vec<Option<Vec<Compiled<'c, D>>>>,
    /// How many rules there are so far.
    numbers: &'c mut usize,
    destination: &'c mut dyn FnMut(Wanted<'_>) -> D,
}

impl<D> Compiler<'_, D> {
    /// The virtual hosts of the servers of Gateways: the rules of all VirtualServices of a host follow each other.
    fn gateways(&mut self, servers: &[&GatewayServer<'_>], assembly: &mut Assembly<D>) {
        // Hosts with the same rules share a virtual host.
        let mut known = HashMap::default();
        for claim in claims(servers, self.services) {
            let key = (claim.services, claim.https_redirect);
            let number = match known.get(&key) {
                Some(number) => *number,
                None => {
                    let mut lines = Lines::default();
                    key.0.iter().for_each(|(service, way)| self.add(*service, *way, &mut lines));
                    let number = assembly.add(lines, claim.https_redirect);
                    known.insert(key, number);
                    number
                }
            };
            if let Some(number) = number {
                assembly.answer(claim.host, number);
            }
        }
    }

    /// The virtual hosts of a listener of the mesh: the oldest VirtualService owns a host, nothing is merged.
    fn mesh(&mut self, any_host: bool, assembly: &mut Assembly<D>) {
        let services = self.services;
        let mut only = None;
        for (number, service) in services.iter().enumerate().filter(|(_, service)| service.mesh) {
            let free: Vec<_> = service.hosts.iter().filter(|host| !assembly.contains(host)).collect();
            if free.is_empty() {
                continue;
            }
            let mut lines = Lines::default();
            self.add(number, Way::Mesh, &mut lines);
            // Without a rule for this port it does not take the host from another.
            let Some(virtual_host) = assembly.add(lines, false) else { continue };
            free.iter().for_each(|host| assembly.answer(host, virtual_host));
            only = Some(virtual_host);
        }
        if let Some(only) = only.filter(|_| any_host && assembly.len() == 1) {
            assembly.answer("*", only);
        }
    }

    /// Adds the routes of a VirtualService, up to the first that matches everything.
    fn add(&mut self, number: usize, way: Way<'_>, lines: &mut Lines<D>) {
        let service = self.services[number].resource;
        let own = || self.delegates.rules(service).into_iter().map(|rule| (rule, None)).collect();
        let mut rules = self.rules[number].take().unwrap_or_else(own);
        'rules: for (written, compiled) in &mut rules {
            let mut blocks = Vec::new();
            for block in &written.rule.matches {
                match obstacle(block, self.port, way, &service.metadata.namespace) {
                    None => blocks.push(Some(block)),
                    Some(obstacle) => lines.leave_out(&label(written), obstacle),
                }
            }
            if written.rule.matches.is_empty() {
                blocks.push(None);
            }
            if blocks.is_empty() {
                continue;
            }
            let rule = Arc::clone(compiled.get_or_insert_with(|| Arc::new(self.rule(written, &service.metadata))));
            for block in blocks {
                let name = route_name(&written.rule, block, &rule.label);
                if lines.push(block, name, Arc::clone(&rule)) {
                    break 'rules;
                }
            }
        }
        self.rules[number] = Some(rules);
    }

    /// `root`: of the VirtualService that has the hosts.
    fn rule(&mut self, in_force: &RuleInForce<'_>, root: &Metadata) -> Rule<D> {
        let (written, metadata) = (&*in_force.rule, &in_force.owner.metadata);
        let label = label(in_force);
        let namespace = &*metadata.namespace;
        let action = self.action(namespace, written, &label);
        let filters = Filters::new(written, |destination| {
            (self.destination)(Wanted { destination, namespace, listener_port: self.port, route: &label })
        });
        let origin = Origin {
            virtual_service: metadata.name.as_str().into(),
            namespace: metadata.namespace.as_str().into(),
            number: in_force.number,
            named: written.name.as_ref().is_some_and(|name| !name.is_empty()),
        };
        let number = *self.numbers;
        *self.numbers += 1;
        Rule {
            number,
            filters,
            label,
            origin: Some(origin),
            action: action.unwrap_or_else(|| Action::Respond(DirectResponse::invalid())),
            sticky: sticky(written, metadata, root),
            timeout: written.timeout.map(|timeout| timeout.value),
            retry: RetryPolicy::new(written.retries.as_deref()),
            response_headers: HeaderOps::together(&[response(written.headers.as_deref())]),
            path_rewrite: written.rewrite.as_deref().and_then(path_rewrite),
        }
    }

    fn action(&mut self, namespace: &str, written: &HttpRoute, label: &str) -> Option<Action<D>> {
        if let Some(redirect) = &written.redirect {
            return Redirect::new(redirect).map(Action::Redirect);
        }
        if let Some(response) = &written.direct_response {
            return DirectResponse::new(response).map(Action::Respond);
        }
        let mut weighted = Vec::with_capacity(written.route.len());
        for entry in &written.route {
            let destination = entry.destination.as_ref()?;
            let wanted = Wanted { destination, namespace, listener_port: self.port, route: label };
            let to = (self.destination)(wanted);
            weighted.push((target(to, written, entry), weight(entry)));
        }
        Split::new(weighted).map(Action::Forward)
    }
}

/// What a rule is called in metrics: its name, or its place.
fn label(in_force: &RuleInForce<'_>) -> Arc<str> {
    match in_force.rule.name.as_ref().filter(|name| !name.is_empty()) {
        Some(name) => name.as_str().into(),
        None => format!("{}/{}", in_force.owner.metadata.name.value, in_force.number).into(),
    }
}

/// Istio's route name: `rule` or `rule.match`.
fn route_name(written: &HttpRoute, block: Option<&HttpMatch>, label: &Arc<str>) -> Arc<str> {
    let rule = written.name.as_ref().map_or("", |name| name.as_str());
    match block.and_then(|block| block.name.as_ref()).filter(|name| !name.is_empty()) {
        Some(name) => format!("{rule}.{}", name.value).into(),
        None => Arc::clone(label),
    }
}

fn path_rewrite(written: &HttpRewrite) -> Option<PathRewrite> {
    match (&written.uri_regex_rewrite, &written.uri) {
        (Some(regex), _) => PathRewrite::regex(&regex.pattern, &regex.rewrite),
        (None, Some(uri)) if !uri.is_empty() => Some(PathRewrite::Replace(uri.as_str().into())),
        (None, _) => None,
    }
}

/// How a rule keeps its clients: as the VirtualService says in which its destinations are written, else the one with the hosts.
fn sticky(written: &HttpRoute, owner: &Metadata, root: &Metadata) -> Option<Sticky> {
    let said = owner.annotation(ANNOTATION).or_else(|| root.annotation(ANNOTATION))?;
    let by = StickyBy::parse(said).ok()?;
    if written.route.len() < 2 {
        return None;
    }
    let named = |entry: &HttpRouteDestination| {
        let name = entry.destination.as_ref().map_or_else(String::new, |one| full_name(one, &owner.namespace));
        (name, weight(entry))
    };
    Sticky::new(&by, &written.route.iter().map(named).collect::<Vec<_>>())
}

/// A destination as no other one is called, however its host is written.
fn full_name(destination: &Destination, namespace: &str) -> String {
    let host = names::expand(&destination.host, namespace);
    let host = host.map_or_else(|| names::canonical(&destination.host), Cow::Owned);
    let subset = destination.subset.as_ref().map_or("", |subset| subset.as_str());
    let port = destination.port.map_or(0, |port| port.value);
    format!("{host}|{subset}|{port}")
}

fn weight(entry: &HttpRouteDestination) -> u64 {
    entry.weight.map_or(0, |weight| u64::try_from(weight.value).unwrap_or(0))
}

/// A destination with everything that is to be done to its messages.
fn target<D>(to: D, written: &HttpRoute, entry: &HttpRouteDestination) -> Target<D> {
    let (rule, own) = (written.headers.as_deref(), entry.headers.as_deref());
    let (request_headers, response_headers) = if written.route.len() == 1 {
        (HeaderOps::together(&[request(rule), request(own)]), HeaderOps::together(&[response(rule), response(own)]))
    } else {
        (HeaderOps::in_turn(&[request(own), request(rule)]), HeaderOps::in_turn(&[response(own), response(rule)]))
    };
    let authority = written.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_ref());
    let host = authority
        .filter(|authority| !authority.is_empty())
        .and_then(|authority| HeaderValue::from_bytes(authority.as_bytes()).ok())
        .or_else(|| headers::host(request(rule)))
        .or_else(|| headers::host(request(own)));
    Target { to, request_headers, response_headers, host }
}

fn request(headers: Option<&Headers>) -> Option<&HeaderOperations> {
    headers?.request.as_ref()
}

fn response(headers: Option<&Headers>) -> Option<&HeaderOperations> {
    headers?.response.as_ref()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::config::place::Place;
    use crate::config::resource::gateway::{Server, ServerPort, ServerTls};
    use crate::config::resource::virtual_service::{Delegate, HttpDirectResponse, HttpRedirect};
    use crate::config::resource::{Gateway, ServiceEntry};
    use crate::config::resource::{Resource, VirtualService};
    use crate::routing::table::{Found, Route};
    use crate::routing::testing::{
        Request, at, destination, exact, on_request, on_uri, operations, prefix, resources, rule, service, text,
    };

    /// A table whose destinations are their hosts, for port 80.
    fn compiled(services: Vec<Resource<VirtualService>>, any_host: bool) -> RouteTable<String> {
        let options = Options { mesh_ports: vec![80], any_host };
        compile(&resources(services), &options, &mut |wanted| wanted.destination.host.value.clone())
    }

    /// Where a request goes: the destination with the greatest share, or why it goes nowhere.
    fn went(table: &RouteTable<String>, request: &Request) -> String {
        match table.find(&request.view()) {
            Found::NoHost => "no host".to_owned(),
            Found::NoRule => "no rule".to_owned(),
            Found::Route(route) => match &route.rule.action {
                Action::Forward(split) => split.pick(0).value.to.clone(),
                Action::Redirect(redirect) => redirect.status.to_string(),
                Action::Respond(response) => response.status.to_string(),
            },
        }
    }

    fn route<'t>(table: &'t RouteTable<String>, path: &str) -> &'t Route<String> {
        match table.find(&Request::get(path).view()) {
            Found::Route(route) => route,
            other => panic!("no route: {other:?}"),
        }
    }

    fn targets(table: &RouteTable<String>) -> Vec<&Target<String>> {
        match &route(table, "/").rule.action {
            Action::Forward(split) => split.entries().iter().map(|entry| &entry.value).collect(),
            other => panic!("not forwarded: {other:?}"),
        }
    }

    fn one(http: Vec<HttpRoute>) -> RouteTable<String> {
        compiled(vec![service("vs", &["b"], http)], false)
    }

    #[test]
    fn the_first_matching_block_of_the_first_matching_rule_wins() {
        let table = one(vec![
            rule("ab", vec![on_uri(exact("/a")), on_uri(prefix("/b"))]),
            rule("short", vec![on_uri(prefix("/a"))]),
            rule("long", vec![on_uri(prefix("/a/b"))]),
        ]);
        for (path, wanted) in [("/a", "ab"), ("/bb", "ab"), ("/a/b", "short"), ("/c", "no rule")] {
            assert_eq!(went(&table, &Request::get(path)), wanted, "{path}");
        }
        assert_eq!(went(&table, &Request::get("/a").host("c")), "no host");
    }

    #[test]
    fn rules_behind_a_catch_all_are_dropped() {
        let table = one(vec![
            rule("all", vec![on_uri(exact("/x")), on_uri(prefix("/")), on_uri(exact("/y"))]),
            rule("dead", vec![on_uri(exact("/z"))]),
        ]);
        assert_eq!(
            table.rules().map(|(port, rule)| (port, rule.label.to_string())).collect::<Vec<_>>(),
            [(80, "vs/0".into())]
        );
        assert_eq!(went(&table, &Request::get("/z")), "all");
    }

    #[test]
    fn there_is_no_fall_through_to_a_less_specific_host() {
        let table = compiled(
            vec![
                service("wide", &["*.x", "a"], vec![rule("wide", vec![])]),
                service("narrow", &["b.x"], vec![rule("narrow", vec![on_uri(prefix("/n"))])]),
            ],
            true,
        );
        assert_eq!(went(&table, &Request::get("/n").host("b.x")), "narrow");
        assert_eq!(went(&table, &Request::get("/").host("b.x")), "no rule");
        assert_eq!(went(&table, &Request::get("/").host("c.x")), "wide");
        assert_eq!(went(&table, &Request::get("/").host("other")), "no host", "two are not alone");
    }

    #[test]
    fn every_rule_of_every_listener_has_its_own_number() {
        let services = vec![
            service("a", &["a"], vec![rule("one", vec![on_uri(prefix("/x"))]), rule("two", vec![])]),
            service("b", &["b"], vec![rule("three", vec![])]),
        ];
        let options = Options { mesh_ports: vec![80, 81], any_host: false };
        let table = compile(&resources(services), &options, &mut |_| ());
        let mut numbers: Vec<_> = table.rules().map(|(_, rule)| rule.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_lone_virtual_service_answers_any_host_if_it_may() {
        let lone = |any_host| compiled(vec![service("vs", &["a", "a.example"], vec![rule("r", vec![])])], any_host);
        let stranger = Request::get("/").host("10.0.0.1:8080");
        assert_eq!(went(&lone(true), &stranger), "r");
        assert_eq!(went(&lone(false), &stranger), "no host");
    }

    #[test]
    fn the_oldest_owns_a_host_and_the_younger_keeps_its_others() {
        let aged = |name: &str, age: Option<u64>, hosts: &[&str]| {
            let mut service = service(name, hosts, vec![rule(name, vec![])]);
            service.metadata.created = age.map(|age| SystemTime::UNIX_EPOCH + Duration::from_secs(age));
            service
        };
        let table = compiled(
            vec![aged("a", Some(2), &["x", "y"]), aged("c", Some(1), &["X", "*.z"]), aged("d", None, &["*.Z."])],
            false,
        );
        assert_eq!(went(&table, &Request::get("/").host("x")), "c");
        assert_eq!(went(&table, &Request::get("/").host("y")), "a");
        assert_eq!(went(&table, &Request::get("/").host("v.z")), "d");
        let table = compiled(vec![aged("b", None, &["x"]), aged("a", None, &["x"])], false);
        assert_eq!(went(&table, &Request::get("/").host("x")), "a", "by name, not by place");
    }

    #[test]
    fn blocks_for_other_ports_and_sources_are_left_out() {
        let block = |change: fn(&mut HttpMatch)| {
            let mut block = on_uri(prefix("/"));
            change(&mut block);
            block
        };
        let never: [fn(&mut HttpMatch); 4] = [
            |block| block.port = Some(at(8080)),
            |block| block.source_labels = vec![(text("app"), text("x"))],
            |block| block.source_namespace = Some(text("x")),
            |block| block.gateways = vec![text("other")],
        ];
        for change in never {
            let table = one(vec![rule("hit", vec![block(change)]), rule("rest", vec![])]);
            assert_eq!(went(&table, &Request::get("/")), "rest");
        }
        let always: [fn(&mut HttpMatch); 2] = [
            |block| block.port = Some(at(80)),
            |block| {
                block.gateways = vec![text("mesh")];
                block.source_namespace = Some(text("x"));
            },
        ];
        for change in always {
            let table = one(vec![rule("hit", vec![block(change)]), rule("rest", vec![])]);
            assert_eq!(went(&table, &Request::get("/")), "hit");
        }
    }

    #[test]
    fn a_service_without_a_rule_for_the_port_leaves_the_host_to_others() {
        let mut elsewhere = on_uri(prefix("/"));
        elsewhere.port = Some(at(81));
        let services = vec![
            service("a", &["b"], vec![rule("on-81", vec![elsewhere])]),
            service("b", &["b"], vec![rule("second", vec![])]),
        ];
        let options = Options { mesh_ports: vec![80, 81], any_host: false };
        let table = compile(&resources(services), &options, &mut |wanted| {
            format!("{} on {}", wanted.destination.host.value, wanted.listener_port)
        });
        let mut request = Request::get("/");
        assert_eq!(went(&table, &request), "second on 80");
        request.port = 81;
        assert_eq!(went(&table, &request), "on-81 on 81");
        request.port = 82;
        assert_eq!(went(&table, &request), "no host");
        assert!(table.listener(82).is_none());
    }

    #[test]
    fn only_what_is_bound_to_the_mesh_is_served_on_its_listeners() {
        let bound = |gateways: &[&str]| {
            let mut service = service("vs", &["b"], vec![rule("r", vec![])]);
            service.spec.gateways = Some(gateways.iter().map(|name| text(name)).collect());
            went(&compiled(vec![service], false), &Request::get("/"))
        };
        assert_eq!(bound(&["edge"]), "no host");
        assert_eq!(bound(&["edge", "mesh"]), "r");
        assert_eq!(bound(&[]), "r");
    }

    fn gateway(servers: &[(i64, &str, bool)]) -> Resource<Gateway> {
        let server = |(number, host, redirect): &(i64, &str, bool)| Server {
            port: Some(ServerPort { number: at(*number), protocol: text("HTTP"), ..ServerPort::default() }),
            hosts: vec![text(host)],
            tls: Some(ServerTls { https_redirect: Some(at(*redirect)), ..ServerTls::default() }),
            ..Server::default()
        };
        Resource {
            metadata: Metadata { name: text("edge"), namespace: text("default"), ..Metadata::default() },
            spec: Gateway { servers: servers.iter().map(server).collect(), ..Gateway::default() },
            place: Place::default(),
        }
    }

    fn listing(gateways: &[&str], mut service: Resource<VirtualService>) -> Resource<VirtualService> {
        service.spec.gateways = Some(gateways.iter().map(|name| text(name)).collect());
        service
    }

    fn with_gateway(
        servers: &[(i64, &str, bool)],
        services: Vec<Resource<VirtualService>>,
        mesh_ports: &[u16],
    ) -> RouteTable<String> {
        let mut all = resources(services);
        all.gateways = vec![gateway(servers)];
        let options = Options { mesh_ports: mesh_ports.to_vec(), any_host: true };
        compile(&all, &options, &mut |wanted| wanted.destination.host.value.clone())
    }

    #[test]
    fn rules_of_several_services_follow_each_other_and_catch_alls_come_last() {
        let edge = |name: &str, hosts: &[&str], http| listing(&["edge"], service(name, hosts, http));
        let a =
            vec![rule("a1", vec![on_uri(exact("/a"))]), rule("a*", vec![]), rule("dead", vec![on_uri(exact("/d"))])];
        let b = vec![rule("b1", vec![on_uri(prefix("/a")), on_uri(exact("/b"))]), rule("b*", vec![])];
        let table = with_gateway(&[(80, "*", false)], vec![edge("b", &["b"], b), edge("a", &["b", "c"], a)], &[]);
        for (host, path, wanted) in [
            ("b", "/a", "a1"),
            ("b", "/a/x", "b1"),
            ("b", "/b", "b1"),
            ("b", "/d", "a*"),
            ("c", "/b", "a*"),
            ("d", "/", "no host"),
        ] {
            assert_eq!(went(&table, &Request::get(path).host(host)), wanted, "{host}{path}");
        }
        let mut labels: Vec<_> = table.rules().map(|(_, rule)| rule.label.to_string()).collect();
        labels.sort();
        assert_eq!(labels, ["a/0", "a/1", "b/0"], "those that can be reached, once each");
    }

    #[test]
    fn a_block_may_name_its_gateways() {
        let via = |gateways: &[&str]| {
            let blocks =
                HttpMatch { gateways: gateways.iter().map(|name| text(name)).collect(), ..HttpMatch::default() };
            let own = vec![rule("hit", vec![blocks]), rule("rest", vec![])];
            let table =
                with_gateway(&[(81, "*", false)], vec![listing(&["edge", "mesh"], service("vs", &["b"], own))], &[80]);
            [80, 81].map(|port| went(&table, &Request { port, ..Request::get("/") }))
        };
        assert_eq!(via(&["mesh"]), ["hit", "rest"]);
        assert_eq!(via(&["edge"]), ["rest", "hit"]);
        assert_eq!(via(&["default/edge"]), ["rest", "hit"]);
        assert_eq!(via(&["other", "x/edge"]), ["rest", "rest"]);
        assert_eq!(via(&["edge", "mesh"]), ["hit", "hit"]);
    }

    #[test]
    fn a_port_of_both_serves_the_gateways_hosts_and_then_the_meshs() {
        let on = |name: &str, gateways: &[&str], hosts: &[&str]| {
            listing(gateways, service(name, hosts, vec![rule(name, vec![])]))
        };
        let services = vec![on("a", &["mesh"], &["b", "c"]), on("z", &["edge"], &["b"])];
        let table = with_gateway(&[(80, "*", false)], services, &[80]);
        assert_eq!(went(&table, &Request::get("/").host("b")), "z");
        assert_eq!(went(&table, &Request::get("/").host("c")), "a");
        assert_eq!(went(&table, &Request::get("/").host("d")), "no host", "two are not alone");
        assert_eq!(table.ports().collect::<Vec<_>>(), [80]);
    }

    #[test]
    fn a_gateway_names_its_hosts_even_for_a_lone_service() {
        let table = with_gateway(
            &[(81, "b", false)],
            vec![listing(&["edge"], service("vs", &["b"], vec![rule("r", vec![])]))],
            &[80],
        );
        let ask = |port, host: &str| went(&table, &Request { port, ..Request::get("/").host(host) });
        assert_eq!(ask(81, "b"), "r");
        assert_eq!(ask(81, "c"), "no host");
        assert_eq!(ask(80, "b"), "no host");
    }

    #[test]
    fn plain_requests_of_a_redirecting_server_go_to_https() {
        let services = vec![listing(&["edge"], service("vs", &["a.x", "c.y"], vec![rule("r", vec![])]))];
        let table = with_gateway(&[(80, "*.x", true), (80, "*.y", false)], services, &[]);
        for (host, wanted) in
            [("a.x", "301 Moved Permanently"), ("b.x", "301 Moved Permanently"), ("c.y", "r"), ("d.y", "no host")]
        {
            assert_eq!(went(&table, &Request::get("/p").host(host)), wanted, "{host}");
        }
        let request = Request::get("/p?q").host("b.x:80");
        let Found::Route(Route { rule, matched, .. }) = table.find(&request.view()) else { panic!("no route") };
        let Action::Redirect(redirect) = &rule.action else { panic!("no redirect") };
        assert_eq!(redirect.location(&request.view(), *matched), "https://b.x/p?q");
        let trusted = Request { scheme: "https".to_owned(), ..Request::get("/").host("a.x") };
        assert_eq!(went(&table, &trusted), "r");
        assert_eq!(went(&table, &Request { scheme: "https".to_owned(), ..request }), "no rule");
    }

    #[test]
    fn a_delegates_rules_are_served_in_the_place_of_the_one_that_leads_to_them() {
        let delegate = Delegate { name: text("d"), ..Delegate::default() };
        let mut leading = rule("none", vec![on_uri(prefix("/a"))]);
        leading.route.clear();
        leading.delegate = Some(delegate.into());
        let own = vec![
            rule("outside", vec![on_uri(prefix("/b"))]),
            rule("inside", vec![on_uri(exact("/a/b"))]),
            rule("all", vec![]),
        ];
        let table =
            compiled(vec![service("root", &["b"], vec![leading, rule("rest", vec![])]), service("d", &[], own)], true);
        for (path, wanted) in [("/b", "rest"), ("/a/b", "inside"), ("/a", "all"), ("/", "rest")] {
            assert_eq!(went(&table, &Request::get(path).host("any")), wanted, "{path}");
        }
        let origin = route(&table, "/a/b").rule.origin.clone().unwrap();
        assert_eq!((&*origin.virtual_service, origin.number, &*route(&table, "/a/b").rule.label), ("d", 1, "d/1"));
    }

    #[test]
    fn a_short_host_is_also_the_kubernetes_name_that_is_declared() {
        let declares = |host: &str| Resource {
            metadata: Metadata::default(),
            spec: ServiceEntry { hosts: vec![text(host)], ..ServiceEntry::default() },
            place: Place::default(),
        };
        let mut resources = resources(vec![service("vs", &["a", "b"], vec![rule("r", vec![])])]);
        resources.service_entries =
            vec![declares("a.default.svc.cluster.local"), declares("b.other.svc.cluster.local")];
        let options = Options { mesh_ports: vec![80], any_host: false };
        let table = compile(&resources, &options, &mut |wanted| wanted.destination.host.value.clone());
        for (host, wanted) in [
            ("a", "r"),
            ("a.default.svc.cluster.local", "r"),
            ("b", "r"),
            ("b.default.svc.cluster.local", "no host"),
            ("b.other.svc.cluster.local", "no host"),
        ] {
            assert_eq!(went(&table, &Request::get("/").host(host)), wanted, "{host}");
        }
    }

    #[test]
    fn labels_and_names_are_the_rules_or_its_place() {
        let named = |name: &str, mut rule: HttpRoute| {
            rule.name = Some(text(name));
            rule
        };
        let block = |path: &str, name: &str| HttpMatch { name: Some(text(name)), ..on_uri(exact(path)) };
        let table = one(vec![
            named("first", rule("r", vec![block("/a", "one"), block("/b", "two"), on_uri(exact("/c"))])),
            rule("r", vec![on_uri(exact("/d"))]),
            named("", rule("r", vec![block("/e", "five")])),
        ]);
        for (path, label, name) in [
            ("/a", "first", "first.one"),
            ("/b", "first", "first.two"),
            ("/c", "first", "first"),
            ("/d", "vs/1", "vs/1"),
            ("/e", "vs/2", ".five"),
        ] {
            let route = route(&table, path);
            assert_eq!((&*route.rule.label, &*route.name), (label, name), "{path}");
        }
    }

    #[test]
    fn each_destination_is_asked_for_once_with_its_surroundings() {
        let mut rule = rule("b", vec![on_uri(exact("/a")), on_uri(exact("/b"))]);
        rule.route.push(destination("c", Some(0)));
        let mut asked = Vec::new();
        let resources = resources(vec![service("vs", &["b", "c"], vec![rule])]);
        compile(&resources, &Options { mesh_ports: vec![8080], any_host: true }, &mut |wanted| {
            let host = wanted.destination.host.value.clone();
            asked.push((host, wanted.namespace.to_owned(), wanted.listener_port, wanted.route.to_owned()));
        });
        let with = |host: &str| (host.to_owned(), "default".to_owned(), 8080, "vs/0".to_owned());
        assert_eq!(asked, [with("b"), with("c")]);
    }

    #[test]
    fn weights_are_shares_of_their_sum() {
        let mut weighted = rule("a", vec![]);
        weighted.route = vec![destination("a", Some(60)), destination("b", Some(30)), destination("c", None)];
        let table = one(vec![weighted]);
        let Action::Forward(split) = &route(&table, "/").rule.action else { panic!("not forwarded") };
        let shares: Vec<_> = split.entries().iter().map(|entry| (entry.value.to.as_str(), entry.share)).collect();
        assert_eq!(shares, [("a", 60.0 / 90.0), ("b", 30.0 / 90.0), ("c", 0.0)]);
    }

    fn with_hosts(rewrite: Option<&str>, rule_host: Option<&str>, own: &[Option<&str>]) -> Vec<Option<String>> {
        let setting = |host: &str| on_request(operations(&[("Host", host)], &[], &[]));
        let mut written = rule("b", vec![]);
        written.headers = rule_host.and_then(setting);
        written.rewrite =
            rewrite.map(|authority| HttpRewrite { authority: Some(text(authority)), ..HttpRewrite::default() }.into());
        written.route = own
            .iter()
            .map(|host| HttpRouteDestination { headers: host.and_then(setting), ..destination("b", Some(1)) })
            .collect();
        let table = one(vec![written]);
        targets(&table)
            .iter()
            .map(|target| target.host.as_ref().map(|host| host.to_str().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn the_rewrite_beats_the_rule_beats_the_destination_as_host() {
        let some = |host: &str| Some(host.to_owned());
        assert_eq!(with_hosts(None, None, &[None]), [None]);
        assert_eq!(with_hosts(None, None, &[Some("own")]), [some("own")]);
        assert_eq!(with_hosts(None, Some("rule"), &[Some("own")]), [some("rule")]);
        assert_eq!(with_hosts(Some("rewrite"), Some("rule"), &[Some("own")]), [some("rewrite")]);
        assert_eq!(with_hosts(None, Some("rule"), &[Some("own"), None]), [some("rule"), some("rule")]);
        assert_eq!(with_hosts(None, None, &[Some("own"), None]), [some("own"), None]);
    }

    #[test]
    fn with_one_destination_its_headers_win_with_several_the_rules() {
        let setting = |value: &str| on_request(operations(&[("x-a", value)], &[], &[]));
        let got = |destinations: usize| {
            let mut written = rule("b", vec![]);
            written.headers = setting("rule");
            let entry = HttpRouteDestination { headers: setting("destination"), ..destination("b", Some(1)) };
            written.route = vec![entry; destinations];
            let table = one(vec![written]);
            let mut headers = http::HeaderMap::new();
            targets(&table)[0].request_headers.apply_to_request(&mut headers, || panic!("there are no variables"));
            headers["x-a"].to_str().unwrap().to_owned()
        };
        assert_eq!(got(1), "destination");
        assert_eq!(got(2), "rule");
    }

    #[test]
    fn a_rewrite_depends_on_the_block_that_matched() {
        let mut written = rule("b", vec![on_uri(exact("/exact/x")), on_uri(prefix("/pre")), HttpMatch::default()]);
        written.rewrite = Some(HttpRewrite { uri: Some(text("/new")), ..HttpRewrite::default() }.into());
        let table = one(vec![written]);
        for (path, wanted) in [("/exact/x?q", "/new?q"), ("/prefix?q", "/newfix?q"), ("/other", "/newother")] {
            assert_eq!(route(&table, path).rewritten(path).as_deref(), Some(wanted));
        }
        assert_eq!(route(&one(vec![rule("b", vec![])]), "/").rewritten("/"), None);
    }

    #[test]
    fn what_should_not_have_passed_validation_answers_500() {
        let redirect = HttpRedirect { redirect_code: Some(at(300)), ..HttpRedirect::default() };
        let mut unweighted = rule("b", vec![]);
        unweighted.route.push(destination("c", None));
        for invalid in [
            HttpRoute::default(),
            unweighted,
            HttpRoute { redirect: Some(redirect.into()), ..HttpRoute::default() },
            HttpRoute { direct_response: Some(HttpDirectResponse::default().into()), ..HttpRoute::default() },
            HttpRoute { route: vec![HttpRouteDestination::default()], ..HttpRoute::default() },
        ] {
            let answer = went(&one(vec![invalid]), &Request::get("/"));
            assert!(answer.starts_with("500"), "{answer}");
        }
    }
}
