//! What docs/reliability.md promises in numbers. Nothing here fails on a slow machine: each prints what it measured, and is run
//! by hand, alone:
//! `cargo test --test it figures -- --ignored --nocapture --test-threads 1`, with `SERIN_BINARY=target/release/serin` for the
//! build that people run.

mod overload;
mod peers;

use std::collections::HashMap;
use std::fs;
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use self::peers::Subject;
use super::support::client::{Client, request};
use super::support::clients::{Clients, Mix, rounds};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::upstream::{Refusing, Script, Upstream, answer};
use super::support::wire::Wire;

/// How long a service takes for an answer.
const SERVICE: Duration = Duration::from_millis(50);

/// Prints quantiles of durations.
fn show(what: &str, mut measured: Vec<Duration>) {
    measured.sort_unstable();
    let at = |share: f64| measured[((measured.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    let (n, p50, p99, most) = (measured.len(), at(0.5), at(0.99), at(1.0));
    println!("{what}: n={n} p50={p50:.2} ms p99={p99:.2} ms max={most:.2} ms");
}

/// P6. Each connection has brought one request and waits for the next.
#[test]
#[ignore = "measures; see the module"]
fn memory_of_idle_connections() {
    let steps = [0_usize, 2_000, 6_000, 9_000];
    let most = 19_500;
    // As many as the hard limit gives.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) });
    let upstream = Upstream::named("v1");
    for subject in Subject::all(upstream.port) {
        let (mut clients, mut resident) = (Vec::new(), Vec::new());
        for step in steps {
            while clients.len() < step {
                let mut client = Client::connect(subject.listen);
                assert_eq!(client.get("/").status(), 200);
                clients.push(client);
            }
            resident.push(settled(&subject));
        }
        let (first, last) = (resident[0], resident[resident.len() - 1]);
        let slope = (last as f64 - first as f64) / steps[steps.len() - 1] as f64;
        println!(
            "{}: idle {first} KiB, with {steps:?} connections {resident:?} KiB, {slope:.1} KiB each",
            subject.name
        );
    }
}

/// Its memory once it has not become less for three seconds.
fn settled(subject: &Subject) -> u64 {
    let (mut least, mut since) = (subject.resident_kib(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(100));
        let now = subject.resident_kib();
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    least
}

/// P8. From the end of a save, or of an answer, to the first request that obeys it; every request after that obeys, too.
#[test]
#[ignore = "measures; see the module"]
fn time_to_effect() {
    let times = rounds("SERIN_CHANGES", 200);
    let [v1, v2] = ["v1", "v2"].map(Upstream::named);
    let config = Config::default().version("v1", 100, &[v1.port]).version("v2", 0, &[v2.port]);
    let proxy = Proxy::start(&config);
    let text = |change: usize| {
        let weights = if change.is_multiple_of(2) { [100, 0] } else { [0, 100] };
        (format!("# {change}\n{}", config.weights(&weights).yaml()), ["v1", "v2"][change % 2])
    };
    let mut client = proxy.client();
    let mut change = 0;
    for (what, save) in [("renamed", Proxy::save_by_rename as fn(&Proxy, &str)), ("written in place", Proxy::save)] {
        let mut measured = Vec::new();
        for _ in 0..times {
            change += 1;
            let (yaml, version) = text(change);
            save(&proxy, &yaml);
            let since = Instant::now();
            while client.get("/").head.get("x-version") != version {}
            measured.push(since.elapsed());
            (0..10).for_each(|_| assert_eq!(client.get("/").head.get("x-version"), version));
        }
        show(&format!("a file that was {what}, until it is live"), measured);
    }
    let (mut measured, mut violations) = (Vec::new(), 0);
    for _ in 0..times {
        change += 1;
        let (yaml, version) = text(change);
        proxy.save_by_rename(&yaml);
        let since = Instant::now();
        assert_eq!(proxy.ask("POST", "/config/reload").0, 200);
        measured.push(since.elapsed());
        violations += usize::from(client.get("/").head.get("x-version") != version);
    }
    show("the admin port's reload, until it says yes", measured);
    println!("requests after that yes that did not obey: {violations} of {times}");
}

/// P11. How much later than an answer a failure is told.
#[test]
#[ignore = "measures; see the module"]
fn time_to_failure() {
    let times = rounds("SERIN_CHANGES", 200);
    let (healthy, refusing, script) = (Upstream::named("v1"), Refusing::new(), Script::start());
    let ask = |config: &Config, status: u16, with: &dyn Fn()| {
        let proxy = Proxy::start(config);
        let mut client = proxy.client();
        let mut one = || {
            let since = Instant::now();
            client.send(request("GET", "/", b""));
            with();
            let answer = client.answer().unwrap();
            assert_eq!(answer.status(), status);
            since.elapsed()
        };
        one();
        (0..times).map(|_| one()).collect::<Vec<_>>()
    };
    let single = |port: u16| Config::single(&[port]).rule("retries: {attempts: 0}");
    show("an answer", ask(&single(healthy.port), 200, &|| {}));
    show("refused", ask(&single(refusing.port), 503, &|| {}));
    let reset = || {
        let mut wire = script.accept();
        wire.request().unwrap();
        wire.reset();
    };
    show("reset", ask(&single(script.port), 503, &reset));
    let held = std::cell::RefCell::new(Vec::<Wire>::new());
    let silent = || held.borrow_mut().push(script.accept());
    show("timeout of 50 ms", ask(&single(script.port).rule("timeout: 50ms"), 504, &silent));
}

/// P20, P14. From the start of the process to its first answer, with many routes; and again after kill -9.
#[test]
#[ignore = "measures; see the module"]
fn time_to_start() {
    let upstream = Upstream::named("v1");
    let folder = tempfile::tempdir().unwrap();
    let service = Config::single(&[upstream.port]).yaml();
    let all: Vec<_> = (0..1000).map(|n| service.replace("product-service", &format!("service-{n}"))).collect();
    fs::write(folder.path().join("all.yaml"), all.join("---\n")).unwrap();
    let port = Refusing::new().port;
    let mut measured = Vec::new();
    for _ in 0..rounds("SERIN_STARTS", 20) {
        let since = Instant::now();
        let mut child = serin()
            .arg("run")
            .arg(folder.path())
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(_) => thread::sleep(Duration::from_micros(200)),
            }
        };
        let mut client = Wire::new(stream);
        client.send("GET / HTTP/1.1\r\nhost: service-999\r\n\r\n");
        assert_eq!(client.answer().unwrap().status(), 200);
        measured.push(since.elapsed());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    show("from exec to the first answer, with 1,000 VirtualServices, after kill -9", measured);
}

/// P9. Three times as many requests at once as there are places, at an upstream that takes 50 ms for each; then fewer than there are
/// places.
#[test]
#[ignore = "measures; see the module"]
fn overload() {
    const PLACES: usize = 40;
    let upstream = Upstream::answering(|_| {
        thread::sleep(SERVICE);
        answer("v1")
    });
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--max-requests", &PLACES.to_string()]);
    let seconds = Duration::from_secs(rounds("SERIN_OVERLOAD", 10) as u64);
    let most = PLACES as f64 / SERVICE.as_secs_f64();
    for (what, clients) in [("before", PLACES * 4 / 5), ("three times as many", PLACES * 3), ("after", PLACES * 4 / 5)]
    {
        let until = Instant::now() + seconds;
        let client = || {
            let (mut client, mut answers) = (proxy.client(), Vec::new());
            while Instant::now() < until {
                let since = Instant::now();
                let status = client.get("/").status();
                answers.push((status, since.elapsed(), since));
                if status != 200 {
                    thread::sleep(SERVICE);
                }
            }
            answers
        };
        let answers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let begun = until - seconds;
        let of = |wanted: u16| answers.iter().filter(move |(status, ..)| *status == wanted);
        let rate = of(200).count() as f64 / seconds.as_secs_f64();
        println!("{what}: {clients} clients, {rate:.0} answers a second of {most:.0} that there are places for");
        show("  admitted", of(200).map(|(_, took, _)| *took).collect());
        if of(503).count() > 0 {
            show("  turned away", of(503).map(|(_, took, _)| *took).collect());
            let last = of(503).map(|(_, _, at)| at.duration_since(begun)).max().unwrap_or_default();
            println!("  the last one {:.1} s after this began", last.as_secs_f64());
        }
    }
}

/// P1, beside others: each reads its configuration again under load, as its users make it.
#[test]
#[ignore = "measures; see the module"]
fn reloads_beside_others() {
    let times = rounds("SERIN_RELOADS", 30);
    let upstream = Upstream::named("v1");
    for mut subject in Subject::all(upstream.port) {
        let mix = Mix { streams: 0, ..Mix::ALL };
        let clients = Clients::start(subject.listen, mix);
        let mut seen = HashMap::new();
        for round in 0..times {
            let before = upstream.ledger.len();
            subject.reload(round);
            eventually("it serves", || upstream.ledger.len() > before + 100);
        }
        let sent = clients.finish();
        for failure in sent.failures() {
            let kind = failure.split('/').next().unwrap_or_default().to_owned();
            *seen.entry(kind).or_insert(0) += 1;
        }
        println!("{}: {times} reloads under {} requests, lost: {seen:?}", subject.name, upstream.ledger.forget());
        subject.signal(Signal::TERM);
    }
}
