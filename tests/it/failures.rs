//! `serin_failed_requests_total` and `serin_body_aborted_total`: what failed, and who is to blame.

use super::support::client::{Client, HOST, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Refusing, Script, Upstream};

const FAILED: &str = "serin_failed_requests_total";
const ABORTED: &str = "serin_body_aborted_total";

/// One request failed, so and not otherwise.
#[track_caller]
fn failed(proxy: &Proxy, version: &str, error: &str, blame: &str) {
    eventually("it is counted", || proxy.metric(FAILED, &[]) == 1.0);
    let labels = [("version", version), ("error", error), ("blame", blame)];
    assert_eq!(proxy.metric(FAILED, &labels), 1.0, "{}", proxy.ask("GET", "/metrics").1);
}

#[test]
fn the_endpoint_is_blamed_for_what_it_refuses() {
    let down = Refusing::new();
    let proxy = Proxy::start(&Config::single(&[down.port]));
    assert_eq!(proxy.client().get("/").status(), 503);
    failed(&proxy, "v1", "connection_refused", "upstream");
    assert_eq!(proxy.metric(ABORTED, &[]), 0.0);
}

#[test]
fn the_client_is_blamed_for_what_it_asks() {
    let proxy = Proxy::with(&Config::single(&[9]), &["--strict-hosts"]);
    assert_eq!(proxy.client().ask("elsewhere", "/", &[]).unwrap().status(), 404);
    failed(&proxy, "_none", "destination_not_found", "client");

    let proxy = Proxy::start(&Config::single(&[9]));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n");
    assert_eq!(client.answer().unwrap().status(), 400);
    failed(&proxy, "_none", "http_request_error", "client");
}

#[test]
fn limits_are_the_proxys_own() {
    let script = Script::start();
    let pool = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}";
    let proxy = Proxy::with(&Config::single(&[script.port]).policy(pool), &["--workers", "1"]);
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    let mut clients = clients.iter_mut();
    clients.next().unwrap().send(request("GET", "/", b""));
    let mut upstream = script.accept();
    upstream.request().unwrap().unwrap();
    // One of these waits for the connection.
    clients.for_each(|client| client.send(request("GET", "/", b"")));
    failed(&proxy, "v1", "connection_limit_reached", "proxy");
}

#[test]
fn an_answer_that_breaks_off_says_who_broke_it() {
    const PART: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart";
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send(PART);
    wire.close();
    assert!(client.answer().is_err());
    failed(&proxy, "v1", "http_response_incomplete", "upstream");
    assert_eq!(proxy.metric(ABORTED, &[("version", "v1"), ("side", "upstream")]), 1.0);

    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send(PART);
    assert_eq!(client.head().unwrap().unwrap().status(), 200);
    drop(client);
    eventually("it is counted", || proxy.metric(ABORTED, &[("version", "v1"), ("side", "client")]) == 1.0);
    assert_eq!(proxy.metric(FAILED, &[]), 1.0, "that a client goes away is no failure");
    assert_eq!(proxy.metric(ABORTED, &[]), 2.0);
}

#[test]
fn what_the_application_says_and_what_is_injected_is_no_failure() {
    let upstream = Upstream::answering(|_| b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec());
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    assert_eq!(proxy.client().get("/").status(), 503);
    assert_eq!((proxy.requests(&[("code", "503")]), proxy.metric(FAILED, &[])), (1.0, 0.0));

    let fault = "fault: {abort: {httpStatus: 503, percentage: {value: 100}}}";
    let proxy = Proxy::start(&Config::single(&[upstream.port]).rule(fault));
    assert_eq!(proxy.client().ask(HOST, "/", &[]).unwrap().status(), 503);
    assert_eq!((proxy.requests(&[("code", "503")]), proxy.metric(FAILED, &[])), (1.0, 0.0));
}
