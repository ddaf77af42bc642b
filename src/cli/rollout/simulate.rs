//! `serin rollout simulate`: the very decision code against traffic that is made up, or that was written down (`from`).

mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::canary::{Asked, Canary};
use super::from;
use super::plan::total;
use crate::app::cores;
use crate::cli::values::{parse_duration, parse_duration_range, parse_percentage, parse_rps};
use crate::cli::{fail, print, print_json};
use crate::rollout::InvalidPlan;
use crate::rollout::forecast::forecast;
use crate::rollout::simulate::{Behaviour, FixedRule, Latency, Outcome, Summary, Traffic, run};

/// A release is given up after this time where it would be held for ever.
const LONGEST: Duration = Duration::from_secs(4 * 3_600);

/// Try a release on made-up or recorded traffic: how often it is rolled back, after how long, and how often wrongly
#[derive(Args, Debug)]
#[command(after_help = "\
v1 is the version that serves now, v2 the canary. Approvals are given at once, and gates are inside their bounds.

FILE is an access log that `serin run --access-log json=FILE` wrote, or a report of a release (from the state directory, or the
admin port). A log is replayed with the plan in PATH; a report has its own, each of its decisions is computed again, and PATH, if
given, is tried on it.

Example:
  serin rollout simulate config/rollout --rps 100 --v1-errors 0.5% --v2-errors 2%
  serin rollout simulate config/rollout --rps 100 --v1-latency 40ms..240ms --v2-latency 60ms..400ms
  serin rollout simulate config/rollout --rps 3 --v1-errors 0.5% --v2-errors 0.5% --beside-fixed-rule 99%
  serin rollout simulate config/rollout --from access.json
  serin rollout simulate --from state/product-service.report-20261129T205809Z.json

Exit status: 0 told, 1 the configuration is invalid or a report's decision does not follow from it, 2 wrong usage.")]
pub(super) struct Simulate {
    /// A file or a folder with the Canary and what it names, or - for standard input
    #[arg(value_name = "PATH", required_unless_present = "from")]
    paths: Vec<PathBuf>,

    /// Requests a second to both versions together
    #[arg(long, value_name = "N", value_parser = parse_rps, required_unless_present = "from")]
    rps: Option<f64>,

    /// The share of requests that fail on v1
    #[arg(long, value_name = "PERCENT", default_value = "0.5%", value_parser = parse_percentage)]
    v1_errors: f64,

    /// The share of requests that fail on v2 [default: as v1]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percentage)]
    v2_errors: Option<f64>,

    /// How long v1 takes to answer: median and p99 (log-normal), or always as long
    #[arg(long, value_name = "MEDIAN..P99", default_value = "10ms", value_parser = parse_duration_range)]
    v1_latency: (Duration, Duration),

    /// The same of v2 [default: as v1]
    #[arg(long, value_name = "MEDIAN..P99", value_parser = parse_duration_range)]
    v2_latency: Option<(Duration, Duration)>,

    /// Releases to run
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: u64,

    /// The same seed gives the same releases
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// When a release that is not over is given up [default: four times what `plan` says; 4h where that is for ever]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    longest: Option<Duration>,

    /// Try a rule with a fixed limit beside it: a check each minute, good answers of v2 below PERCENT fail it, the second failed
    /// check rolls back
    #[arg(long, value_name = "PERCENT", value_parser = parse_percentage)]
    beside_fixed_rule: Option<f64>,

    /// Replay this access log or report instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rps", "v1_errors", "v2_errors", "v1_latency", "v2_latency", "runs",
        "seed", "longest", "beside_fixed_rule"])]
    from: Option<PathBuf>,

    #[command(flatten)]
    canary: Canary,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Many releases of one pair of versions.
struct Block {
    given: Summary,
    /// Under the fixed rule.
    fixed: Option<Summary>,
}

/// All that was found out.
struct Found {
    asked: Asked,
    /// Of the two versions as asked for.
    versions: (Behaviour, Behaviour),
    rps: f64,
    longest: Duration,
    /// With v2 as it is given; none: it is as good as v1.
    given: Option<Block>,
    /// With v2 as good as v1.
    healthy: Block,
    rule: Option<FixedRule>,
}

impl Simulate {
    /// Does it, and says with what status to exit.
    pub(super) fn run(&self) -> ExitCode {
        if let Some(file) = &self.from {
            return from::replay(file, &self.canary, &self.paths, self.json);
        }
        let asked = match self.canary.asked(&self.paths) {
            Ok(asked) => asked,
            Err(code) => return code,
        };
        match self.simulate(asked) {
            Ok(found) if self.json => print_json(&self.as_json(&found)),
            Ok(found) => print(&text::of(&found, self.runs, self.seed)),
            Err(invalid) => return fail(&invalid.to_string()),
        }
        ExitCode::SUCCESS
    }

    fn simulate(&self, mut asked: Asked) -> Result<Found, InvalidPlan> {
        let stable = Behaviour { error_rate: self.v1_errors, latency: latency(self.v1_latency) };
        let canary = Behaviour {
            error_rate: self.v2_errors.unwrap_or(self.v1_errors),
            latency: latency(self.v2_latency.unwrap_or(self.v1_latency)),
        };
        asked.settle(self.v1_latency.1);
        // clap asks for it.
        let rps = self.rps.unwrap_or(1.0);
        let expected = total(&forecast(&asked.plan, rps, self.v1_errors));
        let longest = self.longest.unwrap_or_else(|| expected.map_or(LONGEST, |expected| expected * 4));
        let traffic = |canary| Traffic { rps, stable, canary, change: None, declared: asked.declared, longest };
        let releases = |canary| -> Result<Summary, InvalidPlan> {
            let traffic = traffic(canary);
            let outcomes: Result<Vec<Outcome>, _> =
                many(self.runs, |nth| run(&asked.plan, &traffic, &mut self.random(nth))).into_iter().collect();
            Ok(Summary::of(&outcomes?))
        };
        let healthy = releases(stable)?;
        let given = if canary == stable { None } else { Some(releases(canary)?) };
        let rule = self.beside_fixed_rule.map(|success| {
            let median = healthy.promotion.as_ref().map(|promotion| Duration::from_secs_f64(promotion.seconds.0));
            FixedRule::each_minute(success, median.unwrap_or(longest))
        });
        let fixed = |canary| {
            let traffic = traffic(canary);
            let rule = rule.as_ref()?;
            Some(Summary::of(&many(self.runs, |nth| rule.run(&traffic, &mut self.random(nth)))))
        };
        let healthy = Block { given: healthy, fixed: fixed(stable) };
        let given = given.map(|given| Block { given, fixed: fixed(canary) });
        Ok(Found { versions: (stable, canary), rps, longest, given, healthy, rule, asked })
    }

    /// What release `nth` is drawn with.
    fn random(&self, nth: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(nth))
    }

    fn as_json(&self, found: &Found) -> Value {
        let version = |behaviour: Behaviour| {
            let (median, p99) = match behaviour.latency {
                Latency::Fixed(always) => (always, always),
                Latency::LogNormal { median, p99 } => (median, p99),
            };
            json!({ "errors": behaviour.error_rate, "median": median.as_secs_f64(), "p99": p99.as_secs_f64() })
        };
        let given = found.given.as_ref().unwrap_or(&found.healthy);
        let fixed = found.rule.as_ref().map(|rule| {
            json!({
                "success": rule.success,
                "interval": rule.interval.as_secs_f64(),
                "threshold": rule.threshold,
                "checks": rule.weights.len(),
                "given": given.fixed,
                "healthy": found.healthy.fixed,
            })
        });
        json!({
            "release": found.asked.plan.name,
            "rps": found.rps,
            "v1": version(found.versions.0),
            "v2": version(found.versions.1),
            "slower_than": found.asked.plan.analysis.slower_than.map(|edge| edge.as_secs_f64()),
            "longest": found.longest.as_secs_f64(),
            "runs": self.runs,
            "seed": self.seed,
            "given": given.given,
            "healthy": found.healthy.given,
            "fixed_rule": fixed,
        })
    }
}

fn latency((median, p99): (Duration, Duration)) -> Latency {
    if median == p99 { Latency::Fixed(median) } else { Latency::LogNormal { median, p99 } }
}

/// Does it so often, on all cores; in order.
fn many<T: Send>(runs: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let each = runs.div_ceil(cores() as u64).max(1);
    std::thread::scope(|scope| {
        let one = &one;
        let part = |from: u64| scope.spawn(move || (from..(from + each).min(runs)).map(one).collect::<Vec<T>>());
        let parts: Vec<_> = (0..runs).step_by(each as usize).map(part).collect();
        // A panic has been reported where it happened.
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_in_order_whatever_the_cores() {
        for runs in [1, 2, 3, 7, 100] {
            assert_eq!(many(runs, |nth| nth), (0..runs).collect::<Vec<_>>());
        }
    }
}
