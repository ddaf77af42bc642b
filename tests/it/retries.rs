//! Retries as a rule asks for them: what calls for one, how many there are, what the upstream sees, and what is counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::client::request;
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::{Refusing, Upstream, answer};
use super::support::wire::Message;

const FAILURE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

/// Fails so many requests, then answers.
fn recovering(failures: usize) -> Upstream {
    let seen = AtomicUsize::new(0);
    Upstream::answering(
        move |_| {
            if seen.fetch_add(1, Ordering::SeqCst) < failures { FAILURE.to_vec() } else { answer("v1") }
        },
    )
}

fn start(upstream: &Upstream, retries: &str) -> Proxy {
    Proxy::start(&Config::single(&[upstream.port]).rule(&format!("retries: {retries}")))
}

fn attempts(upstream: &Upstream) -> Vec<String> {
    upstream.ledger.all().iter().map(|seen| seen.request.head.get("x-serin-attempt").to_owned()).collect()
}

#[test]
fn a_failed_answer_is_not_given_while_a_retry_may_do_better() {
    let upstream = recovering(2);
    let proxy = start(&upstream, "{attempts: 3, retryOn: 5xx}");
    let answer = proxy.client().get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "v1"));
    assert_eq!(attempts(&upstream), ["", "2", "3"]);
    assert_eq!((proxy.attempts("5xx"), proxy.attempts("2xx")), (2.0, 1.0), "a retry does not hide what failed");
    assert_eq!(proxy.requests(&[("version", "v1")]), 1.0);
    assert_eq!(proxy.metric("http_response_flags_total", &[("flag", "URX")]), 0.0);
}

#[test]
fn the_last_answer_is_given_when_retries_are_used_up() {
    let upstream = recovering(usize::MAX);
    let proxy = start(&upstream, "{attempts: 2, retryOn: 'gateway-error'}");
    let answer = proxy.client().get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (503, "busy"));
    assert!(!answer.head.has("x-serin-flag"), "it is the application's own");
    assert_eq!(upstream.ledger.len(), 3);
    assert_eq!(proxy.metric("http_response_flags_total", &[("flag", "URX")]), 1.0);
}

#[test]
fn a_connection_whose_answer_was_not_wanted_serves_the_next_try() {
    let upstream = recovering(2);
    let proxy = start(&upstream, "{attempts: 3, retryOn: '503', backoff: 1s}");
    assert_eq!(proxy.client().get("/").status(), 200);
    assert_eq!(upstream.ledger.connections(), 1);
}

#[test]
fn what_is_not_named_is_not_tried_again() {
    for retries in ["{attempts: 3, retryOn: 'retriable-4xx,502'}", "{}", "{attempts: 3}"] {
        let upstream = recovering(usize::MAX);
        let proxy = start(&upstream, retries);
        assert_eq!(proxy.client().get("/").status(), 503, "{retries}");
        assert_eq!(upstream.ledger.len(), 1, "{retries}");
    }
}

#[test]
fn a_small_body_is_sent_again_and_a_large_one_is_not() {
    for (length, tries) in [(0, 2), (1, 2), (64 * 1024, 2), (64 * 1024 + 1, 1), (1024 * 1024, 1)] {
        let body: Vec<u8> = (0..length).map(|n: usize| (n % 251) as u8).collect();
        let upstream = recovering(1);
        let proxy = start(&upstream, "{attempts: 1, retryOn: 5xx}");
        let answer = proxy.client().post("/", &body);
        assert_eq!(answer.status(), if tries == 2 { 200 } else { 503 }, "{length}");
        let seen = upstream.ledger.all();
        assert_eq!(seen.len(), tries, "{length}");
        assert!(seen.iter().all(|seen| seen.request.body == body), "{length}");
    }
}

#[test]
fn a_chunked_body_is_sent_again_with_its_chunks() {
    let upstream = recovering(1);
    let proxy = start(&upstream, "{attempts: 1, retryOn: 5xx}");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: product-service\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    client.send("2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.answer().unwrap().status(), 200);
    let bodies: Vec<Vec<u8>> = upstream.ledger.all().iter().map(|seen| seen.request.body.clone()).collect();
    assert_eq!(bodies, [b"abcde", b"abcde"]);
    assert_eq!(proxy.metric("http_request_bytes_total", &[]), 5.0, "the client sent it once");
}

#[test]
fn a_post_without_an_answer_is_never_sent_twice() {
    let broken = Upstream::answering(|_| b"HTTP/1.1 2".to_vec());
    for (method, seen) in [("POST", 1), ("PUT", 3)] {
        let before = broken.ledger.len();
        let proxy = Proxy::start(
            &Config::single(&[broken.port]).rule("retries: {attempts: 2, retryOn: 'reset,5xx', perTryTimeout: 100ms}"),
        );
        let mut client = proxy.client();
        client.send(request(method, "/", b"x"));
        let answer = client.answer().unwrap();
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (504, "UT"), "{method}");
        assert_eq!(broken.ledger.len() - before, seen, "{method}");
        assert_eq!(proxy.attempts("UT"), seen as f64);
    }
}

#[test]
fn another_endpoint_is_tried_where_there_is_one() {
    let (bad, good) = (recovering(usize::MAX), Upstream::named("v1"));
    let config = Config::single(&[bad.port, good.port]);
    let proxy = Proxy::start(&config.rule("retries: {attempts: 1, retryOn: 5xx, backoff: 1ms}"));
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert!(bad.ledger.len() > 0 && good.ledger.len() == 20);
}

#[test]
fn the_routes_timeout_bounds_all_tries() {
    let silent = Upstream::answering(|_| Vec::new());
    let config = Config::single(&[silent.port]).rule("timeout: 500ms");
    let proxy = Proxy::start(&config.rule("retries: {attempts: 10, perTryTimeout: 200ms, retryOn: reset}"));
    let since = Instant::now();
    assert_eq!(proxy.client().get("/").head.get("x-serin-flag"), "UT");
    assert!(since.elapsed() >= Duration::from_millis(500));
    assert!((2..=3).contains(&silent.ledger.len()));
}

#[test]
fn a_version_that_fails_everything_gets_a_fifth_more_and_not_a_multiple() {
    let upstream = recovering(usize::MAX);
    let proxy = start(&upstream, "{attempts: 3, retryOn: 5xx, backoff: 1ms}");
    let mut client = proxy.client();
    let since = Instant::now();
    for _ in 0..200 {
        assert_eq!(client.get("/").status(), 503);
    }
    let seconds = since.elapsed().as_secs() as usize + 1;
    let retries = upstream.ledger.len() - 200;
    assert!((30..=30 + 40 + 3 * seconds).contains(&retries), "{retries} retries in {seconds} s");
    assert!(proxy.metric("serin_retry_budget_exhausted_total", &[("version", "v1")]) > 0.0);
    assert!(proxy.metric("http_response_flags_total", &[("flag", "UO")]) > 0.0);
}

#[test]
fn a_connection_that_is_refused_is_tried_again_as_far_as_the_rule_goes() {
    for (retries, tries) in [("{attempts: 2, retryOn: connect-failure}", 3), ("{attempts: 2, retryOn: '503'}", 1)] {
        let refusing = Refusing::new();
        let proxy = Proxy::start(&Config::single(&[refusing.port]).rule(&format!("retries: {retries}")));
        let answer = proxy.client().get("/");
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (503, "UF"));
        assert_eq!(proxy.attempts("UF"), f64::from(tries), "{retries}");
    }
}

#[test]
fn a_grpc_answer_without_messages_is_tried_again_by_default() {
    let upstream = Upstream::answering(|request: &Message| match request.head.get("x-serin-attempt") {
        "" => b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n"
            .to_vec(),
        _ => answer("v1"),
    });
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut client = proxy.client();
    client.send(
        "POST /s/m HTTP/1.1\r\nhost: product-service\r\ncontent-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0",
    );
    assert_eq!(client.answer().unwrap().head.get("x-version"), "v1");
    assert_eq!(client.post("/", b"no gRPC").head.get("grpc-status"), "14");
    assert_eq!(upstream.ledger.len(), 3);
}
