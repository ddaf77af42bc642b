//! The table that a request consults: listener, virtual host, route. Immutable; everything a route needs was put into it at
//! compile time, so that nothing is looked up by name afterwards.

use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashSet, HashSetExt};
use http::header::{HeaderMap, HeaderValue};

use super::filters::Filters;
use super::headers::HeaderOps;
use super::host::HostIndex;
use super::matching::Matchers;
use super::policy::RetryPolicy;
use super::redirect::{DirectResponse, Redirect};
use super::rewrite::{Matched, PathRewrite, path_and_query};
use super::split::Split;
use super::sticky::Sticky;

/// What routing may know about a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'r> {
    /// Method.
    pub method: &'r str,
    /// `http` or `https`: how the client came, as far as what says so is trusted.
    pub scheme: &'r str,
    /// Host or `:authority` as sent, with its port; empty if there is none.
    pub authority: &'r str,
    /// Path and query as sent.
    pub path: &'r str,
    /// All headers.
    pub headers: &'r HeaderMap,
    /// The port of the listener, as rules see it (before `--port-map`).
    pub port: u16,
}

/// What became of a look-up.
#[derive(Debug)]
pub enum Found<'t, D> {
    /// This is the route.
    Route(&'t Route<D>),
    /// No virtual host answers to this Host on this listener.
    NoHost,
    /// The virtual host has no rule for the request. There is no fall-through to a less specific host.
    NoRule,
}

/// All routes of one configuration. `D` is what a weight points at.
#[derive(Debug)]
pub struct RouteTable<D> {
    listeners: Vec<(u16, Hosts<D>)>,
    /// Every rule of every listener that a request can reach, once each.
    rules: Vec<(u16, Arc<Rule<D>>)>,
}

/// The virtual hosts of one listener.
#[derive(Debug)]
pub struct Hosts<D> {
    pub(super) index: HostIndex,
    pub(super) virtual_hosts: Vec<VirtualHost<D>>,
    /// Where the plain requests of some virtual hosts go.
    https_redirect: Option<Route<D>>,
}

/// The routes of one virtual host: block `i` of the matchers leads to `routes[i]`.
#[derive(Debug)]
pub(super) struct VirtualHost<D> {
    pub(super) matchers: Matchers,
    pub(super) routes: Box<[Route<D>]>,
    /// Whether plain requests are sent to `https`, whatever the routes say.
    pub(super) https_redirect: bool,
    /// Blocks that were left out, in their order.
    pub(super) left_out: Box<[LeftOut]>,
}

/// A block that can never match on its listener.
#[derive(Clone, Debug)]
pub(super) struct LeftOut {
    /// How many routes stand before it.
    pub(super) behind: usize,
    /// The label of its rule.
    pub(super) rule: Arc<str>,
    /// The condition that rules it out, what that wants, and what there is.
    pub(super) condition: &'static str,
    pub(super) wanted: String,
    pub(super) actual: Option<String>,
}

/// One match block of one rule.
#[derive(Debug)]
pub struct Route<D> {
    /// The name for access logs: Istio's `rule` or `rule.match`, or the rule's label if it has no name.
    pub name: Arc<str>,
    /// What the block matched of the path.
    pub matched: Matched,
    /// What the blocks of one rule share.
    pub rule: Arc<Rule<D>>,
}

/// What a rule does with a request.
#[derive(Debug)]
pub struct Rule<D> {
    /// Its place among the rules of the table, from 0: what else is known about a rule can be kept in a list.
    pub number: usize,
    /// The name for metrics: the rule's, or `<virtualservice>/<index>`.
    pub label: Arc<str>,
    /// Where it was written; none for the redirect of a Gateway.
    pub origin: Option<Origin>,
    /// What becomes of the request.
    pub action: Action<D>,
    /// Keeps clients on the destination that they once got; none by default.
    pub sticky: Option<Sticky>,
    /// Bound of the whole exchange, retries included; none by default.
    pub timeout: Option<Duration>,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// The rule's own operations on a response that it makes itself. A [`Target`] has its own, which include these.
    pub response_headers: HeaderOps,
    /// What else is done; none for most rules.
    pub filters: Option<Box<Filters<D>>>,
    pub(super) path_rewrite: Option<PathRewrite>,
}

/// Where a rule was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of the VirtualService: the delegate's for a rule that was delegated.
    pub virtual_service: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// The number of the rule in it, from 0.
    pub number: usize,
    /// Whether the rule has a name, which is then its label.
    pub named: bool,
}

impl Origin {
    /// Whether this is the rule with that number in that VirtualService.
    pub fn is(&self, namespace: &str, virtual_service: &str, number: usize) -> bool {
        self.number == number && *self.virtual_service == *virtual_service && *self.namespace == *namespace
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Action<D> {
    /// It goes to one of these.
    Forward(Split<Target<D>>),
    /// It is sent elsewhere.
    Redirect(Redirect),
    /// It is answered at once.
    Respond(DirectResponse),
}

/// One destination of a rule.
#[derive(Debug)]
pub struct Target<D> {
    /// Where.
    pub to: D,
    /// Done to the request: the operations of rule and destination together.
    pub request_headers: HeaderOps,
    /// Done to the response, also to one that Serin makes because the destination gave none.
    pub response_headers: HeaderOps,
    /// The Host to send; none leaves the client's.
    pub host: Option<HeaderValue>,
}

impl<D> RouteTable<D> {
    pub(super) fn new(listeners: Vec<(u16, Hosts<D>)>) -> Self {
        let mut rules = Vec::new();
        for (port, hosts) in &listeners {
            let mut seen = HashSet::new();
            let routes = hosts.virtual_hosts.iter().flat_map(|host| &host.routes);
            for route in routes.chain(&hosts.https_redirect) {
                // The blocks of one rule stand together, but several virtual hosts may have it.
                let repeated = rules.last().is_some_and(|(_, last)| Arc::ptr_eq(last, &route.rule));
                if !repeated && seen.insert(Arc::as_ptr(&route.rule)) {
                    rules.push((*port, Arc::clone(&route.rule)));
                }
            }
        }
        rules.shrink_to_fit();
        Self { listeners, rules }
    }

    /// The virtual hosts of a listener, by the port that rules see. Once per connection is enough.
    pub fn listener(&self, port: u16) -> Option<&Hosts<D>> {
        self.listeners.iter().find(|(number, _)| *number == port).map(|(_, hosts)| hosts)
    }

    /// The route of a request.
    pub fn find(&self, request: &RequestView<'_>) -> Found<'_, D> {
        self.listener(request.port).map_or(Found::NoHost, |hosts| hosts.find(request))
    }

    /// The ports of all listeners, as rules see them.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.listeners.iter().map(|(port, _)| *port)
    }

    /// Every rule of every listener that a request can reach, once each.
    pub fn rules(&self) -> impl Iterator<Item = (u16, &Arc<Rule<D>>)> {
        self.rules.iter().map(|(port, rule)| (*port, rule))
    }
}

impl<D> Hosts<D> {
    pub(super) fn new(index: HostIndex, virtual_hosts: Vec<VirtualHost<D>>, https_redirect: Option<Route<D>>) -> Self {
        Self { index, virtual_hosts, https_redirect }
    }

    /// The route of a request that came in on this listener.
    pub fn find(&self, request: &RequestView<'_>) -> Found<'_, D> {
        let Some(number) = self.index.find(request.authority) else { return Found::NoHost };
        let host = &self.virtual_hosts[number as usize];
        if host.https_redirect
            && request.scheme != "https"
            && let Some(redirect) = &self.https_redirect
        {
            return Found::Route(redirect);
        }
        let (path, _) = path_and_query(request.path);
        match host.matchers.first(path, request) {
            Some(number) => Found::Route(&host.routes[number]),
            None => Found::NoRule,
        }
    }
}

impl<D> Route<D> {
    /// The path and query to send upstream, or none if they stay as they are.
    pub fn rewritten(&self, path_and_query: &str) -> Option<String> {
        self.rule.path_rewrite.as_ref()?.apply(path_and_query, self.matched)
    }
}
