//! The label sets of each metric that has more labels than `app` and `version`, and so is subject to the cap.

use std::sync::Arc;

use prometheus::proto::LabelPair;

use crate::telemetry::destination::DestinationMetrics;
use crate::telemetry::failure::ProxyError;
use crate::telemetry::flag::Flag;
use crate::telemetry::histogram::ClassicSum;
use crate::telemetry::limit::Set;
use crate::telemetry::record::{AttemptResult, Class, GRPC_STATUSES, METHODS};
use crate::telemetry::route::RouteMetrics;

/// The code that exists at zero from the start, as `GET`: `rate()` needs a zero before the first request.
const USUAL_CODE: u16 = 200;

/// `http_requests_total`; with `from_start`, a zero for the usual request that has not happened so far.
pub(in crate::telemetry) fn requests(route: &RouteMetrics, from_start: bool) -> Vec<Set<u64>> {
    let mut counted = route.requests();
    let usual = |&(method, code, _): &(usize, u16, u64)| (method, code) == (0, USUAL_CODE);
    if from_start && !counted.iter().any(usual) {
        let at = counted.partition_point(|&(method, code, _)| (method, code) < (0, USUAL_CODE));
        counted.insert(at, (0, USUAL_CODE, 0));
    }
    let set = |(method, code, value): (usize, u16, u64)| {
        let shown = if Class::of(code) == Class::Other { "other".to_owned() } else { code.to_string() };
        let own = [("route", route.route()), ("method", METHODS[method]), ("code", &shown)];
        let cell = u32::from(code) * 16 + u32::try_from(method).expect("ten methods");
        set(route.destination(), (route.id, cell), &own, value)
    };
    counted.into_iter().map(set).collect()
}

/// `http_request_duration_seconds`; with `from_start`, zeros for 2xx.
pub(in crate::telemetry) fn durations(route: &RouteMetrics, from_start: bool) -> Vec<Set<ClassicSum>> {
    let set = |class: Class| {
        let empty = (from_start && class == Class::Successful).then(ClassicSum::default);
        let value = route.durations(class).or(empty)?;
        let own = [("route", route.route()), ("code_class", class.as_str())];
        Some(set(route.destination(), (route.id, class as u32), &own, value))
    };
    Class::ALL.into_iter().filter_map(set).collect()
}

/// `grpc_requests_total`; with `from_start`, a zero for OK.
pub(in crate::telemetry) fn grpc(route: &RouteMetrics, from_start: bool) -> Vec<Set<u64>> {
    let set = |index: usize| {
        let value = route.grpc(index);
        let own = [("route", route.route()), ("grpc_status", GRPC_STATUSES[index])];
        let id = (route.id, u32::try_from(index).expect("few statuses"));
        (value > 0 || from_start && index == 0).then(|| set(route.destination(), id, &own, value))
    };
    (0..GRPC_STATUSES.len()).filter_map(set).collect()
}

/// `http_upstream_attempts_total`; with `from_start`, zeros for 2xx and 5xx.
pub(in crate::telemetry) fn attempts(destination: &Arc<DestinationMetrics>, from_start: bool) -> Vec<Set<u64>> {
    let usual = [Class::Successful as usize, Class::ServerError as usize];
    let set = |index: usize| {
        let value = destination.attempts(index);
        let present = value > 0 || from_start && usual.contains(&index);
        let id = (destination.id, u32::try_from(index).expect("few results"));
        present.then(|| set(destination, id, &[("result", AttemptResult::label(index))], value))
    };
    (0..AttemptResult::COUNT).filter_map(set).collect()
}

/// `http_response_flags_total`.
pub(in crate::telemetry) fn flags(destination: &Arc<DestinationMetrics>) -> Vec<Set<u64>> {
    let set = |flag: Flag| {
        let value = destination.flags(flag);
        (value > 0).then(|| set(destination, (destination.id, flag as u32), &[("flag", flag.as_str())], value))
    };
    Flag::ALL.into_iter().filter_map(set).collect()
}

/// `serin_failed_requests_total`.
pub(in crate::telemetry) fn failures(destination: &Arc<DestinationMetrics>) -> Vec<Set<u64>> {
    let set = |error: ProxyError| {
        let value = destination.errors(error);
        let own = [("error", error.as_str()), ("blame", error.blame().as_str())];
        (value > 0).then(|| set(destination, (destination.id, error as u32), &own, value))
    };
    ProxyError::ALL.into_iter().filter_map(set).collect()
}

fn set<V>(destination: &Arc<DestinationMetrics>, id: (u64, u32), own: &[(&str, &str)], value: V) -> Set<V> {
    let mut labels = vec![label("app", &destination.app), label("version", &destination.version)];
    labels.extend(own.iter().map(|(name, value)| label(name, value)));
    Set { destination: Arc::clone(destination), id, labels, value }
}

/// One label.
pub(in crate::telemetry) fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
