//! A release as plain text: one block of lines, which a person reads and a pipe takes.

use crate::app::ReleaseStatus;
use crate::cli::release_view::words::{gate, interval, label, odds, standing, weights};
use crate::cli::view::text::plain;
use crate::rollout::{ArmView, Mode, State, StepState, StepView, Test, TestView};

/// What is printed when there is no release.
pub(super) const NONE: &str = "no release: the configuration in force has no Canary\n";

/// Everything about it.
pub(super) fn block(status: &ReleaseStatus) -> String {
    let view = &status.view;
    let (v1, v2) = (&view.stable.version, &view.canary.version);
    let mut rows = vec![
        ("route", format!("{}, {v1} → {v2}", view.route)),
        ("steps", chain(&view.steps)),
        ("now", view.waits.clone()),
        ("weights", weights(status)),
    ];
    if view.state != State::Idle {
        let slow = view.tests.iter().any(|test| test.test == Test::Slow);
        rows.push(("stable", arm(&view.stable, status.stable_rate, slow)));
        rows.push(("canary", arm(&view.canary, status.canary_rate, slow)));
    }
    // Where the canary has everything, there is no stable to compare it with.
    let alone = view.mode == Mode::Run && view.weight == Some(100);
    rows.extend(view.tests.iter().map(|test| (label(test.test), evidence(test, v2, alone))));
    rows.extend(view.gates.iter().map(|one| ("gate", gate(one))));
    rows.extend(view.events.last().map(|event| ("last", event.sentence.clone())));
    rows.extend(status.trouble.clone().map(|trouble| ("trouble", trouble)));
    let rows = rows.into_iter().map(|(label, text)| plain(&format!("  {label:<9} {text}")) + "\n");
    headline(status) + "\n" + &rows.collect::<String>()
}

/// What a verb changes.
pub(super) fn short(status: &ReleaseStatus) -> String {
    let trouble = status.trouble.as_ref().map(|trouble| format!("trouble: {trouble}"));
    let rows = [status.view.waits.clone(), weights(status)].into_iter().chain(trouble);
    let rows = rows.map(|row| plain(&format!("  {row}")) + "\n");
    headline(status) + "\n" + &rows.collect::<String>()
}

/// `product-service: step 2 of 4 at 30 %, held`.
pub(super) fn headline(status: &ReleaseStatus) -> String {
    let view = &status.view;
    plain(&format!("{}: {}", view.name, standing(status)))
}

/// `10 % done → [30 %] → 50 % (approval) → 100 %`.
fn chain(steps: &[StepView]) -> String {
    let step = |step: &StepView| {
        let weight = match step.state {
            StepState::Done => format!("{} % done", step.weight),
            StepState::Current => format!("[{} %]", step.weight),
            StepState::Next => format!("{} %", step.weight),
        };
        let notes = [(step.approve, "approval"), (step.soak, "soak"), (step.adopted, "from the file")];
        let notes: Vec<_> = notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note).collect();
        if notes.is_empty() { weight } else { format!("{weight} ({})", notes.join(", ")) }
    };
    steps.iter().map(step).collect::<Vec<_>>().join(" → ")
}

fn arm(arm: &ArmView, rate: f64, slow: bool) -> String {
    let numbers = &arm.numbers;
    let mut parts = Vec::new();
    parts.extend(arm.wanted.map(|share| format!("{} wanted", percent(share))));
    parts.extend(arm.got.map(|share| format!("{} got", percent(share))));
    parts.push(format!("{rate:.1} rps"));
    parts.push(format!("{} finished", count(numbers.finished, "request")));
    parts.push(count(numbers.errors, "error"));
    if slow {
        parts.push(format!("{} slow", numbers.slow));
    }
    parts.extend(numbers.p99.map(|p99| format!("p99 {}", interval(p99))));
    format!("{}: {}", arm.version, parts.join(", "))
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `v2 has 5 of 9; evidence 107:1 against stable, 7:1 against the floor; a rollback needs 200:1 of both`.
fn evidence(test: &TestView, canary: &str, alone: bool) -> String {
    let all = test.canary_bad + test.stable_bad;
    let (guard, limit) = (odds(test.ln_guard), odds(test.ln_limit));
    let evidence = if alone {
        format!("{guard} against the floor; a rollback needs {limit}")
    } else {
        format!("{} against stable, {guard} against the floor; a rollback needs {limit} of both", odds(test.ln_ratio))
    };
    format!("{canary} has {} of {all}; evidence {evidence}", test.canary_bad)
}

fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests;
