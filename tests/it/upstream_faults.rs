//! Endpoints that do not behave: one that answers no connection, one that answers before it has read the request.

use std::net::Shutdown;
use std::thread;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::support::client::HOST;
use super::support::config::Config;
use super::support::eventually;
use super::support::h2;
use super::support::proxy::Proxy;
use super::support::upstream::{BlackHole, Script, Upstream};
use super::support::wire::Wire;

const IMPATIENT: &str = "{loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: {connectTimeout: 200ms}}}";

#[test]
fn an_endpoint_that_answers_no_connection_costs_nothing_while_there_is_another() {
    let (hole, serving) = (BlackHole::new(), Upstream::named("v1"));
    let config = Config::single(&[hole.port, serving.port]).policy(IMPATIENT);
    let proxy = Proxy::with(&config, &["--workers", "1"]);
    let mut client = proxy.client();
    for number in 0..10 {
        assert_eq!(client.get("/").status(), 200, "request {number}");
        assert_eq!(client.post("/", b"x").status(), 200, "request {number}");
    }
    assert_eq!(serving.ledger.len(), 20);
    assert!(proxy.attempts("UF") >= 1.0, "it was tried");
    assert_eq!(proxy.requests(&[("code", "200")]), 20.0);
}

#[test]
fn when_no_endpoint_answers_a_connection_the_client_is_told_in_time() {
    let hole = BlackHole::new();
    let proxy = Proxy::with(&Config::single(&[hole.port]).policy(IMPATIENT), &["--workers", "1"]);
    let answer = proxy.client().get("/");
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (503, "UF"));
    assert_eq!(answer.head.get("proxy-status"), "serin; error=connection_timeout; details=\"UF\"");
    assert_eq!(proxy.requests(&[("version", "v1"), ("code", "503")]), 1.0);
}

/// More than any buffer on the way holds.
const UPLOAD: usize = 50 << 20;
const TOO_LARGE: &str = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 9\r\n\r\ntoo large";

/// What an endpoint does once it has answered.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Closes, with the rest unread: its system tears the connection off.
    Closes,
    /// Says that it has nothing more to say, and reads nothing.
    StopsReading,
}

const THEN: [Then; 2] = [Then::Closes, Then::StopsReading];

/// Answers the head of a request with 413.
fn refuse(script: &Script, then: Then) -> Option<Wire> {
    let mut wire = script.accept();
    wire.head().unwrap().expect("a request");
    wire.send(TOO_LARGE);
    match then {
        Then::Closes => None,
        Then::StopsReading => {
            wire.half_close();
            Some(wire)
        }
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    for then in THEN.into_iter().cycle().take(6) {
        let script = Script::start();
        let proxy = Proxy::start(&Config::single(&[script.port]));
        let mut client = proxy.client();
        let mut sending = client.stream().try_clone().unwrap();
        thread::scope(|scope| {
            let upstream = scope.spawn(|| refuse(&script, then));
            let sender = scope.spawn(move || {
                use std::io::Write;
                let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {UPLOAD}\r\n\r\n");
                // The proxy does not take all of it.
                let _ = sending.write_all(head.as_bytes()).and_then(|()| sending.write_all(&vec![b'x'; UPLOAD]));
            });
            let answer = client.answer().unwrap_or_else(|error| panic!("{then:?}: {error}"));
            assert_eq!((answer.status(), answer.text().as_str()), (413, "too large"), "{then:?}");
            let kept = upstream.join().unwrap();
            let _ = client.stream().shutdown(Shutdown::Both);
            sender.join().unwrap();
            drop(kept);
        });
        eventually("it is counted", || proxy.requests(&[("version", "v1"), ("code", "413")]) == 1.0);
    }
}

#[test]
fn an_early_answer_reaches_a_stream_that_is_still_sending() {
    for then in THEN.into_iter().cycle().take(6) {
        let script = Script::start();
        let proxy = Proxy::start(&Config::single(&[script.port]));
        thread::scope(|scope| {
            let upstream = scope.spawn(|| refuse(&script, then));
            h2::run(async {
                let mut connection = h2::connect(proxy.listen).await;
                let (pieces, body) = h2::in_pieces();
                let sent = Bytes::from(vec![b'x'; 64 * 1024]);
                (0..UPLOAD / sent.len()).for_each(|_| pieces.send(sent.clone()).unwrap());
                let answer = connection.send_request(h2::request("POST", "/", body)).await.unwrap();
                assert_eq!(answer.status(), 413, "{then:?}");
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "too large", "{then:?}");
            });
            drop(upstream.join().unwrap());
        });
        eventually("it is counted", || proxy.requests(&[("version", "v1"), ("code", "413")]) == 1.0);
    }
}
