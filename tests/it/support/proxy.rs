//! The built binary as a child process.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::config::Config;
use super::eventually;
use super::wire::Wire;

/// A running proxy, which ends with the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// The admin address; that of nobody where it is a Unix socket.
    pub(crate) admin: SocketAddr,
    child: Child,
    folder: TempDir,
    log: Log,
}

/// What a process has written so far.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn follow(&self, from: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut log = log.0.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Proxy {
    /// Serves a configuration.
    pub(crate) fn start(config: &Config) -> Self {
        Self::with(config, &[])
    }

    /// Serves a configuration, with more arguments.
    pub(crate) fn with(config: &Config, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.yaml"), config.yaml()).unwrap();
        let path = folder.path().to_owned();
        Self::spawn(folder, serin().arg("run").arg(path).args(arguments))
    }

    /// Starts a command on free ports, unless it names an admin address, and waits until it says where it listens. The folder is
    /// kept for as long as it runs.
    pub(crate) fn spawn(folder: TempDir, command: &mut Command) -> Self {
        Self::spawn_saying(folder, command, Stdio::piped())
    }

    /// The same, with what it logs going elsewhere.
    pub(crate) fn spawn_saying(folder: TempDir, command: &mut Command, to: Stdio) -> Self {
        if !command.get_args().any(|argument| argument == "--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(to)
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        child.stderr.take().into_iter().for_each(|said| log.follow(said));
        let address = |prefix: &str| {
            let text = log.text();
            text.lines().find_map(|line| line.strip_prefix(prefix)?.parse().ok())
        };
        let (mut listen, mut admin, mut ended) = (None, None, None);
        eventually("the proxy listens", || {
            let unix = || log.text().contains("admin unix:").then(|| SocketAddr::from(([0; 4], 0)));
            (listen, admin) = (address("listener http://"), address("admin http://").or_else(unix));
            ended = child.try_wait().unwrap();
            ended.is_some() || (listen.is_some() && admin.is_some())
        });
        let (Some(listen), Some(admin)) = (listen, admin) else {
            panic!("the proxy ended: {ended:?}\n{}", log.text());
        };
        Self { listen, admin, child, folder, log }
    }

    /// A new connection of a client.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.listen)
    }

    /// The path of a file in its folder.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Saves the configuration in place, and does not wait.
    pub(crate) fn save(&self, text: &str) {
        fs::write(self.path("config.yaml"), text).unwrap();
    }

    /// Saves the configuration beside the old one and renames it, and does not wait.
    pub(crate) fn save_by_rename(&self, text: &str) {
        fs::write(self.path(".config.yaml.new"), text).unwrap();
        fs::rename(self.path(".config.yaml.new"), self.path("config.yaml")).unwrap();
    }

    /// An answer of the admin address: status and body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut wire = Wire::new(TcpStream::connect(self.admin).unwrap());
        wire.send(format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin));
        let answer = wire.answer().unwrap();
        (answer.status(), answer.text())
    }

    /// What `/config/status` says.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/config/status").1).unwrap()
    }

    /// The number of the configuration in force.
    pub(crate) fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().unwrap()
    }

    /// The sum of all series of a metric that have these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.ask("GET", "/metrics").1;
        let wanted: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let series = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (known, labels) = series.split_once('{').unwrap_or((series, ""));
            let fits = known == name && wanted.iter().all(|label| labels.contains(label));
            fits.then(|| value.parse::<f64>().unwrap())
        });
        series.sum()
    }

    /// Requests that were counted with these labels.
    pub(crate) fn requests(&self, labels: &[(&str, &str)]) -> f64 {
        self.metric("http_requests_total", labels)
    }

    /// Attempts with this result.
    pub(crate) fn attempts(&self, result: &str) -> f64 {
        self.metric("http_upstream_attempts_total", &[("result", result)])
    }

    /// Everything it has printed.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// The number of the process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it has in memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        1024 * line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // User and system time are the 14th and 15th field; the second one may have spaces in it.
        let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        // Hundredths of a second, whatever the kernel's own clock (proc_pid_stat(5), USER_HZ).
        Duration::from_millis(10 * ticks)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the proxy ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the proxy printed:\n{}---", self.log.text());
        }
    }
}

/// The binary; `SERIN_BINARY` names another build of it, for figures.
pub(crate) fn serin() -> Command {
    Command::new(env::var_os("SERIN_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_serin").into()))
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str], folder: &Path) -> Output {
    serin().args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

/// What a finished process printed, on both channels.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}
