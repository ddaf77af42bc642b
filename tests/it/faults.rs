//! Faults that the operator injects: what the client sees, and that no version is blamed.

use std::time::{Duration, Instant};

use super::support::config::Config;
use super::support::is_share;
use super::support::proxy::Proxy;
use super::support::upstream::Upstream;

fn start(upstream: &Upstream, fault: &str) -> Proxy {
    Proxy::start(&Config::single(&[upstream.port]).rule(&format!("fault: {fault}")))
}

#[test]
fn an_abort_never_reaches_the_application_and_counts_for_no_version() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]).rule("retries: {attempts: 3, retryOn: 5xx}");
    let proxy = Proxy::start(&config.rule("fault: {abort: {httpStatus: 503, percentage: {value: 100}}}"));
    let answer = proxy.client().get("/");
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (503, "FI"));
    assert_eq!(upstream.ledger.len(), 0);
    assert_eq!(proxy.requests(&[("version", "v1"), ("code", "503")]), 0.0);
    assert_eq!(proxy.requests(&[("version", "_none"), ("code", "503")]), 1.0);
    assert_eq!(proxy.metric("http_response_flags_total", &[("version", "_none"), ("flag", "FI")]), 1.0);
}

#[test]
fn a_delay_comes_before_the_routes_timeout() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]).rule("timeout: 300ms");
    let proxy = Proxy::start(&config.rule("fault: {delay: {fixedDelay: 600ms, percentage: {value: 100}}}"));
    let since = Instant::now();
    assert_eq!(proxy.client().get("/").status(), 200);
    assert!(since.elapsed() >= Duration::from_millis(600));
    assert_eq!(proxy.metric("http_response_flags_total", &[("version", "v1"), ("flag", "DI")]), 1.0);
}

#[test]
fn both_are_injected_one_after_the_other() {
    let upstream = Upstream::named("v1");
    let proxy = start(
        &upstream,
        "{delay: {fixedDelay: 200ms, percentage: {value: 100}}, abort: {grpcStatus: NOT_FOUND, percentage: {value: 100}}}",
    );
    let since = Instant::now();
    let answer = proxy.client().get("/");
    assert!(since.elapsed() >= Duration::from_millis(200));
    assert_eq!((answer.status(), answer.head.get("grpc-status")), (200, "5"));
}

#[test]
fn a_share_of_the_requests_is_aborted() {
    let upstream = Upstream::named("v1");
    let proxy = start(&upstream, "{abort: {httpStatus: 418, percentage: {value: 30}}}");
    let mut client = proxy.client();
    let aborted = (0..1000).filter(|_| client.get("/").status() == 418).count();
    assert!(is_share(aborted, 1000, 0.3), "{aborted}");
    assert_eq!(upstream.ledger.len(), 1000 - aborted);
}
