//! Endpoints that are names: what becomes of requests when a name has other addresses, none, or nobody answers for it. The
//! names are those of a system whose files the tests write; where user namespaces are switched off these tests say so and end.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Mutex, mpsc};

use tempfile::TempDir;

use super::support::client::{Client, HOST, request};
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::sandbox::sandboxed;
use super::support::upstream::{Upstream, answer};

const OLD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const NEW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What is not in `hosts` does not exist.
const FILES: &str = "hosts: files\n";
/// What is not in `hosts` is asked of a name server that nobody runs.
const NO_ANSWER: &str = "hosts: files dns\n";

/// The files that say what a name means.
struct Names(TempDir);

impl Names {
    fn new(hosts: &str) -> Self {
        let names = Self(tempfile::tempdir().unwrap());
        names.hosts(hosts);
        names.sources(FILES);
        fs::write(names.path("resolv.conf"), "nameserver 127.99.99.99\noptions timeout:1 attempts:1\n").unwrap();
        names
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.0.path().join(file)
    }

    /// In place: what is mounted is the file, not its name.
    fn hosts(&self, text: &str) {
        fs::write(self.path("hosts"), text).unwrap();
    }

    fn sources(&self, text: &str) {
        fs::write(self.path("nsswitch.conf"), text).unwrap();
    }

    /// A proxy for which names mean what these files say; none if the system has no such.
    fn proxy(&self, config: &str) -> Option<Proxy> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mount = |file: &str| format!("mount --bind {} /etc/{file}", self.path(file).display());
        let setup = ["hosts", "nsswitch.conf", "resolv.conf"].map(mount).join("; ");
        let mut command = sandboxed(&setup, &folder.path().display().to_string())?;
        Some(Proxy::spawn(folder, command.args(["--workers", "1"])))
    }
}

fn config(resolution: &str, name: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\n\
         spec:\n  hosts: [{HOST}]\n  http:\n    - route: [{{destination: {{host: {HOST}}}}}]\n\
         ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: shop}}\n\
         spec:\n  hosts: [{HOST}]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
         \x20 resolution: {resolution}\n  endpoints: [{{address: {name}, ports: {{http: {port}}}}}]\n"
    )
}

fn means(address: Ipv4Addr) -> String {
    format!("{address} svc.test\n")
}

fn version(client: &mut Client) -> String {
    let answer = client.get("/");
    assert_eq!(answer.status(), 200);
    answer.head.get("x-version").to_owned()
}

fn failures(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("serin_dns_failures_total", &[("reason", reason)])
}

#[test]
fn new_requests_leave_an_address_that_the_name_has_no_more_and_old_ones_finish_there() {
    for resolution in ["DNS", "DNS_ROUND_ROBIN"] {
        let (go, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let old = Upstream::at((OLD, 0), move |request| {
            if request.head.target().1 == "/slow" {
                let _ = gate.lock().unwrap().recv();
            }
            answer("old")
        });
        let _new = Upstream::at((NEW, old.port), |_| answer("new"));
        let names = Names::new(&means(OLD));
        let Some(proxy) = names.proxy(&config(resolution, "svc.test", old.port)) else { return };
        let (mut client, mut slow) = (proxy.client(), proxy.client());
        slow.send(request("GET", "/slow", b""));
        eventually("it is under way", || old.ledger.len() == 1);
        assert_eq!(version(&mut client), "old");
        names.hosts(&means(NEW));
        // All the time, so that the connection to the old address is never idle for long.
        eventually("the new address is in use", || version(&mut client) == "new");
        let before = old.ledger.len();
        assert!((0..50).all(|_| version(&mut client) == "new"), "{resolution}");
        assert_eq!(old.ledger.len(), before);
        go.send(()).unwrap();
        assert_eq!(slow.answer().unwrap().text(), "old");
        eventually("nothing is connected to the old address", || old.open() == 0);
        assert_eq!(proxy.requests(&[("code", "200")]), proxy.requests(&[]), "{resolution}");
    }
}

#[test]
fn without_an_answer_the_last_good_addresses_stay() {
    let upstream = Upstream::at((OLD, 0), |_| answer("v1"));
    let names = Names::new(&means(OLD));
    let Some(proxy) = names.proxy(&config("DNS", "svc.test", upstream.port)) else { return };
    assert_eq!(proxy.client().get("/").status(), 200);
    assert_eq!((failures(&proxy, "failed"), failures(&proxy, "not_found")), (0.0, 0.0));
    names.sources(NO_ANSWER);
    names.hosts("");
    eventually("nobody answers", || failures(&proxy, "failed") >= 1.0);
    assert_eq!(proxy.client().get("/").status(), 200);
    assert!(proxy.metric("serin_dns_answer_age_seconds", &[]) >= 5.0);
    assert!(proxy.log().contains("the last good addresses stay in use"), "{}", proxy.log());
    names.hosts(&means(NEW));
    eventually("it is answered again", || proxy.metric("serin_dns_answer_age_seconds", &[]) < 5.0);
}

#[test]
fn a_name_that_was_never_resolved_fails_its_requests_at_once() {
    let upstream = Upstream::at((OLD, 0), |_| answer("v1"));
    for (sources, reason) in [(FILES, "not_found"), (NO_ANSWER, "failed")] {
        let names = Names::new("");
        names.sources(sources);
        let Some(proxy) = names.proxy(&config("DNS", "svc.test", upstream.port)) else { return };
        eventually("it was looked up", || failures(&proxy, reason) >= 1.0);
        let answer = proxy.client().get("/");
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (503, "UH"));
        assert_eq!(answer.head.get("proxy-status"), "serin; error=dns_error; details=\"UH\"");
        names.hosts(&means(OLD));
        eventually("it is found", || proxy.client().get("/").status() == 200);
    }
}

/// Takes as long as a name is held, and more.
#[test]
#[ignore = "takes 40 s"]
fn a_name_that_is_gone_is_held_for_a_while_and_is_back_at_once() {
    let upstream = Upstream::at((OLD, 0), |_| answer("v1"));
    let names = Names::new(&means(OLD));
    let Some(proxy) = names.proxy(&config("DNS", "svc.test", upstream.port)) else { return };
    assert_eq!(proxy.client().get("/").status(), 200);
    names.hosts("");
    eventually("it is gone", || failures(&proxy, "not_found") >= 1.0);
    assert_eq!(proxy.client().get("/").status(), 200);
    eventually("it was looked up for a while", || failures(&proxy, "not_found") >= 5.0);
    eventually("it has no endpoints", || proxy.client().get("/").status() == 503);
    let answer = proxy.client().get("/");
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (503, "UH"));
    assert_eq!(answer.head.get("proxy-status"), "serin; error=destination_unavailable; details=\"UH\"");
    names.hosts(&means(OLD));
    eventually("it is back", || proxy.client().get("/").status() == 200);
}
