//! What a simulation found, for people. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Block, Found};
use crate::cli::rollout::canary::grouped;
use crate::cli::view::text::percent;
use crate::rollout::simulate::{Behaviour, FixedRule, Latency, Spread, Summary};
use crate::rollout::{Mode, words};

/// All of it.
pub(super) fn of(found: &Found, runs: u64, seed: u64) -> String {
    let plan = &found.asked.plan;
    let (v1, v2) = (&plan.stable, &plan.canary);
    let mut text = format!("{}\n{}\n", found.asked.headline(), found.asked.strictness());
    let (stable, canary) = found.versions;
    let as_good = if stable == canary { "as good".to_owned() } else { behaviour(canary) };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} rps; {v1} {}, {v2} {as_good}; {}, seed {seed}",
        found.rps,
        behaviour(stable),
        releases(runs)
    );
    if plan.mode == Mode::Observe {
        let _ = writeln!(text, "only observed: {v2} keeps its {} of the file", words::percent(found.asked.declared));
    }
    if let Some(rule) = &found.rule {
        let _ = writeln!(text, "{}", fixed_rule(rule, v2));
    }
    if let Some(block) = &found.given {
        let _ = write!(text, "\n{v2} as given\n{}", rows(block, found));
    }
    let note = "each rollback is a false one";
    let _ = write!(text, "\n{v2} as good as {v1}: {note}\n{}", rows(&found.healthy, found));
    text
}

/// `fails 0.5 %, takes 40 ms (p99 240 ms)`.
fn behaviour(version: Behaviour) -> String {
    let errors = words::percent(version.error_rate);
    match version.latency {
        Latency::Fixed(always) => format!("fails {errors}, takes {} ms", words::millis(always)),
        Latency::LogNormal { median, p99 } => {
            format!("fails {errors}, takes {} ms (p99 {} ms)", words::millis(median), words::millis(p99))
        }
    }
}

fn releases(runs: u64) -> String {
    format!("{} release{}", grouped(runs), if runs == 1 { "" } else { "s" })
}

fn fixed_rule(rule: &FixedRule, canary: &str) -> String {
    let last = rule.weights.last().copied().unwrap_or_default();
    format!(
        "fixed rule: a check each minute fails below {} of good answers of {canary}, {} failed checks roll back; weights rise to {} in {} checks",
        words::percent(rule.success),
        rule.threshold,
        words::percent(last),
        rule.weights.len(),
    )
}

fn rows(block: &Block, found: &Found) -> String {
    let mut text = summary(&block.given, &found.asked.plan.canary, found.longest);
    if let Some(fixed) = &block.fixed {
        text.push_str("  with the fixed rule\n");
        for line in summary(fixed, &found.asked.plan.canary, found.longest).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn summary(summary: &Summary, canary: &str, longest: Duration) -> String {
    let Summary { runs, rolled_back, rolled_back_between: (low, high), promoted, undecided, .. } = summary;
    let of = |number: u64| format!("{:>7} of {}", grouped(number), grouped(*runs));
    let between = format!("{} to {}", percent(*low, 2), percent(*high, 2));
    let mut text = format!("  rolled back {}  (95 % confidence: {between})\n", of(*rolled_back));
    text.extend(summary.rollback.as_ref().map(|spread| took(spread, canary)));
    let _ = writeln!(text, "  promoted    {}", of(*promoted));
    text.extend(summary.promotion.as_ref().map(|spread| took(spread, canary)));
    if *undecided > 0 {
        let _ = writeln!(text, "  undecided   {}  (not over after {})", of(*undecided), words::duration(longest));
    }
    text
}

/// Three lines: requests, time, what it cost.
fn took(spread: &Spread, canary: &str) -> String {
    let Spread { requests, seconds, canary_failures: failed } = spread;
    let time = |seconds: f64| words::duration(Duration::from_secs_f64(seconds));
    let line = |half: String, most: String, what: &str| format!("{:14}after {half} {what} (19 of 20: {most})\n", "");
    line(grouped(requests.0), grouped(requests.1), "judged requests")
        + &format!("{:20}{} (19 of 20: {})\n", "", time(seconds.0), time(seconds.1))
        + &format!("{:20}{} failed on {canary} (19 of 20: {})\n", "", grouped(failed.0), grouped(failed.1))
}
