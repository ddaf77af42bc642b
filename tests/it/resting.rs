//! Connections that bring nothing for a while rest: what only requests need is let go of. Nobody may notice.

use rustix::process::Signal;

use super::support::client::{Client, HOST, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::upstream::{Script, Upstream, answer};
use super::support::wire::{End, Message};

/// One whose log says when connections rest.
fn telling(config: &Config, arguments: &[&str]) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, config.yaml()).unwrap();
    let log = "info,serin::proxy::http1=trace";
    Proxy::spawn(folder, serin().arg("run").arg(path).args(["--workers", "1"]).args(arguments).env("SERIN_LOG", log))
}

fn rests(proxy: &Proxy) -> usize {
    proxy.log().matches("a connection rests").count()
}

/// Until connections have begun to rest so many times.
fn rested(proxy: &Proxy, times: usize) {
    eventually("it rests", || rests(proxy) >= times);
}

fn echo(request: &Message) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len()).as_bytes(), &request.body].concat()
}

#[test]
fn the_next_request_is_served_as_if_nothing_had_been() {
    let upstream = Upstream::answering(echo);
    let proxy = telling(&Config::single(&[upstream.port]), &[]);
    let mut client = proxy.client();
    client.get("/first");
    rested(&proxy, 1);
    client.get("/in-one-piece");
    rested(&proxy, 2);
    for byte in format!("GET /in-many HTTP/1.1\r\nhost: {HOST}\r\n\r\n").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().unwrap().status(), 200);
    rested(&proxy, 3);
    let two = [request("GET", "/two", b""), request("PUT", "/at-once", b"body")].concat();
    client.send(two);
    assert_eq!(client.answer().unwrap().text(), "");
    assert_eq!(client.answer().unwrap().text(), "body");
    // A body that was read to its end is no reason to stay awake.
    rested(&proxy, 4);
    let long = "x".repeat(20_000);
    assert_eq!(client.ask(HOST, "/long-head", &[("x-long", &long)]).unwrap().status(), 200);
    rested(&proxy, 5);
    let large = vec![7; 300_000];
    client.send(request("PUT", "/large", &large));
    assert!(client.answer().unwrap().body == large);
    let seen: Vec<String> = upstream.ledger.all().iter().map(|seen| seen.request.head.target().1.to_owned()).collect();
    assert_eq!(seen, ["/first", "/in-one-piece", "/in-many", "/two", "/at-once", "/long-head", "/large"]);
}

#[test]
fn one_that_closes_while_it_rests_is_gone() {
    let upstream = Upstream::named("v1");
    let proxy = telling(&Config::single(&[upstream.port]), &["--keepalive-timeout", "3s"]);
    let (mut leaves, mut stays) = (proxy.client(), proxy.client());
    leaves.get("/");
    stays.get("/");
    rested(&proxy, 2);
    leaves.half_close();
    assert_eq!(leaves.rest(), (Vec::new(), End::Fin));
    // The limits of an idle connection hold.
    assert_eq!(stays.rest(), (Vec::new(), End::Fin));
    assert_eq!(proxy.metric("serin_client_connections_closed_total", &[("reason", "idle")]), 1.0);
}

#[test]
fn at_the_end_of_the_process_it_is_served_once_more_or_closed() {
    let upstream = Upstream::named("v1");
    let mut proxy = telling(&Config::single(&[upstream.port]), &[]);
    let (mut asks, mut silent) = (proxy.client(), proxy.client());
    asks.get("/");
    silent.get("/");
    rested(&proxy, 2);
    proxy.signal(Signal::TERM);
    eventually("balancers are told", || proxy.ask("GET", "/ready").0 == 503);
    assert_eq!(asks.get("/").status(), 200);
    for mut client in [asks, silent] {
        assert_eq!(client.rest(), (Vec::new(), End::Fin));
    }
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}

const UPLOAD: &str = "POST /upload HTTP/1.1\r\nhost: product-service\r\ncontent-length: 5000\r\n\r\nbegin";

/// What follows a body that was not read to its end is more of it, never a request.
fn never_rests(proxy: &Proxy, script: &Script, mut unfinished: Client, finished: Client) {
    // Another one that has had as much time.
    rested(proxy, 1);
    drop(finished);
    // Refused, if it has closed in the meantime.
    let _ = unfinished.try_send(format!("GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    unfinished.half_close();
    unfinished.rest();
    assert_eq!(rests(proxy), 1);
    while let Some(mut wire) = script.try_accept() {
        assert!(wire.head().unwrap().is_none());
    }
}

#[test]
fn a_connection_whose_upload_was_answered_early_does_not_rest() {
    let script = Script::start();
    let proxy = telling(&Config::single(&[script.port]), &[]);
    let (mut unfinished, mut finished) = (proxy.client(), proxy.client());
    unfinished.send(UPLOAD);
    let mut early = script.accept();
    early.head().unwrap().unwrap();
    early.send(answer("early"));
    assert_eq!(unfinished.answer().unwrap().text(), "early");
    finished.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send(answer("v1"));
    finished.answer().unwrap();
    never_rests(&proxy, &script, unfinished, finished);
}

#[test]
fn a_connection_whose_upload_was_turned_away_does_not_rest() {
    let script = Script::start();
    let proxy = telling(&Config::single(&[script.port]), &["--max-requests", "1"]);
    let (mut unfinished, mut finished) = (proxy.client(), proxy.client());
    finished.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    unfinished.send(UPLOAD);
    assert_eq!(unfinished.answer().unwrap().status(), 503);
    wire.send(answer("v1"));
    finished.answer().unwrap();
    never_rests(&proxy, &script, unfinished, finished);
}
