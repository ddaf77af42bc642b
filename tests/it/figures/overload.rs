//! Figures of a proxy that has more to do than it can, or clients that mean it no good.

use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{SERVICE, show};
use crate::support::client::Client;
use crate::support::clients::rounds;
use crate::support::config::Config;
use crate::support::frames::{END_STREAM, Frames, PING, RST_STREAM, frame, head};
use crate::support::proxy::{Proxy, serin};
use crate::support::slow::{Slow, Well};
use crate::support::upstream::{Upstream, answer};

/// P6, M5. What each connection costs whose bytes nobody takes, when there are many.
#[test]
#[ignore = "measures; see the module"]
fn memory_of_slow_connections() {
    let connections = rounds("SERIN_CONNECTIONS", 1_000);
    let most = 19_500;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) });
    for slow in [Slow::Readers, Slow::Endpoint] {
        let well = Well::start(slow);
        let proxy = Proxy::start(&Config::single(&[well.port]));
        let before = proxy.resident();
        let _stuck = well.fill(&proxy, slow, connections);
        let grown = (proxy.resident() - before) as f64 / 1024.0;
        println!("slow {slow:?}: {connections} connections, {:.1} KiB each", grown / connections as f64);
    }
}

/// What clients have got that ask again at once, whatever the answer.
fn at_once(proxy: &Proxy, clients: usize, time: Duration) -> Vec<(u16, Duration, Duration)> {
    let begun = Instant::now();
    let client = || {
        let (mut client, mut answers) = (proxy.client(), Vec::new());
        while begun.elapsed() < time {
            let since = Instant::now();
            let status = client.get("/").status();
            answers.push((status, since.elapsed(), since.duration_since(begun)));
        }
        answers
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn print(what: &str, clients: usize, time: Duration, answers: &[(u16, Duration, Duration)]) {
    let of = |wanted: u16| answers.iter().filter(move |(status, ..)| *status == wanted);
    let rate = |wanted: u16| of(wanted).count() as f64 / time.as_secs_f64();
    println!("{what}: {clients} clients, {:.0} answers a second, {:.0} turned away", rate(200), rate(503));
    show("  served", of(200).map(|(_, took, _)| *took).collect());
    if of(503).count() > 0 {
        show("  turned away", of(503).map(|(_, took, _)| *took).collect());
        let last = of(503).map(|(.., at)| *at).max().unwrap_or_default();
        println!("  the last one {:.1} s after this began", last.as_secs_f64());
    }
}

/// R6. Three times as many clients as there are places, which come again at once when they were turned away.
#[test]
#[ignore = "measures; see the module"]
fn overload_by_clients_that_come_again_at_once() {
    const PLACES: usize = 40;
    let upstream = Upstream::answering(|_| {
        thread::sleep(SERVICE);
        answer("v1")
    });
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--max-requests", &PLACES.to_string()]);
    let time = Duration::from_secs(rounds("SERIN_OVERLOAD", 10) as u64);
    println!("there are places for {:.0} answers a second", PLACES as f64 / SERVICE.as_secs_f64());
    for (what, clients) in [("before", PLACES * 4 / 5), ("three times as many", PLACES * 3), ("after", PLACES * 4 / 5)]
    {
        let before = proxy.cpu_time();
        let answers = at_once(&proxy, clients, time);
        print(what, clients, time, &answers);
        let each = (proxy.cpu_time() - before).as_secs_f64() * 1e6 / answers.len() as f64;
        println!("  {each:.0} µs of the processor for an answer, of either kind");
    }
}

/// R4, R5. One worker to which each request costs 2 ms, with many more clients than it can serve in time, and without a limit on its
/// delay for comparison. Needs a debug build, which obeys.
#[test]
#[ignore = "measures; see the module"]
fn overload_of_a_worker() {
    let upstream = Upstream::named("v1");
    let time = Duration::from_secs(rounds("SERIN_OVERLOAD", 10) as u64);
    for limit in ["0", "50ms"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, Config::single(&[upstream.port]).yaml()).unwrap();
        let mut command = serin();
        command.arg("run").arg(path).args(["--workers", "1", "--max-worker-delay", limit]);
        let proxy = Proxy::spawn(folder, command.env("SERIN_TEST_FAIL", "before-routing=block2@1-100000000"));
        println!("--max-worker-delay {limit}");
        for (what, clients) in [("before", 10), ("far too many", 300), ("after", 10)] {
            print(what, clients, time, &at_once(&proxy, clients, time));
        }
    }
}

/// Abuses a proxy until it is told that it is over.
type Attack = fn(&Proxy, &AtomicBool);

/// P17. What clean clients see while another one abuses the proxy.
#[test]
#[ignore = "measures; see the module"]
fn clean_clients_beside_abuse() {
    let attacks: [(&str, &[&str], Attack); 6] = [
        ("nobody", &[], |_, over| wait_for(over)),
        ("500 heads that come a byte at a time", &[], slow_heads),
        ("HTTP/2, streams that are reset at once", &[], resets),
        ("HTTP/2, pings", &[], pings),
        ("300 idle connections more than there may be", &["--max-connections", "100"], idle),
        ("300 mute connections more than there may be", &["--max-connections", "100"], mute),
    ];
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(19_500), maximum: Some(19_500) });
    let time = Duration::from_secs(rounds("SERIN_OVERLOAD", 10) as u64);
    let upstream = Upstream::named("v1");
    for (what, arguments, attack) in attacks {
        let proxy = Proxy::with(&Config::single(&[upstream.port]), arguments);
        let over = AtomicBool::new(false);
        let (took, lost) = thread::scope(|scope| {
            scope.spawn(|| attack(&proxy, &over));
            let clean: Vec<_> = (0..4).map(|_| scope.spawn(|| clean(&proxy, time))).collect();
            let seen: Vec<_> = clean.into_iter().map(|client| client.join().unwrap()).collect();
            over.store(true, Ordering::SeqCst);
            let lost: usize = seen.iter().map(|(_, lost)| lost).sum();
            (seen.into_iter().flat_map(|(took, _)| took).collect::<Vec<_>>(), lost)
        });
        show(what, took);
        println!("  {lost} lost; connections that were closed from this side:");
        let metrics = proxy.ask("GET", "/metrics").1;
        let closed = metrics.lines().filter(|line| line.starts_with("serin_client_connections_closed_total"));
        closed.filter(|line| !line.ends_with(" 0")).for_each(|line| println!("  {line}"));
    }
}

/// A request every 5 ms, each connection for as long as it lasts. How long they took, and how many were not answered well.
fn clean(proxy: &Proxy, time: Duration) -> (Vec<Duration>, usize) {
    let (begun, mut took, mut lost) = (Instant::now(), Vec::new(), 0);
    let mut client: Option<Client> = None;
    while begun.elapsed() < time {
        let since = Instant::now();
        // A connection that is closed while it is idle is no loss: clients connect again.
        let kept = client.as_mut().and_then(|client| client.try_get("/").ok());
        let answer = kept.or_else(|| client.insert(proxy.client()).try_get("/").ok());
        match answer {
            Some(answer) if answer.status() == 200 => took.push(since.elapsed()),
            _ => (lost, client) = (lost + 1, None),
        }
        thread::sleep(Duration::from_millis(5));
    }
    (took, lost)
}

fn wait_for(over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(10));
    }
}

fn slow_heads(proxy: &Proxy, over: &AtomicBool) {
    let connect = || {
        let mut client = proxy.client();
        let _ = client.try_send("GET / HTTP/1.1\r\nx: ");
        client
    };
    let mut all: Vec<_> = (0..500).map(|_| connect()).collect();
    while !over.load(Ordering::SeqCst) {
        for client in &mut all {
            if client.try_send("a").is_err() {
                *client = connect();
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Sends the same on one connection after the other; what comes back is read.
fn flood(proxy: &Proxy, over: &AtomicBool, piece: impl Fn(u32) -> Vec<u8>) {
    while !over.load(Ordering::SeqCst) {
        let mut client = Frames::connect(proxy.listen, &[]);
        let mut answers = client.stream().try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while answers.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
        let mut number = 0;
        while !over.load(Ordering::SeqCst) && client.send(piece(number)).is_ok() {
            number += 1;
        }
        drop(client.stream().shutdown(std::net::Shutdown::Both));
        reader.join().unwrap();
    }
}

fn resets(proxy: &Proxy, over: &AtomicBool) {
    flood(proxy, over, |number| {
        let stream = 2 * number + 1;
        [head(stream, "GET", "/", END_STREAM), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    });
}

fn pings(proxy: &Proxy, over: &AtomicBool) {
    let many = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    flood(proxy, over, |_| many.clone());
}

/// Each brings one request, and waits for nothing then.
fn idle(proxy: &Proxy, over: &AtomicBool) {
    connections(proxy, over, "GET / HTTP/1.1\r\nhost: product-service\r\n\r\n");
}

/// Each says nothing at all.
fn mute(proxy: &Proxy, over: &AtomicBool) {
    connections(proxy, over, "");
}

/// Whoever is closed comes again.
fn connections(proxy: &Proxy, over: &AtomicBool, words: &str) {
    let mut all = Vec::new();
    while !over.load(Ordering::SeqCst) {
        if all.len() == 400 {
            all.remove(0);
        }
        let mut client = proxy.client();
        let _ = client.try_send(words);
        all.push(client);
        thread::sleep(Duration::from_millis(2));
    }
}
