//! The counters as Prometheus reads them: summed, capped, ordered, written. Runs on the asking thread and only reads.

mod rollouts;
pub(super) mod sets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use self::sets::label;
use super::connections::ConnectionMetrics;
use super::destination::{Connection, DestinationMetrics};
use super::dns::{DnsFailure, DnsMetrics};
use super::failure::Blame;
use super::histogram::ClassicSum;
use super::identity::State;
use super::limit::{LABEL_SETS, Limit, OTHER, Set};
use super::log;
use super::metrics::Registry;
use super::names::{self, Name};
use super::overload::OverloadMetrics;
use super::panics;
use super::record::MirrorResult;
use super::reload::{ReloadMetrics, ReloadResult, ReloadTrigger};
use super::rollout::RolloutMetrics;
use super::scale::Scale;
use super::stalls::WorkerStalls;

type Value<'a, V> = &'a dyn Fn(&V) -> Metric;

/// Everything, in text.
pub(super) fn render(
    registry: &mut Registry,
    (reloads, rollouts, dns, (connections, overload), stalls, log_lines_lost): (
        &ReloadMetrics,
        &RolloutMetrics,
        &DnsMetrics,
        (&ConnectionMetrics, &OverloadMetrics),
        &WorkerStalls,
        u64,
    ),
    process: &ProcessCollector,
    scale: &Scale,
) -> String {
    let mut families = process.collect();
    families.extend(of_requests(registry, scale));
    families.extend(of_versions(registry, scale));
    families.extend(of_configuration(registry));
    families.extend(of_reloads(reloads, scale));
    families.extend(of_names(dns));
    families.extend(of_connections(connections));
    families.extend(of_overload(overload));
    let (of_rollouts, turned_away) = rollouts.read(|rollouts| (rollouts::families(rollouts), rollouts.dropped));
    families.extend(of_rollouts);
    families.push(family(names::STATE_WRITE_ERRORS, vec![counter(rollouts.unsaved())]));
    families.push(family(names::BUILD, vec![labelled(gauge(1.0), vec![label("version", env!("CARGO_PKG_VERSION"))])]));
    let dropped = registry.unnamed
        + registry.requests.dropped
        + registry.durations.dropped
        + registry.attempts.dropped
        + registry.flags.dropped
        + registry.grpc.dropped
        + registry.failures.dropped
        + turned_away;
    families.push(family(names::DROPPED, vec![counter(dropped)]));
    families.push(family(names::SAID_DROPPED, vec![counter(log::lost())]));
    families.push(family(names::LOG_DROPPED, vec![counter(log_lines_lost)]));
    families.push(family(names::PANICS, vec![counter(panics::count())]));
    families.push(family(names::STALLS, of_workers(stalls)));
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families).expect("every family has a name and metrics")
}

/// The metrics that the cap may fold.
fn of_requests(registry: &mut Registry, scale: &Scale) -> [MetricFamily; 6] {
    let (mut requests, mut durations, mut grpc) = (Vec::new(), Vec::new(), Vec::new());
    let (mut attempts, mut flags, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for (route, state) in registry.routes.iter() {
        requests.extend(sets::requests(route, state != State::Resolved));
        durations.extend(sets::durations(route, state != State::Resolved));
        grpc.extend(sets::grpc(route, state != State::Resolved));
    }
    for (destination, state) in registry.destinations.iter() {
        attempts.extend(sets::attempts(destination, state != State::Resolved));
        flags.extend(sets::flags(destination));
        failures.extend(sets::failures(destination));
    }
    let versions = registry.destinations.len();
    let count: Value<'_, u64> = &|value| counter(*value);
    let bounds: Value<'_, ClassicSum> = &|value| histogram(value, scale);
    let capped = |name, limit: &mut Limit<u64>, sets, own| family(name, capped(limit, sets, versions, (own, count)));
    let time = names::REQUEST_DURATION;
    let labels = (["route", "code_class"].as_slice(), bounds);
    [
        capped(names::REQUESTS, &mut registry.requests, requests, ["route", "method", "code"].as_slice()),
        family(time, self::capped(&mut registry.durations, durations, versions, labels)),
        capped(names::UPSTREAM_ATTEMPTS, &mut registry.attempts, attempts, ["result"].as_slice()),
        capped(names::FLAGS, &mut registry.flags, flags, ["flag"].as_slice()),
        capped(names::GRPC, &mut registry.grpc, grpc, ["route", "grpc_status"].as_slice()),
        capped(names::FAILED, &mut registry.failures, failures, ["error", "blame"].as_slice()),
    ]
}

/// The sets that are shown, then the folded ones, whose labels `own` all say so.
fn capped<V>(limit: &mut Limit<V>, sets: Vec<Set<V>>, versions: usize, form: (&[&str], Value<'_, V>)) -> Vec<Metric>
where
    V: Default + Clone + for<'a> std::ops::AddAssign<&'a V>,
{
    let (own, value) = form;
    let (shown, folded) = limit.apply(sets, versions);
    let mut metrics: Vec<_> = shown.into_iter().map(|set| labelled(value(&set.value), set.labels)).collect();
    metrics.extend(folded.into_iter().map(|((app, version), sum)| {
        let mut labels = vec![label("app", &app), label("version", &version)];
        labels.extend(own.iter().map(|name| label(name, OTHER)));
        labelled(value(&sum), labels)
    }));
    metrics
}

/// The metrics labelled by version alone; their number is that of the versions, which is capped where they are named.
fn of_versions(registry: &Registry, scale: &Scale) -> Vec<MetricFamily> {
    let counted = |destination: &DestinationMetrics, state| state != State::Resolved || destination.touched();
    let counted: Vec<_> = registry.destinations.iter().filter(|(d, state)| counted(d, *state)).collect();
    let each = |name, current: bool, value: &dyn Fn(&DestinationMetrics) -> Metric| {
        let shown = counted.iter().filter(|(_, state)| !(current && matches!(state, State::Retired(_))));
        family(name, shown.map(|(d, _)| labelled(value(d), version_labels(d))).collect())
    };
    let mut connections = Vec::new();
    for (destination, _) in counted.iter().filter(|(_, state)| !matches!(state, State::Retired(_))) {
        for (state, name) in [(Connection::Active, "active"), (Connection::Idle, "idle")] {
            let mut labels = version_labels(destination);
            labels.push(label("state", name));
            connections.push(labelled(gauge(destination.connections_in(state) as f64), labels));
        }
    }
    let mut mirrors = Vec::new();
    for (destination, _) in &counted {
        let copies = MirrorResult::ALL.map(|result| (result, destination.mirrors(result)));
        if copies.iter().any(|(_, count)| *count > 0) {
            mirrors.extend(copies.map(|(result, count)| {
                let mut labels = version_labels(destination);
                labels.push(label("result", result.as_str()));
                labelled(counter(count), labels)
            }));
        }
    }
    let mut aborted = Vec::new();
    for (destination, _) in &counted {
        for side in Blame::ALL.into_iter().filter(|side| destination.aborted(*side) > 0) {
            let mut labels = version_labels(destination);
            labels.push(label("side", side.as_str()));
            aborted.push(labelled(counter(destination.aborted(side)), labels));
        }
    }
    vec![
        family(names::ABORTED, aborted),
        family(names::MIRRORS, mirrors),
        each(names::RETRIES_REFUSED, false, &|d| counter(d.retries_refused())),
        each(names::UPSTREAM_DURATION, false, &|d| histogram(&d.upstream(), scale)),
        each(names::STREAM_DURATION, false, &|d| histogram(&d.tunnels(), scale)),
        each(names::REQUEST_BYTES, false, &|d| counter(d.bytes_in())),
        each(names::RESPONSE_BYTES, false, &|d| counter(d.bytes_out())),
        each(names::IN_FLIGHT, true, &|d| gauge(d.in_flight() as f64)),
        family(names::CONNECTIONS, connections),
    ]
}

/// Gauges of what the configuration in force says. They have no meaningful sum: beyond the cap they are left out.
fn of_configuration(registry: &Registry) -> [MetricFamily; 2] {
    let mut shares: BTreeMap<[&str; 3], [f64; 2]> = BTreeMap::new();
    for active in &registry.active {
        let destination = active.metrics.destination();
        let share = shares.entry([destination.app(), destination.version(), active.metrics.route()]).or_default();
        share[0] += active.declared;
        share[1] += active.effective;
    }
    let mut weights = Vec::new();
    for ([app, version, route], share) in shares.into_iter().filter(|(labels, _)| !labels.contains(&OTHER)) {
        for (source, share) in ["declared", "effective"].into_iter().zip(share) {
            let own = [("app", app), ("version", version), ("route", route), ("source", source)];
            weights.push(labelled(gauge(share), own.iter().map(|(name, value)| label(name, value)).collect()));
        }
    }
    let configured: std::collections::HashSet<u64> =
        registry.active.iter().map(|active| active.metrics.destination().id).collect();
    let endpoints = registry.endpoints.iter().filter_map(|([_, _, endpoint], (destination, health))| {
        let health = health.upgrade().filter(|_| configured.contains(&destination.id))?;
        let mut labels = version_labels(destination);
        labels.push(label("endpoint", endpoint));
        Some(labelled(gauge(f64::from(u8::from(health.healthy()))), labels))
    });
    weights.truncate(LABEL_SETS);
    [family(names::WEIGHT, weights), family(names::HEALTHY, endpoints.take(LABEL_SETS).collect())]
}

fn of_workers(stalls: &WorkerStalls) -> Vec<Metric> {
    let of = |(worker, seconds): (usize, f64)| {
        let mut counter = Counter::default();
        counter.set_value(seconds);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        labelled(metric, vec![label("worker", &worker.to_string())])
    };
    stalls.seconds().enumerate().map(of).collect()
}

fn of_connections(connections: &ConnectionMetrics) -> [MetricFamily; 3] {
    let one = |own: &str, (value, count)| labelled(counter(count), vec![label(own, value)]);
    [
        family(names::CLIENTS_CLOSED, connections.closings().map(|each| one("reason", each)).collect()),
        family(names::ACCEPT_ERRORS, connections.accept_errors().map(|each| one("errno", each)).collect()),
        family(names::CONNECT_ERRORS, connections.connect_errors().map(|each| one("errno", each)).collect()),
    ]
}

fn of_overload(overload: &OverloadMetrics) -> [MetricFamily; 4] {
    let shed = overload.turned_away().map(|(why, count)| labelled(counter(count), vec![label("reason", why)]));
    let limit = overload.memory_limit().map(|bytes| gauge(bytes as f64));
    [
        family(names::SHED, shed.collect()),
        family(names::MEMORY_LIMIT, limit.into_iter().collect()),
        family(names::KEPT_BODIES, vec![gauge(overload.kept() as f64)]),
        family(names::BODIES_NOT_KEPT, vec![counter(overload.bodies_not_kept())]),
    ]
}

fn of_reloads(reloads: &ReloadMetrics, scale: &Scale) -> Vec<MetricFamily> {
    let state = reloads.state();
    let mut counts = Vec::new();
    for result in ReloadResult::ALL {
        for trigger in ReloadTrigger::ALL {
            let labels = vec![label("result", result.as_str()), label("trigger", trigger.as_str())];
            counts.push(labelled(counter(state.counts[result as usize][trigger as usize]), labels));
        }
    }
    let since = state.last_success.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let hash = state.hash.map(|hash| labelled(gauge(1.0), vec![label("hash", &hash)]));
    let single = |name, value: f64| family(name, vec![gauge(value)]);
    vec![
        family(names::RELOADS, counts),
        family(names::RELOAD_DURATION, vec![histogram(&state.durations, scale)]),
        single(names::RELOAD_SUCCESSFUL, f64::from(u8::from(state.successful))),
        single(names::RELOAD_TIMESTAMP, since.unwrap_or_default().as_secs_f64()),
        single(names::GENERATION, state.generation as f64),
        family(names::CONFIG, hash.into_iter().collect()),
        single(names::SNAPSHOTS, reloads.snapshots() as f64),
        single(names::WATCH, f64::from(u8::from(state.watch_healthy))),
    ]
}

fn of_names(dns: &DnsMetrics) -> [MetricFamily; 2] {
    let failures = DnsFailure::ALL.map(|why| labelled(counter(dns.failures(why)), vec![label("reason", why.as_str())]));
    let age = dns.oldest_answer().map(|at| gauge(at.elapsed().as_secs_f64()));
    [family(names::DNS_FAILURES, failures.into()), family(names::DNS_AGE, age.into_iter().collect())]
}

fn version_labels(destination: &Arc<DestinationMetrics>) -> Vec<LabelPair> {
    vec![label("app", &destination.app), label("version", &destination.version)]
}

fn family(name: Name, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.name.to_owned());
    family.set_help(name.help.to_owned());
    family.set_field_type(name.kind);
    debug_assert!(!matches!(name.kind, MetricType::SUMMARY | MetricType::UNTYPED));
    family.set_metric(metrics);
    family
}

fn labelled(mut metric: Metric, labels: Vec<LabelPair>) -> Metric {
    metric.set_label(labels);
    metric
}

fn counter(value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

fn gauge(value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    Metric::from_gauge(gauge)
}

fn histogram(sum: &ClassicSum, scale: &Scale) -> Metric {
    let mut buckets = Vec::with_capacity(scale.bounds().len());
    let mut cumulative = 0;
    for (bound, count) in scale.bounds().iter().zip(sum.buckets) {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(sum.buckets.iter().sum());
    histogram.set_sample_sum(sum.nanos as f64 / 1e9);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}
