//! From resources as written to the table that requests consult. Expects what passed validation; what did not becomes a rule
//! that never matches or answers 500.

use std::sync::Arc;

use http::header::HeaderValue;

use super::headers::{self, HeaderOps};
use super::host::HostIndex;
use super::matching::Matchers;
use super::policy::RetryPolicy;
use super::redirect::{DirectResponse, Redirect};
use super::rewrite::PathRewrite;
use super::split::Split;
use super::table::{Action, Hosts, Route, RouteTable, Rule, Target, VirtualHost};
use crate::config::resource::virtual_service::{
    Destination, HeaderOperations, Headers, HttpMatch, HttpRewrite, HttpRoute, HttpRouteDestination,
};
use crate::config::resource::{Resource, Resources, VirtualService};

/// The gateway name that means "every listener without a Gateway".
const MESH: &str = "mesh";

/// What the table depends on besides the resources.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ports of the listeners that serve the mesh, as rules see them.
    pub mesh_ports: Vec<u16>,
    /// Whether a VirtualService that is alone on its listener answers any Host.
    pub any_host: bool,
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
    let services = in_order(resources);
    let mut listeners = Vec::new();
    for port in &options.mesh_ports {
        let mut compiler = Compiler { port: *port, destination };
        listeners.push((*port, compiler.mesh(&services, options.any_host)));
    }
    RouteTable::new(listeners)
}

/// Oldest first, those without a date before all others; then by name, then by namespace. Never the order of the files.
fn in_order(resources: &Resources) -> Vec<&Resource<VirtualService>> {
    let mut services: Vec<_> = resources.virtual_services.iter().collect();
    services.sort_by(|left, right| {
        let (left, right) = (&left.metadata, &right.metadata);
        let names =
            || left.name.value.cmp(&right.name.value).then_with(|| left.namespace.value.cmp(&right.namespace.value));
        left.created.cmp(&right.created).then_with(names)
    });
    services
}

/// Compiles for one listener.
struct Compiler<'c, D> {
    port: u16,
    destination: &'c mut dyn FnMut(Wanted<'_>) -> D,
}

impl<D> Compiler<'_, D> {
    /// The virtual hosts of a listener of the mesh: the oldest VirtualService owns a host, nothing is merged.
    fn mesh(&mut self, services: &[&Resource<VirtualService>], any_host: bool) -> Hosts<D> {
        let mut index = HostIndex::default();
        let mut virtual_hosts = Vec::new();
        for service in services.iter().filter(|service| is_bound(service, MESH)) {
            let free: Vec<_> = service.spec.hosts.iter().filter(|host| !index.contains(host)).collect();
            if free.is_empty() {
                continue;
            }
            // Without a rule for this port it does not take the host from another.
            let Some(virtual_host) = self.virtual_host(service, MESH) else { continue };
            let number = u32::try_from(virtual_hosts.len()).expect("there are fewer VirtualServices than 2³²");
            virtual_hosts.push(virtual_host);
            free.into_iter().for_each(|host| index.insert(host, number));
        }
        if any_host && virtual_hosts.len() == 1 {
            index.insert("*", 0);
        }
        Hosts::new(index, virtual_hosts)
    }

    /// All routes of one VirtualService up to the first that matches everything; none if there are none.
    fn virtual_host(&mut self, service: &Resource<VirtualService>, gateway: &str) -> Option<VirtualHost<D>> {
        let (mut matchers, mut routes) = (Matchers::default(), Vec::new());
        'rules: for (number, written) in service.spec.http.iter().enumerate() {
            let blocks = self.blocks(written, gateway);
            if blocks.is_empty() || written.delegate.is_some() {
                continue;
            }
            let rule = Arc::new(self.rule(service, number, written));
            for block in blocks {
                let added = matchers.push(block);
                let name = route_name(written, block, &rule.label);
                routes.push(Route { name, matched: added.matched, rule: Arc::clone(&rule) });
                if added.catch_all {
                    break 'rules;
                }
            }
        }
        matchers.shrink();
        (!routes.is_empty()).then(|| VirtualHost { matchers, routes: routes.into() })
    }

    /// The blocks of a rule that apply to this listener; a rule without any has one that is always true.
    fn blocks<'a>(&self, written: &'a HttpRoute, gateway: &str) -> Vec<Option<&'a HttpMatch>> {
        if written.matches.is_empty() {
            return vec![None];
        }
        written.matches.iter().filter(|block| applies(block, self.port, gateway)).map(Some).collect()
    }

    fn rule(&mut self, service: &Resource<VirtualService>, number: usize, written: &HttpRoute) -> Rule<D> {
        let label: Arc<str> = match &written.name {
            Some(name) if !name.is_empty() => name.as_str().into(),
            _ => format!("{}/{number}", service.metadata.name.value).into(),
        };
        let action = self.action(&service.metadata.namespace, written, &label);
        Rule {
            label,
            action: action.unwrap_or_else(|| Action::Respond(DirectResponse::invalid())),
            timeout: written.timeout.map(|timeout| timeout.value),
            retry: RetryPolicy::new(written.retries.as_ref()),
            response_headers: HeaderOps::together(&[response(written.headers.as_ref())]),
            path_rewrite: written.rewrite.as_ref().and_then(path_rewrite),
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
            let weight = entry.weight.map_or(0, |weight| u64::try_from(weight.value).unwrap_or(0));
            weighted.push((target(to, written, entry), weight));
        }
        Split::new(weighted).map(Action::Forward)
    }
}

/// Whether a VirtualService is bound to a gateway; without any it is bound to the mesh.
fn is_bound(service: &Resource<VirtualService>, gateway: &str) -> bool {
    match &service.spec.gateways {
        Some(gateways) if !gateways.is_empty() => gateways.iter().any(|name| name.value == gateway),
        _ => gateway == MESH,
    }
}

/// Whether a block can match at all on a listener of this port and gateway. Serin has neither labels nor a namespace.
fn applies(block: &HttpMatch, port: u16, gateway: &str) -> bool {
    let here = block.port.is_none_or(|wanted| wanted.value == 0 || wanted.value == i64::from(port));
    let source = if block.gateways.is_empty() {
        let namespace = block.source_namespace.as_ref().is_some_and(|namespace| !namespace.is_empty());
        block.source_labels.is_empty() && !namespace
    } else {
        // As in Istio: a block with gateways is not asked about its source.
        block.gateways.iter().any(|name| name.value == gateway)
    };
    here && source
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

/// A destination with everything that is to be done to its messages.
fn target<D>(to: D, written: &HttpRoute, entry: &HttpRouteDestination) -> Target<D> {
    let (rule, own) = (written.headers.as_ref(), entry.headers.as_ref());
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
