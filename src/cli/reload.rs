//! `serin reload`: has a running proxy look at its configuration now.

use std::process::ExitCode;

use clap::Args;
use http::StatusCode;

use super::admin_client::AdminOption;
use super::{fail, print, status};

/// Have a running proxy read its configuration again, and say what became of it
#[derive(Args, Debug)]
#[command(after_help = "\
Saved files are noticed without this; it waits until the result is in force.

Example:
  serin reload
  serin reload --admin http://127.0.0.1:15001 --json

Exit status: 0 what is on disk serves, 1 it is rejected, 2 no answer.")]
pub struct Reload {
    #[command(flatten)]
    proxy: AdminOption,

    /// Print the answer of the admin port as it is
    #[arg(long)]
    json: bool,
}

impl Reload {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let answer = match self.proxy.open().and_then(|admin| admin.post("/config/reload")) {
            Ok(answer) => answer,
            Err(message) => return fail(&message),
        };
        let rejected = answer.status == StatusCode::UNPROCESSABLE_ENTITY;
        if !rejected && !answer.status.is_success() {
            return fail(&answer.refusal());
        }
        let generation = &answer.body["generation"];
        print(&match answer.body["result"].as_str() {
            _ if self.json => format!("{:#}\n", answer.body),
            Some("applied") => format!("applied: generation {generation} serves\n"),
            Some("unchanged") => format!("unchanged: generation {generation} serves\n"),
            _ => {
                let problems = status::problems(&answer.body["diagnostics"]);
                format!("{problems}rejected: generation {generation} still serves\n")
            }
        });
        if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
