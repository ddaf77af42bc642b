//! Mixed load with faults on every side, for as long as one likes: clients that follow each of their requests lose none, and
//! descriptors, threads and memory end where they began.
//!
//! Some seconds in every run of the tests; an hour by
//! `SERIN_SOAK=3600 cargo test --test it a_soak -- --nocapture`.

mod abuse;
mod trouble;

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use self::abuse::Abuse;
use super::support::clients::{Clients, Mix, rounds};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::upstream::{Refusing, Upstream};

/// The host whose upstreams fail in every way.
const TROUBLED: &str = "troubled-service";
/// How much more memory there may be in the last third than in the first: five of a hundred, and what the allocator keeps or gives
/// back as it likes.
const GROWTH: (f64, f64) = (1.05, 16e6);

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    /// Bytes in memory.
    resident: f64,
}

impl Held {
    fn by(proxy: &Proxy) -> Self {
        let resident = proxy.metric("process_resident_memory_bytes", &[]);
        Self { descriptors: count(proxy, "fd"), threads: count(proxy, "task"), resident }
    }
}

/// Does not ask the process itself, whose admin port keeps the threads that answered lately.
fn count(proxy: &Proxy, what: &str) -> usize {
    fs::read_dir(format!("/proc/{}/{what}", proxy.process())).unwrap().count()
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, resident } = self;
        write!(f, "{descriptors} descriptors, {threads} threads, {:.1} MB", resident / 1e6)
    }
}

/// Everything has ended that clients and upstreams began.
fn settle(proxy: &Proxy, before: Held) {
    eventually("no request is under way", || proxy.metric("http_requests_in_flight", &[]) == 0.0);
    eventually("every connection is closed", || proxy.metric("serin_upstream_connections", &[]) == 0.0);
    eventually("no descriptor is left over", || count(proxy, "fd") <= before.descriptors);
    eventually("no thread is left over", || count(proxy, "task") <= before.threads);
    eventually("old snapshots are gone", || proxy.metric("serin_config_snapshots_live", &[]) <= 2.0);
}

#[test]
fn a_soak_ends_where_it_began() {
    let seconds = rounds("SERIN_SOAK", 6);
    let part = Duration::from_secs((seconds as u64 / 3).clamp(2, 20));
    let (healthy, refusing) = (Upstream::named("v1"), Refusing::new());
    let troubled = trouble::start();
    let config = |round: usize| {
        let share = u32::try_from(round % 101).unwrap();
        let healthy =
            Config::default().version("v1", share, &[healthy.port]).version("v2", 100 - share, &[healthy.port]);
        let troubled = Config::default()
            .version("v1", 50, &[troubled])
            .version("v2", 50, &[troubled, refusing.port])
            .rule("timeout: 1s")
            .rule("retries: {attempts: 2, retryOn: '5xx,reset'}")
            .rule("mirror: {host: product-service, subset: v1}");
        format!("{}---\n{}", healthy.yaml(), troubled.yaml().replace("product-service", TROUBLED))
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, config(50)).unwrap();
    let proxy = Proxy::spawn(folder, serin().arg("run").arg(&path).args(["--workers", "2"]));
    let began = Held::by(&proxy);
    println!("at the start: {began}");

    let (started, mut round, mut total, mut resident) = (Instant::now(), 0, 0, Vec::new());
    while resident.len() < 3 || started.elapsed().as_secs() < seconds as u64 {
        let since = Instant::now();
        let clients = Clients::start(proxy.listen, Mix::ALL);
        let abuse = Abuse::start(&proxy);
        while since.elapsed() < part {
            round += 1;
            let good = config(round);
            fs::write(&path, if round % 7 == 0 { "half: [" } else { &good }).unwrap();
            let generation = proxy.generation();
            thread::sleep(Duration::from_millis(100));
            assert!(proxy.generation() >= generation);
        }
        let abused = abuse.finish();
        clients.finish().check(&[&healthy.ledger], 0);
        let followed = healthy.ledger.forget();
        total += followed;
        settle(&proxy, began);
        let held = Held::by(&proxy);
        println!("{:>5} s: {followed} requests followed, {abused} abused, {held}", started.elapsed().as_secs());
        resident.push(held.resident);
    }
    let third = resident.len() / 3;
    let first = resident[..third].iter().copied().fold(0.0, f64::max);
    let last = resident[resident.len() - third..].iter().copied().fold(f64::MAX, f64::min);
    let (factor, more) = GROWTH;
    assert!(last <= first * factor + more, "{last} bytes in memory, {first} at first");
    println!("{total} requests followed, none lost, none repeated");
    assert!(total > 0 && proxy.requests(&[("app", TROUBLED), ("code", "503")]) > 0.0);
}
