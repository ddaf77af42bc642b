//! `serin rollout`: how the releases of a running proxy stand, and the verbs that move them; what a release would do, without
//! a proxy.

mod ask;
mod canary;
mod from;
mod plan;
mod show;
mod simulate;
mod wait;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin_client::AdminOption;
use super::{fail, print, print_json, watch};
use ask::{Failure, Releases};
use wait::Pace;

/// See and move the releases of a running proxy; foretell one without a proxy
#[derive(Args, Debug)]
#[command(after_help = "\
NAME is that of the Canary, NAMESPACE/NAME outside the default namespace. It may be left out when there is only one.

Example:
  serin rollout start product-service
  serin rollout status product-service --wait
  serin rollout promote product-service --full
  serin rollout abort product-service --admin 127.0.0.1:15001
  serin rollout plan config/rollout --rps 100

Exit status: 0 done, 1 the release refuses (or, with --wait, was not promoted), 2 no answer, or no such release.")]
pub struct Rollout {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Status(Status),
    /// Begin with the first step
    #[command(after_help = "Example:\n  serin rollout start product-service")]
    Start(Release),
    /// Stay at the step; a canary that proves worse is still rolled back
    #[command(after_help = "Example:\n  serin rollout pause product-service")]
    Pause(Release),
    /// Go on after a pause
    #[command(after_help = "Example:\n  serin rollout resume product-service")]
    Resume(Release),
    Promote(Promote),
    /// Say the yes that a step with `approve` waits for
    #[command(after_help = "Example:\n  serin rollout approve product-service")]
    Approve(Release),
    /// Give the canary no more traffic, now
    #[command(after_help = "Example:\n  serin rollout abort product-service")]
    Abort(Release),
    /// Try the same version again after a rollback or an abort, with fresh evidence
    #[command(after_help = "Example:\n  serin rollout retry product-service")]
    Retry(Release),
    Plan(Box<plan::Plan>),
    Simulate(Box<simulate::Simulate>),
}

/// Say how releases stand: step, weights, what they wait for, the evidence
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin rollout status
  serin rollout status product-service --json
  serin rollout status product-service --wait && echo promoted
  serin rollout status --watch

Exit status: 0 told, 2 no answer or no such release. With --wait: 0 promoted, 1 rolled back or aborted, 2 no answer.")]
struct Status {
    #[command(flatten)]
    release: Release,

    /// Wait until the release has ended, telling what it does
    #[arg(long)]
    wait: bool,

    /// Watch it live, or all of them; in a pipe a line a second
    #[arg(long, conflicts_with_all = ["wait", "json"])]
    watch: bool,
}

/// Take the next step now, whatever the evidence says
#[derive(Args, Debug)]
#[command(after_help = "\
Only the step that the release is at when the command begins is left: two people who say it at once move it by one step.

Example:
  serin rollout promote product-service
  serin rollout promote product-service --full

Exit status: 0 done, 1 the release refuses, 2 no answer or no such release.")]
struct Promote {
    #[command(flatten)]
    release: Release,

    /// Go to the end
    #[arg(long)]
    full: bool,
}

/// What every subcommand takes.
#[derive(Args, Debug)]
struct Release {
    /// The release; may be left out when there is only one
    #[arg(value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    proxy: AdminOption,

    /// Print the answer of the admin port as it is
    #[arg(long)]
    json: bool,
}

impl Rollout {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let (release, done) = match &self.command {
            Command::Status(status) => (&status.release, status.run()),
            Command::Promote(promote) => (&promote.release, promote.run()),
            Command::Start(release) => (release, release.say("start")),
            Command::Pause(release) => (release, release.say("pause")),
            Command::Resume(release) => (release, release.say("resume")),
            Command::Approve(release) => (release, release.say("approve")),
            Command::Abort(release) => (release, release.say("abort")),
            Command::Retry(release) => (release, release.say("retry")),
            Command::Plan(plan) => return plan.run(),
            Command::Simulate(simulate) => return simulate.run(),
        };
        match done {
            Ok(code) => code,
            Err(Failure::Unreachable(message) | Failure::Unable(message)) => fail(&message),
            Err(Failure::Refused(answer)) if release.json => {
                print_json(&answer);
                ExitCode::FAILURE
            }
            Err(Failure::Refused(answer)) => {
                let why = answer["message"].as_str().unwrap_or("the release refuses and says no reason");
                super::say(&format!("error: {why}"));
                ExitCode::FAILURE
            }
        }
    }
}

impl Status {
    fn run(&self) -> Result<ExitCode, Failure> {
        let releases = self.release.releases()?;
        if self.watch {
            return Ok(watch::watch(&releases.0, self.release.name.as_deref()));
        }
        if self.wait {
            return self.wait(&releases);
        }
        let answer = match &self.release.name {
            Some(name) => releases.one(name)?,
            None => releases.all()?,
        };
        if self.release.json {
            print_json(&answer);
            return Ok(ExitCode::SUCCESS);
        }
        let listed = match &self.release.name {
            Some(_) => vec![ask::status(&answer)?],
            None => ask::statuses(&answer)?,
        };
        let blocks: Vec<String> = listed.iter().map(show::block).collect();
        print(&if blocks.is_empty() { show::NONE.to_owned() } else { blocks.join("\n") });
        Ok(ExitCode::SUCCESS)
    }

    fn wait(&self, releases: &Releases) -> Result<ExitCode, Failure> {
        let name = releases.resolve(self.release.name.as_deref())?;
        let tell = |line: &str| {
            if !self.release.json {
                print(&format!("{line}\n"));
            }
        };
        let end = wait::until_over(releases, &name, Pace::default(), tell)?;
        if self.release.json {
            print(&format!("{:#}\n", end.answer));
        }
        Ok(if end.promoted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Promote {
    fn run(&self) -> Result<ExitCode, Failure> {
        let releases = self.release.releases()?;
        let name = releases.resolve(self.release.name.as_deref())?;
        let seen = ask::status(&releases.one(&name)?)?.view.state.step();
        let body = json!({ "full": self.full, "from": if self.full { None } else { seen } });
        self.release.told(&releases.say(&name, "promote", Some(&body))?)
    }
}

impl Release {
    fn releases(&self) -> Result<Releases, Failure> {
        self.proxy.open().map(Releases).map_err(Failure::Unable)
    }

    fn say(&self, verb: &str) -> Result<ExitCode, Failure> {
        let releases = self.releases()?;
        let name = releases.resolve(self.name.as_deref())?;
        self.told(&releases.say(&name, verb, None)?)
    }

    /// Prints how the release stands now.
    fn told(&self, answer: &Value) -> Result<ExitCode, Failure> {
        print(&if self.json { format!("{answer:#}\n") } else { show::short(&ask::status(answer)?) });
        Ok(ExitCode::SUCCESS)
    }
}
