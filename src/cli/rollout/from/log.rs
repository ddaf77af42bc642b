//! The replay of an access log: what the plan would have decided on the requests that really came.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::lines::{Lines, Wanted};
use super::report::clock;
use crate::cli::rollout::canary::{Asked, Canary, grouped};
use crate::cli::view::text::plain;
use crate::cli::{fail, print, print_json};
use crate::rollout::simulate::{Outcome, Recorded, replay as run};
use crate::rollout::{Arm, State, words};

/// Does it, and says with what status to exit.
pub(super) fn replay(file: &Path, canary: &Canary, paths: &[PathBuf], json: bool) -> ExitCode {
    let mut asked = match canary.asked(paths) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let wanted = Wanted { route: &asked.plan.route, stable: &asked.stable, canary: &asked.canary };
    let lines = File::open(file).and_then(|log| Lines::read(BufReader::new(log), &wanted));
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) => return fail(&format!("cannot read {}: {error}", file.display())),
    };
    if lines.requests.is_empty() {
        return fail(&nothing(file, &lines, &asked));
    }
    if let Some(p99) = lines.stable_p99() {
        asked.settle(p99);
    }
    let outcome = match run(&asked.plan, lines.requests.iter().copied()) {
        Ok(outcome) => outcome,
        Err(invalid) => return fail(&invalid.to_string()),
    };
    if json {
        print_json(&as_json(&asked, &lines, &outcome));
    } else {
        print(&text(&asked, &lines, &outcome));
    }
    ExitCode::SUCCESS
}

/// Why there is nothing to replay.
fn nothing(file: &Path, lines: &Lines, asked: &Asked) -> String {
    let read = lines.others + lines.silent + lines.before.len() as u64;
    let mut text = format!("nothing to replay in `{}`: ", file.display());
    let Asked { plan, stable, canary, .. } = asked;
    let help = if read == 0 && lines.bad > 0 {
        text.push_str("no line is of a JSON access log of serin");
        "it is written by `serin run --access-log json=FILE`".to_owned()
    } else if read == 0 {
        text.push_str("it is empty");
        "it is written by `serin run --access-log json=FILE`".to_owned()
    } else if lines.others == read {
        let _ = write!(text, "no line is of the route `{}` and the version `{stable}` or `{canary}`", plan.route);
        "these are the labels `route` and `version` of metrics: was it another configuration?".to_owned()
    } else {
        let _ = write!(text, "no request was drawn while `{canary}` had a share");
        format!("give `{canary}` a weight, or start the release, and log that")
    };
    for (number, why) in &lines.named {
        let _ = write!(text, "\n  line {number}: {}", plain(why));
    }
    let _ = write!(text, "\n  help: {help}");
    text
}

/// The shares of the canary, as percent, with the requests that were drawn with them.
fn shares(requests: &[Recorded]) -> BTreeMap<u64, u64> {
    let mut shares = BTreeMap::new();
    for request in requests {
        *shares.entry((request.share * 1e6).round() as u64).or_default() += 1;
    }
    shares
}

fn text(asked: &Asked, lines: &Lines, outcome: &Outcome) -> String {
    let (v2, requests) = (&asked.plan.canary, &lines.requests);
    let mut text = format!("{}\n{}\n", asked.headline(), asked.strictness());
    let canary = requests.iter().filter(|request| request.version == Arm::Canary).count() as u64;
    let length = requests.last().map_or(Duration::ZERO, |last| last.at);
    let began = lines.began.map_or_else(String::new, |began| format!(" from {began:.0}"));
    // Writing to a string cannot fail.
    let _ = write!(text, "{} requests{began}, over {}, ", grouped(requests.len() as u64), words::duration(length));
    let _ = writeln!(text, "{} of them to {v2}", grouped(canary));
    let drawn = shares(requests)
        .into_iter()
        .map(|(share, requests)| format!("{} for {}", words::percent(share as f64 / 1e6), grouped(requests)));
    let _ = writeln!(text, "share of {v2} as drawn: {}", drawn.collect::<Vec<_>>().join(", "));
    let left = [
        (lines.others, "of other routes or versions"),
        (lines.silent, "without a draw or an attempt"),
        (lines.before.len() as u64, "while the canary had no share"),
        (lines.bad, "that cannot be read"),
    ];
    let left: Vec<String> = left
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(*count)))
        .collect();
    if !left.is_empty() {
        let _ = writeln!(text, "lines left out: {}", left.join(", "));
    }
    for (number, why) in &lines.named {
        let _ = writeln!(text, "  line {number}: {}", plain(why));
    }
    if asked.sticky {
        text.push_str("the route is sticky and the log has no keys: each failure counts here, where a release counts a key once a step\n");
    }
    text.push('\n');
    for moved in &outcome.transitions {
        let _ = writeln!(text, "  {:>8}  {}", clock(moved.at), plain(&moved.sentence));
    }
    let after = format!(
        "after {} requests ({} of {v2}, {} failed) and {}",
        grouped(outcome.requests),
        grouped(outcome.canary_requests),
        grouped(outcome.canary_failures),
        words::duration(outcome.at)
    );
    let _ = match outcome.state {
        State::RolledBack => writeln!(text, "\nwould have been rolled back {after}"),
        State::Promoted => writeln!(text, "\nwould have been promoted {after}"),
        _ => writeln!(text, "\nundecided at the end of the log, {after}: {}", outcome.waits),
    };
    text
}

fn as_json(asked: &Asked, lines: &Lines, outcome: &Outcome) -> Value {
    let share = |(share, requests): (u64, u64)| json!({ "share": share as f64 / 1e6, "requests": requests });
    let named = |(line, why): &(u64, String)| json!({ "line": line, "why": why });
    json!({
        "from": "log",
        "release": asked.plan.name,
        "slower_than": asked.plan.analysis.slower_than.map(|edge| edge.as_secs_f64()),
        "began": lines.began.map(|began| began.to_string()),
        "shares": shares(&lines.requests).into_iter().map(share).collect::<Vec<_>>(),
        "left_out": {
            "others": lines.others,
            "silent": lines.silent,
            "without_share": lines.before.len(),
            "unreadable": lines.bad,
        },
        "unreadable": lines.named.iter().map(named).collect::<Vec<_>>(),
        "outcome": outcome,
    })
}
