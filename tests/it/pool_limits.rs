//! What a cluster may be asked at once, and how long and for how much a connection is used.

use std::thread;

use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, Upstream, answer};
use super::support::wire::Message;

fn assert_overloaded(answer: &Message) {
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (503, "UO"));
    assert_eq!(answer.head.get("x-envoy-overloaded"), "true");
}

const GET: &str = "GET / HTTP/1.1\r\nhost: product-service\r\n\r\n";

#[test]
fn requests_over_the_limit_are_refused_at_once() {
    let script = Script::start();
    let config = Config::single(&[script.port]).policy("{connectionPool: {http: {http2MaxRequests: 1}}}");
    let proxy = Proxy::start(&config);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    first.send(GET);
    let mut upstream = script.accept();
    upstream.request().unwrap();
    assert_overloaded(&second.get("/"));
    // Over all workers, and over a reload that keeps the limit.
    (0..4).for_each(|_| assert_overloaded(&proxy.client().get("/")));
    proxy.save(&config.rule("timeout: 9s").yaml());
    eventually("the new timeout is in force", || proxy.generation() == 2);
    assert_overloaded(&second.get("/"));
    upstream.send(answer("v1"));
    assert_eq!(first.answer().unwrap().status(), 200);
    assert_eq!(proxy.metric("http_response_flags_total", &[("flag", "UO")]), 6.0);
    // On the kept connection or on another one, by the worker: there is room again.
    thread::spawn(move || {
        while upstream.request().is_ok_and(|request| request.is_some()) {
            upstream.send(answer("v1"))
        }
    });
    thread::spawn(move || {
        let mut other = script.accept();
        other.request().unwrap();
        other.send(answer("v1"));
    });
    assert_eq!(second.get("/").status(), 200);
}

#[test]
fn one_waits_for_the_only_connection_and_the_next_is_refused() {
    let script = Script::start();
    let pool = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}";
    let proxy = Proxy::with(&Config::single(&[script.port]).policy(pool), &["--workers", "1"]);
    let mut clients = [proxy.client(), proxy.client(), proxy.client()];
    clients[0].send(GET);
    let mut upstream = script.accept();
    upstream.request().unwrap();
    clients[1].send(GET);
    // Whichever of the two comes second is refused, the other one waits.
    clients[2].send(GET);
    eventually("one is refused", || proxy.metric("http_response_flags_total", &[("flag", "UO")]) == 1.0);
    assert!(script.try_accept().is_none());
    upstream.send(answer("v1"));
    assert_eq!(clients[0].answer().unwrap().status(), 200);
    upstream.request().unwrap();
    upstream.send(answer("v1"));
    let [_, second, third] = &mut clients;
    let (second, third) = (second.answer().unwrap(), third.answer().unwrap());
    let refused = if second.status() == 200 { &third } else { &second };
    assert_eq!(second.status() + third.status(), 703);
    assert_overloaded(refused);
    assert!(script.try_accept().is_none(), "it was served on the connection that became free");
}

#[test]
fn a_limit_on_connections_holds_over_all_workers() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]).policy("{connectionPool: {tcp: {maxConnections: 1}}}");
    let proxy = Proxy::with(&config, &["--workers", "3"]);
    let mut clients: Vec<_> = (0..12).map(|_| proxy.client()).collect();
    for _ in 0..5 {
        clients.iter_mut().for_each(|client| client.send(GET));
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().unwrap().status(), 200));
        let [active, idle] = ["active", "idle"]
            .map(|state| proxy.metric("serin_upstream_connections", &[("version", "v1"), ("state", state)]));
        assert!(active == 0.0 && idle <= 1.0, "{active} {idle}");
    }
}

#[test]
fn a_connection_serves_as_many_requests_as_it_may() {
    for (most, connections) in [(1, 6), (2, 3), (4, 2)] {
        let upstream = Upstream::named("v1");
        let pool = format!("{{connectionPool: {{http: {{maxRequestsPerConnection: {most}}}}}}}");
        let proxy = Proxy::start(&Config::single(&[upstream.port]).policy(&pool));
        let mut client = proxy.client();
        (0..6).for_each(|_| assert_eq!(client.get("/").status(), 200));
        assert_eq!(upstream.ledger.connections(), connections, "{most}");
    }
}

#[test]
fn an_old_connection_takes_no_new_request() {
    let upstream = Upstream::named("v1");
    let pool = "{connectionPool: {tcp: {maxConnectionDuration: 300ms}}}";
    let proxy = Proxy::start(&Config::single(&[upstream.port]).policy(pool));
    let mut client = proxy.client();
    eventually("a third connection is used", || {
        assert_eq!(client.get("/").status(), 200);
        upstream.ledger.connections() == 3
    });
    assert!(upstream.ledger.len() > 3, "they were kept for a while");
}
