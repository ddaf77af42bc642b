//! Canaries that are worse are rolled back with nobody at hand, and the release says what was wrong: `start: onSubset`, steady
//! traffic, and upstreams that err and dawdle by chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use serde_json::Value;

use super::support::echo::Echo;
use super::support::eventually;
use super::support::proxy::said;
use super::support::release::{Scene, rollout, state, status};

/// Clients that ask as fast as they are answered, whatever the answer.
const CLIENTS: usize = 24;

/// Runs a release of these two versions, which begins and ends by itself, to its rollback; gives back its last move and the
/// number of requests that were answered by then.
fn rolled_back(stable: &[&str], canary: &[&str], latency: &str) -> (Value, usize) {
    let echoes = (Echo::start("v1", stable), Echo::start("v2", canary));
    let ports = [echoes.0.port, echoes.1.port];
    let spec = format!(
        "  steps: [10, 50, 100]\n  start: onSubset\n  analysis: {{warmUp: 100ms, latency: {{slowerThan: {latency}}}}}\n"
    );
    let scene = Scene::of(echoes, ports, &spec);
    let proxy = scene.start();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = || {
        let (mut client, stop, answered) = (proxy.client(), Arc::clone(&stop), Arc::clone(&answered));
        thread::spawn(move || {
            while !stop.load(SeqCst) {
                assert!([200, 500].contains(&client.get("/").status()));
                answered.fetch_add(1, SeqCst);
            }
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
    eventually("it is rolled back", || state(&proxy) == "rolledBack");
    let (told, took) = (status(&proxy), answered.load(SeqCst));
    stop.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());

    assert_eq!(told["effective_weight"], 0);
    let before = proxy.requests(&[("version", "v2")]);
    let mut client = proxy.client();
    assert!((0..100).all(|_| client.get("/").head.get("x-echo-name") == "v1"));
    assert_eq!(proxy.requests(&[("version", "v2")]), before, "the canary gets nothing more");
    let waited = rollout(&proxy, &["status", "shop", "--wait"]);
    assert_eq!(waited.status.code(), Some(1), "{}", said(&waited));
    let last = told["events"].as_array().unwrap().last().unwrap().clone();
    assert!(proxy.log().contains(last["sentence"].as_str().unwrap()), "the log has the sentence");
    assert!(scene.is_untouched());
    (last, took)
}

#[track_caller]
fn assert_told(last: &Value, reason: &str, words: &[&str]) {
    assert_eq!(last["reason"], reason, "{last:#}");
    let sentence = last["sentence"].as_str().unwrap();
    assert!(sentence.starts_with("rolled back shop at 10 %: v2 took "), "{sentence}");
    for words in words {
        assert!(sentence.contains(words), "no `{words}` in {sentence}");
    }
}

#[test]
fn a_fifth_of_errors() {
    let (last, took) = rolled_back(&[], &["--error-rate", "20%"], "off");
    assert_told(&last, "errors", &[" failures while it had 10 % of the traffic; evidence ", ", needed 100:1"]);
    assert!(last["numbers"]["canary"]["errors"].as_u64().unwrap() >= 3, "{took} requests: {last:#}");
}

#[test]
fn one_error_in_twenty_beside_one_in_five_hundred() {
    let (last, took) = rolled_back(&["--error-rate", "0.2%"], &["--error-rate", "5%"], "off");
    assert_told(&last, "errors", &[" failures while it had 10 % of the traffic; evidence ", ", needed 100:1"]);
    let (errors, finished) = (&last["numbers"]["canary"]["errors"], &last["numbers"]["canary"]["finished"]);
    let rate = errors.as_f64().unwrap() / finished.as_f64().unwrap();
    assert!(rate > 0.01 && rate < 0.5, "{took} requests: {last:#}");
}

#[test]
fn twice_the_tail_latency_and_no_errors() {
    let (last, took) = rolled_back(&["--latency", "5ms..50ms"], &["--latency", "5ms..100ms"], "75ms");
    assert_told(
        &last,
        "latency",
        &[" slow requests (over 75 ms) while it had 10 % of the traffic; evidence ", "200:1"],
    );
    let canary = &last["numbers"]["canary"];
    assert!(canary["errors"] == 0 && canary["slow"].as_u64().unwrap() >= 3, "{took} requests: {last:#}");
}
