//! Tunnels, calls of gRPC and look-ups of names as a scraper sees them.

use tokio::time::Instant;

use super::*;

#[test]
fn a_tunnel_is_a_request_whose_time_counts_for_itself() {
    let (metrics, [v1, _]) = canary();
    v1.finished(Worker(0), &request(101, 90_000));
    v1.finished(Worker(1), &request(200, 5));
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("http_requests_total", &[V1[0], V1[1], ("code", "101")]), 1.0);
    assert_eq!(scrape.one("http_stream_duration_seconds_count", &V1), 1.0);
    assert_eq!(scrape.one("http_stream_duration_seconds_sum", &V1), 90.0);
    assert_eq!(scrape.one("http_stream_duration_seconds_count", &V2), 0.0);
    assert_eq!(scrape.sum("http_request_duration_seconds_count", &V1), 1.0);
    assert_eq!(scrape.sum("http_request_duration_seconds_sum", &V1), 0.005);
    assert!(v1.latency().quantile(1.0).unwrap() < Duration::from_millis(10));
    let summary = &metrics.versions()[0];
    assert_eq!((summary.total.requests, summary.total.codes.iter().next()), (2, Some(("1xx", 1))));
}

#[test]
fn calls_of_grpc_are_counted_by_their_status() {
    let (metrics, [v1, _]) = canary();
    for (worker, status) in [(0, 0), (1, 0), (0, 14), (1, 200)] {
        v1.finished(Worker(worker), &Finished { grpc: Some(status), ..request(200, 1) });
    }
    v1.finished(Worker(0), &request(200, 1));
    let scrape = Scrape::of(&metrics);
    let calls =
        |status| scrape.sum("grpc_requests_total", &[V1[0], V1[1], ("route", "canary/0"), ("grpc_status", status)]);
    assert_eq!(["0", "14", "other", "2"].map(calls), [2.0, 1.0, 1.0, 0.0]);
    assert_eq!(scrape.sum("grpc_requests_total", &V2), 0.0);
}

#[test]
fn look_ups_that_failed_are_counted_and_the_oldest_answer_has_its_age() {
    let (metrics, _) = canary();
    assert_eq!(Scrape::of(&metrics).find("serin_dns_failures_total", &[]), [0.0, 0.0]);
    assert!(Scrape::of(&metrics).find("serin_dns_answer_age_seconds", &[]).is_empty());
    metrics.dns().failed(DnsFailure::NotFound);
    metrics.dns().set_oldest_answer(Some(Instant::now() - Duration::from_secs(9)));
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("serin_dns_failures_total", &[("reason", "not_found")]), 1.0);
    assert_eq!(scrape.one("serin_dns_failures_total", &[("reason", "failed")]), 0.0);
    assert!(scrape.one("serin_dns_answer_age_seconds", &[]) >= 9.0);
}
