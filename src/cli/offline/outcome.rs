//! What becomes of one request: the answer of `explain --json`, and what `test` and `diff` compare.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::header::{HOST, HeaderMap};
use serde::Serialize;

use super::{Ask, Offline, Place};
use crate::routing::{
    self, Abort, Action, Answered, CorsVerdict, Facts, Filters, Found, HeaderOps, Mirror, RetryPolicy, Route, Rule,
};

/// See the module. The names of its fields are part of `serin explain --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct Outcome {
    /// The port of the listener, as rules see it; none if nothing listens.
    pub(in crate::cli) listener: Option<u16>,
    /// The host pattern that answers.
    pub(in crate::cli) host: Option<String>,
    /// The rule that takes it.
    pub(in crate::cli) rule: Option<RuleName>,
    /// `forward`, `redirect`, `respond`, or `none`.
    pub(in crate::cli) action: &'static str,
    /// Where it may go.
    pub(in crate::cli) destinations: Vec<Target>,
    /// As it goes to the most likely destination; as it came if it goes nowhere.
    pub(in crate::cli) request: Sent,
    /// Bound of the whole exchange.
    pub(in crate::cli) timeout: Option<String>,
    /// When it is tried again; none if never.
    pub(in crate::cli) retries: Option<Retries>,
    /// Who gets copies.
    pub(in crate::cli) mirrors: Vec<Mirrored>,
    /// Blocks of rules before, with the condition that failed.
    pub(in crate::cli) skipped: Vec<Skipped>,
    /// By what the rule knows its clients again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) sticky: Option<Stuck>,
    /// What is injected: `50 % delayed by 5s, 10 % aborted with 500`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) fault: Option<String>,
    /// What the proxy answers by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) response: Option<Own>,
    /// The label of the rule.
    #[serde(skip)]
    pub(in crate::cli) label: Option<String>,
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct RuleName {
    /// `NAME`, or `NAMESPACE/NAME` outside of `default`.
    pub(in crate::cli) virtual_service: String,
    /// Its number in it, from 0.
    pub(in crate::cli) index: usize,
    /// Its name.
    pub(in crate::cli) name: Option<String>,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct Target {
    /// Which.
    #[serde(flatten)]
    pub(in crate::cli) place: Place,
    /// Share of the requests, 0 to 1.
    pub(in crate::cli) share: f64,
    /// The request that it gets.
    #[serde(skip)]
    pub(in crate::cli) request: Sent,
}

/// A request on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Sent {
    /// Method.
    pub(in crate::cli) method: String,
    /// Path and query.
    pub(in crate::cli) path: String,
    /// Host.
    pub(in crate::cli) host: String,
    /// Its other headers, repeated ones joined.
    pub(in crate::cli) headers: BTreeMap<String, String>,
}

/// `retries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Retries {
    /// Tries after the first.
    pub(in crate::cli) attempts: u32,
    /// Conditions and status codes.
    pub(in crate::cli) on: Vec<String>,
    /// Bound of one try.
    pub(in crate::cli) per_try_timeout: Option<String>,
    /// Base of the pause between tries.
    pub(in crate::cli) backoff: String,
}

/// A destination of copies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct Mirrored {
    /// Which.
    #[serde(flatten)]
    pub(in crate::cli) place: Place,
    /// Share of the requests, 0 to 1.
    pub(in crate::cli) share: f64,
}

/// A block that did not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Skipped {
    pub(in crate::cli) rule: String,
    pub(in crate::cli) condition: String,
    pub(in crate::cli) wanted: String,
    pub(in crate::cli) actual: Option<String>,
}

/// By what a rule knows its clients again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Stuck {
    /// `cookie NAME`, `header NAME`, `source-ip`.
    pub(in crate::cli) by: String,
    /// `HOST[/SUBSET]` that this client is bound to, if the request says which client it is.
    pub(in crate::cli) to: Option<String>,
}

/// An answer of the proxy itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Own {
    /// Its status.
    pub(in crate::cli) status: u16,
    /// Its headers, repeated ones joined.
    pub(in crate::cli) headers: BTreeMap<String, String>,
    /// Its body, as far as it is text.
    pub(in crate::cli) body: String,
}

impl Outcome {
    /// What becomes of a request.
    pub(in crate::cli) fn new(offline: &Offline, ask: &Ask) -> Self {
        match offline.listener(ask) {
            Some(port) => Self::at(offline, ask, port),
            None => Self::nothing(ask),
        }
    }

    /// What becomes of a request that comes to the listener of this port, if there is one.
    pub(in crate::cli) fn at(offline: &Offline, ask: &Ask, port: u16) -> Self {
        let mut outcome = Self::nothing(ask);
        let Some(hosts) = offline.table.listener(port) else { return outcome };
        outcome.listener = Some(port);
        let explained = hosts.explain(&ask.view(port));
        outcome.host = explained.host;
        let skipped = explained.skipped.into_iter().map(|one| Skipped {
            rule: one.rule.to_string(),
            condition: one.condition,
            wanted: one.wanted,
            actual: one.actual,
        });
        outcome.skipped = skipped.collect();
        match explained.found {
            Found::Route(route) => outcome.take(route, ask, port),
            Found::NoHost | Found::NoRule => outcome.response = Some(Own::of_status(404)),
        }
        outcome
    }

    fn nothing(ask: &Ask) -> Self {
        Self {
            listener: None,
            host: None,
            rule: None,
            action: "none",
            destinations: Vec::new(),
            request: sent(&ask.method, &ask.path, &ask.authority, &ask.headers),
            timeout: None,
            retries: None,
            mirrors: Vec::new(),
            skipped: Vec::new(),
            sticky: None,
            fault: None,
            response: None,
            label: None,
        }
    }

    fn take(&mut self, route: &Route<Place>, ask: &Ask, port: u16) {
        let rule = &*route.rule;
        self.rule = RuleName::of(rule);
        self.label = Some(rule.label.to_string());
        if let Some(filters) = &rule.filters
            && let Some(answer) = self.filtered(filters, ask)
        {
            self.action = "respond";
            self.response = Some(answer);
            return;
        }
        let view = ask.view(port);
        match &rule.action {
            Action::Redirect(redirect) => {
                self.action = "redirect";
                let mut own = Own::of_status(redirect.status.as_u16());
                own.headers.insert("location".to_owned(), redirect.location(&view, route.matched));
                self.response = Some(own.finished(&rule.response_headers, ask, port));
            }
            Action::Respond(answer) => {
                self.action = "respond";
                let mut own = Own::of_status(answer.status.as_u16());
                own.body = String::from_utf8_lossy(&answer.body).into_owned();
                let content_type = answer.content_type.as_ref().and_then(|value| value.to_str().ok());
                own.headers.extend(content_type.map(|value| ("content-type".to_owned(), value.to_owned())));
                self.response = Some(own.finished(&rule.response_headers, ask, port));
            }
            Action::Forward(split) => {
                self.action = "forward";
                let target = |entry: &routing::Entry<routing::Target<Place>>| Target {
                    place: entry.value.to.clone(),
                    share: entry.share,
                    request: forwarded(route, &entry.value, ask, port),
                };
                self.destinations = split.entries().iter().map(target).collect();
                let likely =
                    self.destinations.iter().reduce(|best, one| if one.share > best.share { one } else { best });
                self.request = likely.map(|target| target.request.clone()).unwrap_or_default();
                self.timeout = rule.timeout.map(duration);
                self.retries = Retries::of(&rule.retry);
                self.sticky = rule.sticky.as_ref().map(|sticky| Stuck {
                    by: sticky.to_string(),
                    to: sticky.owner(&view, ask.from).map(|index| self.destinations[index].place.name()),
                });
            }
        }
    }

    /// What stands before and beside the rule's action; the answer, if it needs no more.
    fn filtered(&mut self, filters: &Filters<Place>, ask: &Ask) -> Option<Own> {
        let verdict =
            filters.cors.as_ref().zip(ask.method.parse().ok()).map(|(cors, method)| cors.judge(&method, &ask.headers));
        if let Some(CorsVerdict::Preflight(fields)) = verdict {
            return Some(Own { headers: joined(&fields), ..Own::of_status(200) });
        }
        let mirrored = |mirror: &Mirror<Place>| Mirrored { place: mirror.to.clone(), share: mirror.chance.share() };
        self.mirrors = filters.mirrors.iter().map(mirrored).collect();
        let fault = filters.fault.as_ref()?;
        self.fault = Some(fault.to_string());
        // With the largest draw, only what happens to every request happens.
        match fault.abort(|| u64::MAX)? {
            Abort::Http(status) => Some(Own::of_status(status.as_u16())),
            Abort::Grpc(code) => {
                let status = ("grpc-status".to_owned(), code.to_string());
                Some(Own { headers: BTreeMap::from([status]), ..Own::of_status(200) })
            }
        }
    }

    /// The status that the client gets from the proxy, or 200 for what a destination is going to answer.
    pub(in crate::cli) fn status(&self) -> u16 {
        match &self.response {
            Some(own) => own.status,
            None if self.destinations.iter().all(|target| target.share == 0.0 || target.place.endpoints.is_empty()) => {
                503
            }
            None => 200,
        }
    }
}

impl RuleName {
    /// None for the redirect of a Gateway.
    fn of(rule: &Rule<Place>) -> Option<Self> {
        let origin = rule.origin.as_ref()?;
        let virtual_service = match &*origin.namespace {
            "default" => origin.virtual_service.to_string(),
            namespace => format!("{namespace}/{}", origin.virtual_service),
        };
        Some(Self { virtual_service, index: origin.number, name: origin.named.then(|| rule.label.to_string()) })
    }
}

impl Retries {
    /// None if nothing is tried again.
    fn of(policy: &RetryPolicy) -> Option<Self> {
        (policy.retries > 0).then(|| Self {
            attempts: policy.retries,
            on: policy.on.names().map(str::to_owned).chain(policy.statuses.iter().map(u16::to_string)).collect(),
            per_try_timeout: policy.per_try_timeout.map(duration),
            backoff: duration(policy.backoff),
        })
    }
}

impl Own {
    fn of_status(status: u16) -> Self {
        Self { status, headers: BTreeMap::new(), body: String::new() }
    }

    /// With the operations of the rule.
    fn finished(mut self, operations: &HeaderOps, ask: &Ask, port: u16) -> Self {
        let pairs = self.headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
        let mut headers: HeaderMap = pairs.collect();
        let kept = operations.keep(&ask.headers, || facts(ask, port));
        let answered = Answered { status: self.status, upstream: None };
        operations.apply_to_response(&mut headers, kept.as_deref(), answered);
        self.headers = joined(&headers);
        self
    }
}

fn forwarded(route: &Route<Place>, target: &routing::Target<Place>, ask: &Ask, port: u16) -> Sent {
    let mut headers = ask.headers.clone();
    target.request_headers.apply_to_request(&mut headers, || facts(ask, port));
    let path = route.rewritten(&ask.path).unwrap_or_else(|| ask.path.clone());
    let host = target.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(&ask.authority);
    sent(&ask.method, &path, host, &headers)
}

fn facts(ask: &Ask, port: u16) -> Facts<'_> {
    Facts {
        method: &ask.method,
        scheme: &ask.scheme,
        authority: Some(&ask.authority),
        path: &ask.path,
        protocol: "HTTP/1.1",
        peer: SocketAddr::new(ask.from, 0),
        port,
        started: SystemTime::now(),
    }
}

fn sent(method: &str, path: &str, host: &str, headers: &HeaderMap) -> Sent {
    Sent { method: method.to_owned(), path: path.to_owned(), host: host.to_owned(), headers: joined(headers) }
}

fn joined(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != HOST) {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.to_string())
            .and_modify(|known| *known = format!("{known},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    all
}

/// A policy in words; none if nothing is tried again.
pub(in crate::cli) fn retries(policy: &RetryPolicy) -> Option<String> {
    let Retries { attempts, on, per_try_timeout, backoff } = Retries::of(policy)?;
    let each = per_try_timeout.map_or_else(String::new, |limit| format!(", each within {limit}"));
    let pause =
        if policy.backoff == RetryPolicy::default().backoff { String::new() } else { format!(", {backoff} apart") };
    Some(format!("{attempts} on {}{each}{pause}", on.join(", ")))
}

/// As configurations write it: `1.5s`, `250ms`.
fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}
