//! A destination that leads back to the proxy.

use super::support::client::HOST;
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::Upstream;

#[test]
fn a_loop_is_found_at_its_third_turn_and_said_at_the_start() {
    let upstream = Upstream::named("v1");
    let config = |port: u16| Config::single(&[port]).rule("retries: {attempts: 0}");
    let proxy = Proxy::start(&config(upstream.port));
    proxy.save(&config(proxy.listen.port()).yaml());
    eventually("it leads back", || proxy.generation() == 2);
    let answer = proxy.client().get("/");
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.head.get("proxy-status"), "serin; error=proxy_loop_detected; details=\"NC\"");
    eventually("every turn is counted", || proxy.requests(&[("code", "502")]) == 3.0);
    assert!(proxy.log().contains("is a listener of this proxy"), "{}", proxy.log());
    assert_eq!(upstream.ledger.len(), 0);
}

#[test]
fn upstreams_see_who_passed_a_request_on() {
    let upstream = Upstream::named("v1");
    let (one, other) = (Proxy::start(&Config::single(&[upstream.port])), Config::default());
    let other = Proxy::start(&other.version("v1", 100, &[one.listen.port()]));
    assert_eq!(other.client().get("/").status(), 200);
    let via = |seen: &str| seen.strip_prefix("1.1 serin-").map(str::len);
    let passed: Vec<_> = upstream.ledger.last().head.all("via").iter().map(|seen| via(seen)).collect();
    assert_eq!(passed, [Some(8), Some(8)], "two proxies of two names");

    let mut client = one.client();
    client.send(format!("GET / HTTP/1.0\r\nhost: {HOST}\r\nvia: 1.1 edge\r\n\r\n"));
    assert_eq!(client.answer().unwrap().status(), 200);
    let last = upstream.ledger.last();
    let passed = last.head.all("via");
    assert!(passed.len() == 2 && passed[0] == "1.1 edge" && passed[1].starts_with("1.0 serin-"), "{passed:?}");
}
