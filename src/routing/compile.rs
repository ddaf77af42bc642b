//! From resources as written to the table that requests consult. Expects what passed validation; what did not becomes a rule
//! that never matches or answers 500.

mod forward;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use foldhash::HashMap;

use self::forward::{path_rewrite, response, sticky, target, weight};
use super::assemble::{Assembly, Lines};
use super::filters::Filters;
use super::headers::HeaderOps;
use super::policy::RetryPolicy;
use super::redirect::{DirectResponse, Redirect};
use super::split::Split;
use super::table::{Action, Origin, RouteTable, Rule};
use crate::config::binding::{Bound, Way, claims, obstacle};
use crate::config::delegates::{Delegates, RuleInForce};
use crate::config::gateways::{GatewayServer, gateways};
use crate::config::resource::virtual_service::{Destination, HttpMatch, HttpRoute};
use crate::config::resource::{Metadata, Resources};
use crate::config::settings::Settings;

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
