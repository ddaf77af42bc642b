//! `analysis.prometheus` of a Canary, asked of a real Prometheus: a gate only ever holds a release, and says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde_json::Value;

use super::support::eventually;
use super::support::load::Load;
use super::support::prometheus::{Prometheus, installed, skipped};
use super::support::proxy::Proxy;
use super::support::release::{Scene, done, rollout, state, status, weight};
use super::support::upstream::{Refusing, Upstream};

const NOT_INSTALLED: &str = "prometheus is not installed (apt-get install prometheus): gates are not tested";

/// What an exporter shows of the canary's memory; the stable version is always far out of bounds.
struct Exporter {
    address: SocketAddr,
    canary: Arc<AtomicU64>,
}

impl Exporter {
    fn start(canary: u64) -> Self {
        let canary = Arc::new(AtomicU64::new(canary));
        let shown = Arc::clone(&canary);
        let upstream = Upstream::answering(move |_| {
            let text = format!(
                "# TYPE memory_bytes gauge\nmemory_bytes{{version=\"v1\"}} 9000\nmemory_bytes{{version=\"v2\"}} {}\n",
                shown.load(SeqCst)
            );
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4";
            format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
        });
        Self { address: (Ipv4Addr::LOCALHOST, upstream.port).into(), canary }
    }

    fn show(&self, canary: u64) {
        self.canary.store(canary, SeqCst);
    }
}

/// A release whose first step has everything that it needs but for its gates, after a few requests.
fn spec(steps: &str, more: &str, gates: &[String]) -> String {
    format!(
        "  steps: {steps}\n  analysis:\n    {{warmUp: 0s, minDuration: 10ms, minRequests: 5, maxErrorRate: 20%, \
         latency: {{slowerThan: off}}{more},\n     prometheus: [{}]}}\n",
        gates.join(", ")
    )
}

fn gate(name: &str, address: SocketAddr, query: &str, bound: &str) -> String {
    format!("{{name: {name}, address: 'http://{address}', query: '{query}', {bound}, interval: 1s}}")
}

fn memory(address: SocketAddr) -> String {
    gate("memory", address, "memory_bytes{version=\"{{canary}}\"}", "max: 500")
}

fn waits(proxy: &Proxy) -> String {
    status(proxy)["waits"].as_str().unwrap().to_owned()
}

/// How often Prometheus has answered a query.
fn answered(prometheus: &Prometheus) -> f64 {
    let mut client = super::support::client::Client::connect(prometheus.address);
    let text = client.ask("prometheus", "/metrics", &[]).unwrap().text();
    let queries = text.lines().filter(|line| {
        line.starts_with("prometheus_http_requests_total{") && line.contains("handler=\"/api/v1/query\"")
    });
    queries.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Sentences of the moves so far.
fn sentences(proxy: &Proxy) -> Vec<String> {
    let status = status(proxy);
    let sentence = |event: &Value| event["sentence"].as_str().unwrap().to_owned();
    status["events"].as_array().unwrap().iter().map(sentence).collect()
}

#[test]
fn outside_its_bound_a_gate_holds_and_inside_the_release_goes_on() {
    if !installed("prometheus") {
        return skipped(NOT_INSTALLED);
    }
    let (exporter, mut prometheus) = (Exporter::start(700), Prometheus::new());
    // The other gate is on what Serin itself counts.
    let served = "sum(http_requests_total{version=\"{{canary}}\", code=\"200\"})";
    let gates = [memory(prometheus.address), gate("served", prometheus.address, served, "min: 20")];
    let scene = Scene::new(Upstream::named("v1"), Upstream::named("v2"), &spec("[10, 50, 100]", "", &gates));
    let proxy = scene.start();
    prometheus.start(&[exporter.address, proxy.admin]);
    done(&proxy, &["start"]);
    let load = Load::start(proxy.listen, 2);
    let only_memory = "held: gate `memory` is out of bounds at 700 (at most 500)";
    eventually("everything is there but the memory", || waits(&proxy) == only_memory);
    let before = answered(&prometheus);
    eventually("both gates are asked again and again", || answered(&prometheus) >= before + 6.0);
    assert_eq!((waits(&proxy).as_str(), weight(&proxy)), (only_memory, 10));
    let shown = String::from_utf8(rollout(&proxy, &["status", "shop"]).stdout).unwrap();
    assert!(shown.contains("memory") && shown.contains("700"), "{shown}");

    exporter.show(300);
    eventually("it goes on to the end", || state(&proxy) == "promoted");
    let gates = status(&proxy)["gates"].clone();
    let said = |place: usize| (gates[place]["name"].clone(), gates[place]["state"].clone());
    assert_eq!(said(0), ("memory".into(), "inside".into()), "{gates}");
    assert_eq!((gates[0]["value"].as_f64(), said(1)), (Some(300.0), ("served".into(), "inside".into())), "{gates}");
    assert_eq!(load.finish().failures, Vec::<String>::new());
}

#[test]
fn without_its_prometheus_a_release_holds_and_goes_on_when_it_is_back() {
    if !installed("prometheus") {
        return skipped(NOT_INSTALLED);
    }
    let (exporter, mut prometheus) = (Exporter::start(300), Prometheus::new());
    let gates = [memory(prometheus.address)];
    let steps = "[{weight: 10, approve: true}, 100]";
    let scene = Scene::new(Upstream::named("v1"), Upstream::named("v2"), &spec(steps, "", &gates));
    let proxy = scene.start();
    prometheus.start(&[exporter.address]);
    done(&proxy, &["start"]);
    let load = Load::start(proxy.listen, 2);
    let phase = || status(&proxy)["state"]["phase"].as_str().unwrap_or_default().to_owned();
    eventually("nothing is missing but a yes", || phase() == "awaitingApproval");

    prometheus.stop();
    let unreachable = "held: gate `memory` has no value (cannot connect: ";
    eventually("it says that it cannot ask", || waits(&proxy).starts_with(unreachable));
    // The yes is remembered, and is no way past the gate.
    done(&proxy, &["approve"]);
    let elapsed = || status(&proxy)["elapsed"].as_f64().unwrap();
    let since = elapsed();
    eventually("the gate was due more than once", || elapsed() > since + 2.5);
    assert!(waits(&proxy).starts_with(unreachable) && weight(&proxy) == 10, "{:#}", status(&proxy));
    assert_eq!(status(&proxy)["gates"][0]["state"], "unreachable");

    prometheus.start(&[exporter.address]);
    eventually("it goes on to the end", || state(&proxy) == "promoted");
    assert!(sentences(&proxy).iter().any(|said| said.contains(unreachable)), "{:#?}", sentences(&proxy));
    assert_eq!(load.finish().failures, Vec::<String>::new());
}

#[test]
fn undecided_for_too_long_goes_back_for_a_value_outside_but_not_for_want_of_one() {
    if !installed("prometheus") {
        return skipped(NOT_INSTALLED);
    }
    let (exporter, mut prometheus, nobody) = (Exporter::start(700), Prometheus::new(), Refusing::new());
    prometheus.start(&[exporter.address]);
    let impatient = ", maxStepDuration: 2s, onInconclusive: rollback";
    let scene = |asked| {
        let spec = spec("[10, 100]", impatient, &[memory(asked)]);
        Scene::new(Upstream::named("v1"), Upstream::named("v2"), &spec)
    };
    let scenes = [scene(prometheus.address), scene((Ipv4Addr::LOCALHOST, nobody.port).into())];
    let proxies = scenes.each_ref().map(Scene::start);
    let load = proxies.each_ref().map(|proxy| {
        done(proxy, &["start"]);
        Load::start(proxy.listen, 2)
    });
    let [outside, unreachable] = &proxies;
    eventually("it is rolled back", || state(outside) == "rolledBack");
    let last = sentences(outside).pop().unwrap();
    assert!(last.starts_with("rolled back shop at 10 %: undecided after 2 s; v2 failed 0 of "), "{last}");
    assert_eq!(weight(outside), 0);
    eventually("the other has been undecided for longer", || status(unreachable)["elapsed"].as_f64().unwrap() > 4.0);
    assert_eq!((state(unreachable).as_str(), weight(unreachable)), ("running", 10));
    assert!(waits(unreachable).starts_with("held: gate `memory` has no value ("), "{}", waits(unreachable));
    for load in load {
        assert_eq!(load.finish().failures, Vec::<String>::new());
    }
}
