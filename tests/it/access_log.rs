//! `--access-log`: one line for each request, whatever became of it, through the built binary.

use std::fs;

use serde_json::Value;

use super::support::client::{HOST, request};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, Upstream};

#[test]
fn each_request_is_a_line_with_what_became_of_it() {
    let upstream = Upstream::named("v2");
    let config = Config::default().version("v1", 0, &[1]).version("v2", 100, &[upstream.port]).rule("name: main");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.json");
    let proxy = Proxy::with(&config, &["--access-log", &format!("json={}", file.display())]);
    let mut client = proxy.client();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client.send(format!(
        "GET /a?b=%22c%22 HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: t\\e\r\nx-request-id: 7\r\ntraceparent: {trace}\r\n\r\n"
    ));
    assert_eq!(client.answer().unwrap().status(), 200);
    let mut other = proxy.client();
    other.send("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(other.answer().unwrap().status(), 405);
    let mut lines = Vec::new();
    eventually("both are logged", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        lines.len() == 2
    });
    let first = &lines[0];
    let said = |name: &str| first[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((said("method"), said("path"), said("host")), ("GET".into(), "/a?b=%22c%22".into(), HOST.into()));
    assert_eq!((said("app"), said("version"), said("route")), (HOST.into(), "v2".into(), "main".into()));
    assert_eq!((said("user_agent"), said("request_id")), ("t\\e".into(), "7".into()));
    assert_eq!(said("trace_id"), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(said("endpoint"), format!("127.0.0.1:{}", upstream.port));
    assert_eq!((&first["status"], first["share"].as_f64(), &first["attempts"]), (&200.into(), Some(1.0), &1.into()));
    assert_eq!(
        (&first["generation"], &first["first_failed"], &first["flag"]),
        (&1.into(), &false.into(), &Value::Null)
    );
    assert!(first["upstream_ms"].as_f64().unwrap() <= first["duration_ms"].as_f64().unwrap());
    assert_eq!((&lines[1]["status"], &lines[1]["flag"], &lines[1]["app"]), (&405.into(), &"DPE".into(), &Value::Null));
    assert_eq!(proxy.metric("serin_access_log_dropped_total", &[]), 0.0);
}

/// As a release judges it: the head was well, the answer was not.
#[test]
fn an_answer_that_broke_off_failed() {
    let script = Script::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.json");
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--access-log", &format!("json={}", file.display())]);
    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart");
    wire.close();
    let mut line = Value::Null;
    eventually("it is logged", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        line = text.lines().next().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
        !line.is_null()
    });
    assert_eq!((&line["status"], &line["first_failed"], &line["drawn"]), (&200.into(), &true.into(), &Value::Null));
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), Config::single(&[1]).yaml()).unwrap();
    let output = super::support::proxy::run(
        &[
            "run",
            "config.yaml",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--access-log",
            "text=/no/folder/log",
        ],
        folder.path(),
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(super::support::proxy::said(&output).contains("cannot log requests to /no/folder/log"));
}
