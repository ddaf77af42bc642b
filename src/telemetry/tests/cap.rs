//! The cap on label sets: what is above it is folded together, and no request is lost.

use super::*;

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
