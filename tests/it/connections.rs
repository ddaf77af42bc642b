//! What an intermediary does with connections and messages: keeps them, passes them on unchanged, and removes what concerns
//! one connection only.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use super::support::client::{HOST, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, Upstream, answer};
use super::support::wire::{End, Message, Wire};

/// Answers with what it got.
fn echo() -> Upstream {
    Upstream::answering(|request| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    })
}

fn one_worker(config: &Config) -> Proxy {
    Proxy::with(config, &["--workers", "1"])
}

/// What upstream gets of a request, and what the client gets of the answer.
fn exchange(sent: &str, answered: &str) -> (Message, Message) {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let mut client = proxy.client();
    client.send(sent);
    let mut wire = script.accept();
    let got = wire.request().unwrap().unwrap();
    wire.send(answered);
    drop(wire);
    (got, client.answer().unwrap())
}

#[test]
fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::named("v1");
    let proxy = one_worker(&Config::single(&[upstream.port]));
    for _ in 0..2 {
        let mut client = proxy.client();
        for _ in 0..25 {
            assert_eq!(client.get("/").text(), "v1");
            assert_eq!(client.post("/", b"body").text(), "v1");
        }
    }
    assert_eq!((upstream.ledger.len(), upstream.ledger.connections()), (100, 1));
}

#[test]
fn a_client_that_says_close_is_closed() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    for value in ["close", "Close", "foo, close"] {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: {value}\r\n\r\n"));
        let answer = client.answer().unwrap();
        assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("v1", "close"), "{value}");
        assert_eq!(client.rest(), (Vec::new(), End::Fin));
    }
    assert_eq!(upstream.ledger.last().head.get("connection"), "");
}

#[test]
fn an_endpoints_close_is_not_the_clients() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nconnection: close, x-gone\r\nx-gone: 1\r\ncontent-length: 2\r\n\r\nv1".to_vec()
    });
    let proxy = one_worker(&Config::single(&[upstream.port]));
    let mut client = proxy.client();
    for _ in 0..5 {
        let answer = client.get("/");
        assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("v1", ""));
    }
    assert_eq!(upstream.ledger.connections(), 5, "a connection that the endpoint closes is not used again");
}

#[test]
fn http10_closes_unless_it_asks_to_keep() {
    let upstream = Upstream::answering(|request| match request.head.target().1 {
        "/chunked" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nv1\r\n0\r\n\r\n".to_vec(),
        _ => answer("v1"),
    });
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    for target in ["/", "/chunked"] {
        let mut client = proxy.client();
        client.send(format!("GET {target} HTTP/1.0\r\nhost: {HOST}\r\n\r\n"));
        let head = client.head().unwrap().unwrap();
        assert!(!head.has("transfer-encoding"), "{head:?}");
        assert_eq!(client.rest(), (b"v1".to_vec(), End::Fin), "{target}");
    }
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(format!("GET / HTTP/1.0\r\nhost: {HOST}\r\nconnection: keep-alive\r\n\r\n"));
        let answer = client.answer().unwrap();
        assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("v1", "keep-alive"));
    }
    // Without Host, a lone VirtualService answers.
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.rest().1, End::Fin);
    assert!(upstream.ledger.all().iter().all(|seen| seen.request.head.line.ends_with(" HTTP/1.1")));
    assert_eq!(upstream.ledger.len(), 6);
}

#[test]
fn an_endpoints_http10_is_not_the_clients() {
    for (line, body) in [("content-length: 2\r\n", "v1"), ("", "until the end")] {
        let (_, answer) = exchange(
            &format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
            &format!("HTTP/1.0 200 OK\r\n{line}\r\n{body}"),
        );
        assert_eq!((answer.head.line.as_str(), answer.text().as_str()), ("HTTP/1.1 200 OK", body));
        assert_eq!(answer.head.get("connection"), "", "the client's connection is kept");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(|request| answer(request.head.target().1));
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut client = proxy.client();
    let targets: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    let all: Vec<u8> = targets.iter().flat_map(|target| request("POST", target, target.as_bytes())).collect();
    client.send(all);
    for target in &targets {
        assert_eq!(&client.answer().unwrap().text(), target);
    }
    for (seen, target) in upstream.ledger.all().iter().zip(&targets) {
        assert_eq!((seen.request.head.target().1, &seen.request.text()), (target.as_str(), target));
    }
}

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let upstream = echo();
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut client = proxy.client();
    for byte in request("POST", "/", b"body") {
        client.send([byte]);
    }
    assert_eq!(client.answer().unwrap().text(), "body");
}

#[test]
fn what_concerns_one_connection_is_removed_in_both_directions() {
    let (got, answer) = exchange(
        &format!(
            "GET /a%2Fb/../c?x=%41&y HTTP/1.1\r\nhost: {HOST}:80\r\nconnection: keep-alive, X-Gone, host, authorization\r\n\
             x-gone: 1\r\nauthorization: me\r\nkeep-alive: timeout=9\r\nproxy-connection: keep-alive\r\nte: trailers\r\n\
             upgrade: h2c\r\nx-stays: a\r\nx-stays: b\r\nx-forwarded-for: 1.2.3.4\r\nx_under: 1\r\n\r\n"
        ),
        "HTTP/1.1 200 OK\r\nconnection: X-Gone\r\nx-gone: 1\r\nkeep-alive: timeout=9\r\nproxy-connection: keep-alive\r\n\
         upgrade: h2c\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ndate: then\r\ncontent-length: 0\r\n\r\n",
    );
    let head = got.head;
    assert_eq!(head.line, "GET /a%2Fb/../c?x=%41&y HTTP/1.1");
    for gone in ["connection", "x-gone", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert!(!head.has(gone), "{gone} in {head:?}");
    }
    assert!(head.get("via").starts_with("1.1 serin-"));
    assert_eq!((head.get("host"), head.get("authorization")), ("product-service:80", "me"));
    assert_eq!((head.all("x-stays"), head.get("x_under")), (vec!["a", "b"], "1"));
    assert_eq!((head.get("x-forwarded-for"), head.get("x-forwarded-proto")), ("1.2.3.4, 127.0.0.1", "http"));

    let head = answer.head;
    for gone in ["connection", "x-gone", "keep-alive", "proxy-connection", "upgrade", "via", "server"] {
        assert!(!head.has(gone), "{gone} in {head:?}");
    }
    assert_eq!((head.all("set-cookie"), head.get("date")), (vec!["a=1", "b=2"], "then"));
}

#[test]
fn an_absolute_target_names_the_host() {
    for (target, path) in [("http://product-service/x?y", "/x?y"), ("http://product-service", "/")] {
        let (got, _) =
            exchange(&format!("GET {target} HTTP/1.1\r\nhost: elsewhere\r\n\r\n"), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!((got.head.target().1, got.head.get("host")), (path, HOST));
    }
}

#[test]
fn options_goes_as_far_as_it_says() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut client = proxy.client();
    for (most, left) in [(7, Some("6")), (0, None)] {
        let known = upstream.ledger.len();
        client.send(format!("OPTIONS /x HTTP/1.1\r\nhost: {HOST}\r\nmax-forwards: {most}\r\n\r\n"));
        assert_eq!(client.answer().unwrap().status(), 200);
        let sent = (upstream.ledger.len() > known).then(|| upstream.ledger.last().head.get("max-forwards").to_owned());
        assert_eq!(sent.as_deref(), left);
    }
}

#[test]
fn a_client_that_expects_100_gets_it_before_it_sends_its_body() {
    let upstream = echo();
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"));
        assert_eq!(client.head().unwrap().unwrap().status(), 100);
        client.send("body");
        assert_eq!(client.answer().unwrap().text(), "body");
    }
    assert!(!upstream.ledger.last().head.has("expect"));
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Upstream::answering(|request| match request.head.target().1 {
        "/204" => b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: \"x\"\r\n\r\n".to_vec(),
        "/length" => b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n".to_vec(),
        "/chunked" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        "/unknown" => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
    });
    let proxy = one_worker(&Config::single(&[upstream.port]));
    let mut client = proxy.client();
    let mut head = |method: &str, target: &str| {
        client.send(format!("{method} {target} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        client.head().unwrap().unwrap()
    };
    let none = head("GET", "/204");
    assert_eq!((none.status(), none.get("x"), none.has("content-length")), (204, "y", false));
    let unchanged = head("GET", "/304");
    assert_eq!((unchanged.status(), unchanged.get("etag"), unchanged.has("transfer-encoding")), (304, "\"x\"", false));
    assert_eq!(head("HEAD", "/length").get("content-length"), "7");
    assert_eq!(head("HEAD", "/chunked").status(), 200);
    assert_eq!(head("HEAD", "/unknown").status(), 200);
    assert_eq!(head("GET", "/empty").get("content-length"), "0");
    assert_eq!(head("HEAD", "/304").status(), 304);
    // Nothing of those answers is left on the connection.
    assert_eq!(client.get("/empty").status(), 200);
    assert_eq!(upstream.ledger.connections(), 1);
}

#[test]
fn chunked_bodies_pass_in_both_directions_with_their_trailers() {
    let (got, answer) = exchange(
        &format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
             4;ext=1\r\nbody\r\n6\r\n, more\r\n0\r\nx-sum: 10\r\n\r\n"
        ),
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n6\r\nanswer\r\n0\r\nx-sum: 6\r\n\r\n",
    );
    assert_eq!((got.text().as_str(), got.head.get("transfer-encoding")), ("body, more", "chunked"));
    assert_eq!(got.trailers, [("x-sum".to_owned(), "10".to_owned())]);
    assert_eq!(answer.text(), "answer");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "6".to_owned())]);
}

#[test]
fn a_get_with_a_body_keeps_it() {
    for body in ["content-length: 4\r\n\r\nbody", "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"] {
        let (got, _) = exchange(
            &format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{body}"),
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        );
        assert_eq!(got.text(), "body");
    }
}

#[test]
fn large_bodies_pass_in_both_directions() {
    let upstream = echo();
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut client = proxy.client();
    assert!(client.post("/", &body).body == body);
    let chunks = body.chunks(10_000).flat_map(|chunk| {
        let mut framed = format!("{:x}\r\n", chunk.len()).into_bytes();
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
        framed
    });
    let head = format!("PUT / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunked: Vec<u8> = head.bytes().chain(chunks).chain(*b"0\r\n\r\n").collect();
    client.send(chunked);
    assert!(client.answer().unwrap().body == body);
    assert_eq!(proxy.metric("http_request_bytes_total", &[]), 6_000_000.0);
    assert_eq!(proxy.metric("http_response_bytes_total", &[]), 6_000_000.0);
}

/// More than all socket buffers on the way can hold.
const FLOOD: usize = 96 << 20;

/// Writes until nobody takes any more; how much that was.
fn flood(wire: &mut Wire) -> usize {
    wire.stream().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let chunk = [b'x'; 16 * 1024];
    let mut sent = 0;
    while sent < FLOOD {
        match std::io::Write::write(&mut wire.stream(), &chunk[..chunk.len().min(FLOOD - sent)]) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    wire.stream().set_write_timeout(Some(super::support::PATIENCE)).unwrap();
    sent
}

/// Takes `length` bytes while the other side sends what is left.
fn drain(taker: &mut Wire, giver: &mut Wire, sent: usize, length: usize) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = FLOOD - sent;
            let chunk = vec![b'x'; 1 << 20];
            while left > 0 {
                let part = chunk.len().min(left);
                giver.send(&chunk[..part]);
                left -= part;
            }
        });
        let mut taken = 0;
        while taken < length {
            let bytes = taker.some().unwrap();
            assert!(!bytes.is_empty(), "the end after {taken} bytes");
            taken += bytes.len();
        }
        assert_eq!(taken, length);
    });
}

#[test]
fn a_client_that_does_not_read_stops_the_endpoint_from_sending() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {FLOOD}\r\n\r\n"));
    let sent = flood(&mut wire);
    assert!(sent < FLOOD / 2, "{sent} bytes went into the proxy, none of them out");
    client.head().unwrap().unwrap();
    drain(&mut client, &mut wire, sent, FLOOD);
}

#[test]
fn an_endpoint_that_does_not_read_stops_the_client_from_sending() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {FLOOD}\r\n\r\n"));
    let mut wire = script.accept();
    let sent = flood(&mut client);
    assert!(sent < FLOOD / 2, "{sent} bytes went into the proxy, none of them out");
    wire.head().unwrap().unwrap();
    drain(&mut wire, &mut client, sent, FLOOD);
    wire.send(answer("v1"));
    assert_eq!(client.answer().unwrap().text(), "v1");
}

/// Bad requests, each with the status that it deserves.
fn bad_requests() -> Vec<(&'static str, Vec<u8>, u16)> {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes();
    let host = format!("host: {HOST}\r\n");
    vec![
        ("garbage", b"\0\x01\x02\x03garbage\r\n\r\n".to_vec(), 400),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        ("no Host", get(""), 400),
        ("two Hosts", get(&format!("{host}{host}")), 400),
        ("an invalid Host", get("host: a b\r\n"), 400),
        ("an invalid name", get(&format!("{host}a b: c\r\n")), 400),
        ("white space before the colon", get(&format!("{host}a : c\r\n")), 400),
        ("a folded line", get(&format!("{host}a: b\r\n c\r\n")), 400),
        ("lengths that differ", get(&format!("{host}content-length: 1\r\ncontent-length: 2\r\n")), 400),
        ("a length that is none", get(&format!("{host}content-length: x\r\n")), 400),
        ("an unknown coding last", get(&format!("{host}transfer-encoding: chunked, gzip\r\n")), 400),
        ("a header too large", get(&format!("{host}a: {}\r\n", "a".repeat(70_000))), 431),
        ("too many fields", get(&format!("{host}{}", "a: b\r\n".repeat(101))), 431),
        ("a target too long", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(16 * 1024)).into_bytes(), 414),
        ("another major version", format!("GET / HTTP/3.0\r\n{host}\r\n").into_bytes(), 400),
        ("CONNECT", format!("CONNECT {HOST}:80 HTTP/1.1\r\n{host}\r\n").into_bytes(), 405),
        ("TRACE", format!("TRACE / HTTP/1.1\r\n{host}\r\n").into_bytes(), 405),
    ]
}

#[test]
fn bad_requests_are_refused_and_counted_and_harm_nobody() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut other = proxy.client();
    let mut counted = 0.0;
    for (what, bytes, status) in bad_requests() {
        let mut client = proxy.client();
        // It may be refused before all of it was taken.
        let _ = client.try_send(&bytes);
        let answer = client.answer().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status(), status, "{what}");
        if status != 405 {
            client.rest();
        }
        counted += 1.0;
        assert_eq!(other.get("/").text(), "v1", "after {what}");
        assert_eq!(proxy.client().get("/").text(), "v1", "after {what}");
        // The answer may be seen before it is counted.
        eventually(what, || proxy.requests(&[("app", "_none")]) >= counted);
        assert_eq!(proxy.requests(&[("app", "_none")]), counted, "{what}");
    }
    for status in [400, 405, 414, 431] {
        let expected = bad_requests().iter().filter(|(.., wanted)| *wanted == status).count() as f64;
        assert_eq!(proxy.requests(&[("code", &status.to_string())]), expected, "{status}");
    }
    assert_eq!(upstream.ledger.len(), 2 * bad_requests().len());
}

#[test]
fn a_body_that_breaks_the_protocol_reaches_nobody_as_complete() {
    let script = Script::start();
    let proxy = one_worker(&Config::single(&[script.port]));
    for rest in ["xyz\r\n", "5\r\nhellooo\r\n", "0\r\nno colon\r\n\r\n"] {
        let mut client = proxy.client();
        client
            .send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n{rest}"));
        let mut wire = script.accept();
        assert!(wire.request().is_err(), "{rest}");
        let answer = client.answer().unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (400, "DPE"), "{rest}");
        let mut buffer = [0];
        assert!(matches!(client.stream().read(&mut buffer), Ok(0) | Err(_)), "the connection ends");
    }
}
