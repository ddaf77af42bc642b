//! The releases of two configurations side by side: those that come, go, or are to be run in another way.

use serde::Serialize;

use crate::config::release::{Gate, Latency, Release, Step, Version, Webhook};
use crate::config::resource::canary::{Mode, OnFileChange, OnInconclusive, Start};
use crate::config::value::written;

/// A release that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CanaryChange {
    /// `added`, `removed` or `changed`.
    pub(super) change: &'static str,
    /// `NAMESPACE/NAME` of the Canary.
    pub(super) canary: String,
    /// In words.
    pub(super) details: Vec<String>,
}

impl CanaryChange {
    /// The first line.
    pub(super) fn title(&self) -> String {
        format!("{} canary `{}`", self.change, self.canary)
    }
}

/// Every release that is different, by name.
pub(super) fn canaries(old: &[Release], new: &[Release]) -> Vec<CanaryChange> {
    let name = |release: &Release| format!("{}/{}", release.namespace, release.name);
    let mut names: Vec<_> = old.iter().chain(new).map(name).collect();
    names.sort();
    names.dedup();
    let find = |list: &'_ [Release], wanted: &str| list.iter().position(|one| name(one) == wanted);
    let mut found = Vec::new();
    for canary in names {
        let (before, after) = (find(old, &canary).map(|at| &old[at]), find(new, &canary).map(|at| &new[at]));
        let (change, details) = match (before, after) {
            (None, Some(after)) => ("added", vec![summary(after)]),
            (Some(before), None) => ("removed", vec![summary(before)]),
            (Some(before), Some(after)) => ("changed", between(before, after)),
            (None, None) => continue,
        };
        if !details.is_empty() {
            found.push(CanaryChange { change, canary, details });
        }
    }
    found
}

fn summary(release: &Release) -> String {
    let route = route(release);
    format!("{route}: {} → {}, {}", version(&release.stable), version(&release.canary), weights(release))
}

fn between(before: &Release, after: &Release) -> Vec<String> {
    let pairs = parts(before).into_iter().zip(parts(after)).filter(|(before, after)| before != after);
    pairs.map(|((what, before), (_, after))| format!("{what} {before} → {after}")).collect()
}

/// What a release is made of, each part by its field.
fn parts(release: &Release) -> Vec<(&'static str, String)> {
    let analysis = &release.analysis;
    let percent = |share: f64| format!("{}%", (share * 1e6).round() / 1e4);
    let latency = match analysis.latency {
        Latency::Auto => "auto".to_owned(),
        Latency::Edge(edge) => written(edge),
        Latency::Off => "off".to_owned(),
    };
    let steps = &release.steps;
    let soak = steps.iter().find(|step| step.soak);
    let judged: Vec<_> = steps.iter().filter(|step| !step.soak).collect();
    vec![
        ("route", route(release)),
        ("stable", version(&release.stable)),
        ("canary", version(&release.canary)),
        ("steps", weights(release)),
        ("minDuration", alike(&judged, |step| written(step.min_duration))),
        ("minRequests", alike(steps, |step| step.min_requests.to_string())),
        ("approve", listed(steps.iter().filter(|step| step.approve).map(|step| format!("{} %", step.weight)))),
        ("soak", listed(soak.iter().map(|step| format!("{} % for {}", step.weight, written(step.min_duration))))),
        ("falseRollbackRate", percent(analysis.false_rollback_rate)),
        ("tolerance", analysis.tolerance.to_string()),
        ("maxErrorRate", percent(analysis.max_error_rate)),
        ("slowerThan", latency),
        ("warmUp", written(analysis.warm_up)),
        ("maxStepDuration", written(analysis.max_step_duration)),
        ("onInconclusive", name(&OnInconclusive::NAMES, analysis.on_inconclusive)),
        ("prometheus", listed(analysis.gates.iter().map(gate))),
        ("mode", name(&Mode::NAMES, release.mode)),
        ("start", name(&Start::NAMES, release.start)),
        ("onFileChange", name(&OnFileChange::NAMES, release.on_file_change)),
        ("shield", release.shield.to_string()),
        ("webhooks", listed(release.webhooks.iter().map(webhook))),
    ]
}

fn route(release: &Release) -> String {
    let route = &release.route;
    format!("{} of {}/{}", route.label, route.namespace, route.virtual_service)
}

fn version(version: &Version) -> String {
    if version.subset == version.version {
        return version.subset.clone();
    }
    format!("{} (version {})", version.subset, version.version)
}

fn weights(release: &Release) -> String {
    listed(release.steps.iter().map(|step| format!("{} %", step.weight)))
}

/// What all steps have, or what each has.
fn alike<S: std::borrow::Borrow<Step>>(steps: &[S], part: impl Fn(&Step) -> String) -> String {
    let mut all: Vec<_> = steps.iter().map(|step| part(step.borrow())).collect();
    if all.windows(2).all(|pair| pair[0] == pair[1]) {
        all.truncate(1);
    }
    all.join(", ")
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn name<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> String {
    names.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name).to_owned()
}

fn gate(gate: &Gate) -> String {
    let min = gate.min.map_or_else(String::new, |min| format!("{min} ≤ "));
    let max = gate.max.map_or_else(String::new, |max| format!(" ≤ {max}"));
    let (name, query, interval) = (&gate.name, &gate.query, written(gate.interval));
    format!("{min}{name}{max} (`{query}` of {} every {interval})", gate.address)
}

fn webhook(hook: &Webhook) -> String {
    let events = hook.events.iter().map(|event| event.name()).collect::<Vec<_>>().join(" ");
    let key = hook.secret_file.as_ref().map_or_else(String::new, |file| format!(", signed with {}", file.display()));
    format!("{} ({events}{key}, {} and {} retries)", hook.url, written(hook.timeout), hook.retries)
}
