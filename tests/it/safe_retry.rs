//! A request is sent again only where that is safe: what an upstream may see twice, and what it never does.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::support::client::request;
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Refusing, Script, Upstream, answer};
use super::support::wire::{End, Wire};

/// Where an upstream ends the connection. A request without a body has no middle: then it is the answer that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    BeforeWrite,
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
    /// Whether the client got all of an answer.
    complete: bool,
    /// How many connections brought the head of the request.
    seen: usize,
    /// Attempts that were counted as failed, and as answered.
    attempts: (u32, u32),
}

/// What the upstream saw.
struct Seen {
    times: usize,
    /// Whether the request came on another connection than the one that was kept alive, which the case is about: it was idle for
    /// too long, because the machine is busy.
    missed: bool,
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

/// What the upstream does on the connection that it ends.
fn until_the_end(case: Case, wire: &mut Wire) {
    let answer = answer("v1");
    match (case.at, case.length) {
        (At::BeforeWrite | At::AfterHead, _) => {}
        (At::MidBody, 0) => wire.send(&answer[..answer.len() - 1]),
        (At::AfterBody, 0) => wire.send(answer),
        (At::MidBody, length) => drop(wire.exactly(length / 2).unwrap()),
        (At::AfterBody, length) => drop(wire.exactly(length).unwrap()),
    }
}

/// Breaks off the request as the case says, then answers whatever else comes.
fn upstream(case: Case, script: &Script, kept: Option<Wire>, done: &AtomicBool) -> Seen {
    let mut seen = Seen { times: 0, missed: false };
    let mut broken = None;
    if case.at != At::BeforeWrite || !case.reused {
        let mut wire = kept.unwrap_or_else(|| script.accept());
        if case.at != At::BeforeWrite {
            seen.missed = wire.head().unwrap().is_none();
            seen.times += usize::from(!seen.missed);
        }
        if !seen.missed {
            until_the_end(case, &mut wire);
            broken = finish(wire, case.end);
        }
    }
    while !done.load(Ordering::SeqCst) {
        match script.try_accept() {
            Some(mut wire) => {
                if let Ok(Some(_)) = wire.request() {
                    seen.times += 1;
                    wire.send(answer("v1"));
                }
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    drop(broken);
    seen
}

/// None if the machine was too busy for the case to take place.
fn try_outcome(case: Case) -> Option<Outcome> {
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
        (At::BeforeWrite, Some(wire)) => finish(wire, case.end),
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
    let head = client.head().unwrap_or_else(|error| panic!("{case:?}: {error}")).expect("an answer");
    let status = head.status();
    let complete = client.answer_after(head).is_ok();
    done.store(true, Ordering::SeqCst);
    let seen = upstream.join().unwrap_or_else(|_| panic!("{case:?}"));
    drop(ended);
    let failed = proxy.attempts("UC") + proxy.attempts("UR") + proxy.attempts("UF");
    let answered = proxy.attempts("2xx") - f64::from(warm);
    let attempts = (failed as u32, answered as u32);
    (!seen.missed).then_some(Outcome { status, complete, seen: seen.times, attempts })
}

fn outcome(case: Case) -> Outcome {
    (0..10).find_map(|_| try_outcome(case)).unwrap_or_else(|| panic!("{case:?}: no connection stayed warm"))
}

/// Every request, ended in both ways, on fresh and on kept-alive connections.
fn cases(at: At) -> Vec<Case> {
    let requests = [("GET", 0), ("POST", 0), ("POST", 10), ("POST", 1 << 20)];
    let ends = [(End::Fin, false), (End::Fin, true), (End::Reset, false), (End::Reset, true)];
    let cases = requests.into_iter().flat_map(|request| ends.map(|end| (request, end)));
    cases.map(|((method, length), (end, reused))| Case { at, method, length, end, reused }).collect()
}

const ANSWERED: Outcome = Outcome { status: 200, complete: true, seen: 1, attempts: (0, 1) };
const CUT_OFF: Outcome = Outcome { complete: false, ..ANSWERED };
const SENT_AGAIN: Outcome = Outcome { seen: 2, attempts: (1, 1), ..ANSWERED };
const FAILED: Outcome = Outcome { status: 503, complete: true, seen: 1, attempts: (1, 0) };

fn expected(case: Case) -> Outcome {
    match (case.at, case.length, case.method, case.reused) {
        (At::BeforeWrite, ..) | (At::AfterBody, 0, ..) => ANSWERED,
        (At::MidBody, 0, ..) => CUT_OFF,
        (_, _, "GET", true) => SENT_AGAIN,
        _ => FAILED,
    }
}

#[test]
fn what_is_sent_again_by_where_the_connection_ends() {
    for case in [At::AfterHead, At::MidBody, At::AfterBody].into_iter().flat_map(cases) {
        assert_eq!(outcome(case), expected(case), "{case:?}");
    }
}

#[test]
fn a_connection_that_ends_before_anything_is_written_costs_nothing_if_it_was_idle() {
    for case in cases(At::BeforeWrite) {
        let outcome = outcome(case);
        if case.reused {
            assert_eq!(outcome, expected(case), "{case:?}");
            continue;
        }
        // It depends on the moment whether anything was written before the end was noticed.
        let Outcome { status, seen, attempts, .. } = outcome;
        assert!(matches!((status, seen, attempts.1), (200, 1, 1) | (503, 0, 0)), "{case:?}: {outcome:?}");
    }
}

/// Stops the process, so that what happens meanwhile comes to it all at once.
fn stopped(proxy: &Proxy, meanwhile: impl FnOnce()) {
    proxy.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", proxy.process());
    eventually("all its threads stand still", || {
        fs::read_dir(&tasks).unwrap().all(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            status.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    });
    meanwhile();
    proxy.signal(Signal::CONT);
}

#[test]
fn a_post_that_arrives_with_the_end_of_a_connection_is_sent_on_another() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    for (round, end) in [End::Fin, End::Reset].into_iter().cycle().take(10).enumerate() {
        let mut client = proxy.client();
        client.send(request("GET", "/warm", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        wire.send(answer("v1"));
        assert_eq!(client.answer().unwrap().status(), 200);
        let mut ended = None;
        stopped(&proxy, || {
            client.send(request("POST", "/", b"x"));
            ended = finish(wire, end);
        });
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.answer().unwrap().status(), 200, "round {round}");
    }
    assert_eq!(proxy.attempts("UC") + proxy.attempts("UR"), 0.0);
}

#[test]
fn a_post_is_not_sent_on_a_connection_that_was_idle_for_long() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "1"]);
    let mut client = proxy.client();
    let connection = || upstream.ledger.all().last().unwrap().connection;
    for method in ["POST", "PATCH"] {
        assert_eq!(client.get("/").status(), 200);
        let before = connection();
        // It is idle for so long at least.
        thread::sleep(Duration::from_secs(1));
        client.send(request(method, "/", b"x"));
        assert_eq!(client.answer().unwrap().status(), 200);
        assert_ne!(connection(), before, "{method}");
    }
}

#[test]
fn an_endpoint_that_says_how_long_it_waits_is_believed() {
    for (said, connections) in [("timeout=1", 3), ("timeout=0, max=5", 3), ("timeout=600", 1), ("max=5", 1)] {
        let upstream = Upstream::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\nkeep-alive: {said}\r\ncontent-length: 2\r\n\r\nok").into_bytes()
        });
        let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "1"]);
        let mut client = proxy.client();
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!((answer.status(), answer.head.has("keep-alive")), (200, false));
        }
        assert_eq!(upstream.ledger.connections(), connections, "{said}");
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
