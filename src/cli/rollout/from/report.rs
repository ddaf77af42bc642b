//! The replay of a report: every decision computed again from what the report holds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::release_view::words::label;
use crate::cli::rollout::canary::Canary;
use crate::cli::view::text::plain;
use crate::cli::{fail, print, print_json};
use crate::rollout::evidence::WhatIf;
use crate::rollout::report::Report;
use crate::rollout::{Test, Transition, words};

/// What came of one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Same,
    Differs,
    /// Its part of the report was shortened, or it was made before anything was judged.
    Unknown,
}

/// What was found.
struct Found<'r> {
    report: &'r Report,
    decisions: Vec<(&'r Transition, Again)>,
    /// Each difference in words.
    wrong: Vec<String>,
    /// What would have come of it with the limits of PATH, by test.
    tried: Option<Vec<(Test, Option<WhatIf>)>>,
}

/// Does it; status 1 if a decision does not follow from the report.
pub(super) fn replay(file: &Path, value: &Value, canary: &Canary, paths: &[PathBuf], json: bool) -> ExitCode {
    let report = match Report::deserialize(value) {
        Ok(report) => report,
        Err(error) => {
            let help = "help: it is of another version of serin, or was changed";
            return fail(&format!("`{}` is no report that can be read here: {error}\n  {help}", file.display()));
        }
    };
    let mut found = Found::of(&report);
    if !paths.is_empty() {
        match canary.asked(paths) {
            Ok(asked) => found.tried = Some(report.what_if(&asked.plan.analysis)),
            Err(code) => return code,
        }
    }
    if json {
        print_json(&found.as_json());
    } else {
        print(&found.text());
    }
    if found.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl<'r> Found<'r> {
    fn of(report: &'r Report) -> Self {
        let differences = report.check();
        let replayed: Vec<u64> =
            report.tapes.iter().flat_map(|tape| tape.tape.replay()).map(|replayed| replayed.sequence).collect();
        let again = |decision: &'r Transition| {
            let verdict = if differences.iter().any(|difference| difference.sequence == decision.sequence) {
                Again::Differs
            } else if replayed.contains(&decision.sequence) {
                Again::Same
            } else {
                Again::Unknown
            };
            (decision, verdict)
        };
        let decisions = report.decisions.iter().map(again).collect();
        Self { report, decisions, wrong: differences.iter().map(ToString::to_string).collect(), tried: None }
    }

    fn text(&self) -> String {
        let Report { plan, attempt, state, elapsed, .. } = self.report;
        let mut text = plain(&format!("{}: {} to {} on {}", plan.name, plan.stable, plan.canary, plan.route));
        // Writing to a string cannot fail.
        let _ = writeln!(text, ", attempt {attempt}, {} after {}", state.name(), words::duration(*elapsed));
        for (decision, again) in &self.decisions {
            let verdict = match again {
                Again::Same => "same",
                Again::Differs => "DIFFERS",
                Again::Unknown => "left out",
            };
            let _ = writeln!(text, "  {:>8}  {verdict:<8}  {}", clock(decision.at), plain(&decision.sentence));
        }
        for difference in &self.wrong {
            let _ = writeln!(text, "  {difference}");
        }
        let of = |wanted: Again| self.decisions.iter().filter(|(_, again)| *again == wanted).count();
        let (same, differs, unknown) = (of(Again::Same), of(Again::Differs), of(Again::Unknown));
        let all = self.decisions.len();
        let _ = write!(text, "computed again from the report: {same} of {all} decisions the same, {differs} different");
        let _ = match unknown {
            0 => writeln!(text),
            _ => writeln!(text, ", {unknown} left out: the report holds too little of them"),
        };
        for (test, what_if) in self.tried.iter().flatten() {
            let _ = writeln!(text, "with the limits of PATH, {}: {}", label(*test), tried(*what_if));
        }
        text
    }

    fn as_json(&self) -> Value {
        let decision = |(decision, again): &(&Transition, Again)| {
            let same = match again {
                Again::Same => Some(true),
                Again::Differs => Some(false),
                Again::Unknown => None,
            };
            let Transition { sequence, at, sentence, .. } = decision;
            json!({ "sequence": sequence, "at": at.as_secs_f64(), "sentence": sentence, "same": same })
        };
        let tried = self.tried.as_ref().map(|tried| {
            let one = |(test, what_if): &(Test, Option<WhatIf>)| json!({ "test": test, "result": what_if });
            tried.iter().map(one).collect::<Vec<_>>()
        });
        json!({
            "from": "report",
            "release": self.report.plan.name,
            "attempt": self.report.attempt,
            "state": self.report.state,
            "elapsed": self.report.elapsed.as_secs_f64(),
            "decisions": self.decisions.iter().map(decision).collect::<Vec<_>>(),
            "differences": self.wrong,
            "with_path": tried,
        })
    }
}

fn tried(what_if: Option<WhatIf>) -> String {
    match what_if {
        None => "cannot be said, the report was shortened".to_owned(),
        Some(WhatIf { peak, against: None }) => format!("not rolled back, evidence up to {}", words::odds(peak)),
        Some(WhatIf { peak, against: Some(at) }) => {
            format!("rolled back after {}, evidence up to {}", words::duration(at), words::odds(peak))
        }
    }
}

/// Running time as `h:mm:ss`.
pub(super) fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
