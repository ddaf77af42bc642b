//! The admin port as its clients see it: through a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::resources::RESOURCES;
use super::{AdminState, Board, Readiness, Reloaded, Token, serve};
use crate::telemetry::{Buckets, Finished, Flags, Metrics, Worker};

mod rollouts;

struct Admin {
    address: SocketAddr,
    reloads: Arc<AtomicU64>,
    readiness: Arc<AtomicUsize>,
    said: rollouts::Said,
    metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Admin {
    fn start() -> Self {
        Self::locked(None)
    }

    /// The same, which asks for a token.
    fn locked(token: Option<Token>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (reloads, readiness) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(1)));
        let said = rollouts::Said::default();
        let (counted, asked) = (Arc::clone(&reloads), Arc::clone(&readiness));
        let metrics = Metrics::new(1, Buckets::Fine);
        let (rendered, versions) = (metrics.clone(), metrics.clone());
        let state = AdminState {
            metrics: Box::new(move || rendered.render()),
            hosts: vec!["serin.internal".to_owned()],
            token,
            readiness: Box::new(move || match asked.load(SeqCst) {
                0 => Readiness::Starting,
                1 => Readiness::Serving,
                _ => Readiness::Draining,
            }),
            status: Box::new(|| json!({ "generation": 7, "on_disk": { "state": "rejected" } })),
            versions: Board::new(Box::new(move || versions.versions())),
            dump: Box::new(|| panic!("a bug in a resource")),
            reload: Box::new(move || match counted.fetch_add(1, SeqCst) {
                0 => Reloaded::InForce { generation: 8, changed: true },
                1 => Reloaded::InForce { generation: 8, changed: false },
                _ => Reloaded::Rejected { generation: 8, diagnostics: json!([{ "line": 3 }]) },
            }),
            releases: rollouts::desk(said.clone()),
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap_or(()) };
        let thread = serve(listener, state, shutdown).unwrap();
        Self { address, reloads, readiness, said, metrics, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// `headers` replace the host when they name one.
    fn ask(&self, request: &str, headers: &str) -> Answer {
        let host = if headers.contains("host:") { String::new() } else { format!("host: {}\r\n", self.address) };
        self.send(format!("{request} HTTP/1.1\r\n{host}{headers}connection: close\r\n\r\n").as_bytes())
    }

    fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn metrics_are_prometheus_text() {
    let answer = Admin::start().ask("GET /metrics", "");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("\nserin_config_generation 0\n"), "{}", answer.body);
}

#[test]
fn readiness_follows_the_process_and_liveness_does_not() {
    let admin = Admin::start();
    for (state, status) in [(0, 503), (1, 200), (2, 503)] {
        admin.readiness.store(state, SeqCst);
        assert_eq!(admin.ask("GET /ready", "").status, status);
        assert_eq!(admin.ask("GET /live", "").status, 200);
    }
}

#[test]
fn a_reload_says_what_became_of_it() {
    let admin = Admin::start();
    let applied = admin.ask("POST /config/reload", "");
    assert_eq!((applied.status, applied.json()), (200, json!({ "result": "applied", "generation": 8 })));
    assert_eq!(admin.ask("POST /config/reload", "").json()["result"], "unchanged");
    let rejected = admin.ask("POST /config/reload", "");
    assert_eq!((rejected.status, &rejected.json()["diagnostics"]), (422, &json!([{ "line": 3 }])));
}

#[test]
fn wrong_paths_and_methods_are_json_errors() {
    let admin = Admin::start();
    let missing = admin.ask("GET /admin", "");
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("not_found")));
    for request in ["POST /metrics", "DELETE /config/reload", "GET /config/reload", "PUT /ready"] {
        let answer = admin.ask(request, "");
        assert_eq!((answer.status, &answer.json()["error"]), (405, &json!("method_not_allowed")), "{request}");
        assert!(answer.head.contains("\r\nallow: "), "{}", answer.head);
    }
    assert_eq!(admin.ask("HEAD /metrics", "").status, 200);
    assert_eq!(admin.reloads.load(SeqCst), 0);
}

#[test]
fn the_index_lists_every_resource() {
    let admin = Admin::start();
    let index = admin.ask("GET /", "").body;
    assert_eq!(index.lines().count(), RESOURCES.len() + 2);
    for resource in RESOURCES {
        let line = index.lines().find(|line| line.starts_with(&format!("{:<4} {} ", resource.method, resource.path)));
        assert!(line.is_some_and(|line| line.ends_with(resource.does)), "{}", resource.path);
        let path = resource.path.replace("{name}", "idle");
        let answer = admin.ask(&format!("{} {path}", resource.method), "");
        assert!(!answer.body.contains("no resource at") && answer.status != 405, "{path}: {}", answer.body);
    }
}

#[test]
fn a_resource_that_panics_answers_500_and_the_next_one_works() {
    let admin = Admin::start();
    let answer = admin.ask("GET /config/dump", "");
    assert_eq!((answer.status, &answer.json()["error"]), (500, &json!("internal")));
    assert_eq!(admin.ask("GET /config/status", "").json()["generation"], 7);
}

#[test]
fn versions_are_counted_since_the_start_and_since_the_last_reset() {
    let admin = Admin::start();
    let route = admin.metrics.route("canary/0", "shop", "v1");
    let finish = |times: usize| {
        let duration = Duration::from_millis(20);
        let (method, flags) = (&http::Method::GET, Flags::default());
        let one = Finished {
            method,
            status: 200,
            flags,
            error: None,
            aborted: None,
            duration,
            bytes_in: 0,
            bytes_out: 5,
            grpc: None,
        };
        (0..times).for_each(|_| route.finished(Worker(0), &one));
    };
    let ask = |request: &str| {
        let answer = admin.ask(request, "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let versions = answer.json()["versions"].clone();
        (versions[0]["requests"].as_u64(), answer.json())
    };
    finish(3);
    let (requests, body) = ask("GET /api/v1/versions");
    assert_eq!((requests, &body["generation"], &body["onDisk"]), (Some(3), &json!(7), &json!("rejected")));
    let v1 = &body["versions"][0];
    assert_eq!((&v1["app"], &v1["version"], &v1["codes"]["2xx"]), (&json!("shop"), &json!("v1"), &json!(3)));
    assert_eq!((&v1["bytesOut"], &v1["routes"][0]["route"]), (&json!(15), &json!("canary/0")));
    assert!((v1["latency"]["p50"].as_f64().unwrap() - 0.02).abs() < 0.001, "{v1}");
    assert_eq!(ask("GET /api/v1/versions?since=reset").0, Some(3), "no reset so far: since the start");

    let (requests, body) = ask("POST /api/v1/versions/reset");
    assert_eq!((requests, &body["reset"]), (Some(3), &json!(false)), "the answer is what it ends");
    finish(2);
    let (requests, body) = ask("GET /api/v1/versions?since=reset");
    assert_eq!((requests, &body["reset"]), (Some(2), &json!(true)));
    assert_eq!(ask("GET /api/v1/versions?since=start").0, Some(5), "nothing was reset in truth");
    assert!(admin.ask("GET /metrics", "").body.contains(r#"app="shop""#));
    finish(4);
    assert_eq!(ask("POST /api/v1/versions/reset").0, Some(6));
    assert_eq!(ask("GET /api/v1/versions?since=reset").0, Some(0));
    for query in ["since=", "since=yesterday", "reset", "since=reset&x=1"] {
        let answer = admin.ask(&format!("GET /api/v1/versions?{query}"), "");
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("bad_query")), "{query}");
    }
}

#[test]
fn every_answer_carries_the_security_headers_and_no_cors() {
    let admin = Admin::start();
    for (request, headers) in [
        ("GET /", ""),
        ("GET /nowhere", ""),
        ("GET /metrics", "host: evil.test\r\n"),
        ("POST /config/reload", "origin: http://evil.test\r\n"),
        ("OPTIONS /config/reload", "origin: http://evil.test\r\naccess-control-request-method: POST\r\n"),
    ] {
        let head = admin.ask(request, headers).head;
        assert!(head.contains("x-content-type-options: nosniff"), "{request}: {head}");
        assert!(head.contains("content-security-policy: default-src 'self'; frame-ancestors 'none'"), "{request}");
        assert!(!head.contains("access-control"), "{request}: {head}");
    }
}

#[test]
fn only_this_server_may_be_named_as_host() {
    let admin = Admin::start();
    let port = admin.address.port();
    for host in
        ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:15000", &format!("127.0.0.1:{port}"), "Serin.Internal:80"]
    {
        assert_eq!(admin.ask("GET /metrics", &format!("host: {host}\r\n")).status, 200, "{host}");
    }
    for host in [
        "evil.test",
        "",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "localhost@evil.test",
        "evil@localhost",
        "10.1.2.3",
        "[::2]",
        "localhost.",
        "localhost:80:80",
    ] {
        let answer = admin.ask("GET /metrics", &format!("host: {host}\r\n"));
        assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("host_not_allowed")), "{host}");
    }
    assert_eq!(admin.ask("GET /metrics", "host: localhost\r\nhost: localhost\r\n").status, 403, "two hosts");
    assert_eq!(admin.send(b"GET /metrics HTTP/1.0\r\n\r\n").status, 403, "no host");
    assert_eq!(admin.ask("GET http://evil.test/metrics", "host: localhost\r\n").status, 403, "another target");
}

#[test]
fn no_other_page_can_reload() {
    let admin = Admin::start();
    let own = format!("origin: http://{}\r\n", admin.address);
    for headers in [
        "origin: http://evil.test\r\n",
        "origin: null\r\n",
        "origin: http://localhost:1\r\n",
        &format!("origin: https://{}\r\n", admin.address),
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        &format!("{own}sec-fetch-site: cross-site\r\n"),
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n",
        "host: evil.test\r\n",
        "host: evil.test\r\norigin: http://evil.test\r\nsec-fetch-site: same-origin\r\n",
    ] {
        assert_eq!(admin.ask("POST /config/reload", headers).status, 403, "{headers}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "\u{e9}"] {
        assert_eq!(admin.ask("POST /config/reload", &format!("content-type: {kind}\r\n")).status, 415, "{kind}");
    }
    assert_eq!(admin.ask("GET /config/reload", "sec-fetch-dest: image\r\n").status, 405);
    assert_eq!(admin.reloads.load(SeqCst), 0, "none of these had an effect");
    for headers in ["", &own, &format!("{own}sec-fetch-site: same-origin\r\n"), "content-type: application/json\r\n"] {
        assert_ne!(admin.ask("POST /config/reload", headers).status, 403, "{headers}");
    }
    assert_eq!(admin.reloads.load(SeqCst), 4);
}

#[test]
fn bodies_over_a_mebibyte_are_refused() {
    let admin = Admin::start();
    let head = |length| {
        format!(
            "POST /config/reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut request = head(1 << 20).into_bytes();
    request.resize(request.len() + (1 << 20), b' ');
    assert_eq!(admin.send(&request).status, 200);
    assert_eq!(admin.send(head((1 << 20) + 1).as_bytes()).status, 413);
    let chunked = "POST /config/reload HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut request = format!("{chunked}100001\r\n").into_bytes();
    request.resize(request.len() + (1 << 20) + 1, b' ');
    assert_eq!(admin.send(&request).status, 413, "no length said beforehand");
    assert_eq!(admin.send(format!("{chunked}not a length\r\n").as_bytes()).status, 400);
    assert_eq!(admin.reloads.load(SeqCst), 1);
}

#[test]
fn silent_connections_do_not_lock_others_out() {
    let admin = Admin::start();
    let silent: Vec<_> = (0..17).map(|_| admin.connect()).collect();
    assert_eq!(admin.ask("GET /live", "").status, 200);
    drop(silent);
}

#[test]
fn the_thread_ends_with_the_process_although_a_client_stays() {
    let mut admin = Admin::start();
    let mut idle = admin.connect();
    idle.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).unwrap();
    drop(admin.stop.take());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(TcpStream::connect(admin.address).is_err());
}

const TOKEN: &str = "correct-horse-battery-staple";

/// The token, as a file holds it.
fn token() -> Token {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    Token::read(file.path()).unwrap()
}

#[test]
fn with_a_token_only_the_probes_are_open() {
    let admin = Admin::locked(Some(token()));
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    let wrong = "authorization: Bearer correct-horse-battery-stapler\r\n";
    for resource in RESOURCES {
        let request = format!("{} {}", resource.method, resource.path.replace("{name}", "idle"));
        let open = matches!(resource.path, "/ready" | "/live");
        let refused = admin.ask(&request, "");
        assert_eq!(refused.status, if open { 200 } else { 401 }, "{request}");
        assert_eq!(refused.head.contains("\r\nwww-authenticate: bearer\r\n"), !open, "{request}: {}", refused.head);
        assert_ne!(admin.ask(&request, &right).status, 401, "{request}");
    }
    assert_eq!(admin.ask("POST /ready", "").status, 401);
    assert_eq!(admin.ask("GET /ready/", "").status, 401, "another path");
    let (reloads, said) = (admin.reloads.load(SeqCst), admin.said.take());
    assert_eq!((reloads, said.len()), (1, 7), "those with the token");
    for _ in 0..10 {
        assert_eq!(admin.ask("POST /config/reload", wrong).status, 401);
    }
    let barred = admin.ask("POST /config/reload", &right);
    assert_eq!((barred.status, &barred.json()["error"]), (429, &json!("too_many_failures")));
    assert!(barred.head.contains("\r\nretry-after: "), "{}", barred.head);
    assert_eq!(admin.ask("GET /ready", "").status, 200, "balancers are not barred");
    assert_eq!(admin.reloads.load(SeqCst), 1);
}

#[test]
fn a_token_is_no_leave_for_pages_of_other_origins() {
    let admin = Admin::locked(Some(token()));
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    for headers in ["origin: http://evil.test\r\n", "sec-fetch-site: cross-site\r\n", "host: evil.test\r\n"] {
        assert_eq!(admin.ask("POST /config/reload", &format!("{right}{headers}")).status, 403, "{headers}");
    }
    assert_eq!(admin.reloads.load(SeqCst), 0);
}

#[test]
fn a_change_may_be_meant_for_one_generation_only() {
    let admin = Admin::start();
    assert!(admin.ask("GET /config/status", "").head.contains("\r\netag: \"7\"\r\n"));
    for tags in ["\"6\"", "7", "W/\"7\"", "", "\"7", "\"6\", \"8\""] {
        for request in ["POST /config/reload", "POST /api/v1/rollouts/idle/start"] {
            let answer = admin.ask(request, &format!("if-match: {tags}\r\n"));
            assert_eq!((answer.status, &answer.json()["error"]), (412, &json!("outdated")), "{request} {tags}");
        }
    }
    assert_eq!((admin.reloads.load(SeqCst), admin.said.take().len()), (0, 0));
    for tags in ["\"7\"", "*", "\"6\", \"7\""] {
        assert_eq!(
            admin.ask("POST /api/v1/rollouts/idle/start", &format!("if-match: {tags}\r\n")).status,
            200,
            "{tags}"
        );
    }
    assert_eq!(admin.ask("GET /config/status", "if-match: \"6\"\r\n").status, 200, "only changes are lost");
}
