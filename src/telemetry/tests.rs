//! The metrics as a scraper sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::*;

mod calls;
mod failures;
mod rollouts;

type Labels = BTreeMap<String, String>;

/// An independent reader of the text format, strict about what it accepts.
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    fn of(metrics: &Metrics) -> Self {
        let text = metrics.render();
        assert!(text.ends_with('\n'));
        let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let mut helped = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split(' ').next().unwrap();
                assert!(help.len() > helped.len() + 10, "help says something: {line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "help before type");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else {
                let (key, value) = Self::sample(line);
                assert!(key.0.starts_with(helped), "{line} under {helped}");
                assert!(samples.insert(key, value).is_none(), "twice: {line}");
            }
        }
        assert!(types.keys().is_sorted());
        Self { types, samples }
    }

    fn sample(line: &str) -> ((String, Labels), f64) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let Some((name, rest)) = series.split_once('{') else {
            return ((series.to_owned(), Labels::new()), value.parse().unwrap());
        };
        let (mut labels, mut rest) = (Labels::new(), rest.strip_suffix('}').unwrap());
        while !rest.is_empty() {
            let (label, quoted) = rest.split_once("=\"").unwrap();
            let (mut text, mut characters) = (String::new(), quoted.char_indices());
            let end = loop {
                match characters.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => text.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => text.push(other),
                }
            };
            assert!(labels.insert(label.trim_start_matches(',').to_owned(), text).is_none());
            rest = &quoted[end + 1..];
        }
        ((name.to_owned(), labels), value.parse().unwrap())
    }

    /// The samples of a metric that carry these labels, among others.
    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let carries = |found: &Labels| labels.iter().all(|(k, v)| found.get(*k).is_some_and(|f| f == v));
        self.samples.iter().filter(|((n, l), _)| n == name && carries(l)).map(|(_, value)| *value).collect()
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).into_iter().sum()
    }

    fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.find(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0]
    }

    fn sets(&self, name: &str) -> usize {
        self.find(name, &[]).len()
    }
}

fn request(status: u16, millis: u64) -> Finished<'static> {
    let duration = Duration::from_millis(millis);
    Finished {
        method: &Method::GET,
        status,
        flags: Flags::default(),
        error: None,
        aborted: None,
        duration,
        bytes_in: 3,
        bytes_out: 64,
        grpc: None,
    }
}

fn active(metrics: &std::sync::Arc<RouteMetrics>, share: f64) -> ActiveRoute {
    ActiveRoute { metrics: metrics.clone(), declared: share, effective: share }
}

const V1: [(&str, &str); 2] = [("app", "shop"), ("version", "v1")];
const V2: [(&str, &str); 2] = [("app", "shop"), ("version", "v2")];

/// A configuration that splits `shop` 90/10.
fn canary() -> (Metrics, [std::sync::Arc<RouteMetrics>; 2]) {
    let metrics = Metrics::new(2, Buckets::Fine);
    let routes = ["v1", "v2"].map(|version| metrics.route("canary/0", "shop", version));
    metrics.activate(vec![active(&routes[0], 0.9), active(&routes[1], 0.1)]);
    (metrics, routes)
}

#[test]
fn what_is_configured_exists_at_zero_before_the_first_request() {
    let (metrics, _) = canary();
    let scrape = Scrape::of(&metrics);
    for version in [V1, V2] {
        for name in [
            "http_requests_total",
            "http_request_duration_seconds_count",
            "http_upstream_duration_seconds_count",
            "http_stream_duration_seconds_count",
            "grpc_requests_total",
            "http_requests_in_flight",
            "http_request_bytes_total",
            "http_response_bytes_total",
        ] {
            assert_eq!(scrape.one(name, &version), 0.0);
        }
        for result in ["2xx", "5xx"] {
            let labels = [version[0], version[1], ("result", result)];
            assert_eq!(scrape.one("http_upstream_attempts_total", &labels), 0.0);
        }
        assert_eq!(scrape.find("serin_upstream_connections", &version), [0.0, 0.0]);
    }
    assert_eq!(scrape.find("serin_route_weight", &V1), [0.9, 0.9]);
    assert_eq!(scrape.find("serin_route_weight", &V2), [0.1, 0.1]);
    assert_eq!(scrape.find("serin_config_reloads_total", &[]), [0.0; 12]);
    assert_eq!(scrape.one("serin_metrics_dropped_labelsets_total", &[]), 0.0);
    assert_eq!(scrape.find("serin_client_connections_closed_total", &[]), [0.0; 8]);
    assert_eq!(scrape.find("serin_accept_errors_total", &[]), [0.0; 6]);
    assert_eq!(scrape.find("serin_upstream_exhausted_total", &[]), [0.0; 6]);
    assert_eq!(scrape.one("serin_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(scrape.one("process_resident_memory_bytes", &[]) > 0.0);
}

#[test]
fn a_configuration_that_never_got_into_force_is_not_shown() {
    let (metrics, _) = canary();
    let rejected = metrics.route("canary/1", "shop", "v3");
    assert!(Scrape::of(&metrics).find("http_requests_total", &[("version", "v3")]).is_empty());
    drop(rejected);
}

#[test]
fn one_request_is_counted_everywhere_it_should_be() {
    let (metrics, [_, v2]) = canary();
    let (worker, destination) = (Worker(1), v2.destination());
    destination.started(worker);
    assert_eq!(Scrape::of(&metrics).one("http_requests_in_flight", &V2), 1.0);
    destination.attempt(worker, AttemptResult::Failed(Flag::UF));
    destination.attempt(worker, AttemptResult::Status(201));
    destination.upstream_duration(worker, Duration::from_millis(4));
    destination.set_connections(0, 1);
    let flag = Flag::DI;
    v2.finished(worker, &Finished { method: &Method::POST, flags: flag.into(), ..request(201, 5) });
    destination.ended(worker);

    let scrape = Scrape::of(&metrics);
    let with = |more: &[(&'static str, &'static str)]| [&V2[..], more].concat();
    let labels = [("route", "canary/0"), ("method", "POST"), ("code", "201")];
    assert_eq!(scrape.one("http_requests_total", &with(&labels)), 1.0);
    assert_eq!(scrape.sum("http_requests_total", &[]), 1.0);
    let bucket = |le| scrape.one("http_request_duration_seconds_bucket", &with(&[("code_class", "2xx"), ("le", le)]));
    assert_eq!((bucket("0.004"), bucket("0.005"), bucket("+Inf")), (0.0, 1.0, 1.0));
    assert_eq!(scrape.one("http_request_duration_seconds_sum", &with(&[("code_class", "2xx")])), 0.005);
    assert_eq!(scrape.one("http_upstream_duration_seconds_count", &V2), 1.0);
    assert_eq!(scrape.one("http_upstream_duration_seconds_sum", &V2), 0.004);
    assert_eq!(scrape.one("http_upstream_attempts_total", &with(&[("result", "UF")])), 1.0);
    assert_eq!(scrape.one("http_upstream_attempts_total", &with(&[("result", "2xx")])), 1.0);
    assert_eq!(scrape.one("http_response_flags_total", &with(&[("flag", "DI")])), 1.0);
    assert_eq!(scrape.one("http_request_bytes_total", &V2), 3.0);
    assert_eq!(scrape.one("http_response_bytes_total", &V2), 64.0);
    assert_eq!(scrape.one("http_requests_in_flight", &V2), 0.0);
    assert_eq!(scrape.one("serin_upstream_connections", &with(&[("state", "active")])), 0.0);
    assert_eq!(scrape.one("serin_upstream_connections", &with(&[("state", "idle")])), 1.0);
}

#[test]
fn types_are_right() {
    let (metrics, [v1, _]) = canary();
    v1.finished(Worker(0), &Finished { flags: Flag::UT.into(), ..request(504, 1) });
    let _endpoint = metrics.endpoint("shop", "v1", "10.0.0.1:80");
    metrics.reloads().in_force(1, "abc");
    let types = Scrape::of(&metrics).types;
    for (name, kind) in &types {
        let expected = match name.as_str() {
            n if n.ends_with("_total") => "counter",
            n if n.ends_with("_duration_seconds") => "histogram",
            _ => "gauge",
        };
        assert_eq!(kind, expected, "{name}");
    }
    assert_eq!(types.keys().filter(|name| name.starts_with("http_")).count(), 9);
    assert_eq!(types.keys().filter(|name| name.starts_with("serin_")).count(), 26);
}

#[test]
fn unusual_methods_and_codes_and_lost_clients() {
    let (metrics, [v1, _]) = canary();
    let purge = Method::from_bytes(b"PURGE").unwrap();
    v1.finished(Worker(0), &Finished { method: &purge, ..request(200, 1) });
    v1.finished(Worker(0), &request(99, 1));
    v1.finished(Worker(1), &request(777, 1));
    v1.finished(Worker(1), &Finished { flags: Flag::DC.into(), ..request(499, 90_000) });
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("http_requests_total", &[("method", "_OTHER"), ("code", "200")]), 1.0);
    assert_eq!(scrape.one("http_requests_total", &[("code", "other")]), 2.0);
    assert_eq!(scrape.one("http_request_duration_seconds_count", &[("code_class", "other")]), 2.0);
    assert_eq!(scrape.one("http_requests_total", &[("code", "499")]), 1.0);
    assert_eq!(scrape.one("http_request_duration_seconds_bucket", &[("code_class", "4xx"), ("le", "60")]), 0.0);
    assert_eq!(v1.latency().count(), 1, "a client that left says nothing about the version");
}

#[test]
fn sums_are_exact_over_workers_and_threads() {
    const WORKERS: usize = 8;
    const EACH: u64 = 5_000;
    let metrics = Metrics::new(WORKERS, Buckets::Small);
    let route = metrics.route("r/0", "shop", "v1");
    std::thread::scope(|scope| {
        for worker in (0..WORKERS).map(Worker) {
            let (route, metrics) = (&route, &metrics);
            scope.spawn(move || {
                for n in 0..EACH {
                    route.destination().started(worker);
                    let status = if n % 10 == 0 { 503 } else { 200 };
                    route.finished(worker, &request(status, n % 20));
                    route.destination().ended(worker);
                    if n % 1_000 == 0 {
                        let _ = metrics.render();
                    }
                }
            });
        }
    });
    let scrape = Scrape::of(&metrics);
    let all = WORKERS as f64 * EACH as f64;
    assert_eq!(scrape.sum("http_requests_total", &[("code", "503")]), all / 10.0);
    assert_eq!(scrape.sum("http_requests_total", &V1), all);
    assert_eq!(scrape.sum("http_request_duration_seconds_count", &V1), all);
    assert_eq!(scrape.sum("http_request_duration_seconds_bucket", &[("le", "0.005")]), all * 6.0 / 20.0);
    assert_eq!(scrape.one("http_response_bytes_total", &V1), all * 64.0);
    assert_eq!(scrape.one("http_requests_in_flight", &V1), 0.0);
}

#[test]
fn a_new_configuration_resets_nothing() {
    let (metrics, [v1, v2]) = canary();
    v2.finished(Worker(0), &request(200, 5));
    v2.destination().started(Worker(0));
    let again = ["v1", "v2"].map(|version| metrics.route("canary/0", "shop", version));
    assert!(std::sync::Arc::ptr_eq(&again[0], &v1) && std::sync::Arc::ptr_eq(&again[1], &v2));
    assert!(std::sync::Arc::ptr_eq(&metrics.destination("shop", "v2"), v2.destination()));
    metrics.activate(vec![active(&again[0], 0.7), active(&again[1], 0.3)]);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("http_requests_total", &V2), 1.0);
    assert_eq!(scrape.one("http_requests_in_flight", &V2), 1.0);
    assert_eq!(scrape.find("serin_route_weight", &V2), [0.3, 0.3]);
}

#[test]
fn a_version_that_left_loses_its_gauges_and_keeps_its_counters() {
    let (metrics, [v1, v2]) = canary();
    let _endpoint = metrics.endpoint("shop", "v2", "10.0.0.2:80");
    v2.finished(Worker(0), &request(500, 5));
    metrics.activate(vec![active(&v1, 1.0)]);
    let scrape = Scrape::of(&metrics);
    for gauge in
        ["serin_route_weight", "http_requests_in_flight", "serin_upstream_connections", "serin_upstream_healthy"]
    {
        assert!(scrape.find(gauge, &V2).is_empty(), "{gauge}");
    }
    assert_eq!(scrape.one("http_requests_total", &[V2[0], V2[1], ("code", "500")]), 1.0);
    assert_eq!(scrape.one("http_requests_total", &[V2[0], V2[1], ("code", "200")]), 0.0, "it does not vanish");
    assert_eq!(scrape.one("http_upstream_duration_seconds_count", &V2), 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_counters_of_a_version_that_left_go_after_an_hour() {
    let (metrics, [v1, v2]) = canary();
    v2.finished(Worker(0), &request(200, 5));
    metrics.activate(vec![active(&v1, 1.0)]);
    drop(v2);
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(Scrape::of(&metrics).one("http_requests_total", &V2), 1.0);
    tokio::time::advance(Duration::from_secs(1)).await;
    let scrape = Scrape::of(&metrics);
    assert!(scrape.samples.keys().all(|(_, labels)| labels.get("version").is_none_or(|v| v != "v2")));
    assert_eq!(scrape.one("http_requests_total", &V1), 0.0);
}

#[test]
fn endpoints_show_their_health_while_they_are_held() {
    let (metrics, _) = canary();
    let endpoint = metrics.endpoint("shop", "v1", "[::1]:8081");
    let of = [("endpoint", "[::1]:8081")];
    assert_eq!(Scrape::of(&metrics).one("serin_upstream_healthy", &of), 1.0);
    metrics.endpoint("shop", "v1", "[::1]:8081").set_healthy(false);
    assert_eq!(Scrape::of(&metrics).one("serin_upstream_healthy", &of), 0.0, "the same labels are the same gauge");
    drop(endpoint);
    assert!(Scrape::of(&metrics).find("serin_upstream_healthy", &[]).is_empty());
}

#[test]
fn requests_without_a_destination() {
    let metrics = Metrics::new(1, Buckets::Fine);
    assert!(Scrape::of(&metrics).find("http_requests_total", &[]).is_empty(), "nothing configured, nothing happened");
    metrics.unrouted().finished(Worker(0), &Finished { flags: Flag::NR.into(), ..request(404, 0) });
    let redirect = metrics.route("moved/0", NONE, NONE);
    redirect.finished(Worker(0), &request(301, 0));
    let scrape = Scrape::of(&metrics);
    let none = [("app", "_none"), ("version", "_none")];
    assert_eq!(scrape.one("http_requests_total", &[none[0], none[1], ("route", "_none"), ("code", "404")]), 1.0);
    assert_eq!(scrape.one("http_requests_total", &[none[0], none[1], ("route", "moved/0"), ("code", "301")]), 1.0);
    assert_eq!(scrape.one("http_response_flags_total", &[("flag", "NR")]), 1.0);
}

#[test]
fn reloads_and_snapshots() {
    let metrics = Metrics::new(1, Buckets::Fine);
    let reloads = metrics.reloads();
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("serin_config_last_reload_successful", &[]), 0.0);
    assert_eq!(scrape.one("serin_config_snapshots_live", &[]), 0.0);
    assert!(scrape.find("serin_config_info", &[]).is_empty());

    let held = [reloads.snapshot(), reloads.snapshot()];
    reloads.in_force(1, "first");
    reloads.set_watch_healthy(true);
    reloads.looked(ReloadResult::Applied, ReloadTrigger::Watch, Duration::from_millis(3));
    reloads.in_force(2, "second");
    reloads.looked(ReloadResult::Rejected, ReloadTrigger::Api, Duration::from_millis(1));
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("serin_config_reloads_total", &[("result", "applied"), ("trigger", "watch")]), 1.0);
    assert_eq!(scrape.one("serin_config_reloads_total", &[("result", "rejected"), ("trigger", "api")]), 1.0);
    assert_eq!(scrape.sum("serin_config_reloads_total", &[]), 2.0);
    assert_eq!(scrape.one("serin_config_last_reload_successful", &[]), 0.0);
    assert!(scrape.one("serin_config_last_reload_success_timestamp_seconds", &[]) > 1.7e9);
    assert_eq!(scrape.one("serin_config_generation", &[]), 2.0);
    assert_eq!(scrape.one("serin_config_info", &[("hash", "second")]), 1.0);
    assert_eq!(scrape.one("serin_config_snapshots_live", &[]), 2.0);
    assert_eq!(scrape.one("serin_config_watch_healthy", &[]), 1.0);
    assert_eq!(scrape.one("serin_config_reload_duration_seconds_count", &[]), 2.0);

    drop(held);
    reloads.looked(ReloadResult::Unchanged, ReloadTrigger::Poll, Duration::ZERO);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("serin_config_snapshots_live", &[]), 0.0);
    assert_eq!(scrape.one("serin_config_last_reload_successful", &[]), 1.0, "what is on disk is in force again");
}

#[test]
fn ten_thousand_routes_are_folded_and_no_request_is_lost() {
    let metrics = Metrics::new(1, Buckets::Small);
    let routes: Vec<_> = (0..5_000)
        .flat_map(|n| ["v1", "v2"].map(|version| metrics.route(&format!("vs-{n:04}/0"), "shop", version)))
        .collect();
    metrics.activate(routes.iter().map(|route| active(route, 0.5)).collect());
    for (n, route) in routes.iter().enumerate() {
        route.finished(Worker(0), &request(if n % 3 == 0 { 200 } else { 503 }, 1));
    }
    let scrape = Scrape::of(&metrics);
    for version in [V1, V2] {
        assert_eq!(scrape.sum("http_requests_total", &version), 5_000.0);
        assert_eq!(scrape.sum("http_request_duration_seconds_count", &version), 5_000.0);
        assert!(scrape.sum("http_requests_total", &[version[0], version[1], ("route", "_other")]) > 3_900.0);
    }
    for name in ["http_requests_total", "http_request_duration_seconds_count", "serin_route_weight"] {
        assert!(scrape.sets(name) <= LABEL_SETS, "{name}: {}", scrape.sets(name));
    }
    assert!(scrape.one("serin_metrics_dropped_labelsets_total", &[]) >= 8_000.0);
    assert_eq!(Scrape::of(&metrics).samples.len(), scrape.samples.len(), "and it stays so");
}

#[test]
fn thousands_of_versions_are_folded_too() {
    let metrics = Metrics::new(1, Buckets::Small);
    let routes: Vec<_> = (0..3_000).map(|n| metrics.route("r/0", "shop", &format!("v{n}"))).collect();
    routes.iter().for_each(|route| route.finished(Worker(0), &request(200, 1)));
    metrics.activate(routes.iter().map(|route| active(route, 1.0)).collect());
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("http_requests_total", &[]), 3_000.0);
    assert!(scrape.one("http_response_bytes_total", &[("version", "_other")]) >= 64.0 * 1_000.0);
    for name in ["http_requests_total", "http_upstream_attempts_total", "http_response_bytes_total"] {
        assert!(scrape.sets(name) <= LABEL_SETS, "{name}: {}", scrape.sets(name));
    }
}

#[test]
fn a_page_of_every_version() {
    let (metrics, [v1, v2]) = canary();
    (0..99).for_each(|_| v1.finished(Worker(0), &request(200, 10)));
    v1.finished(Worker(1), &request(200, 1_000));
    v2.finished(Worker(0), &request(500, 1));
    let versions = metrics.versions();
    let of = |n: usize| {
        let VersionSummary { app, version, total, .. } = &versions[n];
        (app.as_str(), version.as_str(), total.requests, total.errors)
    };
    assert_eq!((of(0), of(1), versions.len()), (("shop", "v1", 100, 0), ("shop", "v2", 1, 1), 2));
    let millis = |q| versions[0].total.latency.quantile(q).unwrap().as_secs_f64() * 1e3;
    assert!((millis(0.5) / 10.0 - 1.0).abs() < 0.012 && (millis(0.999) / 1_000.0 - 1.0).abs() < 0.012);
    assert_eq!(versions[1].total.latency.count(), 0, "quick failures do not make it fast");
}

#[test]
fn a_version_is_counted_route_by_route_and_in_all() {
    let (metrics, [v1, v2]) = canary();
    let other = metrics.route("canary/1", "shop", "v1");
    metrics.activate(vec![active(&v1, 0.75), active(&v2, 0.25), active(&other, 1.0)]);
    v1.destination().started(Worker(0));
    (0..3).for_each(|_| v1.finished(Worker(0), &request(200, 10)));
    v2.finished(Worker(1), &Finished { flags: Flag::UT.into(), ..request(504, 900) });
    other.finished(Worker(1), &request(404, 80));
    metrics.unrouted().finished(Worker(0), &Finished { flags: Flag::NR.into(), ..request(404, 1) });
    let versions = metrics.versions();
    let [nowhere, v1, v2] = &versions[..] else { panic!("{versions:?}") };
    assert_eq!((nowhere.total.requests, nowhere.routes[0].got), (1, None), "what reached no version has no share");
    assert_eq!((v1.total.requests, v1.total.errors, v1.in_flight, v1.bytes_in, v1.bytes_out), (4, 0, 1, 12, 256));
    assert_eq!(v1.total.codes.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [("2xx", 3), ("4xx", 1)]);
    let routes: Vec<_> = v1.routes.iter().map(|r| (r.route.as_str(), r.declared, r.got, r.done.requests)).collect();
    assert_eq!(routes, [("canary/0", Some(0.75), Some(0.75), 3), ("canary/1", Some(1.0), Some(1.0), 1)]);
    for (route, millis) in v1.routes.iter().zip([10.0, 80.0]) {
        let median = route.done.latency.quantile(0.5).unwrap().as_secs_f64() * 1e3;
        assert!((median / millis - 1.0).abs() < 0.012, "{median} for {millis}");
    }
    assert_eq!((v2.total.errors, v2.flags.clone()), (1, [("UT".to_owned(), 1)].into()));
}

#[test]
fn what_was_before_a_baseline_does_not_count() {
    let (metrics, [v1, v2]) = canary();
    (0..90).for_each(|_| v1.finished(Worker(0), &request(200, 10)));
    (0..10).for_each(|_| v2.finished(Worker(0), &Finished { flags: Flag::DI.into(), ..request(500, 10) }));
    v1.destination().started(Worker(0));
    let baseline = metrics.versions();
    (0..3).for_each(|_| v1.finished(Worker(1), &request(301, 40)));
    v2.finished(Worker(1), &request(200, 40));
    let versions = VersionSummary::since(metrics.versions(), &baseline);
    let of = |n: usize| (versions[n].total.requests, versions[n].total.errors, versions[n].routes[0].got);
    assert_eq!((of(0), of(1)), ((3, 0, Some(0.75)), (1, 0, Some(0.25))));
    assert_eq!((versions[0].in_flight, versions[0].bytes_out), (1, 192), "a gauge is no counter");
    assert!(versions[1].flags.is_empty());
    assert_eq!(versions[0].total.latency.count(), 3);
    assert!(versions[0].total.latency.quantile(0.0).unwrap() > Duration::from_millis(39));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_forgotten_takes_nothing_from_its_version() {
    let (metrics, [v1, v2]) = canary();
    let other = metrics.route("canary/1", "shop", "v1");
    metrics.activate(vec![active(&v1, 0.9), active(&v2, 0.1), active(&other, 1.0)]);
    other.finished(Worker(0), &request(200, 5));
    let before = metrics.versions();
    metrics.activate(vec![active(&v1, 0.9), active(&v2, 0.1)]);
    drop(other);
    tokio::time::advance(Duration::from_secs(3600)).await;
    let _ = metrics.render();
    v1.finished(Worker(0), &request(200, 5));
    let versions = metrics.versions();
    assert_eq!((versions[0].routes.len(), versions[0].total.requests), (1, 2));
    assert_eq!(versions[0].total.latency.count(), 2);
    let back = metrics.route("canary/1", "shop", "v1");
    (0..2).for_each(|_| back.finished(Worker(0), &request(200, 5)));
    let since = VersionSummary::since(metrics.versions(), &before);
    assert_eq!((since[0].total.requests, since[0].routes[1].done.requests), (3, 2), "its counters are new ones");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_label_value_survives_the_text(route in "(?s).{0,20}", app in "[\\\\\"\n{}=,a-z#]{0,8}", version in "\\PC{0,8}") {
        let metrics = Metrics::new(1, Buckets::Small);
        metrics.route(&route, &app, &version).finished(Worker(0), &request(200, 1));
        let labels = [("app", &*app), ("version", &*version), ("route", &*route)];
        prop_assert_eq!(Scrape::of(&metrics).one("http_requests_total", &labels), 1.0);
    }
}
