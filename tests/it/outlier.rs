//! Endpoints whose answers are bad are taken out of use, as many as the policy allows, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Refusing, Script, Upstream, answer};

/// An upstream that answers 500 for as long as the switch says.
fn switched(status: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&bad);
    let upstream = Upstream::answering(move |_| match switch.load(Ordering::SeqCst) {
        true => format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes(),
        false => answer("v1"),
    });
    (upstream, bad)
}

fn policy(outlier: &str) -> String {
    format!("{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{{outlier}}}}}")
}

fn healthy(proxy: &Proxy, port: u16) -> bool {
    proxy.metric("serin_upstream_healthy", &[("endpoint", &format!("127.0.0.1:{port}"))]) == 1.0
}

#[test]
fn an_endpoint_with_errors_is_left_out_over_a_reload_and_comes_back() {
    let (bad, is_bad) = switched("500 Internal Server Error");
    let good = Upstream::named("v1");
    let outlier = "consecutive5xxErrors: 3, interval: 100ms, baseEjectionTime: 3s, maxEjectionPercent: 50";
    let config = Config::single(&[bad.port, good.port]).policy(&policy(outlier));
    let proxy = Proxy::start(&config);
    assert!(healthy(&proxy, bad.port));
    let mut client = proxy.client();
    let statuses: Vec<u16> = (0..30).map(|_| client.get("/").status()).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 500).count(), 3, "{statuses:?}");
    assert!(!healthy(&proxy, bad.port) && healthy(&proxy, good.port));
    proxy.save(&config.clone().rule("timeout: 9s").yaml());
    eventually("the new timeout is in force", || proxy.generation() == 2);
    assert!(!healthy(&proxy, bad.port), "its health belongs to the endpoint, not to the configuration");
    assert_eq!((0..10).filter(|_| client.get("/").status() != 200).count(), 0);
    is_bad.store(false, Ordering::SeqCst);
    eventually("the endpoint is back", || healthy(&proxy, bad.port));
    let before = bad.ledger.len();
    (0..4).for_each(|_| assert_eq!(client.get("/").status(), 200));
    assert_eq!(bad.ledger.len() - before, 2);
}

#[test]
fn a_small_pool_ejects_nobody_by_default() {
    let (bad, _) = switched("500 Internal Server Error");
    let good = Upstream::named("v1");
    let proxy = Proxy::start(&Config::single(&[bad.port, good.port]).policy(&policy("consecutive5xxErrors: 1")));
    let mut client = proxy.client();
    assert_eq!((0..20).filter(|_| client.get("/").status() == 500).count(), 10);
    assert!(proxy.log().contains("can never eject"), "{}", proxy.log());
}

#[test]
fn with_everybody_out_the_answer_is_uh_unless_a_share_has_to_stay() {
    for (more, status, flag) in [("", 503, Some("UH")), (", minHealthPercent: 50", 500, None)] {
        let (first, _) = switched("500 Internal Server Error");
        let (second, _) = switched("500 Internal Server Error");
        let outlier = format!("consecutive5xxErrors: 2, maxEjectionPercent: 100{more}");
        let proxy = Proxy::start(&Config::single(&[first.port, second.port]).policy(&policy(&outlier)));
        let mut client = proxy.client();
        (0..8).for_each(|_| drop(client.get("/")));
        let last = client.get("/");
        assert_eq!(last.status(), status, "{more}");
        assert_eq!(flag, last.head.has("x-serin-flag").then(|| last.head.get("x-serin-flag")), "{more}");
        assert!(!healthy(&proxy, first.port) && !healthy(&proxy, second.port));
    }
}

#[test]
fn gateway_errors_alone_eject_where_the_policy_says_so() {
    let (bad, _) = switched("503 Service Unavailable");
    let (other, _) = switched("500 Internal Server Error");
    let outlier = "consecutiveGatewayErrors: 2, consecutive5xxErrors: 0, maxEjectionPercent: 100";
    let proxy = Proxy::start(&Config::single(&[bad.port, other.port]).policy(&policy(outlier)));
    let mut client = proxy.client();
    let statuses: Vec<u16> = (0..20).map(|_| client.get("/").status()).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 503).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 500).count(), 18, "{statuses:?}");
}

#[test]
fn connections_that_do_not_come_about_count() {
    let gone = Refusing::new();
    let outlier = "consecutive5xxErrors: 3, maxEjectionPercent: 100";
    let proxy = Proxy::start(&Config::single(&[gone.port]).policy(&policy(outlier)).rule("retries: {attempts: 0}"));
    let mut client = proxy.client();
    let flags: Vec<String> = (0..5).map(|_| client.get("/").head.get("x-serin-flag").to_owned()).collect();
    assert_eq!(flags, ["UF", "UF", "UF", "UH", "UH"]);
}

#[test]
fn answers_that_come_too_late_count() {
    let silent = Script::start();
    let outlier = "consecutiveGatewayErrors: 2, maxEjectionPercent: 100";
    for timeout in ["timeout: 100ms", "retries: {attempts: 1, perTryTimeout: 100ms, retryOn: 5xx}"] {
        let proxy = Proxy::start(&Config::single(&[silent.port]).policy(&policy(outlier)).rule(timeout));
        let mut client = proxy.client();
        let last = (0..4).map(|_| client.get("/").head.get("x-serin-flag").to_owned()).last().unwrap();
        assert_eq!(last, "UH", "{timeout}");
        assert!(!healthy(&proxy, silent.port));
    }
}

#[test]
fn what_clients_break_speaks_against_no_endpoint() {
    let [first, second] = ["v1", "v1"].map(Upstream::named);
    let outlier = "consecutive5xxErrors: 1, maxEjectionPercent: 100";
    let proxy = Proxy::start(&Config::single(&[first.port, second.port]).policy(&policy(outlier)));
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send(
            "POST / HTTP/1.1\r\nhost: product-service\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\nno number\r\n",
        );
        assert_eq!(client.answer().unwrap().status(), 400);
    }
    assert!(healthy(&proxy, first.port) && healthy(&proxy, second.port));
}
