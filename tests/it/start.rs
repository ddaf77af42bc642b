//! What `serin run` says when it starts, and what its flags change in what it shows.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

struct Proxy {
    process: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    fn start(path: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_serin"))
            .arg("run")
            .arg(path)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut address = |prefix: &str| {
            let line = lines.find_map(|line| line.unwrap().strip_prefix(prefix).map(str::to_owned));
            line.unwrap_or_else(|| panic!("no line {prefix}")).parse().unwrap()
        };
        let (listen, admin) = (address("listener http://"), address("admin http://"));
        Self { process, listen, admin }
    }

    /// Ends it, and gives what it said on standard error.
    fn end(mut self) -> String {
        self.process.kill().unwrap();
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The status of an answer, and all of it.
fn get(address: SocketAddr, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn what_surprises_newcomers_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.yaml");
    fs::write(&path, LONE).unwrap();
    let proxy = Proxy::start(&path, &["--endpoint", "shop=localhost:9"]);
    assert_eq!(get(proxy.listen, "anything", "/tea").0, 418);
    let said = proxy.end();
    assert_eq!(
        said.matches("`shop` is the only VirtualService: it answers any Host, not only `shop`").count(),
        1,
        "{said}"
    );
    assert_eq!(said.matches("`localhost` are tried on 127.0.0.1, then on ::1").count(), 1, "{said}");

    let proxy = Proxy::start(&path, &["--strict-hosts"]);
    assert_eq!(get(proxy.listen, "anything", "/tea").0, 404);
    let said = proxy.end();
    assert!(!said.contains("any Host") && !said.contains("localhost"), "{said}");
}

#[test]
fn the_admin_port_goes_by_the_names_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.yaml");
    fs::write(&path, LONE).unwrap();
    let proxy = Proxy::start(&path, &["--admin-host", "serin", "--admin-host", "canary.example", "--buckets", "small"]);
    assert_eq!(get(proxy.admin, "other:15000", "/metrics").0, 403);
    assert_eq!(get(proxy.admin, "Canary.Example", "/metrics").0, 200);
    assert_eq!(get(proxy.listen, "shop", "/tea").0, 418);
    let (status, metrics) = get(proxy.admin, "serin:15000", "/metrics");
    assert_eq!(status, 200);
    let counted = |line: &&str| line.starts_with("http_requests_total{") && line.contains(r#"route="tea""#);
    let tea = metrics.lines().find(counted).unwrap();
    assert!(tea.contains(r#"app="_none""#) && tea.contains(r#"version="_none""#) && tea.ends_with(" 1"), "{tea}");
    assert!(tea.contains(r#"code="418""#), "{tea}");
    let buckets = |line: &&str| line.starts_with("http_request_duration_seconds_bucket{") && line.contains(r#""tea""#);
    assert_eq!(metrics.lines().filter(buckets).count(), 12, "eleven and +Inf");
}
