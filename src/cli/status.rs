//! `serin status`: which configuration a running proxy serves, and whether the one on disk is as good.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin_client::AdminOption;
use super::{fail, print};

/// Say which configuration a running proxy serves, and what is wrong with the one on disk
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin status
  serin status --admin 127.0.0.1:15001 --json

Exit status: 0 the configuration on disk serves, 1 it is rejected or missing, 2 no answer.")]
pub struct Status {
    #[command(flatten)]
    proxy: AdminOption,

    /// Print the answer of the admin port as it is
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let answer = match self.proxy.open().and_then(|admin| admin.get("/config/status")) {
            Ok(answer) if answer.status.is_success() => answer,
            Ok(answer) => return fail(&answer.refusal()),
            Err(message) => return fail(&message),
        };
        print(&if self.json { format!("{:#}\n", answer.body) } else { people(&answer.body) });
        if answer.body["on_disk"]["state"] == "active" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn people(status: &Value) -> String {
    let mut out = String::new();
    let generation = status["generation"].as_u64().unwrap_or(0);
    // Writing to a string cannot fail.
    let _ = match generation {
        0 => writeln!(out, "no configuration serves"),
        _ => writeln!(
            out,
            "generation {generation} ({}) serves since {}",
            short(&status["hash"]),
            status["active_since"].as_str().unwrap_or("?")
        ),
    };
    for source in status["sources"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "  {}", source.as_str().unwrap_or_default());
    }
    let disk = &status["on_disk"];
    let checked = disk["checked_at"].as_str().unwrap_or("?");
    let state = disk["state"].as_str().unwrap_or("?");
    let _ = match state {
        "active" => writeln!(out, "on disk: the same, checked at {checked}"),
        _ => writeln!(out, "on disk: {state} ({}), checked at {checked}", short(&disk["hash"])),
    };
    out.push_str(&problems(&disk["errors"]));
    out
}

fn short(hash: &Value) -> &str {
    let hash = hash.as_str().unwrap_or("?");
    hash.get(..12).unwrap_or(hash)
}

/// Diagnostics as the admin port gives them, one paragraph each.
pub(super) fn problems(list: &Value) -> String {
    let mut out = String::new();
    for problem in list.as_array().into_iter().flatten() {
        let text = |field: &str| problem[field].as_str().unwrap_or_default();
        let code = problem["code"].as_str().map_or_else(String::new, |code| format!("[{code}]"));
        let _ = writeln!(out, "{}{code}: {}", text("severity"), text("message"));
        let file = text("file");
        if let (Some(line), Some(column)) = (problem["line"].as_u64(), problem["column"].as_u64()) {
            let field = text("path");
            let field = if field.is_empty() { String::new() } else { format!(" ({field})") };
            let _ = writeln!(out, "  --> {file}:{line}:{column}{field}");
        } else if !file.is_empty() {
            let _ = writeln!(out, "  --> {file}");
        }
        if let Some(help) = problem["help"].as_str() {
            let _ = writeln!(out, "  = help: {help}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rejected_file_is_told_with_every_error() {
        let text = people(&json!({
            "generation": 3, "hash": "0123456789abcdef", "active_since": "2026-11-25T01:02:03.000Z", "sources": ["vs.yaml"],
            "on_disk": {
                "hash": "fedcba9876543210", "state": "rejected", "checked_at": "2026-11-25T02:02:03.000Z",
                "errors": [
                    { "severity": "error", "kind": "value", "code": "IST0101", "file": "vs.yaml", "line": 14, "column": 9,
                      "path": "spec.http[0].route[1].weight", "message": "no", "help": "yes" },
                    { "severity": "error", "kind": "syntax", "code": null, "file": "vs.yaml", "line": null, "column": null,
                      "path": "", "message": "empty file", "help": null },
                ],
            },
        }));
        assert_eq!(
            text,
            "generation 3 (0123456789ab) serves since 2026-11-25T01:02:03.000Z\n  vs.yaml\n\
             on disk: rejected (fedcba987654), checked at 2026-11-25T02:02:03.000Z\n\
             error[IST0101]: no\n  --> vs.yaml:14:9 (spec.http[0].route[1].weight)\n  = help: yes\n\
             error: empty file\n  --> vs.yaml\n"
        );
    }

    #[test]
    fn before_the_first_configuration_nothing_serves() {
        let on_disk = json!({ "hash": "", "state": "missing", "checked_at": "now", "errors": [] });
        let text = people(&json!({ "generation": 0, "hash": null, "sources": [], "on_disk": on_disk }));
        assert_eq!(text, "no configuration serves\non disk: missing (), checked at now\n");
    }
}
