//! What only a network of one's own can show: source ports that are used up, and an endpoint that is gone without a word.

use std::fs;
use std::net::Ipv4Addr;

use super::support::client::{Client, HOST};
use super::support::config::Config;
use super::support::eventually;
use super::support::network::{in_network, shell};
use super::support::proxy::{Proxy, serin};
use super::support::upstream::Script;
use super::support::wire::{Message, Wire};

/// Source ports that the network has for one endpoint.
const PORTS: usize = 10;
const CLIENTS: usize = 14;

/// The next connection with the request that came on it.
fn asked(script: &Script) -> (Wire, String) {
    let mut wire = script.accept();
    let request = wire.request().unwrap().unwrap();
    let target = request.head.target().1.to_owned();
    (wire, target)
}

fn get(client: &mut Client, target: &str) {
    client.send(format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
}

fn turned_away(answer: &Message) {
    assert_eq!((answer.status(), answer.head.get("x-serin-flag"), answer.head.get("retry-after")), (503, "UO", "1"));
    assert!(answer.head.get("proxy-status").contains("connection_limit_reached"));
}

#[test]
fn without_a_source_port_the_request_is_turned_away_and_nobody_is_blamed() {
    in_network("networks::without_a_source_port_the_request_is_turned_away_and_nobody_is_blamed", "", || {
        let script = Script::start();
        let config = Config::single(&[script.port]).rule("retries: {attempts: 5, retryOn: 'connect-failure,503'}");
        let proxy = Proxy::with(&config, &["--workers", "2"]);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
        // All that listens and all clients have their ports already.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("40000 {}", 40_000 + PORTS - 1)).unwrap();

        clients.iter_mut().enumerate().for_each(|(number, client)| get(client, &format!("/{number}")));
        let held: Vec<_> = (0..PORTS).map(|_| asked(&script)).collect();
        let is_held = |held: &[(Wire, String)], number: usize| held.iter().any(|(_, at)| *at == format!("/{number}"));
        let rest: Vec<usize> = (0..CLIENTS).filter(|&number| !is_held(&held, number)).collect();
        assert_eq!(rest.len(), CLIENTS - PORTS);
        rest.iter().for_each(|&number| turned_away(&clients[number].answer().unwrap()));
        assert!(script.try_accept().is_none());

        // One attempt each, whatever the policy says, and no word against the endpoint.
        let blamed = |blame: &str| proxy.metric("serin_failed_requests_total", &[("version", "v1"), ("blame", blame)]);
        let exhausted = || proxy.metric("serin_upstream_exhausted_total", &[("errno", "EADDRNOTAVAIL")]);
        eventually("all are counted", || blamed("proxy") == rest.len() as f64);
        assert_eq!((exhausted(), proxy.attempts("UO"), proxy.attempts("UF")), (4.0, 4.0, 0.0));
        assert_eq!((blamed("upstream"), proxy.metric("serin_upstream_healthy", &[])), (0.0, 1.0));

        // The others did not notice, and their ports serve who comes next. The endpoint closes first: whoever does keeps the port
        // for a while.
        for (mut wire, target) in held {
            wire.send(format!("HTTP/1.1 200 OK\r\n\r\n{target}"));
        }
        for number in (0..CLIENTS).filter(|number| !rest.contains(number)) {
            assert_eq!(clients[number].answer().unwrap().text(), format!("/{number}"));
        }
        eventually("the ports are free", || proxy.metric("serin_upstream_connections", &[]) == 0.0);
        rest.iter().for_each(|&number| get(&mut clients[number], "/again"));
        let again: Vec<_> = rest.iter().map(|_| asked(&script)).collect();
        for (mut wire, target) in again {
            assert_eq!(target, "/again");
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
        rest.iter().for_each(|&number| assert_eq!(clients[number].answer().unwrap().status(), 200));
        assert_eq!((proxy.attempts("2xx"), exhausted()), (14.0, 4.0));
    });
}

/// The address of an endpoint that can vanish.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// It is this system's own for as long as there is a local route. Behind that, there is a link to nowhere: its other end takes
/// what comes and knows no such address.
const LINK: &str = "ip link add far type veth peer name nowhere; ip link set nowhere up; ip link set far arp off up; \
                    ip address add 10.9.0.2/32 dev far; ip route add 10.9.0.1 dev far src 10.9.0.2; \
                    ip route add local 10.9.0.1 dev lo table local src 10.9.0.2";
const VANISH: &str = "ip route delete local 10.9.0.1 dev lo table local";

/// A proxy with two connections to an endpoint: one idle, one with a request under way.
struct Waiting {
    proxy: Proxy,
    client: Client,
    /// Descriptors before there was anything.
    descriptors: usize,
    /// The endpoint's ends, which must not close before it has vanished.
    _ends: [Wire; 2],
}

impl Waiting {
    fn start(script: &Script, rule: &str, keepalive: &str) -> Self {
        let pool = format!("{{connectionPool: {{tcp: {{{keepalive}}}, http: {{idleTimeout: 1h}}}}}}");
        let config = Config::single(&[script.port]).rule(rule).policy(&pool);
        let folder = tempfile::tempdir().unwrap();
        let yaml = config.yaml().replace("address: 127.0.0.1", &format!("address: {FAR}"));
        fs::write(folder.path().join("config.yaml"), yaml).unwrap();
        let path = folder.path().to_owned();
        let mut command = serin();
        let proxy = Proxy::spawn(folder, command.arg("run").arg(path).args(["--workers", "1"]));
        let descriptors = descriptors(&proxy);
        let (mut client, mut other) = (proxy.client(), proxy.client());
        get(&mut client, "/held");
        let (held, _) = asked(script);
        get(&mut other, "/answered");
        let (mut idle, _) = asked(script);
        idle.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(other.answer().unwrap().status(), 200);
        let waiting = Self { proxy, client, descriptors, _ends: [held, idle] };
        eventually("one is idle", || waiting.connections("idle") == 1.0);
        assert_eq!(waiting.connections("active"), 1.0);
        waiting
    }

    fn connections(&self, state: &str) -> f64 {
        self.proxy.metric("serin_upstream_connections", &[("state", state)])
    }

    /// Nothing of the endpoint is left.
    fn nothing_is_left(self) {
        eventually("no connection is left", || self.connections("idle") + self.connections("active") == 0.0);
        drop(self.client);
        eventually("no descriptor is left", || descriptors(&self.proxy) <= self.descriptors);
    }
}

fn failed(client: &mut Client) -> (u16, String) {
    let answer = client.answer().unwrap();
    (answer.status(), answer.head.get("x-serin-flag").to_owned())
}

fn descriptors(proxy: &Proxy) -> usize {
    fs::read_dir(format!("/proc/{}/fd", proxy.process())).unwrap().count()
}

/// The endpoint vanishes, its connections with it. `keepalive` is the pool's.
fn vanishes(keepalive: &str) {
    let script = Script::at(FAR);
    let mut brisk = Waiting::start(&script, "timeout: 2s", keepalive);
    let mut patient = Waiting::start(&script, "retries: {attempts: 0}", keepalive);
    shell(VANISH);
    // Goes out on the connection that was idle: it is written, and nobody says that it did not arrive.
    let mut late = brisk.proxy.client();
    get(&mut late, "/late");
    // What rules is the route's time, …
    assert_eq!(failed(&mut brisk.client), (504, "UT".to_owned()));
    assert_eq!(failed(&mut late), (504, "UT".to_owned()));
    drop(late);
    brisk.nothing_is_left();
    // … or else the system, which says that nobody answers its probes.
    assert_eq!(failed(&mut patient.client), (504, "UT".to_owned()));
    patient.nothing_is_left();
}

#[test]
fn an_endpoint_that_vanishes_costs_its_requests_and_leaves_nothing_behind() {
    let name = "networks::an_endpoint_that_vanishes_costs_its_requests_and_leaves_nothing_behind";
    in_network(name, LINK, || vanishes("tcpKeepalive: {time: 1s, interval: 1s, probes: 2}"));
}

#[test]
#[ignore = "the default probes take their time: 20 s"]
fn an_endpoint_that_vanishes_is_noticed_within_thirty_seconds_by_default() {
    let name = "networks::an_endpoint_that_vanishes_is_noticed_within_thirty_seconds_by_default";
    in_network(name, LINK, || vanishes(""));
}
