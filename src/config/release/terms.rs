//! What a Canary leaves open, filled in. The defaults are those of the release's specification: each is a decision, and its
//! reason stands beside it.

use std::time::Duration;

use super::{Analysis, Gate, Latency, Step, Version, Webhook};
use crate::config::credentials;
use crate::config::load::Source;
use crate::config::place::Spanned;
use crate::config::resource::canary::{self, Canary, Event, SlowerThan};

/// α: one healthy release in a hundred may be rolled back.
const FALSE_ROLLBACK_RATE: f64 = 0.01;
/// Up to 20 % worse is no reason to go back: less could not be seen in the traffic of a release.
const TOLERANCE: f64 = 1.2;
/// What a service may fail at anyway.
const MAX_ERROR_RATE: f64 = 0.01;
/// Bake time of a step: caches fill and garbage is collected within a minute.
pub(in crate::config) const MIN_DURATION: Duration = Duration::from_secs(60);
/// A statement on a p99 needs 299 requests (0.99^299 < 5 %).
const MIN_REQUESTS: u32 = 300;
/// The first requests of a step open connections and fill caches.
pub(in crate::config) const WARM_UP: Duration = Duration::from_secs(10);
/// A person should look at a step that an hour did not decide.
pub(in crate::config) const MAX_STEP_DURATION: Duration = Duration::from_secs(3600);
/// The largest share of the canary that leaves enough of the stable version to compare with.
pub(in crate::config) const SOAK_WEIGHT: i64 = 95;
/// Ten times the bake time of a step.
pub(in crate::config) const SOAK_DURATION: Duration = Duration::from_secs(600);
/// How often a Prometheus scrapes in most installations.
const INTERVAL: Duration = Duration::from_secs(15);
/// A hook that needs longer is busy with something else than taking the message.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// With growing pauses, enough for a restart of whoever listens.
const WEBHOOK_RETRIES: u32 = 3;

/// The upper bounds of the latency buckets (without the last, which has none): a threshold is one of them. The same as those
/// of the metrics.
pub const LATENCY_EDGES: [Duration; 36] = [
    Duration::from_micros(500),
    Duration::from_micros(750),
    Duration::from_micros(1_000),
    Duration::from_micros(1_500),
    Duration::from_millis(2),
    Duration::from_millis(3),
    Duration::from_millis(4),
    Duration::from_millis(5),
    Duration::from_micros(7_500),
    Duration::from_millis(10),
    Duration::from_millis(15),
    Duration::from_millis(20),
    Duration::from_millis(25),
    Duration::from_millis(30),
    Duration::from_millis(40),
    Duration::from_millis(50),
    Duration::from_millis(75),
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(200),
    Duration::from_millis(250),
    Duration::from_millis(300),
    Duration::from_millis(400),
    Duration::from_millis(500),
    Duration::from_millis(750),
    Duration::from_secs(1),
    Duration::from_millis(1_500),
    Duration::from_secs(2),
    Duration::from_millis(2_500),
    Duration::from_secs(3),
    Duration::from_secs(4),
    Duration::from_secs(5),
    Duration::from_millis(7_500),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// The placeholders that a query may have.
pub(in crate::config) const HOLES: [&str; 2] = ["canary", "stable"];

/// The smallest of the edges that is not below a threshold; none: it is above all of them.
pub(in crate::config) fn edge(threshold: Duration) -> Option<Duration> {
    LATENCY_EDGES.into_iter().find(|edge| *edge >= threshold)
}

/// The steps, the soak among them, up to 100. A list that ends below 100 goes to 100 in the end: a release that ended halfway
/// would be none.
pub(super) fn steps(spec: &Canary) -> Option<Vec<Step>> {
    let analysis = &spec.analysis;
    let blank = Step {
        weight: 100,
        min_duration: analysis.min_duration.map_or(MIN_DURATION, |duration| duration.value),
        min_requests: number(analysis.min_requests, MIN_REQUESTS)?,
        approve: false,
        soak: false,
    };
    let mut steps = Vec::with_capacity(spec.steps.len() + 2);
    for step in &spec.steps {
        steps.push(Step {
            weight: u32::try_from(step.weight?.value).ok()?,
            min_duration: step.min_duration.map_or(blank.min_duration, |duration| duration.value),
            min_requests: number(step.min_requests, blank.min_requests)?,
            approve: step.approve.is_some_and(|approve| approve.value),
            soak: false,
        });
    }
    if let Some(soak) = &spec.soak {
        let weight = u32::try_from(soak.weight.map_or(SOAK_WEIGHT, |weight| weight.value)).ok()?;
        let min_duration = soak.duration.map_or(SOAK_DURATION, |duration| duration.value);
        let before = steps.iter().filter(|step| step.weight < weight).count();
        steps.insert(before, Step { weight, min_duration, soak: true, ..blank.clone() });
    }
    if steps.last()?.weight < 100 {
        steps.push(blank);
    }
    Some(steps)
}

/// How a release of these two versions is judged.
pub(super) fn analysis(written: &canary::Analysis, stable: &Version, canary: &Version) -> Option<Analysis> {
    let share = |percent: Option<Spanned<f64>>, default| percent.map_or(default, |percent| percent.value / 100.0);
    let latency = match written.slower_than.map(|threshold| threshold.value).unwrap_or_default() {
        SlowerThan::Auto => Latency::Auto,
        SlowerThan::Time(threshold) => Latency::Edge(edge(threshold)?),
        SlowerThan::Off => Latency::Off,
    };
    Some(Analysis {
        false_rollback_rate: share(written.false_rollback_rate, FALSE_ROLLBACK_RATE),
        tolerance: written.tolerance.map_or(TOLERANCE, |tolerance| tolerance.value),
        max_error_rate: share(written.max_error_rate, MAX_ERROR_RATE),
        latency,
        warm_up: written.warm_up.map_or(WARM_UP, |duration| duration.value),
        max_step_duration: written.max_step_duration.map_or(MAX_STEP_DURATION, |duration| duration.value),
        on_inconclusive: written.on_inconclusive.map(|decided| decided.value).unwrap_or_default(),
        gates: written.prometheus.iter().map(|one| gate(one, stable, canary)).collect::<Option<_>>()?,
    })
}

fn gate(written: &canary::Gate, stable: &Version, canary: &Version) -> Option<Gate> {
    let version = |hole: &str| match hole {
        "canary" => Some(canary.version.as_str()),
        "stable" => Some(stable.version.as_str()),
        _ => None,
    };
    Some(Gate {
        name: written.name.value.clone(),
        address: written.address.value.clone(),
        query: fill(&written.query, version).ok()?,
        min: written.min.map(|bound| bound.value),
        max: written.max.map(|bound| bound.value),
        interval: written.interval.map_or(INTERVAL, |interval| interval.value),
    })
}

/// A query with `{{…}}` replaced.
///
/// # Errors
/// Every placeholder that has no value, as it was written; one without its end, too.
pub(in crate::config) fn fill<'v>(query: &str, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, Vec<String>> {
    let (mut filled, mut wrong) = (String::with_capacity(query.len()), Vec::new());
    let mut rest = query;
    while let Some((before, behind)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, behind)) = behind.split_once("}}") else {
            wrong.push(format!("{{{{{behind}"));
            return Err(wrong);
        };
        match value(name.trim()) {
            Some(value) => filled.push_str(value),
            None => wrong.push(format!("{{{{{name}}}}}")),
        }
        rest = behind;
    }
    filled.push_str(rest);
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}

/// Somebody to be told, with the file that signs beside the one that names it.
pub(super) fn webhook(written: &canary::Webhook, sources: &[Source]) -> Webhook {
    let events = match &written.events {
        Some(events) => events.iter().map(|event| event.value).collect(),
        None => Event::NAMES.iter().map(|(_, event)| *event).collect(),
    };
    Webhook {
        url: written.url.value.clone(),
        events,
        secret_file: written.secret.as_ref().map(|secret| credentials::path(&secret.file, sources)),
        timeout: written.timeout.map_or(WEBHOOK_TIMEOUT, |timeout| timeout.value),
        retries: number(written.retries, WEBHOOK_RETRIES).unwrap_or(WEBHOOK_RETRIES),
    }
}

fn number(written: Option<Spanned<i64>>, default: u32) -> Option<u32> {
    written.map_or(Some(default), |written| u32::try_from(written.value).ok())
}
