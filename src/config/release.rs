//! A release as it is to be run: a Canary with its defaults filled in, and with the rule and the destinations that it names.
//! Whoever runs releases takes them from here. What is wrong with a Canary is said by `validate`.

mod route;
mod terms;

use std::path::PathBuf;
use std::time::Duration;

use super::load::Source;
use super::resource::canary::{Event, Mode, OnFileChange, OnInconclusive, Start};
use super::resource::{Canary, Resource, Resources};
use super::sticky::ANNOTATION;
use super::traffic::Traffic;

pub use terms::LATENCY_EDGES;

pub(super) use route::{Found, Lost, Routes};
pub(super) use terms::{HOLES, MAX_STEP_DURATION, MIN_DURATION, SOAK_DURATION, SOAK_WEIGHT, WARM_UP, edge, fill};

/// One release: what `kind: Canary` asks for, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The rule whose weights it moves.
    pub route: Route,
    /// The weights of the rule in the file, in the order of its destinations; 0 where there is none.
    pub declared: Vec<u64>,
    /// Whether its VirtualService draws by key instead of by request.
    pub sticky: bool,
    /// The version that serves now.
    pub stable: Version,
    /// The version that is to take over.
    pub canary: Version,
    /// The weights of the canary, rising; the last is 100.
    pub steps: Vec<Step>,
    /// What is judged, and how strictly.
    pub analysis: Analysis,
    /// Whether it moves weights. Default: it does.
    pub mode: Mode,
    /// What starts it. Default: a person.
    pub start: Start,
    /// What an edit of the rule's weights does to it. Default: the edited weight becomes the step.
    pub on_file_change: OnFileChange,
    /// Whether a canary attempt that fails before the first byte of its answer is tried again on the stable version. Default: no.
    pub shield: bool,
    /// Who is told of what happens.
    pub webhooks: Vec<Webhook>,
}

/// A rule, by where it is written: for a delegated one that is the delegate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The namespace of its VirtualService.
    pub namespace: String,
    /// The name of its VirtualService.
    pub virtual_service: String,
    /// Its index in `http`, from 0.
    pub rule: usize,
    /// What metrics call it: its name, or `VIRTUALSERVICE/INDEX`. Of a delegate with several roots: what it is called by the
    /// first.
    pub label: String,
}

/// One of the two destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its subset.
    pub subset: String,
    /// What metrics call it, and what a gate's placeholder stands for: the subset's label `version`, else its name.
    pub version: String,
    /// Its index in the rule's `route`, from 0.
    pub position: usize,
}

/// One weight of the canary, and what it takes to leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The canary's percentage, 1 to 100.
    pub weight: u32,
    /// Bake time, after the warm-up. Default: `analysis.minDuration`.
    pub min_duration: Duration,
    /// Requests that the canary must have answered. Default: `analysis.minRequests`.
    pub min_requests: u32,
    /// Whether a person has to say yes before the next step. Default: no.
    pub approve: bool,
    /// Made of `soak`: the last judged step that has a control.
    pub soak: bool,
}

/// How a release is judged. Shares are from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Probability that an equally good canary is rolled back, over the whole release. Default 0.01.
    pub false_rollback_rate: f64,
    /// How many times worse than the stable version the canary may be. Default 1.2.
    pub tolerance: f64,
    /// The share of failures below which nothing is rolled back. Default 0.01.
    pub max_error_rate: f64,
    /// From when on a request is slow. Default: chosen at the start.
    pub latency: Latency,
    /// What is left out at the beginning of each step. Default 10 s.
    pub warm_up: Duration,
    /// When a step that is undecided is decided by `on_inconclusive`. Default 1 h.
    pub max_step_duration: Duration,
    /// What becomes of a step that stays undecided. Default: it waits on.
    pub on_inconclusive: OnInconclusive,
    /// Conditions on what a Prometheus says. Default: none.
    pub gates: Vec<Gate>,
}

/// From when on a request is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// To be chosen when the release starts: the smallest of [`LATENCY_EDGES`] that is at least 1.2 times the stable
    /// version's p99 of the last minutes.
    Auto,
    /// After this time, one of [`LATENCY_EDGES`].
    Edge(Duration),
    /// Never.
    Off,
}

/// A condition on what a Prometheus says.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// What it is called; no other gate of the release is called so.
    pub name: String,
    /// `http://` or `https://`, a host, perhaps a port and a path: where `/api/v1/query` lies below.
    pub address: String,
    /// PromQL, with the versions filled in.
    pub query: String,
    /// Every value must be at least this.
    pub min: Option<f64>,
    /// Every value must be at most this.
    pub max: Option<f64>,
    /// How often it is asked. Default 15 s.
    pub interval: Duration,
}

/// Somebody to be told of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `http://` or `https://`.
    pub url: String,
    /// What it is told of. Default: everything.
    pub events: Vec<Event>,
    /// A file with the key that signs what is sent, to be read at each use. Default: nothing is signed.
    pub secret_file: Option<PathBuf>,
    /// How long one attempt may take. Default 5 s.
    pub timeout: Duration,
    /// How often a failed attempt is repeated. Default 3.
    pub retries: u32,
}

/// The releases that a valid configuration asks for, in the order in which they were loaded. `sources` are those from which
/// the resources were read. A Canary with an error that `validate` tells is left out.
pub fn releases(resources: &Resources, sources: &[Source]) -> Vec<Release> {
    if resources.canaries.is_empty() {
        return Vec::new();
    }
    let (routes, traffic) = (Routes::new(resources), Traffic::new(resources));
    resources.canaries.iter().filter_map(|canary| release(canary, &routes, &traffic, sources)).collect()
}

fn release(
    resource: &Resource<Canary>,
    routes: &Routes<'_>,
    traffic: &Traffic<'_>,
    sources: &[Source],
) -> Option<Release> {
    let (spec, metadata) = (&resource.spec, &resource.metadata);
    let found = routes.find(resource).ok()?;
    let (stable, canary) = (version(&found, &spec.stable, traffic)?, version(&found, &spec.canary, traffic)?);
    if stable.position == canary.position {
        return None;
    }
    let analysis = terms::analysis(&spec.analysis, &stable, &canary)?;
    Some(Release {
        namespace: metadata.namespace.value.clone(),
        name: metadata.name.value.clone(),
        steps: terms::steps(spec)?,
        route: found.route(),
        declared: found.weights(),
        sticky: found.owner.metadata.annotation(ANNOTATION).is_some(),
        stable,
        canary,
        analysis,
        mode: spec.mode.map(|mode| mode.value).unwrap_or_default(),
        start: spec.start.map(|start| start.value).unwrap_or_default(),
        on_file_change: spec.on_file_change.map(|change| change.value).unwrap_or_default(),
        shield: spec.shield.is_some_and(|shield| shield.value),
        webhooks: spec.webhooks.iter().map(|webhook| terms::webhook(webhook, sources)).collect(),
    })
}

fn version(found: &Found<'_>, subset: &str, traffic: &Traffic<'_>) -> Option<Version> {
    let [position] = found.positions(subset)[..] else { return None };
    let host = &found.rule.route[position].destination.as_ref()?.host;
    let declared = traffic.subset(host, &found.owner.metadata.namespace, subset);
    let labels = declared.map_or(&[][..], |declared| &declared.labels);
    let label = labels.iter().find(|(name, _)| name.value == "version").map(|(_, value)| value.as_str());
    Some(Version { subset: subset.to_owned(), version: label.unwrap_or(subset).to_owned(), position })
}

#[cfg(test)]
mod tests;
