//! A mistake in Serin, put in on purpose at several points of a request's journey: it costs the requests that meet it, and nothing
//! else. One worker, so that all requests share a thread.

use std::net::SocketAddr;

use serde_json::json;

use super::support::client::{Client, HOST, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::h2;
use super::support::proxy::{Proxy, serin};
use super::support::release::{Scene, done, status};
use super::support::upstream::Upstream;

/// Where a request can meet it, in the order of its journey.
const POINTS: [&str; 12] = [
    "before-routing",
    "in-the-filters",
    "in-the-draw",
    "after-the-draw",
    "in-the-headers",
    "with-the-claim",
    "in-the-attempt",
    "with-the-answer",
    "after-the-attempt",
    "with-the-head",
    BODY,
    "at-the-end",
];
const BODY: &str = "in-the-body";
/// Those before the version is known.
const UNROUTED: &[&str] = &["before-routing", "in-the-filters", "in-the-draw"];
/// Those behind the head of the answer.
const ANSWERED: &[&str] = &[BODY, "at-the-end"];
/// Requests that go well beside the one that does not.
const OTHERS: usize = 100;

fn start(upstream: &Upstream, fault: &str) -> Proxy {
    // Whoever does not give back what it took uses this up.
    let config = Config::single(&[upstream.port])
        .policy("{connectionPool: {http: {http2MaxRequests: 120}}}")
        .rule("corsPolicy: {allowOrigins: [{exact: 'http://shop.test'}]}");
    start_with(&config, fault)
}

fn start_with(config: &Config, fault: &str) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, config.yaml()).unwrap();
    Proxy::spawn(folder, serin().arg("run").arg(path).args(["--workers", "1"]).env("SERIN_TEST_FAIL", fault))
}

/// What a client saw: a status, or none where there was no whole answer.
type Seen = Option<u16>;

/// GET on a connection of its own.
fn get(listen: SocketAddr) -> Seen {
    seen(&mut Client::connect(listen))
}

fn seen(client: &mut Client) -> Seen {
    let answer = client.try_get("/").ok()?;
    if answer.status() == 500 {
        assert_eq!(answer.head.get("x-serin-flag"), "IE");
        assert_eq!(answer.head.get("proxy-status"), "serin; error=proxy_internal_error; details=\"IE\"");
        assert_eq!(answer.text(), "500 internal error (IE)\n");
    }
    Some(answer.status())
}

/// What a request that met the fault looks like to its client.
fn failed(point: &str) -> Seen {
    (!ANSWERED.contains(&point)).then_some(500)
}

/// What was taken is given back, and what happened is counted.
fn check(proxy: &Proxy, point: &str, panics: usize, others: usize) {
    let panics = panics as f64;
    assert_eq!(proxy.metric("serin_panics_total", &[]), panics, "{point}");
    eventually("nothing is in flight", || proxy.metric("http_requests_in_flight", &[]) == 0.0);
    assert_eq!(proxy.metric("serin_upstream_connections", &[("state", "active")]), 0.0, "{point}");
    let version = if UNROUTED.contains(&point) { "_none" } else { "v1" };
    let blame = [("version", version), ("error", "proxy_internal_error"), ("blame", "proxy")];
    assert_eq!(proxy.metric("serin_failed_requests_total", &blame), panics, "{point}");
    assert_eq!(proxy.metric("serin_failed_requests_total", &[]), panics, "{point}");
    assert_eq!(proxy.metric("http_response_flags_total", &[("flag", "IE")]), panics, "{point}");
    let aborted = if ANSWERED.contains(&point) { panics } else { 0.0 };
    assert_eq!(proxy.metric("serin_body_aborted_total", &[("side", "proxy")]), aborted, "{point}");
    assert_eq!(proxy.requests(&[("code", "500")]), panics - aborted, "{point}");
    assert_eq!(proxy.requests(&[("code", "200")]), others as f64 + aborted, "{point}");
}

#[test]
fn a_panic_costs_the_one_request_that_meets_it() {
    let upstream = Upstream::named("v1");
    for point in POINTS {
        let proxy = start(&upstream, &format!("{point}=panic@51"));
        let mut clients: Vec<_> = (0..=OTHERS).map(|_| proxy.client()).collect();
        clients.iter_mut().for_each(|client| client.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n")));
        let mut seen: Vec<Seen> =
            clients.iter_mut().map(|client| client.answer().ok().map(|answer| answer.status())).collect();
        seen.retain(|seen| *seen != Some(200));
        assert_eq!(seen, [failed(point)], "{point}");
        check(&proxy, point, 1, OTHERS);
        drop(clients);
        assert!((0..20).all(|_| get(proxy.listen) == Some(200)), "{point}");
    }
}

#[test]
fn on_http2_a_panic_costs_one_stream() {
    let upstream = Upstream::named("v1");
    for point in POINTS {
        let proxy = start(&upstream, &format!("{point}=panic@51"));
        let listen = proxy.listen;
        let mut seen = h2::run(async {
            let connections = [h2::connect(listen).await, h2::connect(listen).await];
            let streams = (0..=OTHERS).map(|number| {
                let mut connection = connections[number % 2].clone();
                async move {
                    // The head and the reset may come together.
                    let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.ok()?;
                    let status = answer.status().as_u16();
                    h2::body(answer).await.ok().map(|_| status)
                }
            });
            let seen = futures_util::future::join_all(streams).await;
            for mut connection in connections {
                let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
                assert_eq!(answer.status(), 200, "{point}: the connection goes on");
            }
            seen
        });
        seen.retain(|seen| *seen != Some(200));
        assert_eq!(seen, [failed(point)], "{point}");
        check(&proxy, point, 1, OTHERS + 2);
    }
}

/// The task that meets it there is the one of the endpoint's connection.
#[test]
fn a_panic_while_the_body_is_sent_speaks_against_nobody_else() {
    let upstream = Upstream::named("v1");
    let outlier = "{outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}";
    let proxy = start_with(&Config::single(&[upstream.port]).policy(outlier), "in-the-upload=panic@1-2");
    let mut client = proxy.client();
    client.send(request("POST", "/", b"body"));
    let answer = client.answer().unwrap();
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (500, "IE"));
    h2::run(async {
        let mut connection = h2::connect(proxy.listen).await;
        for status in [500, 200] {
            let request = h2::request("POST", "/", h2::full("body"));
            assert_eq!(connection.send_request(request).await.unwrap().status(), status);
        }
    });
    check(&proxy, "in-the-upload", 2, 1);
    assert_eq!((proxy.attempts("IE"), proxy.metric("serin_upstream_healthy", &[])), (2.0, 1.0));
    assert_eq!(proxy.client().post("/", b"body").status(), 200);
}

#[test]
fn many_panics_leave_nothing_behind_and_one_backtrace() {
    const PANICS: usize = 150;
    let upstream = Upstream::named("v1");
    for point in POINTS {
        let proxy = start(&upstream, &format!("{point}=panic@3-{}", PANICS + 2));
        let seen: Vec<Seen> = (0..PANICS + 10).map(|_| get(proxy.listen)).collect();
        let met = |number: &usize| (2..PANICS + 2).contains(number);
        for (number, seen) in seen.iter().enumerate() {
            assert_eq!(*seen, if met(&number) { failed(point) } else { Some(200) }, "{point}: request {number}");
        }
        check(&proxy, point, PANICS, 10);
        eventually("the backtrace is there", || proxy.log().contains("came by this way:"));
        let log = proxy.log();
        assert_eq!(log.matches("came by this way:").count(), 1, "{log}");
        assert_eq!(log.matches(&format!("a test wants a panic at {point}")).count(), 1, "{log}");
        assert!(log.contains("panic in serin-worker-0 at src/failpoint.rs:"), "{log}");
    }
}

#[test]
fn a_client_of_grpc_is_told_in_its_own_way() {
    let upstream = Upstream::named("v1");
    let proxy = start(&upstream, "after-the-draw=panic@1");
    let answer = proxy.client().ask(HOST, "/", &[("content-type", "application/grpc")]).unwrap();
    assert_eq!((answer.status(), answer.head.get("grpc-status"), answer.head.get("x-serin-flag")), (200, "13", "IE"));
}

/// What is Serin's own fault speaks against no version.
#[test]
fn no_panic_counts_against_a_canary() {
    const REQUESTS: usize = 40;
    const GOOD: usize = 10;
    for point in ["in-the-attempt", "with-the-answer", BODY] {
        let plan =
            "  steps: [{weight: 50, approve: true}, 100]\n  analysis: {warmUp: 0s, latency: {slowerThan: off}}\n";
        let scene = Scene::new(Upstream::named("v1"), Upstream::named("v2"), plan);
        let proxy = scene.start_with(&format!("{point}=panic@1-{REQUESTS}"));
        done(&proxy, &["start", "shop"]);
        (0..REQUESTS).for_each(|_| assert_eq!(get(proxy.listen), failed(point), "{point}"));
        (0..GOOD).for_each(|_| assert_eq!(get(proxy.listen), Some(200), "{point}"));
        // An answer that had begun was a good one until Serin broke it off; of the others, nothing is known.
        let counted = if point == BODY { REQUESTS + GOOD } else { GOOD };
        eventually("all of them are seen", || {
            let status = status(&proxy);
            let finished = ["stable", "canary"].map(|one| status[one]["finished"].as_u64().unwrap());
            finished.iter().sum::<u64>() == counted as u64
        });
        let status = status(&proxy);
        assert_eq!(
            (&status["stable"]["errors"], &status["canary"]["errors"]),
            (&json!(0), &json!(0)),
            "{point}: {status:#}"
        );
    }
}
