//! Mirrors get copies, and nothing that becomes of a copy is seen by the client.

use std::time::{Duration, Instant};

use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::{Refusing, Script, Upstream};
use super::support::{eventually, is_share};

fn start(primary: u16, mirror: u16, more: &str) -> Proxy {
    let config = Config::single(&[primary]).version("v2", 0, &[mirror]);
    Proxy::start(&config.rule("mirror: {host: product-service, subset: v2}").rule(more))
}

fn copies(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric("serin_mirror_requests_total", &[("version", "v2"), ("result", result)])
}

#[test]
fn a_copy_is_the_request_with_another_host() {
    let (primary, mirror) = (Upstream::named("v1"), Upstream::named("v2"));
    let proxy = start(primary.port, mirror.port, "headers: {request: {set: {x-set: by-route}}}");
    let mut client = proxy.client();
    assert_eq!(client.get("/a?b=c").head.get("x-version"), "v1");
    eventually("the copy arrives", || mirror.ledger.len() == 1);
    let (original, copy) = (primary.ledger.last(), mirror.ledger.last());
    assert_eq!(copy.head.line, original.head.line);
    assert_eq!(copy.head.get("host"), "product-service-shadow");
    assert_eq!(copy.head.get("x-set"), "by-route");
    eventually("the copy is counted", || copies(&proxy, "sent") == 1.0);
    assert_eq!(proxy.requests(&[("version", "v2")]), 0.0, "a copy is no request");
    assert_eq!(proxy.metric("http_upstream_attempts_total", &[("version", "v2")]), 0.0);
}

#[test]
fn a_body_is_copied_while_it_streams_up_to_a_limit() {
    let (primary, mirror) = (Upstream::named("v1"), Upstream::named("v2"));
    let proxy = start(primary.port, mirror.port, "timeout: 60s");
    let mut client = proxy.client();
    let body: Vec<u8> = (0..64 * 1024).map(|n| (n % 251) as u8).collect();
    assert_eq!(client.post("/", &body).status(), 200);
    client.send("POST / HTTP/1.1\r\nhost: product-service\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.answer().unwrap().status(), 200);
    eventually("both copies arrive", || mirror.ledger.len() == 2);
    let bodies: Vec<Vec<u8>> = mirror.ledger.all().iter().map(|seen| seen.request.body.clone()).collect();
    assert!(bodies.contains(&body) && bodies.contains(&b"abc".to_vec()));
    let large = vec![b'x'; 64 * 1024 + 1];
    assert_eq!(client.post("/", &large).status(), 200);
    assert_eq!(primary.ledger.last().body, large);
    client.send("POST / HTTP/1.1\r\nhost: product-service\r\ntransfer-encoding: chunked\r\n\r\n10001\r\n");
    client.send([&*large, b"\r\n0\r\n\r\n"].concat());
    assert_eq!(client.answer().unwrap().status(), 200);
    assert_eq!(primary.ledger.last().body, large);
    eventually("both are counted", || copies(&proxy, "dropped_size") == 2.0);
    assert_eq!(mirror.ledger.len(), 2);
}

#[test]
fn a_mirror_that_is_gone_is_not_noticed() {
    let (primary, mirror) = (Upstream::named("v1"), Refusing::new());
    let proxy = start(primary.port, mirror.port, "timeout: 60s");
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").status(), 200);
    }
    eventually("the copies are counted", || copies(&proxy, "error") == 10.0);
    assert_eq!(proxy.requests(&[("version", "v1"), ("code", "200")]), 10.0);
}

#[test]
fn a_mirror_that_stalls_costs_a_bounded_number_of_copies() {
    let (primary, mirror) = (Upstream::named("v1"), Script::start());
    let proxy = start(primary.port, mirror.port, "timeout: 60s");
    let mut client = proxy.client();
    let since = Instant::now();
    for _ in 0..1500 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert!(since.elapsed() < Duration::from_secs(15), "no request waited for its copy");
    assert!(copies(&proxy, "dropped_busy") > 0.0);
}

#[test]
fn each_mirror_gets_its_share() {
    let (primary, all, some) = (Upstream::named("v1"), Upstream::named("v2"), Upstream::named("v3"));
    let config = Config::single(&[primary.port]).version("v2", 0, &[all.port]).version("v3", 0, &[some.port]);
    let to = |subset: &str, percent: f64| {
        format!("{{destination: {{host: product-service, subset: {subset}}}, percentage: {{value: {percent}}}}}")
    };
    let proxy = Proxy::start(&config.rule(&format!("mirrors: [{}, {}]", to("v2", 100.0), to("v3", 25.0))));
    let mut client = proxy.client();
    for _ in 0..400 {
        assert_eq!(client.get("/").head.get("x-version"), "v1");
    }
    let done = || copies(&proxy, "sent") + copies(&proxy, "dropped_busy") >= 400.0;
    eventually("the copies are counted", done);
    assert_eq!(all.ledger.len(), 400);
    eventually("the share is settled", || is_share(some.ledger.len(), 400, 0.25));
}
