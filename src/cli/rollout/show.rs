//! A release as plain text: one block of lines, which a person reads and a pipe takes.

use std::time::Duration;

use jiff::Timestamp;

use crate::app::ReleaseStatus;
use crate::rollout::{ArmView, Gate, GateState, Interval, Mode, Phase, State, StepState, StepView, Test, TestView};

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
    let rows = rows.into_iter().map(|(label, text)| clean(&format!("  {label:<9} {text}")) + "\n");
    headline(status) + "\n" + &rows.collect::<String>()
}

/// What a verb changes.
pub(super) fn short(status: &ReleaseStatus) -> String {
    let trouble = status.trouble.as_ref().map(|trouble| format!("trouble: {trouble}"));
    let rows = [status.view.waits.clone(), weights(status)].into_iter().chain(trouble);
    let rows = rows.map(|row| clean(&format!("  {row}")) + "\n");
    headline(status) + "\n" + &rows.collect::<String>()
}

/// `product-service: step 2 of 4 at 30 %, held`.
pub(super) fn headline(status: &ReleaseStatus) -> String {
    let view = &status.view;
    let at = |step: usize| {
        let weight = view.steps.get(step).map_or_else(String::new, |step| format!(" at {} %", step.weight));
        format!("step {} of {}{weight}", step + 1, view.steps.len())
    };
    let mut text = match view.state {
        State::Idle => "idle".to_owned(),
        State::Running { step, phase } => format!("{}, {}", at(step), doing(phase)),
        State::Paused { step, .. } => format!("{}, paused", at(step)),
        State::Promoted => "promoted".to_owned(),
        State::RolledBack => "rolled back".to_owned(),
        State::Aborted => "aborted".to_owned(),
    };
    if view.attempt > 1 {
        text.push_str(&format!(", attempt {}", view.attempt));
    }
    if view.mode == Mode::Observe {
        text.push_str(", only observed: no weight is moved");
    }
    clean(&format!("{}: {text}", view.name))
}

/// A line of text as it may be printed: what a server sends must not move the cursor.
pub(super) fn clean(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Warming => "warming up",
        Phase::Gathering => "gathering",
        Phase::Held => "held",
        Phase::AwaitingApproval => "awaiting approval",
    }
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

/// `file 100/0, rollout 70/30 since 2026-11-25T12:03:00Z`.
fn weights(status: &ReleaseStatus) -> String {
    let pair = |canary: u32| format!("{}/{canary}", 100_u32.saturating_sub(canary));
    let file = pair(status.declared_weight);
    if status.since.is_none() && status.declared_weight == status.effective_weight {
        return format!("file {file}, in force");
    }
    let since = status.since.as_deref().map_or_else(String::new, |since| format!(" since {}", seconds(since)));
    format!("file {file}, rollout {}{since}", pair(status.effective_weight))
}

/// A moment without its fraction.
fn seconds(moment: &str) -> String {
    moment.parse::<Timestamp>().map_or_else(|_| moment.to_owned(), |moment| format!("{moment:.0}"))
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

fn label(test: Test) -> &'static str {
    match test {
        Test::Error => "errors",
        Test::Slow => "slow",
    }
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

fn gate(gate: &Gate) -> String {
    let state = match gate.state {
        GateState::Inside => "inside",
        GateState::Outside => "outside",
        GateState::Unreachable => "unreachable",
    };
    let value = gate.value.map_or_else(String::new, |value| format!(" {value}"));
    let detail = if gate.detail.is_empty() { String::new() } else { format!(" ({})", gate.detail) };
    format!("{}: {state}{value}{detail}", gate.name)
}

/// `107:1` from the logarithm of it.
fn odds(ln: f64) -> String {
    match ln {
        _ if ln < 10_f64.ln() => format!("{:.2}:1", ln.exp()),
        _ if ln < 1e6_f64.ln() => format!("{:.0}:1", ln.exp()),
        _ => format!("10^{:.0}:1", ln / std::f64::consts::LN_10),
    }
}

fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

fn interval(interval: Interval) -> String {
    let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let above = millis(interval.above);
    interval.up_to.map_or_else(|| format!("above {above} ms"), |up_to| format!("in ({above}, {}] ms", millis(up_to)))
}

#[cfg(test)]
mod tests;
