//! Connections that leave HTTP (WebSocket): only when both sides agree, and then byte for byte, across reloads.

use rustix::process::Signal;
use serde_json::Value;

use super::support::client::{Client, HOST, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, answer};
use super::support::wire::{End, Head, Wire};

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn wish() -> String {
    format!(
        "GET /chat HTTP/1.1\r\nhost: {HOST}\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    )
}

/// A tunnel through the proxy, and the head that opened it.
fn open(proxy: &Proxy, script: &Script) -> (Client, Wire, Head) {
    let mut client = proxy.client();
    client.send(wish());
    let mut wire = script.accept();
    let asked = wire.head().unwrap().unwrap();
    wire.send([AGREED, "early"].concat());
    let agreed = client.head().unwrap().unwrap();
    assert_eq!((agreed.status(), agreed.get("upgrade")), (101, "websocket"));
    assert_eq!(agreed.get("connection").to_ascii_lowercase(), "upgrade");
    assert_eq!(agreed.get("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(client.exactly(5).unwrap(), b"early", "what came with the agreement");
    (client, wire, asked)
}

fn pass_bytes(one: &mut Wire, other: &mut Wire) {
    let bytes: Vec<u8> = (0..100_000_u32).map(|number| (number % 253) as u8).collect();
    one.send(&bytes);
    assert!(other.exactly(bytes.len()).unwrap() == bytes);
    other.send(&bytes[1..]);
    assert!(one.exactly(bytes.len() - 1).unwrap() == bytes[1..]);
}

#[test]
fn both_sides_agree_and_bytes_pass_until_one_ends() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let (mut client, mut wire, asked) = open(&proxy, &script);
    assert_eq!(asked.target(), ("GET", "/chat"));
    assert_eq!((asked.get("connection"), asked.get("upgrade")), ("upgrade", "websocket"));
    assert_eq!(asked.get("sec-websocket-key"), "dGhlIHNhbXBsZSBub25jZQ==");
    pass_bytes(&mut client, &mut wire);

    client.half_close();
    assert_eq!(wire.rest(), (Vec::new(), End::Fin), "a half-closed connection is half-closed");
    wire.send("the last word");
    assert_eq!(client.exactly(13).unwrap(), b"the last word");
    wire.close();
    assert_eq!(client.rest(), (Vec::new(), End::Fin));
    eventually("it is counted", || proxy.requests(&[("version", "v1"), ("code", "101")]) == 1.0);
    assert_eq!(proxy.requests(&[]), 1.0);
    assert_eq!(proxy.metric("http_requests_in_flight", &[]), 0.0);
}

#[test]
fn the_time_of_a_tunnel_is_not_that_of_a_request() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let versions = || serde_json::from_str::<Value>(&proxy.ask("GET", "/api/v1/versions").1).unwrap();
    for end in [End::Fin, End::Reset] {
        let (client, mut wire, _) = open(&proxy, &script);
        match end {
            End::Fin => client.half_close(),
            End::Reset => Wire::from(client).reset(),
        }
        wire.rest();
    }
    eventually("both are counted", || proxy.requests(&[("version", "v1"), ("code", "101")]) == 2.0);
    assert_eq!(proxy.metric("http_stream_duration_seconds_count", &[("version", "v1")]), 2.0);
    assert_eq!(proxy.metric("http_request_duration_seconds_count", &[]), 0.0);
    let version = &versions()["versions"][0];
    assert_eq!((&version["requests"], &version["codes"]["1xx"]), (&2.into(), &2.into()), "{version}");
    assert_eq!(version["latency"]["cells"], Value::Array(Vec::new()), "{version}");
}

/// The end of the process is no reason to end it before the time that requests have, and no excuse to wait for longer.
#[test]
fn a_tunnel_lives_through_the_drain_and_is_cut_off_at_its_end() {
    let script = Script::start();
    let mut proxy = Proxy::with(&Config::single(&[script.port]), &["--drain-timeout", "1s"]);
    let (mut client, mut wire, _) = open(&proxy, &script);
    proxy.signal(Signal::TERM);
    eventually("balancers are told", || proxy.ask("GET", "/ready").0 == 503);
    pass_bytes(&mut client, &mut wire);
    assert_eq!(proxy.wait().code(), Some(3));
    assert!(proxy.log().contains("cut_off=1"), "{}", proxy.log());
    assert_eq!((client.rest().0, wire.rest().0), (Vec::new(), Vec::new()));
}

#[test]
fn a_tunnel_that_ends_during_the_drain_is_not_cut_off() {
    let script = Script::start();
    let mut proxy = Proxy::start(&Config::single(&[script.port]));
    let (client, mut wire, _) = open(&proxy, &script);
    proxy.signal(Signal::TERM);
    eventually("balancers are told", || proxy.ask("GET", "/ready").0 == 503);
    drop(client);
    wire.rest();
    drop(wire);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(proxy.log().contains("cut_off=0"), "{}", proxy.log());
}

#[test]
fn an_endpoint_that_ends_first_may_still_listen() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let (mut client, mut wire, _) = open(&proxy, &script);
    wire.half_close();
    assert_eq!(client.rest(), (Vec::new(), End::Fin));
    client.send("the last word");
    assert_eq!(wire.exactly(13).unwrap(), b"the last word");
    client.half_close();
    assert_eq!(wire.rest(), (Vec::new(), End::Fin));
    eventually("it is counted", || proxy.requests(&[("code", "101")]) == 1.0);
}

#[test]
fn one_side_torn_off_ends_the_other() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let (client, mut wire, _) = open(&proxy, &script);
    Wire::from(client).reset();
    wire.rest();
    let (mut client, wire, _) = open(&proxy, &script);
    wire.reset();
    client.rest();
    eventually("both are counted", || proxy.requests(&[("code", "101")]) == 2.0);
}

#[test]
fn a_tunnel_survives_reloads() {
    let (script, other) = (Script::start(), Script::start());
    let config = Config::default().version("v1", 100, &[script.port]).version("v2", 0, &[other.port]);
    let proxy = Proxy::start(&config);
    let (mut client, mut wire, _) = open(&proxy, &script);
    for generation in 2..6 {
        let weights = if generation % 2 == 0 { [0, 100] } else { [50, 50] };
        proxy.save(&config.weights(&weights).yaml());
        eventually("the weights are in force", || proxy.generation() == generation);
        pass_bytes(&mut client, &mut wire);
    }
    proxy.save(&Config::single(&[other.port]).yaml());
    eventually("its endpoint is gone from the configuration", || proxy.generation() == 6);
    pass_bytes(&mut client, &mut wire);
}

#[test]
fn an_endpoint_that_does_not_agree_just_answers() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    let mut client = proxy.client();
    client.send(wish());
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send("HTTP/1.1 403 Forbidden\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nno");
    let answer = client.answer().unwrap();
    assert_eq!((answer.status(), answer.text().as_str(), answer.head.has("upgrade")), (403, "no", false));
    // Both connections still speak HTTP.
    client.send(request("PUT", "/next", b"body"));
    assert_eq!(wire.request().unwrap().unwrap().text(), "body");
    wire.send(super::support::upstream::answer("v1"));
    assert_eq!(client.answer().unwrap().text(), "v1");
}

#[test]
fn a_101_that_nobody_asked_for_is_a_502() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let plain = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let unlisted = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\n\r\n");
    let old = format!("GET / HTTP/1.0\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let neighbours = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n");
    for request in [plain, unlisted, old, neighbours] {
        let mut client = proxy.client();
        client.send(&request);
        let mut wire = script.accept();
        let got = wire.request().unwrap().unwrap();
        assert!(!got.head.has("upgrade") && !got.head.has("connection"), "{got:?}");
        wire.send([AGREED, "tunnel"].concat());
        let answer = client.answer().unwrap();
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (502, "UPE"), "{request}");
        wire.rest();
    }
}

/// Nothing of the other protocol may reach an endpoint that has not agreed to it: it would be read as a request.
#[test]
fn what_follows_a_wish_waits_for_the_agreement() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    let mut client = proxy.client();
    let smuggled = format!("PUT /smuggled HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n");
    client.send([wish(), smuggled].concat());
    let mut wire = script.accept();
    assert_eq!(wire.request().unwrap().unwrap().head.target().1, "/chat");
    wire.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    assert_eq!(client.answer().unwrap().status(), 403);
    // Without an agreement it is the next request, as which the proxy routes it.
    let next = wire.request().unwrap().unwrap();
    assert_eq!((next.head.target().1, next.head.get("x-forwarded-for")), ("/smuggled", "127.0.0.1"));
    wire.send(answer("v1"));
    assert_eq!(client.answer().unwrap().text(), "v1");
}
