//! How a release is put into words, wherever it is shown. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::app::ReleaseStatus;
use crate::rollout::{Gate, GateState, Interval, Mode, Phase, State, Test};

/// `step 2 of 4 at 30 %, held`, and whether it is another attempt, or only observed.
pub(in crate::cli) fn standing(status: &ReleaseStatus) -> String {
    let view = &status.view;
    let at = |step: usize| {
        let weight = view.steps.get(step).map_or_else(String::new, |step| format!(" at {} %", step.weight));
        format!("step {} of {}{weight}", step + 1, view.steps.len())
    };
    let mut text = match view.state {
        State::Running { step, .. } | State::Paused { step, .. } => format!("{}, {}", at(step), in_short(view.state)),
        over => in_short(over).to_owned(),
    };
    if view.attempt > 1 {
        text.push_str(&format!(", attempt {}", view.attempt));
    }
    if view.mode == Mode::Observe {
        text.push_str(", only observed: no weight is moved");
    }
    text
}

/// A state in one or two words.
pub(in crate::cli) fn in_short(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Running { phase, .. } => doing(phase),
        State::Paused { .. } => "paused",
        State::Promoted => "promoted",
        State::RolledBack => "rolled back",
        State::Aborted => "aborted",
    }
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Warming => "warming up",
        Phase::Gathering => "gathering",
        Phase::Held => "held",
        Phase::AwaitingApproval => "awaiting approval",
    }
}

/// `file 100/0, rollout 70/30 since 2026-11-25T12:03:00Z`.
pub(in crate::cli) fn weights(status: &ReleaseStatus) -> String {
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

/// What a test is called.
pub(in crate::cli) fn label(test: Test) -> &'static str {
    match test {
        Test::Error => "errors",
        Test::Slow => "slow",
    }
}

/// `memory: inside 412000000 (at most 500000000)`.
pub(in crate::cli) fn gate(gate: &Gate) -> String {
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
pub(in crate::cli) fn odds(ln: f64) -> String {
    match ln {
        _ if ln < 10_f64.ln() => format!("{:.2}:1", ln.exp()),
        _ if ln < 1e6_f64.ln() => format!("{:.0}:1", ln.exp()),
        _ => format!("10^{:.0}:1", ln / std::f64::consts::LN_10),
    }
}

/// `in (200, 400] ms`: above the first, at most the second.
pub(in crate::cli) fn interval(interval: Interval) -> String {
    let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let above = millis(interval.above);
    interval.up_to.map_or_else(|| format!("above {above} ms"), |up_to| format!("in ({above}, {}] ms", millis(up_to)))
}
