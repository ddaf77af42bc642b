//! A request is sent again only where that is safe: what an upstream may see twice, and what it never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::support::client::request;
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::{Refusing, Script, Upstream, answer};
use super::support::wire::{End, Wire};

/// Where an upstream ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Idle,
    AfterHead,
    MidBody,
    AfterBody,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    at: At,
    method: &'static str,
    length: usize,
    end: End,
    reused: bool,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: u16,
    /// How many connections brought the head of the request.
    seen: usize,
    /// Attempts that were counted as failed, and as answered.
    attempts: (u32, u32),
}

fn finish(wire: Wire, end: End) -> Option<Wire> {
    match end {
        End::Fin => {
            wire.half_close();
            Some(wire)
        }
        End::Reset => {
            wire.reset();
            None
        }
    }
}

/// Breaks off the request as the case says, then answers whatever else comes. Returns how often the request was seen.
fn upstream(case: Case, script: &Script, kept: Option<Wire>, done: &AtomicBool) -> usize {
    let mut seen = 0;
    let mut broken = None;
    if case.at != At::Idle || !case.reused {
        let mut wire = kept.unwrap_or_else(|| script.accept());
        if case.at != At::Idle {
            wire.head().unwrap().expect("a request");
            seen += 1;
        }
        match case.at {
            At::Idle | At::AfterHead => {}
            At::MidBody => drop(wire.exactly(case.length / 2).unwrap()),
            At::AfterBody => drop(wire.exactly(case.length).unwrap()),
        }
        broken = finish(wire, case.end);
    }
    while !done.load(Ordering::SeqCst) {
        match script.try_accept() {
            Some(mut wire) => {
                if let Ok(Some(_)) = wire.request() {
                    seen += 1;
                    wire.send(answer("v1"));
                }
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    drop(broken);
    seen
}

fn outcome(case: Case) -> Outcome {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    let mut client = proxy.client();
    let mut kept = None;
    let mut warm = 0;
    if case.reused {
        client.send(request("GET", "/warm", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        wire.send(answer("v1"));
        assert_eq!(client.answer().unwrap().status(), 200);
        warm = 1;
        kept = Some(wire);
    }
    let ended = match (case.at, kept.take()) {
        (At::Idle, Some(wire)) => finish(wire, case.end),
        (_, wire) => {
            kept = wire;
            None
        }
    };
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let upstream = thread::spawn(move || upstream(case, &script, kept, &told));
    // The proxy may answer before it has read all of the body, and then nobody takes the rest.
    let _ = client.try_send(request(case.method, "/case", &vec![b'x'; case.length]));
    let status = client.answer().unwrap_or_else(|error| panic!("{case:?}: {error}")).status();
    done.store(true, Ordering::SeqCst);
    let seen = upstream.join().unwrap_or_else(|_| panic!("{case:?}"));
    drop(ended);
    let failed = proxy.attempts("UC") + proxy.attempts("UR") + proxy.attempts("UF");
    let answered = proxy.attempts("2xx") - f64::from(warm);
    Outcome { status, seen, attempts: (failed as u32, answered as u32) }
}

/// All that can be told apart: without a body there is no middle of it.
fn cases(at: At, end: End, reused: bool) -> Vec<Case> {
    let requests = [("GET", 0), ("POST", 0), ("POST", 10), ("POST", 1 << 20)];
    let cases = requests.into_iter().map(|(method, length)| Case { at, method, length, end, reused });
    cases.filter(|case| case.length > 0 || !matches!(at, At::MidBody | At::AfterBody)).collect()
}

const ENDS: [End; 2] = [End::Fin, End::Reset];

#[test]
fn what_was_sent_on_a_fresh_connection_is_not_sent_again() {
    for at in [At::AfterHead, At::MidBody, At::AfterBody] {
        for case in ENDS.into_iter().flat_map(|end| cases(at, end, false)) {
            assert_eq!(outcome(case), Outcome { status: 503, seen: 1, attempts: (1, 0) }, "{case:?}");
        }
    }
}

#[test]
fn on_a_kept_alive_connection_only_what_may_be_repeated_is_sent_again() {
    for at in [At::AfterHead, At::MidBody, At::AfterBody] {
        for case in ENDS.into_iter().flat_map(|end| cases(at, end, true)) {
            let wanted = match case.method {
                "GET" => Outcome { status: 200, seen: 2, attempts: (1, 1) },
                _ => Outcome { status: 503, seen: 1, attempts: (1, 0) },
            };
            assert_eq!(outcome(case), wanted, "{case:?}");
        }
    }
}

#[test]
fn a_connection_that_was_closed_while_it_was_idle_costs_nothing() {
    for case in ENDS.into_iter().flat_map(|end| cases(At::Idle, end, true)) {
        assert_eq!(outcome(case), Outcome { status: 200, seen: 1, attempts: (0, 1) }, "{case:?}");
    }
}

#[test]
fn a_connection_that_is_closed_as_soon_as_it_is_accepted_repeats_nothing_that_was_written() {
    for case in ENDS.into_iter().flat_map(|end| cases(At::Idle, end, false)) {
        let outcome = outcome(case);
        let Outcome { status, seen, attempts } = outcome;
        // It depends on the moment whether anything was written before the end was noticed.
        assert!(matches!((status, seen, attempts.1), (200, 1, 1) | (503, 0, 0)), "{case:?}: {outcome:?}");
    }
}

#[test]
fn a_refused_connection_is_tried_at_another_endpoint_of_the_version() {
    let (refusing, serving) = (Refusing::new(), Upstream::named("v1"));
    let config = Config::single(&[refusing.port, serving.port]).policy("{loadBalancer: {simple: ROUND_ROBIN}}");
    let proxy = Proxy::with(&config, &["--workers", "1"]);
    let mut client = proxy.client();
    for number in 0..20 {
        assert_eq!(client.get("/").status(), 200, "request {number}");
        assert_eq!(client.post("/", b"x").status(), 200, "request {number}");
    }
    assert_eq!(serving.ledger.len(), 40);
    assert!(proxy.attempts("UF") >= 1.0);
    assert_eq!(proxy.attempts("2xx"), 40.0);
    assert_eq!(proxy.requests(&[("code", "200")]), 40.0);
    assert_eq!(proxy.requests(&[]), 40.0);
}

#[test]
fn when_every_endpoint_refuses_the_client_is_told_which_version() {
    let (one, other) = (Refusing::new(), Refusing::new());
    let proxy = Proxy::with(&Config::single(&[one.port, other.port]), &["--workers", "1"]);
    for request in [request("GET", "/", b""), request("POST", "/", b"x")] {
        let mut client = proxy.client();
        client.send(request);
        let answer = client.answer().unwrap();
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (503, "UF"));
        assert_eq!(answer.head.get("proxy-status"), "serin; error=connection_refused; details=\"UF\"");
        assert_eq!(answer.text(), "503 cannot connect to the endpoint for product-service v1 (UF)\n");
    }
    assert_eq!(proxy.requests(&[("version", "v1"), ("code", "503")]), 2.0);
    assert_eq!(proxy.metric("http_response_flags_total", &[("flag", "UF")]), 2.0);
    let log = proxy.log();
    assert!(log.contains("cannot reach product-service v1") && log.contains(&one.port.to_string()), "{log}");
}

#[test]
fn a_retry_never_goes_to_another_version() {
    let (down, up) = (Refusing::new(), Upstream::named("v2"));
    let config = Config::default().version("v1", 50, &[down.port]).version("v2", 50, &[up.port]);
    let proxy = Proxy::with(&config, &["--seed", "7"]);
    let mut client = proxy.client();
    let mut answered = 0;
    for _ in 0..60 {
        let answer = client.get("/");
        match answer.status() {
            200 => answered += 1,
            status => assert!(status == 503 && answer.text().contains("product-service v1 (UF)"), "{answer:?}"),
        }
    }
    assert!((10..50).contains(&answered), "{answered}");
    assert_eq!(up.ledger.len(), answered);
    assert_eq!(proxy.requests(&[("version", "v2")]), answered as f64);
}
