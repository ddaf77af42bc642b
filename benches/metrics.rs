//! What measuring costs a request, and what reading the measurements costs the admin thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use http::Method;
use serin::telemetry::{ActiveRoute, AttemptResult, Buckets, Finished, Flags, Metrics, RouteMetrics, Worker};

fn main() {
    divan::main();
}

/// Everything that is recorded for one proxied request with one attempt.
#[inline]
fn record(route: &RouteMetrics, worker: Worker, draw: u64) {
    let destination = route.destination();
    destination.started(worker);
    let upstream = Duration::from_nanos(200_000 + draw % 20_000_000);
    let status = if draw.is_multiple_of(50) { 503 } else { 200 };
    destination.upstream_duration(worker, upstream);
    destination.attempt(worker, AttemptResult::Status(status));
    let duration = upstream + Duration::from_micros(30);
    let method = if draw.is_multiple_of(4) { &Method::POST } else { &Method::GET };
    route.finished(
        worker,
        &Finished {
            method,
            status,
            flags: Flags::default(),
            error: None,
            aborted: None,
            duration,
            bytes_in: 0,
            bytes_out: 64,
            grpc: None,
        },
    );
    destination.ended(worker);
}

fn routes(metrics: &Metrics, count: usize) -> Vec<Arc<RouteMetrics>> {
    let route = |n| metrics.route(&format!("route/{n}"), "shop", if n % 2 == 0 { "v1" } else { "v2" });
    let routes: Vec<_> = (0..count).map(route).collect();
    let share = |metrics| ActiveRoute { metrics, declared: 0.5, effective: 0.5 };
    metrics.activate(routes.iter().cloned().map(share).collect());
    routes
}

/// One request, on one of this many routes.
#[divan::bench(args = [2, 200], sample_size = 10_000)]
fn request(bencher: Bencher, count: usize) {
    let metrics = Metrics::new(4, Buckets::Fine);
    let routes = routes(&metrics, count);
    let mut draw: u64 = 1;
    bencher.bench_local(|| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = draw >> 33;
        record(&routes[drawn as usize % count], black_box(Worker(1)), drawn);
    });
}

/// One scrape with this many routes, half of them to each of two versions.
#[divan::bench(args = [2, 200, 2_000])]
fn scrape(bencher: Bencher, count: usize) {
    let metrics = Metrics::new(4, Buckets::Fine);
    for (n, route) in routes(&metrics, count).iter().enumerate() {
        (0..4).for_each(|worker| record(route, Worker(worker), n as u64));
    }
    bencher.bench_local(|| metrics.render());
}
