//! Clients that speak HTTP/2 with prior knowledge, to endpoints that speak HTTP/1.1.

use std::thread;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::support::client::HOST;
use super::support::config::Config;
use super::support::h2;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, Upstream, answer};

#[test]
fn streams_are_multiplexed() {
    const STREAMS: usize = 40;
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let listen = proxy.listen;
    thread::scope(|scope| {
        scope.spawn(|| {
            // All are under way before the first is answered, and they are answered backwards.
            let mut wires: Vec<_> = (0..STREAMS).map(|_| script.accept()).collect();
            let requests: Vec<_> = wires.iter_mut().map(|wire| wire.request().unwrap().unwrap()).collect();
            for (wire, request) in wires.iter_mut().zip(&requests).rev() {
                wire.send(answer(request.head.target().1));
            }
        });
        h2::run(async {
            let connection = h2::connect(listen).await;
            let streams = (0..STREAMS).map(|number| {
                let mut connection = connection.clone();
                async move {
                    let target = format!("/{number}");
                    let answer = connection.send_request(h2::request("GET", &target, h2::empty())).await.unwrap();
                    assert_eq!(h2::body(answer).await.unwrap(), target);
                }
            });
            futures_util::future::join_all(streams).await;
        });
    });
    assert_eq!(proxy.requests(&[("code", "200")]), STREAMS as f64);
}

#[test]
fn a_request_becomes_one_of_http11() {
    let script = Script::start();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let listen = proxy.listen;
    thread::scope(|scope| {
        let upstream = scope.spawn(|| {
            let mut wire = script.accept();
            let got = wire.request().unwrap().unwrap();
            wire.send(
                "HTTP/1.1 201 Created\r\nconnection: close, x-gone\r\nx-gone: 1\r\nkeep-alive: timeout=1\r\n\
                 transfer-encoding: chunked\r\nx-stays: 1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            );
            got
        });
        let (head, body) = h2::run(async {
            let mut connection = h2::connect(listen).await;
            let mut request = h2::request("POST", "/a?b", h2::full("body"));
            request.headers_mut().insert("cookie", "a=1".parse().unwrap());
            request.headers_mut().append("cookie", "b=2".parse().unwrap());
            request.headers_mut().insert("te", "trailers".parse().unwrap());
            let answer = connection.send_request(request).await.unwrap();
            let (head, body) = answer.into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        });
        let got = upstream.join().unwrap();
        assert_eq!(got.head.line, "POST /a?b HTTP/1.1");
        assert_eq!((got.head.get("host"), got.text().as_str()), (HOST, "body"));
        assert_eq!((got.head.get("content-length"), got.head.has("transfer-encoding")), ("4", false));
        assert_eq!(got.head.get("cookie"), "a=1; b=2", "crumbs are joined");
        assert_eq!((got.head.get("x-forwarded-for"), got.head.get("x-forwarded-proto")), ("127.0.0.1", "http"));
        assert!(!got.head.has("te") && !got.head.has("connection") && got.head.get("via").starts_with("2 serin-"));
        assert_eq!(
            (head.status.as_u16(), &head.headers["x-stays"], body),
            (201, &"1".parse().unwrap(), "hello".into())
        );
        for gone in ["connection", "x-gone", "keep-alive", "transfer-encoding"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
    });
}

#[test]
fn large_bodies_pass_in_both_directions_on_many_streams() {
    let upstream = Upstream::answering(|request| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    });
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let body: Bytes = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
    h2::run(async {
        let connection = h2::connect(proxy.listen).await;
        let streams = (0..8).map(|_| {
            let (mut connection, body) = (connection.clone(), body.clone());
            async move {
                let request = h2::request("PUT", "/", h2::full(body.clone()));
                let answer = connection.send_request(request).await.unwrap();
                assert!(h2::body(answer).await.unwrap() == body);
            }
        });
        futures_util::future::join_all(streams).await;
    });
    assert_eq!(upstream.ledger.len(), 8);
    assert!(upstream.ledger.all().iter().all(|seen| seen.request.body == body));
}

#[test]
fn a_stream_that_is_not_read_holds_no_other_up() {
    let body = vec![b'x'; 8 << 20];
    let upstream = Upstream::answering(move |request| match request.head.target().1 {
        "/large" => [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
        _ => answer("v1"),
    });
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    h2::run(async {
        let mut connection = h2::connect(proxy.listen).await;
        let unread = connection.send_request(h2::request("GET", "/large", h2::empty())).await.unwrap();
        for _ in 0..50 {
            let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
            assert_eq!(h2::body(answer).await.unwrap(), "v1");
        }
        assert_eq!(h2::body(unread).await.unwrap().len(), 8 << 20);
    });
}

#[test]
fn refusals_are_answers_on_their_stream() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    h2::run(async {
        let mut connection = h2::connect(proxy.listen).await;
        let mut status = async |request| {
            let answer = connection.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            h2::body(answer).await.unwrap();
            status
        };
        let mut invalid = h2::request("GET", "/", h2::empty());
        *invalid.uri_mut() = "http://user@product-service/".parse().unwrap();
        assert_eq!(status(invalid).await, 400);
        assert_eq!(status(h2::request("GET", &format!("/{}", "a".repeat(16 * 1024)), h2::empty())).await, 414);
        assert_eq!(status(h2::request("TRACE", "/", h2::empty())).await, 405);
        // The connection and its other streams live on.
        assert_eq!(status(h2::request("GET", "/", h2::empty())).await, 200);
    });
    assert_eq!((proxy.requests(&[("app", "_none")]), proxy.requests(&[("code", "200")])), (3.0, 1.0));
}
