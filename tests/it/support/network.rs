//! A network of a test's own: ports, addresses and links of it are nobody else's.

use std::env;
use std::io::{Write, stderr};
use std::process::{Command, Output, Stdio};

use super::proxy::said;

/// Set in the process that is inside.
const INSIDE: &str = "SERIN_TEST_INSIDE_NETWORK";

/// Runs the body of the test with this name as root of a new network, set up by these commands of a shell: the test's binary
/// starts itself in there for this one test. Says that it leaves the test out where the system has no such networks.
pub(crate) fn in_network(test: &str, setup: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let setup = format!("ip link set lo up\n{setup}\n");
    if !inside(&setup).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        // Past what the test's framework keeps of a test that passes.
        let _ = writeln!(stderr(), "{test} is left out: no networks of one's own here, or not with `{setup}`");
        return;
    }
    let mut command = inside(&format!("{setup}exec \"$@\""));
    command.arg(env::current_exe().unwrap()).args([test, "--exact", "--include-ignored", "--nocapture"]);
    let output: Output = command.env(INSIDE, "1").output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "inside the network:\n{said}");
    assert!(said.contains("1 passed"), "there is no test of this name:\n{said}");
    print!("{said}");
}

/// What a shell says in the network that the test is in.
pub(crate) fn shell(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", said(&output));
}

fn inside(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-ec", script, "sh"]).stdin(Stdio::null());
    command
}
