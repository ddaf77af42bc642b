//! What each version did, as programs and people ask for it: exact counters since the process began, and their differences.
//! The form in which the admin port sends it is that of these types. Runs on the asking thread and only reads.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::destination::DestinationMetrics;
use super::flag::Flag;
use super::histogram::Distribution;
use super::identity::State;
use super::metrics::{NONE, Registry};
use super::record::Class;
use super::route::RouteMetrics;

/// What one version of one service did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionSummary {
    /// Which counters these are: those of a version that is back after it was forgotten are others.
    #[serde(skip)]
    id: u64,
    /// The label `app`.
    pub app: String,
    /// The label `version`.
    pub version: String,
    /// Whether the configuration in force names it.
    pub configured: bool,
    /// By whatever route, those included that are forgotten.
    #[serde(flatten)]
    pub total: Tally,
    /// Requests being served.
    pub in_flight: u64,
    /// Body bytes that clients sent.
    pub bytes_in: u64,
    /// Body bytes that clients were sent.
    pub bytes_out: u64,
    /// Requests that ended unusually, by the letters of [`Flag`]; none at zero.
    pub flags: BTreeMap<String, u64>,
    /// Route by route.
    pub routes: Vec<RouteSummary>,
}

/// What one version did through one route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSummary {
    #[serde(skip)]
    id: u64,
    /// The label `route`.
    pub route: String,
    /// The share (0–1) of the route's requests that the file gives it; none when the configuration in force does not name it.
    pub declared: Option<f64>,
    /// The share (0–1) in force.
    pub effective: Option<f64>,
    /// The share (0–1) of the route's finished requests that reached a version; none before the first.
    pub got: Option<f64>,
    /// Its requests.
    #[serde(flatten)]
    pub done: Tally,
}

/// Requests counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Finished requests.
    pub requests: u64,
    /// Those of them answered 500–599.
    pub errors: u64,
    /// All of them, by class of their status.
    pub codes: Codes,
    /// How long those took whose answer was 1xx–4xx and whose client stayed.
    pub latency: Distribution,
}

/// Requests by class of their status: `1xx` … `5xx`, `other`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Codes(pub(super) [u64; Class::COUNT]);

impl Codes {
    /// Every class by its name, with its requests.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Class::ALL.iter().map(|class| class.as_str()).zip(self.0)
    }
}

impl Tally {
    /// The requests of one route.
    pub(super) fn of(route: &RouteMetrics) -> Self {
        let mut codes = Codes::default();
        for (_, code, count) in route.requests() {
            codes.0[Class::of(code) as usize] += count;
        }
        Self::new(codes, route.latency())
    }

    fn new(codes: Codes, latency: Distribution) -> Self {
        Self { requests: codes.0.iter().sum(), errors: codes.0[Class::ServerError as usize], codes, latency }
    }

    /// Adds others to these.
    pub(super) fn add(&mut self, other: &Self) {
        let mut codes = self.codes;
        codes.0.iter_mut().zip(other.codes.0).for_each(|(sum, more)| *sum += more);
        let mut latency = std::mem::take(&mut self.latency);
        latency.merge(&other.latency);
        *self = Self::new(codes, latency);
    }

    /// What was counted since `earlier`, an older state of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut codes = self.codes;
        codes.0.iter_mut().zip(earlier.codes.0).for_each(|(now, then)| *now = now.saturating_sub(then));
        Self::new(codes, self.latency.since(&earlier.latency))
    }
}

impl VersionSummary {
    /// What each version did since `earlier`, an older answer of the same process. Gauges are those of now.
    #[must_use]
    pub fn since(now: Vec<Self>, earlier: &[Self]) -> Vec<Self> {
        let then: HashMap<u64, &Self> = earlier.iter().map(|one| (one.id, one)).collect();
        let mut list: Vec<Self> = now
            .into_iter()
            .map(|one| match then.get(&one.id) {
                Some(earlier) => one.after(earlier),
                None => one,
            })
            .collect();
        share_out(&mut list);
        list
    }

    fn after(mut self, earlier: &Self) -> Self {
        self.total = self.total.since(&earlier.total);
        self.bytes_in = self.bytes_in.saturating_sub(earlier.bytes_in);
        self.bytes_out = self.bytes_out.saturating_sub(earlier.bytes_out);
        for (flag, count) in &mut self.flags {
            *count = count.saturating_sub(earlier.flags.get(flag).copied().unwrap_or_default());
        }
        self.flags.retain(|_, count| *count > 0);
        let then: HashMap<u64, &RouteSummary> = earlier.routes.iter().map(|route| (route.id, route)).collect();
        for route in &mut self.routes {
            if let Some(earlier) = then.get(&route.id) {
                route.done = route.done.since(&earlier.done);
            }
        }
        self
    }
}

/// What each version did, ordered by labels; versions neither configured nor ever used are left out.
pub(super) fn versions(registry: &Registry) -> Vec<VersionSummary> {
    let mut shares: HashMap<u64, (f64, f64)> = HashMap::new();
    for active in &registry.active {
        let (declared, effective) = shares.entry(active.metrics.id).or_default();
        *declared += active.declared;
        *effective += active.effective;
    }
    let mut routes: HashMap<u64, Vec<RouteSummary>> = HashMap::new();
    for (route, _) in registry.routes.iter() {
        let share = shares.get(&route.id);
        if share.is_none() && !route.touched() {
            continue;
        }
        routes.entry(route.destination().id).or_default().push(RouteSummary {
            id: route.id,
            route: route.route().to_owned(),
            declared: share.map(|(declared, _)| *declared),
            effective: share.map(|(_, effective)| *effective),
            got: None,
            done: Tally::of(route),
        });
    }
    let mut list = Vec::new();
    for (destination, state) in registry.destinations.iter() {
        if state == State::Configured || destination.touched() {
            let routes = routes.remove(&destination.id).unwrap_or_default();
            let gone = registry.gone.get(&destination.id).cloned().unwrap_or_default();
            list.push(summary(destination, state, routes, gone));
        }
    }
    share_out(&mut list);
    list
}

fn summary(of: &DestinationMetrics, state: State, routes: Vec<RouteSummary>, gone: Tally) -> VersionSummary {
    let mut total = gone;
    routes.iter().for_each(|route| total.add(&route.done));
    let flags = Flag::ALL.into_iter().map(|flag| (flag.as_str().to_owned(), of.flags(flag)));
    VersionSummary {
        id: of.id,
        app: of.app().to_owned(),
        version: of.version().to_owned(),
        configured: state == State::Configured,
        total,
        in_flight: of.in_flight(),
        bytes_in: of.bytes_in(),
        bytes_out: of.bytes_out(),
        flags: flags.filter(|(_, count)| *count > 0).collect(),
        routes,
    }
}

/// Fills in the share that each version got of every route.
fn share_out(list: &mut [VersionSummary]) {
    let mut all: HashMap<String, u64> = HashMap::new();
    for route in list.iter().filter(|one| one.app != NONE).flat_map(|one| &one.routes) {
        *all.entry(route.route.clone()).or_default() += route.done.requests;
    }
    for route in list.iter_mut().filter(|one| one.app != NONE).flat_map(|one| &mut one.routes) {
        let of = all.get(&route.route).copied().unwrap_or_default();
        route.got = (of > 0).then(|| route.done.requests as f64 / of as f64);
    }
}
