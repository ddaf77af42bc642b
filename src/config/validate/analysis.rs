//! `analysis` of a Canary: how strictly a release is judged, for how long, and what a Prometheus has to say.

use std::collections::HashSet;
use std::time::Duration;

use super::report::{Report, conflict, missing, wrong};
use super::{checks, url};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::release::{HOLES, LATENCY_EDGES, edge, fill};
use crate::config::resource::canary::{Analysis, Gate, SlowerThan};
use crate::config::value::{Percent, written};

/// The canary may be so many times worse at most: beyond, nothing would ever be rolled back.
const MOST_TOLERANCE: f64 = 1000.0;
/// A release is worse than useless where half of all requests may fail: twice this rate is what is told apart from it.
const MOST_ERRORS: f64 = 50.0;
/// How often a Prometheus may be asked.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Checks how a release is judged.
pub(super) fn check(report: &mut Report, analysis: &Analysis) {
    between(report, "falseRollbackRate", analysis.false_rollback_rate.as_ref(), 100.0);
    between(report, "maxErrorRate", analysis.max_error_rate.as_ref(), MOST_ERRORS);
    if let Some(tolerance) = analysis.tolerance.filter(|one| !(1.0..=MOST_TOLERANCE).contains(&one.value)) {
        let message = format!("`tolerance` is {}, not between 1 and {MOST_TOLERANCE}", tolerance.value);
        let help = "1 rolls back whatever is worse at all, 1.2 lets the canary be 20 % worse";
        report.add(wrong(tolerance.place, message).help(help));
    }
    if let Some(Spanned { value: SlowerThan::Time(threshold), place }) = analysis.slower_than {
        slower_than(report, &Spanned::new(threshold, place));
    }
    time(report, "minDuration", analysis.min_duration.as_ref());
    requests(report, analysis.min_requests.as_ref());
    if let Some(warm_up) = &analysis.warm_up {
        checks::duration_or_zero(report, warm_up);
    }
    time(report, "maxStepDuration", analysis.max_step_duration.as_ref());
    let mut names = HashSet::new();
    for one in &analysis.prometheus {
        gate(report, one);
        if !one.name.is_empty() && !names.insert(one.name.as_str()) {
            report.add(conflict(one.name.place, format!("the gate `{}` is there twice", one.name.value)));
        }
    }
}

/// A percentage above 0 and below `most`.
fn between(report: &mut Report, name: &str, percent: Option<&Percent>, most: f64) {
    let Some(percent) = percent else { return };
    if !(percent.value > 0.0 && percent.value < most) {
        report.wrong(percent.place, format!("`{name}` is {}%, not above 0% and below {most}%", percent.value));
    }
}

/// A time above 0, in whole milliseconds.
pub(super) fn time(report: &mut Report, name: &str, duration: Option<&Spanned<Duration>>) {
    let Some(duration) = duration else { return };
    if duration.value.is_zero() {
        report.wrong(duration.place, format!("`{name}` must be at least 1ms"));
    } else {
        checks::duration_or_zero(report, duration);
    }
}

/// A number of requests: without any, nothing can be said.
pub(super) fn requests(report: &mut Report, requests: Option<&Spanned<i64>>) {
    if let Some(requests) = requests.filter(|requests| requests.value < 1) {
        report.wrong(requests.place, format!("`minRequests` is {}, and must be at least 1", requests.value));
    }
}

/// Requests are counted in buckets, so a threshold is the edge of one.
fn slower_than(report: &mut Report, threshold: &Spanned<Duration>) {
    let (shortest, longest) = (LATENCY_EDGES[0], LATENCY_EDGES[LATENCY_EDGES.len() - 1]);
    let wanted = threshold.value;
    let Some(used) = edge(wanted).filter(|_| !wanted.is_zero()) else {
        let wanted = written(wanted);
        let message = format!("`slowerThan` is {wanted}, not between {} and {}", written(shortest), written(longest));
        return report.add(wrong(threshold.place, message).help("write `off` to leave latency out"));
    };
    if used != wanted {
        let message = format!(
            "`slowerThan` is {}, which is no edge of a latency bucket: {} is used",
            written(wanted),
            written(used)
        );
        let below = LATENCY_EDGES.into_iter().rev().find(|edge| *edge < wanted);
        let help = below.map_or_else(
            || format!("the first edge is {}", written(used)),
            |below| format!("the edges beside it are {} and {}", written(below), written(used)),
        );
        report.add(Diagnostic::warning(Kind::Value, threshold.place, message).help(help));
    }
}

fn gate(report: &mut Report, gate: &Gate) {
    for (name, text) in [("name", &gate.name), ("address", &gate.address), ("query", &gate.query)] {
        if text.is_empty() {
            report.add(missing(gate.place, format!("`{name}` of the gate is missing")));
        }
    }
    if names::check_label_value(&gate.name).is_err() {
        let message = format!("`{}` is no name for a gate", gate.name.value.escape_debug());
        report.add(wrong(gate.name.place, message).help("letters, digits and inner `-`, `_`, `.`, at most 63"));
    }
    if !gate.address.is_empty() {
        url::check(report, "address", &gate.address, false);
    }
    let known = |hole: &str| HOLES.contains(&hole).then_some("");
    for hole in fill(&gate.query, known).err().into_iter().flatten() {
        let message = format!("`{}` in a query is no placeholder", hole.escape_debug());
        report.add(wrong(gate.query.place, message).help("there are `{{canary}}` and `{{stable}}`"));
    }
    match (&gate.min, &gate.max) {
        (None, None) => {
            let found = missing(gate.place, "a gate needs `max` or `min`: any value would pass it");
            report.add(found.help("write `max: 500e6`, say"));
        }
        (Some(min), Some(max)) if min.value > max.value => {
            report.add(conflict(max.place, format!("`max` is {}, below `min`, {}", max.value, min.value)));
        }
        _ => {}
    }
    if let Some(interval) = gate.interval.filter(|interval| interval.value < SHORTEST_INTERVAL) {
        report.wrong(interval.place, format!("`interval` must be at least {}", written(SHORTEST_INTERVAL)));
    } else if let Some(interval) = &gate.interval {
        checks::duration_or_zero(report, interval);
    }
}
