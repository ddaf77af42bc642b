//! A real Prometheus scrapes a running proxy and answers the question that the tutorial asks it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::prometheus::{Prometheus, installed, skipped};

/// The tutorial's own words.
const QUESTION: &str = r#"sum(rate(http_requests_total{app="product-service", version="v2"}[5m]))"#;
/// The window in it, in seconds.
const WINDOW: f64 = 300.0;
const REQUESTS: u64 = 400;
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An upstream that counts what it answers.
struct Upstream {
    port: u16,
    served: Arc<AtomicU64>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, served) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, counted) = (stream.unwrap(), Arc::clone(&counted));
                thread::spawn(move || Self::answer(&stream, &counted));
            }
        });
        Self { port, served }
    }

    fn answer(mut stream: &TcpStream, served: &AtomicU64) {
        let mut lines = BufReader::new(stream).lines();
        while let Some(Ok(line)) = lines.next() {
            if line.is_empty() {
                served.fetch_add(1, SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        }
    }
}

/// The proxy with the quickstart configuration, its upstreams' ports replaced; where it listens and its admin port.
fn start_proxy(folder: &Path, upstreams: &[Upstream; 2]) -> (Process, SocketAddr, SocketAddr) {
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/quickstart");
    for file in fs::read_dir(quickstart).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(file.path()).unwrap();
        let text = text.replace("8081", &upstreams[0].port.to_string());
        let text = text.replace("8082", &upstreams[1].port.to_string());
        fs::write(folder.join(file.file_name()), text).unwrap();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_serin"))
        .arg("run")
        .arg(folder)
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process(child);
    let mut address = |prefix: &str| {
        let line = lines.find_map(|line| line.unwrap().strip_prefix(prefix).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no line {prefix}")).parse().unwrap()
    };
    let listen = address("listener http://");
    let admin = address("admin http://");
    (process, listen, admin)
}

/// The body of an answer with status 200; none if there was no such answer.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
}

/// What Prometheus answers at `time` (Unix seconds; now without): the value of each series.
fn ask(prometheus: SocketAddr, query: &str, time: Option<f64>) -> Vec<f64> {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let time = time.map(|time| format!("&time={time:.3}")).unwrap_or_default();
    let Some(body) = get(prometheus, &format!("/api/v1/query?query={escaped}{time}")) else { return Vec::new() };
    let answer: Value = serde_json::from_str(&body).unwrap();
    let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {body}"));
    series.iter().map(|series| series["value"][1].as_str().unwrap().parse().unwrap()).collect()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Requests on one kept-alive connection, each answered 200.
fn send(proxy: SocketAddr, count: u64) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..count {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: product-service\r\n\r\n").unwrap();
        let (mut line, mut status) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            assert_ne!(answers.read_line(&mut line).unwrap(), 0, "the connection was closed");
            if status.is_empty() {
                status.clone_from(&line);
            }
        }
        assert!(status.starts_with("HTTP/1.1 200 "), "{status}");
        answers.read_exact(&mut [0; 2]).unwrap();
    }
}

#[test]
fn the_tutorials_query_answers_with_the_right_rate() {
    if !installed("prometheus") {
        return skipped("prometheus is not installed (apt-get install prometheus): its answers are not tested");
    }
    let (configuration, mut prometheus) = (tempfile::tempdir().unwrap(), Prometheus::new());
    let upstreams = [Upstream::start(), Upstream::start()];
    let (_proxy, listen, admin) = start_proxy(configuration.path(), &upstreams);
    prometheus.start(&[admin]);
    let now = |query: &str| ask(prometheus.address, query, None);
    // A counter that began at zero before the first request: without it rate() would miss what came first.
    wait_for("a first scrape", || now(r#"count_over_time(http_requests_total{version="v2"}[1m])"#) >= vec![2.0]);
    assert_eq!(now("sum(http_requests_total)"), [0.0]);

    send(listen, REQUESTS);
    let served = upstreams.map(|upstream| upstream.served.load(SeqCst));
    assert_eq!(served[0] + served[1], REQUESTS);
    let deviation = (0.1 * 0.9 * REQUESTS as f64).sqrt();
    assert!((served[1] as f64 - 0.1 * REQUESTS as f64).abs() < 5.0 * deviation, "{served:?} at 90/10");

    for (version, served) in [("v1", served[0]), ("v2", served[1])] {
        let requests = format!(r#"http_requests_total{{app="product-service", version="{version}"}}"#);
        wait_for("the last request", || now(&format!("sum({requests})")) == [served as f64]);
        // Asked at the moment of a sample, the rate is not extrapolated: it is the exact number over the window.
        let last = now(&format!("max(timestamp({requests}))"))[0];
        let rate = ask(prometheus.address, &QUESTION.replace("v2", version), Some(last))[0];
        assert!((rate * WINDOW - served as f64).abs() < 1e-6, "{rate} over {WINDOW} s are not {served}");
    }
    assert_eq!(now(r#"serin_route_weight{version="v2", source="effective"}"#), [0.1]);
    assert_eq!(now(r#"sum(http_request_duration_seconds_count{code_class="2xx"})"#), [REQUESTS as f64]);
    assert_eq!(now(r#"sum(http_upstream_attempts_total{result="2xx"})"#), [REQUESTS as f64]);
    let slowest = now("histogram_quantile(1, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))");
    assert!(slowest[0] > 0.0 && slowest[0] < 60.0, "{slowest:?}");
}

/// Prometheus' own check of names, types and help texts.
#[test]
fn promtool_finds_nothing_to_say() {
    if !installed("promtool") {
        return skipped("promtool is not installed (apt-get install prometheus): the metrics are not linted");
    }
    let folder = tempfile::tempdir().unwrap();
    let upstreams = [Upstream::start(), Upstream::start()];
    let (_proxy, listen, admin) = start_proxy(folder.path(), &upstreams);
    send(listen, 20);
    let metrics = get(admin, "/metrics").expect("metrics are served");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
