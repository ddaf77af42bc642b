//! A process with few descriptors: clients wait and are served in turn, the admin port answers, and nothing spins.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::support::client::{Client, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::upstream::{Script, Upstream};

/// A proxy with this many descriptors, which cannot be raised.
fn starved(descriptors: u32, config: &Config, arguments: &[&str]) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), config.yaml()).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
    command.arg(serin().get_program()).arg("run").arg(folder.path()).args(["--workers", "2"]).args(arguments);
    Proxy::spawn(folder, &mut command)
}

fn accept_errors(proxy: &Proxy) -> f64 {
    proxy.metric("serin_accept_errors_total", &[("errno", "EMFILE")])
}

/// Clients that are connected, as far as they know.
fn connect(proxy: &Proxy, count: usize) -> Vec<Client> {
    (0..count).map(|_| proxy.client()).collect()
}

/// One more request: answered, or turned away for now.
fn is_served(client: &mut Client) -> bool {
    let answer = client.get("/");
    match answer.status() {
        200 => true,
        503 => {
            assert_eq!((answer.head.get("x-serin-flag"), answer.head.get("retry-after")), ("UO", "1"));
            false
        }
        other => panic!("{other}: {}", answer.text()),
    }
}

#[test]
fn far_more_clients_than_descriptors_are_all_served_in_the_end() {
    let upstream = Upstream::named("v1");
    let proxy = starved(64, &Config::single(&[upstream.port]), &[]);
    eventually("it says that these are few", || proxy.log().contains("the limit of 64 descriptors"));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(|| {
                    // As `retry-after` says.
                    while !is_served(&mut proxy.client()) {
                        thread::sleep(Duration::from_secs(1));
                    }
                })
            })
            .collect();
        while !clients.iter().all(|client| client.is_finished()) {
            assert_eq!(proxy.ask("GET", "/live").0, 200);
        }
    });
    assert_eq!(proxy.requests(&[("code", "200")]), 200.0);
}

#[test]
fn without_a_descriptor_to_spare_new_clients_wait_and_nothing_spins() {
    let upstream = Upstream::named("v1");
    let long = ["--max-connections", "1000", "--header-timeout", "1h", "--keepalive-timeout", "1h"];
    let proxy = starved(64, &Config::single(&[upstream.port]), &long);
    let silent = connect(&proxy, 100);
    eventually("no more are taken", || accept_errors(&proxy) >= 1.0);
    let mut waiting = connect(&proxy, 50);
    waiting.iter_mut().for_each(|client| client.send(request("GET", "/", b"")));

    let (before, since) = (proxy.cpu_time(), Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        assert_eq!(proxy.ask("GET", "/live").0, 200, "the admin port has its own");
        thread::sleep(Duration::from_millis(100));
    }
    let (used, wall) = (proxy.cpu_time() - before, since.elapsed());
    assert!(used < wall / 4, "{used:?} of CPU time in {wall:?} of waiting");
    assert!(accept_errors(&proxy) < 50.0, "{} errors", accept_errors(&proxy));
    assert_eq!(proxy.requests(&[]), 0.0);

    drop(silent);
    let answers: Vec<u16> = waiting.iter_mut().map(|client| client.answer().unwrap().status()).collect();
    assert!(answers.iter().all(|status| [200, 503].contains(status)), "{answers:?}");
    drop(waiting);
    eventually("there is room again", || is_served(&mut proxy.client()));
}

#[test]
fn without_a_descriptor_for_an_endpoint_the_request_is_turned_away_and_nobody_is_blamed() {
    let script = Script::start();
    let long = ["--max-connections", "1000", "--header-timeout", "1h"];
    let proxy = starved(64, &Config::single(&[script.port]), &long);
    let mut clients = connect(&proxy, 100);
    eventually("no more are taken", || accept_errors(&proxy) >= 1.0);
    // Those that were taken are more than there are descriptors for endpoints.
    clients.iter_mut().for_each(|client| client.send(request("POST", "/", b"body")));
    let turned_away = loop {
        let found = clients.iter_mut().find_map(|client| {
            client.patience(Duration::from_millis(20));
            match client.answer() {
                Ok(answer) => Some(answer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) => panic!("{error}"),
            }
        });
        if let Some(found) = found {
            break found;
        }
    };
    assert_eq!((turned_away.status(), turned_away.head.get("x-serin-flag")), (503, "UO"));
    assert_eq!(turned_away.head.get("retry-after"), "1");
    assert!(turned_away.head.get("proxy-status").contains("connection_limit_reached"));
    // One attempt each, which says nothing about the endpoint; others may be at it just now.
    let exhausted = || proxy.metric("serin_upstream_exhausted_total", &[("errno", "EMFILE")]);
    eventually("they are counted alike", || exhausted() >= 1.0 && proxy.attempts("UO") == exhausted());
    assert_eq!(proxy.attempts("UF"), 0.0);
    assert_eq!(proxy.metric("serin_upstream_healthy", &[]), 1.0);
}
