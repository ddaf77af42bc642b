//! What `serin run` says when it starts, and what its flags change in what it shows.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::wire::Wire;

const LONE: &str = r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - name: tea
    match: [{uri: {prefix: /tea}}]
    directResponse: {status: 418}
  - route: [{destination: {host: shop}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
";

/// Serves one rule that answers by itself, with more arguments.
fn proxy(arguments: &[&str]) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.yaml");
    fs::write(&path, LONE).unwrap();
    Proxy::spawn(folder, serin().arg("run").arg(path).args(arguments))
}

/// The status and the body of an answer.
fn get(address: SocketAddr, host: &str, path: &str) -> (u16, String) {
    let mut wire = Wire::new(TcpStream::connect(address).unwrap());
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
    let answer = wire.answer().unwrap();
    (answer.status(), answer.text())
}

#[test]
fn what_surprises_newcomers_is_said_at_the_start() {
    const LONE: &str = "`shop` is the only VirtualService: it answers any Host, not only `shop`";
    const LOOPBACK: &str = "endpoints on `localhost` are tried on 127.0.0.1, then on ::1";
    let told = proxy(&["--endpoint", "shop=localhost:9"]);
    assert_eq!(get(told.listen, "anything", "/tea").0, 418);
    eventually("both are said", || told.log().contains(LONE) && told.log().contains(LOOPBACK));
    let said = told.log();
    assert_eq!((said.matches(LONE).count(), said.matches(LOOPBACK).count()), (1, 1), "{said}");

    let silent = proxy(&["--strict-hosts"]);
    assert_eq!(get(silent.listen, "anything", "/tea").0, 404);
    eventually("it is in force", || silent.log().contains("configuration in force"));
    assert!(!silent.log().contains("any Host") && !silent.log().contains("`localhost`"), "{}", silent.log());
}

#[test]
fn the_admin_port_goes_by_the_names_it_is_given() {
    let proxy = proxy(&["--admin-host", "serin", "--admin-host", "canary.example"]);
    assert_eq!(get(proxy.admin, "other:15000", "/metrics").0, 403);
    assert_eq!(get(proxy.admin, "Canary.Example", "/metrics").0, 200);
    assert_eq!(get(proxy.admin, "serin:15000", "/metrics").0, 200);
}

#[test]
fn a_rule_that_answers_by_itself_counts_under_its_name_and_buckets_can_be_few() {
    let proxy = proxy(&["--buckets", "small"]);
    let tea = [("app", "_none"), ("version", "_none"), ("route", "tea"), ("code", "418")];
    assert_eq!(get(proxy.listen, "shop", "/tea").0, 418);
    eventually("it is counted", || (proxy.requests(&tea) - 1.0).abs() < f64::EPSILON);
    let metrics = proxy.ask("GET", "/metrics").1;
    let buckets = |line: &&str| line.starts_with("http_request_duration_seconds_bucket{") && line.contains(r#""tea""#);
    assert_eq!(metrics.lines().filter(buckets).count(), 12, "eleven and +Inf");
}
