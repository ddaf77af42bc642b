//! The proxy in another system than the tests': mounts and limits of its own.

use std::process::{Command, Stdio};

use super::proxy::serin;

/// A command that runs `setup` as root of new namespaces and then the proxy in them; none if the system has no such.
pub(crate) fn sandboxed(setup: &str, path: &str) -> Option<Command> {
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]);
        command
    };
    let trial = inside(setup).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if !trial.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here, or not with `{setup}`");
        return None;
    }
    let mut command = inside(&format!("{setup}; program=$1; shift; exec \"$program\" run {path} \"$@\""));
    command.arg(serin().get_program());
    Some(command)
}
