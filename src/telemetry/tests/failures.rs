//! Failures, stalls and panics as a scraper sees them.

use super::*;

#[test]
fn failures_are_counted_by_error_and_blame_and_answers_that_break_off_by_side() {
    let (metrics, [v1, v2]) = canary();
    let failed =
        |error: ProxyError, aborted: Option<Blame>| Finished { error: Some(error), aborted, ..request(503, 1) };
    v1.finished(Worker(0), &failed(ProxyError::ConnectionRefused, None));
    v1.finished(Worker(1), &failed(ProxyError::ConnectionRefused, None));
    v2.finished(Worker(1), &failed(ProxyError::HttpResponseIncomplete, Some(Blame::Upstream)));
    v2.finished(Worker(1), &Finished { aborted: Some(Blame::Client), ..request(499, 1) });
    metrics.unrouted().finished(Worker(0), &failed(ProxyError::DestinationNotFound, None));
    let scrape = Scrape::of(&metrics);
    let with = |version: [(&'static str, &'static str); 2], error, blame| {
        [version[0], version[1], ("error", error), ("blame", blame)]
    };
    let one = |labels: [(&str, &str); 4]| scrape.one("serin_failed_requests_total", &labels);
    assert_eq!(one(with(V1, "connection_refused", "upstream")), 2.0);
    assert_eq!(one(with(V2, "http_response_incomplete", "upstream")), 1.0);
    let nowhere = [("app", NONE), ("version", NONE)];
    assert_eq!(one(with(nowhere, "destination_not_found", "client")), 1.0);
    assert_eq!(scrape.sum("serin_failed_requests_total", &[]), 4.0);
    for side in ["upstream", "client"] {
        assert_eq!(scrape.one("serin_body_aborted_total", &[V2[0], V2[1], ("side", side)]), 1.0);
    }
    assert_eq!(scrape.sum("serin_body_aborted_total", &[]), 2.0);
}

#[test]
fn stalls_are_counted_for_each_worker() {
    let (metrics, _) = canary();
    metrics.worker_stalls().add(Worker(1), Duration::from_millis(1500));
    metrics.worker_stalls().add(Worker(1), Duration::from_millis(250));
    let scrape = Scrape::of(&metrics);
    let of = |worker| scrape.one("serin_worker_stall_seconds_total", &[("worker", worker)]);
    assert_eq!((of("0"), of("1")), (0.0, 1.75));
    assert_eq!(scrape.one("serin_panics_total", &[]), 0.0);
}
