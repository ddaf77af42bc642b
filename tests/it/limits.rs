//! Limits on clients and endpoints: who is too slow gets a clear answer or a closed connection, and holds nothing.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http_body_util::BodyExt;

use super::support::client::{HOST, request};
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::{BlackHole, Script, Upstream, answer};
use super::support::wire::{End, Wire};
use super::support::{eventually, h2};

const SHORT_TIMEOUTS: [&str; 8] =
    ["--header-timeout", "1s", "--body-timeout", "1s", "--keepalive-timeout", "1s", "--stream-idle-timeout", "1s"];

/// Only the limit of this name is short.
fn with_limit(config: &Config, name: &str) -> Proxy {
    Proxy::with(config, &[name, "1s"])
}

fn flagged(proxy: &Proxy, flag: &str) -> f64 {
    proxy.metric("http_response_flags_total", &[("flag", flag)])
}

#[test]
fn a_silent_client_is_closed_without_a_word() {
    let upstream = Upstream::named("v1");
    let proxy = with_limit(&Config::single(&[upstream.port]), "--header-timeout");
    assert_eq!(proxy.client().rest(), (Vec::new(), End::Fin));
    assert_eq!(proxy.requests(&[]), 0.0);
}

#[test]
fn a_slow_head_is_refused_however_it_trickles() {
    let upstream = Upstream::named("v1");
    let proxy = with_limit(&Config::single(&[upstream.port]), "--header-timeout");
    for (number, first_request) in [true, false].into_iter().enumerate() {
        let mut client = proxy.client();
        if !first_request {
            assert_eq!(client.get("/").status(), 200);
        }
        client.send("GET / HTTP/1.1\r\nx: ");
        client.patience(Duration::from_millis(100));
        let answer = loop {
            match client.answer() {
                Ok(answer) => break answer,
                Err(error) if error.kind() == ErrorKind::WouldBlock => client.send("a"),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!((answer.status(), answer.head.get("connection")), (408, "close"));
        assert_eq!(answer.text(), "408 the request did not arrive in time (SI)\n");
        assert_eq!(proxy.requests(&[("app", "_none"), ("code", "408")]), number as f64 + 1.0);
    }
    assert_eq!((flagged(&proxy, "SI"), upstream.ledger.len()), (2.0, 1));
}

#[test]
fn a_slow_body_is_refused_and_the_endpoint_let_go() {
    let script = Script::start();
    let proxy = with_limit(&Config::single(&[script.port]), "--body-timeout");
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nhalf"));
    let mut wire = script.accept();
    wire.head().unwrap().unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (408, "SI"));
    assert_eq!(client.rest().0, b"");
    assert_eq!(wire.rest().0, b"half");
    eventually("it is counted", || proxy.requests(&[("version", "v1"), ("code", "408")]) == 1.0);
}

#[test]
fn an_idle_connection_is_closed() {
    let upstream = Upstream::named("v1");
    let proxy = with_limit(&Config::single(&[upstream.port]), "--keepalive-timeout");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(client.rest(), (Vec::new(), End::Fin));
    assert_eq!(proxy.requests(&[]), 1.0);
}

#[test]
fn with_too_many_connections_all_clients_are_served_in_turn() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]);
    let proxy = Proxy::with(&config, &["--max-connections", "4", "--workers", "2", "--keepalive-timeout", "1h"]);
    // Each stays after its request, so that only closing the idle makes room.
    let mut clients: Vec<_> = (0..30).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(request("GET", "/", b""));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().unwrap_or_else(|error| panic!("client {number}: {error}")).status(), 200);
    }
    assert_eq!(upstream.ledger.len(), 30);
}

#[test]
fn as_many_connections_as_are_allowed_are_left_alone() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--max-connections", "4", "--workers", "2"]);
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for _ in 0..50 {
        for client in &mut clients {
            assert_eq!(client.get("/").status(), 200);
        }
    }
}

#[test]
fn a_connection_waits_while_all_others_are_busy() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--max-connections", "2", "--workers", "1"]);
    let mut busy: Vec<_> = (0..2).map(|_| proxy.client()).collect();
    let mut wires: Vec<Wire> = busy
        .iter_mut()
        .map(|client| {
            client.send(request("GET", "/", b""));
            let mut wire = script.accept();
            wire.request().unwrap().unwrap();
            wire
        })
        .collect();
    let mut third = proxy.client();
    third.send(request("GET", "/third", b""));
    for (client, wire) in busy.iter_mut().zip(&mut wires) {
        wire.send(answer("v1"));
        assert_eq!(client.answer().unwrap().status(), 200, "a busy connection is not closed for a new one");
    }
    drop(wires);
    let mut wire = script.accept();
    assert_eq!(wire.request().unwrap().unwrap().head.target().1, "/third");
    wire.send(answer("v1"));
    assert_eq!(third.answer().unwrap().status(), 200);
}

/// A request at each side of each limit on heads: what is too much, and the status for it.
const HEADS: [(&str, usize, u16); 3] = [("target", 16 * 1024, 414), ("fields", 100, 431), ("size", 4096, 431)];

/// A target of this length, or this many fields.
fn target_and_fields(what: &str, amount: usize) -> (String, Vec<(String, String)>) {
    let plain = || "/".to_owned();
    match what {
        "target" => (format!("/{}", "a".repeat(amount - 1)), Vec::new()),
        "fields" => (plain(), (0..amount).map(|number| (format!("x-{number}"), String::new())).collect()),
        _ => (plain(), vec![("x".to_owned(), "a".repeat(amount))]),
    }
}

fn with_heads_of_4096_bytes(what: &str, upstream: &Upstream) -> Proxy {
    let arguments: &[&str] = if what == "size" { &["--max-header-size", "4KiB"] } else { &[] };
    Proxy::with(&Config::single(&[upstream.port]), arguments)
}

#[test]
fn a_head_at_its_limits_passes_and_one_more_is_too_much() {
    let upstream = Upstream::named("v1");
    for (what, limit, refusal) in HEADS {
        let proxy = with_heads_of_4096_bytes(what, &upstream);
        for (amount, expected) in [(limit - 1, 200), (limit, 200), (limit + 1, refusal)] {
            let around = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: \r\n\r\n").len();
            // The host is a field, too.
            let taken = match what {
                "fields" => 1,
                "size" => around,
                _ => 0,
            };
            let (target, fields) = target_and_fields(what, amount - taken);
            let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let mut client = proxy.client();
            client.send(format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n"));
            assert_eq!(client.answer().unwrap().status(), expected, "{what}: {amount}");
        }
        let refused = [("app", "_none"), ("code", &*refusal.to_string())];
        eventually("it is counted", || proxy.requests(&refused) == 1.0);
    }
}

#[test]
fn the_limits_of_heads_are_the_same_on_http2() {
    let upstream = Upstream::named("v1");
    for (what, limit, refusal) in HEADS {
        let proxy = with_heads_of_4096_bytes(what, &upstream);
        h2::run(async {
            let mut connection = h2::connect(proxy.listen).await;
            for (amount, expected) in [(limit - 1, 200), (limit, 200), (limit + 1, refusal)] {
                // Each field counts 32 bytes more than its name and value (RFC 9113 §6.5.2); four of them are the request line.
                let around = 5 * 32 + ":methodGET:schemehttp:path/:authorityx".len() + HOST.len();
                let (target, fields) = target_and_fields(what, if what == "size" { amount - around } else { amount });
                let mut request = h2::request("GET", &target, h2::empty());
                for (name, value) in fields {
                    let name: http::HeaderName = name.parse().unwrap();
                    request.headers_mut().insert(name, value.parse().unwrap());
                }
                let answer = connection.send_request(request).await.unwrap();
                assert_eq!(answer.status().as_u16(), expected, "{what}: {amount}");
            }
            // The pieces of a cookie are one field.
            let mut request = h2::request("GET", "/", h2::empty());
            for number in 0..150 {
                request.headers_mut().append("cookie", format!("{number}=").parse().unwrap());
            }
            let expected = if what == "size" { 431 } else { 200 };
            assert_eq!(connection.send_request(request).await.unwrap().status().as_u16(), expected, "cookies");
        });
    }
}

#[test]
fn the_routes_timeout_ends_a_request_and_its_connection() {
    let script = Script::start();
    let config = Config::single(&[script.port]).rule("timeout: 1s");
    let proxy = Proxy::with(&config, &["--workers", "1"]);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(request("POST", "/", b"body"));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        let answer = client.answer().unwrap();
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (504, "UT"));
        assert_eq!(answer.text(), "504 upstream request timeout for product-service v1 (UT)\n");
        wire.rest();
    }
    assert_eq!((proxy.requests(&[("code", "504")]), flagged(&proxy, "UT")), (2.0, 2.0));
    assert_eq!(proxy.attempts("UT"), 2.0, "an attempt that ran out of time is an attempt");
    assert_eq!(proxy.metric("serin_upstream_connections", &[]), 0.0);
}

#[test]
fn the_routes_timeout_includes_the_body() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]).rule("timeout: 1s"));
    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n");
    client.answer().expect_err("an answer that was cut off");
    wire.rest();
    eventually("it is counted", || flagged(&proxy, "UT") == 1.0);
    assert_eq!(proxy.requests(&[("code", "200")]), 1.0);
}

#[test]
fn a_request_without_a_byte_in_either_direction_is_given_up() {
    let script = Script::start();
    let proxy = with_limit(&Config::single(&[script.port]), "--stream-idle-timeout");
    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (504, "SI"));
    wire.rest();

    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart");
    client.answer().expect_err("an answer that was cut off");
    wire.rest();
    eventually("both are counted", || flagged(&proxy, "SI") == 2.0);
}

#[test]
fn a_stream_without_a_byte_in_either_direction_is_given_up() {
    let script = Script::start();
    let proxy = with_limit(&Config::single(&[script.port]), "--stream-idle-timeout");
    let listen = proxy.listen;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = script.accept();
            silent.request().unwrap().unwrap();
            silent.rest();
            let mut stalling = script.accept();
            stalling.request().unwrap().unwrap();
            stalling.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart");
            stalling.rest();
            let mut good = script.accept();
            good.request().unwrap().unwrap();
            good.send(answer("v1"));
        });
        h2::run(async {
            let mut connection = h2::connect(listen).await;
            let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
            assert_eq!((answer.status().as_u16(), &answer.headers()["x-serin-flag"]), (504, &"SI".parse().unwrap()));
            let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
            h2::body(answer).await.expect_err("an answer that was cut off");
            let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
            assert_eq!(h2::body(answer).await.unwrap(), "v1", "other streams live on");
        });
    });
    eventually("both are counted", || flagged(&proxy, "SI") == 2.0);
}

/// How far a request has come when its client goes away.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Upload,
    Waiting,
    Download,
}

fn leave(client: Wire, end: End) {
    match end {
        End::Fin => client.close(),
        End::Reset => client.reset(),
    }
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let mut left = 0.0;
    for phase in [Phase::Upload, Phase::Waiting, Phase::Download] {
        for end in [End::Fin, End::Reset] {
            let mut client = proxy.client();
            match phase {
                Phase::Upload => {
                    client.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\npart"));
                }
                Phase::Waiting | Phase::Download => client.send(request("POST", "/", b"body")),
            }
            let mut wire = script.accept();
            wire.head().unwrap().unwrap();
            wire.exactly(4).unwrap();
            if let Phase::Download = phase {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart");
                client.head().unwrap().unwrap();
                client.exactly(4).unwrap();
            }
            leave(client.into(), end);
            assert_eq!(wire.rest().0, b"", "{phase:?} {end:?}: the endpoint sees it");
            left += 1.0;
            eventually(&format!("it is counted: {phase:?} {end:?}"), || flagged(&proxy, "DC") == left);
            assert_eq!(proxy.requests(&[("version", "v1"), ("code", "499")]), left, "{phase:?} {end:?}");
        }
    }
    assert_eq!(proxy.requests(&[]), left);
    assert_eq!(proxy.metric("http_requests_in_flight", &[]), 0.0);
}

#[test]
fn a_client_that_leaves_before_there_is_a_connection_is_recorded_too() {
    let hole = BlackHole::new();
    let proxy = Proxy::start(&Config::single(&[hole.port]));
    for (number, end) in [End::Fin, End::Reset].into_iter().enumerate() {
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        eventually("it is under way", || proxy.metric("http_requests_in_flight", &[]) == 1.0);
        leave(client.into(), end);
        eventually("it is recorded", || flagged(&proxy, "DC") == number as f64 + 1.0);
        assert_eq!(proxy.metric("http_requests_in_flight", &[]), 0.0);
    }
    assert_eq!(proxy.requests(&[("version", "v1"), ("code", "499")]), 2.0);
}

#[test]
fn a_client_that_leaves_within_a_head_made_no_request() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "1"]);
    for end in [End::Fin, End::Reset] {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n"));
        leave(client.into(), end);
    }
    // What comes after them on the same worker finds it well.
    assert_eq!(proxy.client().get("/").status(), 200);
    assert_eq!((upstream.ledger.len(), proxy.requests(&[("version", "v1")])), (1, 1.0));
}

#[test]
fn a_stream_that_is_reset_takes_its_request_with_it() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let listen = proxy.listen;
    let (told, got_it) = mpsc::channel();
    thread::scope(|scope| {
        let script = &script;
        let upstream = scope.spawn(move || {
            let mut waiting = script.accept();
            waiting.request().unwrap().unwrap();
            told.send(()).unwrap();
            waiting.rest();
            let mut half = script.accept();
            half.request().unwrap().unwrap();
            half.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart");
            half.rest();
        });
        h2::run(async {
            let mut connection = h2::connect(listen).await;
            let given_up = async {
                while got_it.try_recv().is_err() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                answer = connection.send_request(h2::request("GET", "/", h2::empty())) => panic!("{answer:?}"),
                () = given_up => {}
            }
            let mut answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
            answer.body_mut().frame().await.unwrap().unwrap();
            drop(answer);
            while !upstream.is_finished() {
                tokio::task::yield_now().await;
            }
        });
    });
    eventually("both are counted", || proxy.requests(&[("code", "499")]) == 2.0);
}

#[test]
fn many_slow_clients_hold_nobody_up() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &SHORT_TIMEOUTS);
    let mut slow: Vec<_> = (0..200).map(|_| proxy.client()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\n");
    }
    for _ in 0..200 {
        assert_eq!(proxy.client().get("/").status(), 200);
    }
    for mut client in slow {
        assert_eq!(client.answer().unwrap().status(), 408);
    }
}
