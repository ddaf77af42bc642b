//! Requests as a scraper sees them: where each is counted, and that none is lost or counted twice.

use super::*;

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
