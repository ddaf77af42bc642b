//! `serin rollout plan`: what a release can do at so much traffic, before anything is risked.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::canary::{Asked, Canary, grouped};
use crate::cli::values::{parse_percentage, parse_rps};
use crate::cli::{print, print_json};
use crate::rollout::forecast::{Forecast, forecast};
use crate::rollout::words;

/// Say what each step of a release needs at so much traffic, and what it would find
#[derive(Args, Debug)]
#[command(after_help = "\
Computed for requests that fail by chance, with the arithmetic that decides; half of the releases are quicker, half slower.

Example:
  serin rollout plan config/rollout --rps 100
  serin rollout plan config/rollout --rps 3 --v1-errors 0.2% --slower-than 300ms

Exit status: 0 told, 1 the configuration is invalid, 2 wrong usage or no such Canary.")]
pub(super) struct Plan {
    /// A file or a folder with the Canary and what it names, or - for standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Requests a second to both versions together
    #[arg(long, value_name = "N", value_parser = parse_rps)]
    rps: f64,

    /// The share of requests that fail on the version that serves now
    #[arg(long, value_name = "PERCENT", default_value = "0.5%", value_parser = parse_percentage)]
    v1_errors: f64,

    #[command(flatten)]
    canary: Canary,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Does it, and says with what status to exit.
    pub(super) fn run(&self) -> ExitCode {
        let mut asked = match self.canary.asked(&self.paths) {
            Ok(asked) => asked,
            Err(code) => return code,
        };
        // Which edge it will be does not matter here; that there will be one does: it shares the false rollback rate.
        asked.settle(Duration::ZERO);
        let steps = forecast(&asked.plan, self.rps, self.v1_errors);
        if self.json {
            let slower_than = asked.plan.analysis.slower_than.filter(|_| !asked.is_auto);
            print_json(&json!({
                "release": asked.plan.name,
                "rps": self.rps,
                "v1_errors": self.v1_errors,
                "slower_than": slower_than.map(|edge| edge.as_secs_f64()),
                "duration": total(&steps).map(|duration| duration.as_secs_f64()),
                "steps": steps,
            }));
        } else {
            print(&self.text(&asked, &steps));
        }
        ExitCode::SUCCESS
    }

    fn text(&self, asked: &Asked, steps: &[Forecast]) -> String {
        let (stable, canary) = (&asked.plan.stable, &asked.plan.canary);
        let errors = words::percent(self.v1_errors);
        let mut text = format!("{}\n{} rps, {stable} fails {errors} of its requests\n", asked.headline(), self.rps);
        if asked.is_auto {
            text.push_str(
                "errors only: what is slow (`slowerThan: auto`) is found when the release starts; it shares the false rollback rate\n",
            );
        }
        let cells = |step: &Forecast| -> [String; 6] {
            [
                format!("{} %", step.weight),
                grouped(step.requests),
                step.duration.map_or_else(|| "for ever".to_owned(), words::duration),
                step.smallest.map_or_else(|| "nothing".to_owned(), words::percent),
                step.failures_at_smallest.map_or_else(|| "-".to_owned(), grouped),
                step.failures_if_all_fail.map_or_else(|| "-".to_owned(), grouped),
            ]
        };
        let heads = ["step", "requests", "takes", "finds", "failures", "at 100 %"].map(str::to_owned);
        text.push('\n');
        for row in [heads].into_iter().chain(steps.iter().map(cells)) {
            let [step, requests, takes, finds, failures, all] = row;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{step:>6}  {requests:>11}  {takes:>11}  {finds:>8}  {failures:>8}  {all:>8}");
        }
        let _ = match total(steps) {
            Some(total) => {
                writeln!(text, "\n{canary} as good as {stable} is promoted after about {}", words::duration(total))
            }
            None => writeln!(text, "\n{}", self.never(asked)),
        };
        let _ = write!(
            text,
            "
requests  to both versions, that the step needs after its warm-up of {}
takes     how long a {canary} as good as {stable} stays at the step
finds     the smallest error rate of {canary} that is expected to be rolled back within these requests
failures  failed requests of {canary} until that rollback; at 100 %: if every request fails
",
            words::duration(asked.plan.analysis.warm_up),
        );
        text
    }

    fn never(&self, asked: &Asked) -> String {
        let floor = words::percent(asked.plan.analysis.max_error_rate);
        let stable = &asked.plan.stable;
        format!(
            "it would be held for ever: {stable} itself fails more than `maxErrorRate` ({floor})\n  help: raise `maxErrorRate` above {}",
            words::percent(self.v1_errors)
        )
    }
}

/// How long all steps take; none: for ever.
pub(super) fn total(steps: &[Forecast]) -> Option<Duration> {
    steps.iter().map(|step| step.duration).sum()
}
