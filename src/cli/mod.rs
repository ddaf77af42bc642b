//! The command line: one file per command. Each parses its arguments, calls what does the work, and prints.

pub mod admin_client;
pub mod check;
pub mod completions;
pub mod demo;
pub mod diff;
pub mod echo;
pub mod explain;
pub mod man;
mod offline;
mod release_view;
pub mod reload;
pub mod rollout;
pub mod run;
pub mod set_weight;
pub mod stats;
pub mod status;
pub mod test;
pub mod top;
pub mod values;
mod view;
mod watch;

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::telemetry::finish_reports;
use crate::telemetry::log::{self, Log};

/// How long the end waits for whoever reads what is logged.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Canary releases in front of any service: reads Istio traffic YAML, splits requests by weight, measures every version.
#[derive(Parser, Debug)]
#[command(name = "serin", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(check::Check),
    Completions(completions::Completions),
    Demo(demo::Demo),
    Diff(diff::Diff),
    Echo(echo::Echo),
    Explain(explain::Explain),
    Man(man::Man),
    Reload(reload::Reload),
    Rollout(rollout::Rollout),
    Run(Box<run::Run>),
    SetWeight(set_weight::SetWeight),
    Stats(stats::Stats),
    Status(status::Status),
    Test(test::Test),
    Top(top::Top),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> ExitCode {
        start_logging(match self.command {
            // Its view says it all; lines in between would tear it apart.
            Command::Demo(_) | Command::Top(_) => "off",
            _ => "info",
        });
        // The last lines say why it ended, also where that is a panic.
        let _last = LastWords;
        match self.command {
            Command::Check(check) => check.run(),
            Command::Completions(completions) => completions.run(),
            Command::Demo(demo) => demo.run(),
            Command::Diff(diff) => diff.run(),
            Command::Echo(echo) => echo.run(),
            Command::Explain(explain) => explain.run(),
            Command::Man(man) => man.run(),
            Command::Reload(reload) => reload.run(),
            Command::Rollout(rollout) => rollout.run(),
            Command::Run(run) => run.run(),
            Command::SetWeight(set_weight) => set_weight.run(),
            Command::Stats(stats) => stats.run(),
            Command::Status(status) => status.run(),
            Command::Test(test) => test.run(),
            Command::Top(top) => top.run(),
        }
    }
}

/// Dropped at the end of the process: everything that was said is written.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        finish_reports(LAST_WORDS);
        log::flush(LAST_WORDS);
    }
}

/// Log lines go to standard error; `SERIN_LOG` sets the level, `NO_COLOR` and a pipe turn colour off. Without a
/// thread for it there is no log.
fn start_logging(level: &str) {
    let Ok(log) = Log::start(stderr()).map(Log::of_process) else { return };
    let said = std::env::var("SERIN_LOG").ok().filter(|said| !said.is_empty());
    let filter = said.and_then(|said| EnvFilter::try_new(said).ok()).unwrap_or_else(|| EnvFilter::new(level));
    let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || log.clone())
        .with_ansi(colour)
        .with_target(false)
        // It would say so on standard error, and panic where that is gone.
        .log_internal_errors(false);
    // Only the first subscriber of a process counts; a second call changes nothing.
    let _ = lines.try_init();
}

/// Prints a result. A reader that went away needs no word.
fn print(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}

/// Prints a result as JSON, for people to read, too.
fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// Says something on standard error. A reader that went away needs no word.
fn say(message: &str) {
    // What led to it comes first.
    log::flush(LAST_WORDS);
    let _ = writeln!(stderr(), "{message}");
}

/// Says why a command could not do its work: status 2.
fn fail(message: &str) -> ExitCode {
    say(&format!("error: {message}"));
    ExitCode::from(2)
}
