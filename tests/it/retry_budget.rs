//! `retryBudget`: how many retries of a destination may be under way at once.

use std::sync::{Arc, Condvar, Mutex};

use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Upstream, answer};
use super::support::wire::Message;

const FAILURE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Whether the retry of `/held` may be answered.
#[derive(Debug, Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

/// Fails the first try of every request but those to `/good`, and answers the second one.
fn upstream(gate: &Arc<Gate>) -> Upstream {
    let gate = Arc::clone(gate);
    Upstream::answering(move |request: &Message| match (request.head.target().1, request.head.get("x-serin-attempt")) {
        ("/good", _) => answer("v1"),
        (_, "") => FAILURE.to_vec(),
        ("/held", _) => {
            gate.pass();
            answer("v1")
        }
        _ => answer("v1"),
    })
}

/// The status of a request that fails once while the retry of another one is under way; `before` that, some succeed.
fn beside_a_retry(policy: &str, before: usize) -> u16 {
    let gate = Arc::default();
    let upstream = upstream(&gate);
    let config = Config::single(&[upstream.port]).rule("retries: {attempts: 1, retryOn: 5xx, backoff: 1ms}");
    let config = if policy.is_empty() { config } else { config.policy(policy) };
    let proxy = Proxy::start(&config);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    (0..before).for_each(|_| assert_eq!(second.get("/good").status(), 200));
    first.send("GET /held HTTP/1.1\r\nhost: product-service\r\n\r\n");
    eventually("its retry has arrived", || upstream.ledger.len() == before + 2);
    let status = second.get("/").status();
    let refused = if status == 200 { 0.0 } else { 1.0 };
    assert_eq!(proxy.metric("serin_retry_budget_exhausted_total", &[("version", "v1")]), refused, "{policy}");
    assert_eq!(proxy.metric("http_response_flags_total", &[("flag", "UO")]), refused, "{policy}");
    gate.open();
    assert_eq!(first.answer().unwrap().status(), 200, "{policy}");
    assert_eq!(second.get("/").status(), 200, "its place is free: {policy}");
    status
}

#[test]
fn a_retry_needs_a_place_in_the_budget() {
    for (budget, status) in [
        ("{percent: 20, minRetryConcurrency: 1}", 503),
        // A retry that would only be a part of one is none.
        ("{percent: 99, minRetryConcurrency: 1}", 503),
        ("{percent: 100, minRetryConcurrency: 1}", 200),
        ("{percent: 0, minRetryConcurrency: 2}", 200),
        // 0 is as good as nothing, as in Istio: 3.
        ("{percent: 0, minRetryConcurrency: 0}", 200),
        ("{}", 200),
    ] {
        assert_eq!(beside_a_retry(&format!("{{retryBudget: {budget}}}"), 0), status, "{budget}");
    }
    assert_eq!(beside_a_retry("", 0), 200, "the budget of a version is larger");
}

#[test]
fn requests_of_the_interval_count_instead_of_those_under_way() {
    let budget = |more: &str| format!("{{retryBudget: {{percent: 50, minRetryConcurrency: 1{more}}}}}");
    assert_eq!(beside_a_retry(&budget(", budgetInterval: 0s"), 5), 503);
    assert_eq!(beside_a_retry(&budget(", budgetInterval: 10m"), 5), 200);
    assert_eq!(beside_a_retry(&budget(", budgetInterval: 10m"), 0), 503);
}

#[test]
fn a_budget_stands_in_the_place_of_a_limit_on_retries() {
    let limit = "connectionPool: {http: {maxRetries: 1}}";
    assert_eq!(beside_a_retry(&format!("{{{limit}, retryBudget: {{minRetryConcurrency: 2}}}}"), 0), 200);
}
