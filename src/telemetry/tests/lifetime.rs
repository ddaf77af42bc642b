//! Since when and how long a series is there: from the configuration to the last that holds it.

use super::*;

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
fn a_new_configuration_resets_nothing() {
    let (metrics, [v1, v2]) = canary();
    v2.finished(Worker(0), &request(200, 5));
    v2.destination().started(Worker(0));
    let again = ["v1", "v2"].map(|version| metrics.route("canary/0", "shop", version));
    assert!(Arc::ptr_eq(&again[0], &v1) && Arc::ptr_eq(&again[1], &v2));
    assert!(Arc::ptr_eq(&metrics.destination("shop", "v2"), v2.destination()));
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
