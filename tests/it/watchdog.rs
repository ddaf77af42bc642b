//! Threads that die or get stuck, put in on purpose: none of them is ever silently missing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use rustix::process::Signal;

use super::support::client::request;
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::upstream::Upstream;

fn start(config: &Config, fault: &str, arguments: &[&str]) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, config.yaml()).unwrap();
    let mut command = serin();
    command.arg("run").arg(path).args(["--workers", "2"]).args(arguments);
    if fault.contains("=block@") {
        // Only where a worker is to be stuck: on a busy machine it may be still for a while.
        command.env("SERIN_TEST_STUCK_MS", "1500");
    }
    Proxy::spawn(folder, command.env("SERIN_TEST_FAIL", fault))
}

/// Waits until it has aborted; what it printed.
fn aborted(mut proxy: Proxy) -> String {
    let status = proxy.wait();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status:?}\n{}", proxy.log());
    eventually("it says why", || proxy.log().contains("this is a mistake in serin: the process aborts"));
    proxy.log()
}

#[test]
fn a_worker_that_is_stuck_ends_the_process_and_is_named() {
    let upstream = Upstream::named("v1");
    for (point, doing) in [
        ("before-routing", "deciding about a request"),
        ("in-the-attempt", "sending a request to an endpoint"),
        ("in-the-body", "passing the body of an answer on"),
    ] {
        let proxy = start(&Config::single(&[upstream.port]), &format!("{point}=block@1"), &[]);
        let mut client = proxy.client();
        client.send(request("GET", "/", b""));
        let log = aborted(proxy);
        assert!(log.contains("serin-worker-") && log.contains("has not moved for"), "{log}");
        assert!(log.contains(&format!("when it was {doing}")), "{log}");
    }
}

#[test]
fn a_worker_that_dies_ends_the_process_and_is_named() {
    let proxy = start(&Config::single(&[9]), "worker-tick=panic@3", &[]);
    let log = aborted(proxy);
    assert!(
        log.contains("serin-worker-") && log.contains("has died, when it was looking after its connections"),
        "{log}"
    );
    assert!(log.contains("a test wants a panic at worker-tick"), "{log}");
}

/// Its clients would wait in the backlog for ever.
#[test]
fn a_listener_that_accepts_no_more_ends_its_worker() {
    let proxy = start(&Config::single(&[9]), "accept=panic@1", &[]);
    let _client = proxy.client();
    let log = aborted(proxy);
    // What it was doing is its last sign of life, and it may have looked after its connections since.
    assert!(log.contains("serin-worker-") && log.contains("has died, when it was"), "{log}");
}

#[test]
fn the_thread_of_the_releases_does_not_die_in_silence() {
    let proxy = start(&Config::single(&[9]), "rollout=panic@3", &[]);
    assert!(aborted(proxy).contains("the thread serin-rollout has died"));
}

#[test]
fn what_holds_a_worker_up_is_counted() {
    let upstream = Upstream::named("v1");
    let proxy = start(&Config::single(&[upstream.port]), "before-routing=block400@2", &[]);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), 200);
    let before = proxy.metric("serin_worker_stall_seconds_total", &[]);
    assert_eq!(client.get("/").status(), 200);
    let stalled = || proxy.metric("serin_worker_stall_seconds_total", &[]) - before;
    eventually("it is counted", || stalled() >= 0.34);
}

#[test]
fn the_watch_over_the_files_starts_again() {
    let upstreams = [Upstream::named("v1"), Upstream::named("v2")];
    let config = Config::default().version("v1", 100, &[upstreams[0].port]).version("v2", 0, &[upstreams[1].port]);
    let proxy = start(&config, "config-watch=panic@2", &[]);
    proxy.save_by_rename(&config.weights(&[0, 100]).yaml());
    eventually("the change is in force", || proxy.generation() == 2);
    assert_eq!(proxy.client().get("/").text(), "v2");
    assert!(proxy.log().contains("a test wants a panic at config-watch"), "{}", proxy.log());
}

#[test]
fn the_thread_of_the_names_goes_on_after_each_mistake() {
    let proxy = start(&Config::single(&[9]), "resolve=panic@1-3", &[]);
    eventually("it has come by three times", || proxy.metric("serin_panics_total", &[]) == 3.0);
    assert_eq!(proxy.log().matches("looking after names failed; going on").count(), 3, "{}", proxy.log());
}

#[test]
fn the_access_log_loses_the_lines_of_a_mistake_and_no_more() {
    let upstream = Upstream::named("v1");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let flag = format!("text={}", log.display());
    let proxy = start(&Config::single(&[upstream.port]), "access-log=panic@1", &["--access-log", &flag]);
    let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), 200);
    eventually("the first is lost", || proxy.metric("serin_access_log_dropped_total", &[]) == 1.0);
    assert_eq!(client.get("/").status(), 200);
    eventually("the second is there", || lines(&log) == 1);
}
