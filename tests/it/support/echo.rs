//! `serin echo` as a child process: an upstream that errs and dawdles as it is told.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use super::proxy::serin;

/// A running echo, which ends with the test.
#[derive(Debug)]
pub(crate) struct Echo {
    /// Where it listens.
    pub(crate) port: u16,
    child: Child,
}

impl Echo {
    /// Starts one of this name on a free port.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = serin().args(["echo", "--name", name]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let first = BufReader::new(child.stdout.take().unwrap()).lines().next();
        let line = first.and_then(Result::ok).unwrap_or_default();
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse::<SocketAddr>().ok());
        let Some(address) = address else { panic!("an echo says where it listens, not `{line}`") };
        Self { port: address.port(), child }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
