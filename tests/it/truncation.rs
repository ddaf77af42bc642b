//! An upstream that breaks off or breaks the protocol: what is incomplete looks incomplete to the client, and what one
//! request left behind reaches no other.

use std::thread;

use super::support::client::{HOST, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::h2;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, answer};
use super::support::wire::{End, Wire};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    /// Between two chunks.
    Chunked,
    /// In the middle of a chunk.
    InChunk,
    /// Before the line that ends the trailers.
    LastChunk,
    Close,
}

impl Framing {
    /// The part of an answer that is sent before the end.
    fn part(self, body: &str) -> String {
        let length = body.len();
        match self {
            Self::Length => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", length + 1),
            Self::Chunked => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"),
            Self::InChunk => {
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}", length + 1)
            }
            Self::LastChunk => {
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n")
            }
            Self::Close => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"),
        }
    }
}

const FRAMINGS: [Framing; 5] =
    [Framing::Length, Framing::Chunked, Framing::InChunk, Framing::LastChunk, Framing::Close];

/// Sends the part of an answer, and ends as told once the client has seen its head.
fn break_off(script: &Script, part: &str, end: End, client_has_head: impl FnOnce()) {
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send(part);
    client_has_head();
    match end {
        End::Fin => wire.close(),
        End::Reset => wire.reset(),
    }
}

fn each_way(mut case: impl FnMut(Framing, End, &str)) {
    for framing in FRAMINGS {
        for end in [End::Fin, End::Reset] {
            for body in ["", "part", &"0123456789".repeat(20_000)] {
                case(framing, end, body);
            }
        }
    }
}

#[test]
fn an_http1_client_sees_that_an_answer_is_incomplete() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let mut broken = 0;
    each_way(|framing, end, body| {
        if body.is_empty() && matches!(framing, Framing::Chunked | Framing::LastChunk) {
            return;
        }
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        let mut head = None;
        break_off(&script, &framing.part(body), end, || head = client.head().unwrap());
        let head = head.expect("a head");
        assert_eq!(head.status(), 200);
        let outcome = client.answer_after(head);
        if framing == Framing::Close && end == End::Fin {
            assert_eq!(outcome.unwrap().text(), body);
        } else {
            outcome.expect_err(&format!("{framing:?} {end:?} after {} bytes looks complete", body.len()));
            broken += 1;
        }
    });
    eventually("all are counted", || {
        proxy.metric("http_response_flags_total", &[("flag", "UC")])
            + proxy.metric("http_response_flags_total", &[("flag", "UR")])
            == f64::from(broken)
    });
    assert_eq!(proxy.requests(&[("code", "499")]), 0.0);
}

#[test]
fn an_http2_client_sees_that_an_answer_is_incomplete() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let listen = proxy.listen;
    each_way(|framing, end, body| {
        if body.is_empty() && matches!(framing, Framing::Chunked | Framing::LastChunk) {
            return;
        }
        let part = framing.part(body);
        let (told, has_head) = std::sync::mpsc::channel();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| break_off(&script, &part, end, move || has_head.recv().unwrap()));
            h2::run(async {
                let mut connection = h2::connect(listen).await;
                let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
                assert_eq!(answer.status(), 200);
                told.send(()).unwrap();
                h2::body(answer).await
            })
        });
        if framing == Framing::Close && end == End::Fin {
            assert_eq!(outcome.unwrap(), body.as_bytes());
        } else {
            outcome.expect_err(&format!("{framing:?} {end:?} after {} bytes looks complete", body.len()));
        }
    });
}

/// Nothing in HTTP/1.0 but the way the connection ends can say it.
#[test]
fn an_http10_client_sees_a_reset() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    for framing in [Framing::Chunked, Framing::InChunk] {
        for end in [End::Fin, End::Reset] {
            let mut client = proxy.client();
            client.send(format!("GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n"));
            break_off(&script, &framing.part("part"), end, || {
                client.head().unwrap().unwrap();
            });
            assert_eq!(client.rest().1, End::Reset, "{framing:?} {end:?}");
        }
    }
}

/// Answers that are no HTTP, each with what is wrong.
const GARBAGE: &[(&str, &str)] = &[
    ("no protocol", "garbage\r\n\r\n"),
    ("no line end", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n"),
    ("another protocol", "SSH-2.0-OpenSSH_9.2p1\r\n\r\n"),
    ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n"),
    ("a status below 100", "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n"),
    ("a major version of its own", "HTTP/3.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ("a field without a colon", "HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 0\r\n\r\n"),
    ("a NUL in a field", "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n"),
    ("lengths that differ", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
    ("a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
    ("a length beyond all numbers", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n"),
];

#[test]
fn garbage_is_a_502_and_the_next_request_gets_a_new_connection() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    let oversized = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(20_000));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(1_000_000));
    let large = [("an oversized head", &*oversized), ("too many fields", &*many), ("an endless field", &*endless)];
    let mut client = proxy.client();
    let all: Vec<_> = GARBAGE.iter().copied().chain(large).collect();
    for &(what, bytes) in &all {
        client.send(request("GET", "/", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        // A proxy that has seen enough may close before it has taken all of it.
        let _ = wire.try_send(bytes);
        let refused = client.answer().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((refused.status(), refused.head.get("x-serin-flag")), (502, "UPE"), "{what}");
        assert_eq!(refused.text(), "502 the endpoint broke the protocol for product-service v1 (UPE)\n");

        client.send(request("GET", "/", b""));
        let mut next = script.accept();
        next.request().unwrap().unwrap();
        next.send(answer("v1"));
        assert_eq!(client.answer().unwrap().text(), "v1", "{what}");
        drop((wire, next));
    }
    assert_eq!(proxy.attempts("UPE"), all.len() as f64);
    assert_eq!(proxy.requests(&[("code", "502")]), all.len() as f64);
}

#[test]
fn a_bad_chunk_cuts_the_answer_off() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    for rest in ["xyz\r\n", "-1\r\n", "5\r\nhellooo\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "0\r\nno colon\r\n\r\n"] {
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\n");
        let head = client.head().unwrap().unwrap();
        assert_eq!(client.chunk().unwrap(), b"good");
        let _ = wire.try_send(rest);
        client.answer_after(head).expect_err(rest);
    }
}

/// The second "answer" would be the next client's.
#[test]
fn what_follows_an_answer_reaches_nobody() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let extra = |mut wire: Wire, apart: bool, client: &mut dyn FnMut()| {
        wire.request().unwrap().unwrap();
        if apart {
            wire.send(answer("v1"));
            client();
            wire.send(poison);
        } else {
            wire.send([&answer("v1")[..], poison.as_bytes()].concat());
            client();
        }
        wire
    };
    for apart in [false, true] {
        let mut first = proxy.client();
        first.send(request("GET", "/", b""));
        let kept = extra(script.accept(), apart, &mut || assert_eq!(first.answer().unwrap().text(), "v1"));
        for method in ["GET", "POST"] {
            let mut second = proxy.client();
            second.send(request(method, "/", b""));
            let mut wire = script.accept();
            wire.request().unwrap().unwrap();
            wire.send(answer("own"));
            assert_eq!(second.answer().unwrap().text(), "own", "apart: {apart}");
            wire.close();
        }
        drop(kept);
    }
    assert_eq!(proxy.attempts("2xx"), 6.0);
}

/// A body where none belongs is the same trick.
#[test]
fn a_body_that_does_not_belong_to_its_answer_reaches_nobody() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        let mut first = proxy.client();
        first.send(request(method, "/", b""));
        let mut kept = script.accept();
        kept.request().unwrap().unwrap();
        kept.send(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{poison}", poison.len()));
        assert!(status.starts_with(&first.head().unwrap().unwrap().status().to_string()));

        first.send(request("GET", "/", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        wire.send(answer("own"));
        assert_eq!(first.answer().unwrap().text(), "own", "{method} {status}");
        drop((kept, wire));
    }
}
