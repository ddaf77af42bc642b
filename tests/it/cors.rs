//! CORS: preflights are answered by the proxy, and answers say who may read them.

use super::support::client::Client;
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::{Refusing, Upstream};
use super::support::wire::Message;

const POLICY: &str = "allowOrigins: [{exact: 'https://a.com'}], allowMethods: [GET, POST], allowHeaders: [x-a, x-b], \
                      exposeHeaders: [x-version], maxAge: 24h, allowCredentials: true";

fn start(port: u16, policy: &str) -> Proxy {
    Proxy::start(&Config::single(&[port]).rule(&format!("corsPolicy: {{{policy}}}")))
}

fn ask(client: &mut Client, method: &str, origin: &str, more: &str) -> Message {
    client.send(format!("{method} / HTTP/1.1\r\nhost: product-service\r\norigin: {origin}\r\n{more}\r\n"));
    client.answer().unwrap()
}

const PREFLIGHT: &str = "access-control-request-method: POST\r\n";

#[test]
fn a_preflight_never_reaches_the_application() {
    let upstream = Upstream::named("v1");
    let proxy = start(upstream.port, POLICY);
    let answer = ask(&mut proxy.client(), "OPTIONS", "https://a.com", PREFLIGHT);
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.com"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-allow-headers", "x-a,x-b"),
        ("access-control-max-age", "86400"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(answer.head.get(name), value);
    }
    assert_eq!(upstream.ledger.len(), 0);
    assert_eq!(proxy.requests(&[("version", "_none"), ("method", "OPTIONS")]), 1.0);
}

#[test]
fn an_unmatched_preflight_is_the_applications_unless_it_is_ignored() {
    let upstream = Upstream::named("v1");
    let proxy = start(upstream.port, POLICY);
    let answer = ask(&mut proxy.client(), "OPTIONS", "https://b.com", PREFLIGHT);
    assert_eq!(answer.head.get("x-version"), "v1");
    assert!(!answer.head.has("access-control-allow-origin"));
    let proxy = start(upstream.port, &format!("{POLICY}, unmatchedPreflights: IGNORE"));
    let answer = ask(&mut proxy.client(), "OPTIONS", "https://b.com", PREFLIGHT);
    assert_eq!(answer.status(), 200);
    assert!(!answer.head.has("x-version") && !answer.head.has("access-control-allow-origin"));
    assert_eq!(upstream.ledger.len(), 1);
}

#[test]
fn every_answer_to_an_allowed_origin_says_so() {
    let (upstream, refusing) = (Upstream::named("v1"), Refusing::new());
    for (port, status) in [(upstream.port, 200), (refusing.port, 503)] {
        let proxy = start(port, POLICY);
        let mut client = proxy.client();
        let answer = ask(&mut client, "GET", "https://a.com", "");
        assert_eq!(answer.status(), status);
        assert_eq!(answer.head.get("access-control-allow-origin"), "https://a.com");
        assert_eq!(answer.head.get("access-control-expose-headers"), "x-version");
        let other = ask(&mut client, "GET", "https://b.com", "");
        assert_eq!(other.status(), status);
        assert!(!other.head.has("access-control-allow-origin"));
    }
}

#[test]
fn a_fault_is_readable_too() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]).rule(&format!("corsPolicy: {{{POLICY}}}"));
    let proxy = Proxy::start(&config.rule("fault: {abort: {httpStatus: 500, percentage: {value: 100}}}"));
    let answer = ask(&mut proxy.client(), "GET", "https://a.com", "");
    assert_eq!((answer.status(), answer.head.get("access-control-allow-origin")), (500, "https://a.com"));
}
