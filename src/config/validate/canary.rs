//! `kind: Canary` by itself: its names, its steps and whom it tells. How it judges: `analysis`; what it names: `releases`.

use std::time::Duration;

use super::report::{Report, conflict, missing, wrong};
use super::{analysis, url, weights};
use crate::config::diagnostic::Diagnostic;
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::release::{MAX_STEP_DURATION, MIN_DURATION, SOAK_DURATION, SOAK_WEIGHT, WARM_UP};
use crate::config::resource::canary::{Canary, OnInconclusive, Webhook};
use crate::config::resource::{Metadata, Resource};
use crate::config::value::written;

/// How often a webhook may be called again.
const MOST_RETRIES: i64 = 10;

/// Checks one Canary by itself.
pub(super) fn check(report: &mut Report, resource: &Resource<Canary>) {
    let spec = &resource.spec;
    metadata(report, resource.place, &resource.metadata);
    virtual_service(report, spec);
    versions(report, spec);
    steps(report, spec);
    soak(report, spec);
    analysis::check(report, &spec.analysis);
    enough_time(report, spec);
    for hook in &spec.webhooks {
        webhook(report, hook);
    }
}

/// It is started and stopped by its name, and its state is kept under it.
fn metadata(report: &mut Report, document: Place, metadata: &Metadata) {
    let (name, namespace) = (&metadata.name, &metadata.namespace);
    if name.is_empty() {
        let place = if name.place.line == 0 { document } else { name.place };
        report.add(missing(place, "`name` is missing: a Canary is started and stopped by it"));
    } else if let Err(reason) = names::check_domain(name) {
        report.wrong(name.place, format!("`{}` is no name for a Canary: {reason}", name.value.escape_debug()));
    }
    if !names::is_label(namespace) {
        report.wrong(namespace.place, format!("`{}` is no namespace", namespace.value.escape_debug()));
    }
}

fn virtual_service(report: &mut Report, spec: &Canary) {
    let service = &spec.virtual_service;
    if service.is_empty() {
        report.add(missing(spec.place, "`virtualService` is missing: it says whose weights the release moves"));
    }
    if !service.is_empty() && !names_service(service) {
        let message = format!("`{}` is no name of a VirtualService", service.value.escape_debug());
        report.add(wrong(service.place, message).help("write `NAME` or `NAMESPACE/NAME`"));
    }
    if let Some(route) = spec.route.as_ref().filter(|route| route.is_empty()) {
        report.add(wrong(route.place, "`route` is empty").help("leave it out for the only weighted route"));
    }
}

/// Whether it is of the form in which a VirtualService is named: `NAME` or `NAMESPACE/NAME`.
pub(super) fn names_service(text: &str) -> bool {
    match text.split_once('/') {
        Some((namespace, name)) => names::is_label(namespace) && names::check_domain(name).is_ok(),
        None => names::check_domain(text).is_ok(),
    }
}

fn versions(report: &mut Report, spec: &Canary) {
    for (field, subset, what) in
        [("stable", &spec.stable, "that serves now"), ("canary", &spec.canary, "that is to take over")]
    {
        if subset.is_empty() {
            report.add(missing(spec.place, format!("`{field}` is missing: the subset {what}")));
        } else {
            weights::subset_name(report, subset);
        }
    }
    if spec.stable == spec.canary && !spec.canary.is_empty() {
        let message = format!("`stable` and `canary` are both `{}`", spec.canary.value);
        report.add(conflict(spec.canary.place, message).help("name the subset of the new version"));
    }
}

fn steps(report: &mut Report, spec: &Canary) {
    if spec.steps.is_empty() {
        let found = missing(spec.place, "a Canary needs at least one of `steps`");
        report.add(found.help("write `steps: [10, 30, 50, 100]`, say"));
    }
    let mut highest = 0;
    for step in &spec.steps {
        match &step.weight {
            None => report.add(missing(step.place, "`weight` of the step is missing")),
            Some(weight) if !(1..=100).contains(&weight.value) => report.add(out_of_range("a step", weight, 100)),
            Some(weight) if weight.value <= highest => {
                let message = format!("the steps do not rise: {} % comes after {highest} %", weight.value);
                report.add(wrong(weight.place, message).help("write each weight once, the smallest first"));
            }
            Some(weight) => highest = weight.value,
        }
        analysis::time(report, "minDuration", step.min_duration.as_ref());
        analysis::requests(report, step.min_requests.as_ref());
    }
}

fn out_of_range(what: &str, weight: &Spanned<i64>, most: i64) -> Diagnostic {
    let found = wrong(weight.place, format!("the weight of {what} is {}, not between 1 and {most}", weight.value));
    if weight.value == 0 { found.help("a release begins at 0 by itself") } else { found }
}

/// A soak is the last step that has a control.
fn soak(report: &mut Report, spec: &Canary) {
    let Some(soak) = &spec.soak else { return };
    analysis::time(report, "duration", soak.duration.as_ref());
    let (weight, place) = soak.weight.map_or((SOAK_WEIGHT, soak.place), |weight| (weight.value, weight.place));
    if !(1..100).contains(&weight) {
        return report.add(out_of_range("a soak", &Spanned::new(weight, place), 99));
    }
    let steps = spec.steps.iter().filter_map(|step| step.weight.map(|weight| weight.value));
    let last = steps.filter(|step| (1..100).contains(step)).max().unwrap_or(0);
    if weight <= last {
        let message = format!("the soak at {weight} % does not come after the step at {last} %");
        let found = wrong(place, message);
        report.add(match last {
            99 => found.help("nothing lies between 99 % and 100 %: give that step a `minDuration` instead"),
            _ => found.help(format!("it lies between the last step before 100 % and 100 %: write {} to 99", last + 1)),
        });
    }
}

/// A step that must bake for longer than it may take would never be judged.
fn enough_time(report: &mut Report, spec: &Canary) {
    let Some(decided) = spec.analysis.on_inconclusive.filter(|one| one.value != OnInconclusive::Hold) else { return };
    let value = |given: Option<Spanned<Duration>>, default| given.map_or(default, |given| given.value);
    let (limit, warm_up) = (spec.analysis.max_step_duration, value(spec.analysis.warm_up, WARM_UP));
    let most = value(limit, MAX_STEP_DURATION);
    let mut check = |duration: Duration, place: Place| {
        if warm_up.saturating_add(duration) >= most {
            let message = format!(
                "a step that takes {} after a warm-up of {} would end undecided: `maxStepDuration` is {}",
                written(duration),
                written(warm_up),
                written(most)
            );
            report.add(wrong(place, message).help("raise `maxStepDuration`, or leave `onInconclusive` at `hold`"));
        }
    };
    let all = spec.analysis.min_duration;
    let place = all.map(|all| all.place).or(limit.map(|limit| limit.place)).unwrap_or(decided.place);
    let inherits = spec.steps.iter().any(|step| step.min_duration.is_none());
    if inherits {
        check(value(all, MIN_DURATION), place);
    }
    for duration in spec.steps.iter().filter_map(|step| step.min_duration) {
        check(duration.value, duration.place);
    }
    if let Some(soak) = &spec.soak {
        check(value(soak.duration, SOAK_DURATION), soak.duration.map_or(soak.place, |duration| duration.place));
    }
}

fn webhook(report: &mut Report, hook: &Webhook) {
    if hook.url.is_empty() {
        report.add(missing(hook.place, "`url` of the webhook is missing"));
    } else {
        url::check(report, "url", &hook.url, true);
    }
    if hook.events.as_ref().is_some_and(Vec::is_empty) {
        let found = wrong(hook.place, "`events` is empty: this webhook would never be called");
        report.add(found.help("leave it out to be told of everything"));
    }
    let events = hook.events.as_deref().unwrap_or_default();
    for (index, event) in events.iter().enumerate() {
        if events[..index].contains(event) {
            report.add(conflict(event.place, "this event is there twice"));
        }
    }
    if let Some(secret) = hook.secret.as_ref().filter(|secret| secret.file.is_empty()) {
        report.add(missing(secret.place, "`file` of the secret is missing: the key that signs what is sent"));
    }
    analysis::time(report, "timeout", hook.timeout.as_ref());
    if let Some(retries) = hook.retries.filter(|retries| !(0..=MOST_RETRIES).contains(&retries.value)) {
        report.wrong(retries.place, format!("`retries` is {}, not between 0 and {MOST_RETRIES}", retries.value));
    }
}
