//! The built binary with a release, its admin port, its log and its access log.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{PATIENCE, wait};

/// The host that the configuration answers.
pub(crate) const HOST: &str = "shop";

/// A running proxy, which ends with its value.
pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    admin: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Proxy {
    /// Starts it in front of two versions, with a state directory and an access log.
    pub(crate) fn start(stable: u16, canary: u16) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot start serin: {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("config")).map_err(failed)?;
        fs::write(path("config/all.yaml"), configuration(stable, canary)).map_err(failed)?;
        let log = File::create(path("log")).map_err(failed)?;
        let child = Command::new(env!("CARGO_BIN_EXE_serin"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg(path("config"))
            .arg("--state-dir")
            .arg(path("state"))
            .arg("--access-log")
            .arg(format!("json={}", path("access").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self { listen: nowhere, admin: nowhere, child, folder };
        let address = |log: &str, prefix: &str| log.lines().find_map(|line| line.strip_prefix(prefix)?.parse().ok());
        wait("serin to listen", || {
            let log = proxy.log();
            let found = (address(&log, "listener http://"), address(&log, "admin http://"));
            let (Some(listen), Some(admin)) = found else { return false };
            (proxy.listen, proxy.admin) = (listen, admin);
            true
        })
        .map_err(|error| format!("{error}; it said:\n{}", proxy.log()))?;
        Ok(proxy)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// When each release began, by the log.
    fn beginnings(&self) -> Vec<Timestamp> {
        let log = self.log();
        let begins =
            |line: &&str| ["started", "retried"].iter().any(|verb| line.contains(&format!("{verb} shop at 10 %")));
        log.lines().filter(begins).filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
    }

    /// How many releases were rolled back.
    pub(crate) fn rollbacks(&self) -> usize {
        self.log().lines().filter(|line| line.contains("rolled back shop at 10 %")).count()
    }

    /// Says a verb to the release.
    pub(crate) fn say(&self, verb: &str) -> Result<Value, String> {
        self.ask("POST", &format!("/{verb}"))
    }

    /// When the last rollback was decided, and on how many requests of both versions. The time is that of the log's line of the
    /// beginning, and the running time from there to the decision, which is that of the turn that led to it: never too late.
    pub(crate) fn decision(&self) -> Result<(Timestamp, u64), String> {
        let status = self.ask("GET", "")?;
        let events = status["events"].as_array().cloned().unwrap_or_default();
        let first = events.iter().rfind(|event| ["started", "retried"].iter().any(|reason| event["reason"] == *reason));
        let (first, last) = (first.cloned().unwrap_or_default(), events.last().cloned().unwrap_or_default());
        let routed = |arm: &str| last["numbers"][arm]["routed"].as_u64();
        let judged = last["numbers"]["tests"].as_array().map_or(0, Vec::len);
        let running = first["at"].as_f64().zip(last["at"].as_f64()).map(|(from, to)| (to - from).max(0.0));
        let began = self.beginnings().last().copied();
        match (last["to"]["name"].as_str(), judged, began.zip(running), routed("stable").zip(routed("canary"))) {
            (Some("rolledBack"), 2, Some((began, running)), Some((stable, canary))) => {
                Ok((began + Duration::from_secs_f64(running), stable + canary))
            }
            _ => Err(format!("this is no rollback by errors and latency: {last:#}")),
        }
    }

    fn ask(&self, method: &str, path: &str) -> Result<Value, String> {
        let failed = |error: std::io::Error| format!("the admin port does not answer: {error}");
        let mut stream = TcpStream::connect(self.admin).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let head = format!("{method} /api/v1/rollouts/shop{path} HTTP/1.1\r\nhost: {}", self.admin);
        let request =
            format!("{head}\r\ncontent-type: application/json\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => {
                serde_json::from_str(body).map_err(|error| format!("the admin port's answer is no JSON: {error}"))
            }
            _ => Err(format!("the admin port refused {method} {path}:\n{answer}")),
        }
    }

    /// Ends it in order. When each request that went to the canary had come, by the access log.
    pub(crate) fn end(mut self) -> Result<Vec<Timestamp>, String> {
        // It may have ended by itself, which is told by the missing lines.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        wait("serin to end", || matches!(self.child.try_wait(), Ok(Some(_))))?;
        let text = fs::read_to_string(self.folder.path().join("access"))
            .map_err(|error| format!("cannot read the access log: {error}"))?;
        let to_canary = text.lines().filter(|line| line.contains("\"version\":\"v2\""));
        let time = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["time"].as_str()?.parse().ok()
        };
        to_canary.map(|line| time(line).ok_or_else(|| format!("no line of an access log: {line}"))).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(stable: u16, canary: u16) -> String {
    let head = |kind: &str| format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: shop}}\n");
    let endpoint = |version: &str, port: u16| {
        format!("    - {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{version: {version}}}}}\n")
    };
    [
        head("VirtualService"),
        format!("spec:\n  hosts: [{HOST}]\n  http:\n    - route:\n"),
        format!("        - {{destination: {{host: {HOST}, subset: v1}}, weight: 100}}\n"),
        format!("        - {{destination: {{host: {HOST}, subset: v2}}, weight: 0}}\n---\n"),
        head("DestinationRule"),
        format!("spec:\n  host: {HOST}\n  subsets:\n"),
        "    - {name: v1, labels: {version: v1}}\n    - {name: v2, labels: {version: v2}}\n---\n".to_owned(),
        head("ServiceEntry"),
        format!("spec:\n  hosts: [{HOST}]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n"),
        format!("  resolution: STATIC\n  endpoints:\n{}{}---\n", endpoint("v1", stable), endpoint("v2", canary)),
        "apiVersion: serin.dev/v1alpha1\nkind: Canary\nmetadata: {name: shop}\nspec:\n  virtualService: shop\n"
            .to_owned(),
        "  stable: v1\n  canary: v2\n  steps: [10, 30, 50, 100]\n  analysis: {warmUp: 0s}\n".to_owned(),
    ]
    .concat()
}
