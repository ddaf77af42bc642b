//! The tutorial by hand: weights are edited while clients keep their connections, and nothing is lost but the old weights.

use super::support::client::Client;
use super::support::config::Config;
use super::support::load::Load;
use super::support::proxy::{Proxy, run, said};
use super::support::upstream::Upstream;
use super::support::{eventually, is_share};

/// Answers that are enough to tell the tutorial's shares apart.
const ENOUGH: usize = 1_500;

fn canary(upstreams: &[Upstream; 2]) -> Config {
    Config::default().version("v1", 90, &[upstreams[0].port]).version("v2", 10, &[upstreams[1].port])
}

fn versions() -> [Upstream; 2] {
    [Upstream::named("v1"), Upstream::named("v2")]
}

/// Requests on one connection; how many v2 answered.
fn send(client: &mut Client, requests: usize) -> usize {
    let answers = (0..requests).map(|_| client.get("/"));
    answers.filter(|answer| answer.head.get("x-version") == "v2").count()
}

#[test]
fn three_thousand_requests_are_split_as_the_weights_say() {
    let upstreams = versions();
    let proxy = Proxy::start(&canary(&upstreams));
    let second = send(&mut proxy.client(), 3_000);
    assert!(is_share(second, 3_000, 0.1), "{second} of 3000 at 10 %");
    assert_eq!(upstreams.each_ref().map(|upstream| upstream.ledger.len()), [3_000 - second, second]);
    for (version, requests) in [("v1", 3_000 - second), ("v2", second)] {
        assert_eq!(proxy.requests(&[("version", version), ("code", "200")]), requests as f64);
    }
}

#[test]
fn a_weight_of_zero_gets_nothing() {
    let upstreams = versions();
    let config = canary(&upstreams);
    let proxy = Proxy::start(&config.weights(&[0, 100]));
    assert_eq!(send(&mut proxy.client(), 500), 500);
    proxy.save(&config.weights(&[100, 0]).yaml());
    eventually("the new weights are in force", || proxy.generation() == 2);
    assert_eq!(send(&mut proxy.client(), 500), 0);
    assert_eq!(upstreams.each_ref().map(|upstream| upstream.ledger.len()), [500, 500]);
}

#[test]
fn every_step_of_the_tutorial_is_taken_under_load_without_a_loss() {
    let upstreams = versions();
    let config = canary(&upstreams);
    let proxy = Proxy::start(&config);
    let load = Load::start(proxy.listen, 8);
    let first = load.counts(ENOUGH);
    assert!(is_share(first["v2"], first.values().sum(), 0.1), "{first:?} at 10 %");
    for (step, weights) in [[70, 30], [50, 50], [0, 100], [100, 0]].into_iter().enumerate() {
        let text = config.weights(&weights).yaml();
        if step % 2 == 0 {
            proxy.save(&text)
        } else {
            proxy.save_by_rename(&text)
        }
        eventually("the step is in force", || proxy.generation() == step as u64 + 2);
        load.next_phase();
        let counts = load.counts(ENOUGH);
        let second = counts.get("v2").copied().unwrap_or(0);
        assert!(is_share(second, counts.values().sum(), f64::from(weights[1]) / 100.0), "{counts:?} at {weights:?}");
    }
    let clients = 8;
    let outcome = load.finish();
    assert_eq!(outcome.failures, Vec::<String>::new(), "of {} answered", outcome.answered);
    let served: usize = upstreams.iter().map(|upstream| upstream.ledger.len()).sum();
    assert_eq!(proxy.requests(&[]), served as f64, "no counter was reset");
    assert!(served >= outcome.answered);
    for upstream in &upstreams {
        assert!(upstream.ledger.connections() <= clients, "connections to the endpoints survive reloads");
    }
}

#[test]
fn a_broken_file_changes_nothing_and_status_names_the_line() {
    let upstreams = versions();
    let config = canary(&upstreams);
    let proxy = Proxy::start(&config);
    let load = Load::start(proxy.listen, 2);
    let good = config.yaml();
    let line = good.lines().position(|line| line.contains("weight: 10")).unwrap() + 1;
    proxy.save(&good.replace("weight: 10", "wieght: 10"));
    eventually("the file is refused", || proxy.status()["on_disk"]["state"] == "rejected");
    load.next_phase();
    let counts = load.counts(ENOUGH);
    assert!(is_share(counts["v2"], counts.values().sum(), 0.1), "{counts:?} at 10 %");

    let status = run(&["status", "--admin", &proxy.admin.to_string()], &proxy.path(""));
    assert_eq!(status.status.code(), Some(1));
    let text = said(&status);
    assert!(text.contains(&format!("config.yaml:{line}:11")) && text.contains("wieght"), "{text}");
    let check = run(&["check", "config.yaml"], &proxy.path(""));
    assert_eq!(check.status.code(), Some(1));
    assert!(said(&check).contains(&format!("config.yaml:{line}:11")), "{}", said(&check));
    assert_eq!(proxy.ask("GET", "/ready").0, 200);
    assert_eq!(proxy.metric("serin_config_last_reload_successful", &[]), 0.0);

    proxy.save(&good);
    eventually("the file is the one in force again", || proxy.status()["on_disk"]["state"] == "active");
    assert_eq!(proxy.generation(), 1);
    let status = run(&["status", "--admin", &proxy.admin.to_string()], &proxy.path(""));
    assert_eq!(status.status.code(), Some(0), "{}", said(&status));
    let outcome = load.finish();
    assert_eq!(outcome.failures, Vec::<String>::new(), "of {} answered", outcome.answered);
}

#[test]
fn weights_of_sixty_and_sixty_are_refused_with_their_sum() {
    let upstreams = versions();
    let config = canary(&upstreams);
    let proxy = Proxy::start(&config);
    proxy.save(&config.weights(&[60, 60]).yaml());
    eventually("the weights are refused", || proxy.status()["on_disk"]["state"] == "rejected");
    let (code, answer) = proxy.ask("POST", "/config/reload");
    assert_eq!(code, 422);
    let status = run(&["status", "--admin", &proxy.admin.to_string()], &proxy.path(""));
    assert_eq!(status.status.code(), Some(1));
    for text in [answer, said(&status)] {
        assert!(text.contains("120"), "{text}");
    }
    assert_eq!(proxy.generation(), 1);
}
