//! More than the process can bear, by time or by memory: it takes less, says so, and is well again when the load is gone.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::support::client::request;
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::slow::{Slow, Well};
use super::support::upstream::{Refusing, Script, Upstream};
use super::support::wire::Message;

/// One worker, to which each request costs time.
fn dear(upstream: &Upstream, cost: &str, arguments: &[&str]) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, Config::single(&[upstream.port]).yaml()).unwrap();
    let mut command = serin();
    command.arg("run").arg(path).args(["--workers", "1"]).args(arguments);
    Proxy::spawn(folder, command.env("SERIN_TEST_FAIL", format!("before-routing={cost}")))
}

fn shed(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("serin_shed_requests_total", &[("reason", reason)])
}

#[track_caller]
fn is_turned_away(answer: &Message, text: &str) {
    assert_eq!((answer.status(), answer.head.get("x-serin-flag"), answer.head.get("retry-after")), (503, "UO", "1"));
    assert_eq!(answer.text(), format!("503 {text} (UO)\n"));
}

/// Clients that come again at once, until `over`. How many answers there were of each kind.
fn crowd(proxy: &Proxy, clients: usize, over: impl Fn([usize; 2]) -> bool + Sync) -> [usize; 2] {
    let (ended, served, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = proxy.client();
                while !ended.load(Ordering::SeqCst) {
                    let answer = client.get("/");
                    if answer.status() == 200 {
                        served.fetch_add(1, Ordering::SeqCst);
                    } else {
                        is_turned_away(&answer, "too many requests for now");
                        assert_eq!(answer.head.get("connection"), "", "the connection is as good as before");
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let counts = || [&served, &refused].map(|count| count.load(Ordering::SeqCst));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("the crowd has seen enough", || over(counts()));
        }));
        ended.store(true, Ordering::SeqCst);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        counts()
    })
}

#[test]
fn a_worker_that_cannot_keep_up_takes_fewer_requests_until_it_can() {
    let upstream = Upstream::named("v1");
    let proxy = dear(&upstream, "block10@1-1000000", &[]);
    let [_, refused] = crowd(&proxy, 60, |[_, refused]| refused >= 200);
    assert!(proxy.log().contains("late to its work: it turns requests away"), "{}", proxy.log());
    assert_eq!(shed(&proxy, "delay"), proxy.requests(&[("app", "_none"), ("code", "503")]));
    assert!(shed(&proxy, "delay") >= refused as f64);
    assert_eq!((shed(&proxy, "requests"), shed(&proxy, "memory")), (0.0, 0.0));
    // Whoever is left is served: fewer than it takes to be late, and then, as soon as nobody is turned away, as many as come.
    let before = shed(&proxy, "delay");
    crowd(&proxy, 4, |[served, _]| served >= 300);
    assert_eq!(shed(&proxy, "delay"), before);
    assert_eq!(upstream.ledger.len() as f64, proxy.requests(&[("version", "v1"), ("code", "200")]));
}

#[test]
fn a_worker_may_be_told_to_take_everything_however_late_it_is() {
    let upstream = Upstream::named("v1");
    let proxy = dear(&upstream, "block10@1-1000000", &["--max-worker-delay", "0"]);
    let late = || proxy.metric("serin_worker_stall_seconds_total", &[]);
    crowd(&proxy, 60, |_| late() >= 3.0);
    assert_eq!(shed(&proxy, "delay"), 0.0);
}

#[test]
fn a_process_that_was_stopped_is_not_overloaded() {
    let script = Script::start();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    // More than the few that are always served.
    let begin = || {
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        (client, wire)
    };
    let mut under_way: Vec<_> = (0..20).map(|_| begin()).collect();
    let stalled = || proxy.metric("serin_worker_stall_seconds_total", &[]);
    for _ in 0..2 {
        let before = stalled();
        proxy.signal(Signal::STOP);
        // It is the time itself that must not count.
        thread::sleep(Duration::from_millis(1500));
        proxy.signal(Signal::CONT);
        eventually("it has seen that it was late", || stalled() > before + 1.0);
        under_way.extend((0..20).map(|_| begin()));
    }
    assert_eq!(shed(&proxy, "delay"), 0.0);
    for (mut client, mut wire) in under_way {
        wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nv1");
        assert_eq!(client.answer().unwrap().status(), 200);
    }
}

/// A limit that the process has passed before it began.
fn without_memory(script: &Script) -> Proxy {
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1", "--max-memory", "1MiB"]);
    eventually("it knows", || proxy.log().contains("new requests are turned away"));
    proxy
}

#[test]
fn short_of_memory_a_worker_serves_one_request_at_a_time_and_keeps_no_connection() {
    let script = Script::start();
    let proxy = without_memory(&script);
    assert_eq!(proxy.metric("serin_memory_limit_bytes", &[]), f64::from(1 << 20));
    for round in 1..=3 {
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        let mut other = proxy.client();
        let answer = other.get("/");
        is_turned_away(&answer, "short of memory");
        assert_eq!(answer.head.get("connection"), "close");
        assert!(other.rest().0.is_empty());
        wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nv1");
        let answer = client.answer().unwrap();
        assert_eq!((answer.status(), shed(&proxy, "memory")), (200, f64::from(round)));
    }
    eventually("an answer ends its connection", || {
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nv1");
        client.answer().unwrap().head.get("connection") == "close"
    });
    let closed = || proxy.metric("serin_client_connections_closed_total", &[("reason", "idle")]);
    let before = closed();
    let mute = proxy.client();
    eventually("idle connections are closed", || closed() > before);
    drop(mute);
    assert_eq!(proxy.ask("GET", "/ready").0, 200);
}

/// P6: for each request whose bytes are not taken, whatever the size of its body.
const PER_STREAM: u64 = 336 * 1024;

#[test]
fn who_does_not_read_costs_the_proxy_little() {
    const CONNECTIONS: usize = 150;
    for slow in [Slow::Readers, Slow::Endpoint] {
        let well = Well::start(slow);
        let proxy = Proxy::start(&Config::single(&[well.port]));
        // What is needed once, however many there are.
        let _first = well.fill(&proxy, slow, 50);
        let before = proxy.resident();
        let _stuck = well.fill(&proxy, slow, CONNECTIONS);
        let each = proxy.resident().saturating_sub(before) / CONNECTIONS as u64;
        assert!(each <= PER_STREAM, "{slow:?}: {} KiB each", each / 1024);
    }
}

#[test]
fn when_those_are_gone_who_filled_the_memory_everybody_is_served_again() {
    const CONNECTIONS: usize = 200;
    let well = Well::start(Slow::Readers);
    let config = Config::single(&[well.port]);
    let start = |limit: &str| Proxy::with(&config, &["--workers", "2", "--max-memory", limit]);
    let (before, grown) = {
        let proxy = start("0");
        let before = proxy.resident();
        let _stuck = well.fill(&proxy, Slow::Readers, CONNECTIONS);
        (before, proxy.resident() - before)
    };
    // Room for most of them, but not for all.
    let proxy = start(&(before + grown * 3 / 4).to_string());
    let stuck = well.press(&proxy, Slow::Readers, CONNECTIONS);
    eventually("it is short of memory", || proxy.log().contains("new requests are turned away"));
    eventually("one is turned away", || {
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        client.head().unwrap().unwrap().status() == 503
    });
    drop(stuck);
    eventually("it has enough again", || proxy.log().contains("everybody is served again"));
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(request("GET", "/", b"")));
    clients.iter_mut().for_each(|client| assert_eq!(client.head().unwrap().unwrap().status(), 200));
}

#[test]
fn bodies_for_which_there_is_no_memory_are_sent_once_and_to_no_mirror() {
    let (refused, mirror) = (Refusing::new(), Upstream::named("v2"));
    let script = Script::start();
    let config = Config::single(&[script.port]).version("v2", 0, &[mirror.port]);
    let config = config
        .rule("retries: {attempts: 1, retryOn: '503', backoff: 1ms}")
        .rule("mirror: {host: product-service, subset: v2}");
    // 16 KiB for all bodies; one at a time is served.
    let proxy = Proxy::with(&config, &["--workers", "1", "--max-memory", "64KiB"]);
    let failing = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let good = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nv1";
    let ask = |length: usize, answers: &[&str]| {
        let body = vec![b'x'; length];
        let mut client = proxy.client();
        client.send(request("POST", "/", &body));
        for answer in answers {
            let mut wire = script.accept();
            assert_eq!(wire.request().unwrap().unwrap().body, body);
            wire.send(answer);
        }
        client.answer().unwrap().status()
    };
    let not_kept = || proxy.metric("serin_bodies_not_kept_total", &[]);
    let copies = |result| proxy.metric("serin_mirror_requests_total", &[("result", result)]);
    assert_eq!((ask(1000, &[failing, good]), not_kept()), (200, 0.0));
    eventually("it is copied", || copies("sent") == 1.0);
    assert_eq!((ask(30_000, &[failing]), script.try_accept().is_none()), (503, true));
    assert!(not_kept() >= 1.0);
    eventually("it is not copied", || copies("dropped_memory") == 1.0);
    eventually("what was kept is given back", || proxy.metric("serin_kept_body_bytes", &[]) == 0.0);
    // What comes in pieces is given up where it becomes too much.
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: product-service\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut wire = script.accept();
    wire.head().unwrap().unwrap();
    for _ in 0..30 {
        client.send(format!("3e8\r\n{}\r\n", "x".repeat(1000)));
        assert_eq!(wire.chunk().unwrap().len(), 1000);
    }
    client.send("0\r\n\r\n");
    wire.send(failing);
    assert_eq!(client.answer().unwrap().status(), 503);
    eventually("it is not copied either", || copies("dropped_memory") == 2.0);
    assert_eq!(mirror.ledger.len(), 1);
    eventually("what was kept is given back", || proxy.metric("serin_kept_body_bytes", &[]) == 0.0);
    drop(refused);
}
