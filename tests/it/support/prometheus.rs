//! A real Prometheus as a child process, where it is installed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::eventually;

/// Whether a program can be started.
pub(crate) fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Says so past the test harness, which keeps what a passing test prints.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {why}\n");
}

/// A Prometheus with a place on disk and an address of its own, which may be stopped and started again.
#[derive(Debug)]
pub(crate) struct Prometheus {
    /// Where it answers while it runs.
    pub(crate) address: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

impl Prometheus {
    /// Chooses an address; nothing runs yet.
    pub(crate) fn new() -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        Self { address, folder: tempfile::tempdir().unwrap(), child: None }
    }

    /// Starts it; it scrapes `/metrics` of these targets five times a second.
    pub(crate) fn start(&mut self, targets: &[SocketAddr]) {
        let mut config = "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs:\n".to_owned();
        for (number, target) in targets.iter().enumerate() {
            let _ = writeln!(config, "- {{job_name: job-{number}, static_configs: [{{targets: ['{target}']}}]}}");
        }
        let (file, data) = (self.folder.path().join("prometheus.yml"), self.folder.path().join("data"));
        fs::write(&file, config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={}", self.address))
            .arg("--log.level=error")
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Ends it in order: connections to it are refused from here on.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        eventually("Prometheus ends", || child.try_wait().unwrap().is_some());
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
