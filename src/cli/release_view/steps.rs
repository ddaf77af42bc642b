//! The chain of steps: where it is, how long it takes, what it waits for.

use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{row, words};
use crate::app::ReleaseStatus;
use crate::cli::view::terminal::Theme;
use crate::cli::view::text::{clipped, clock, plain, width_of, wrapped};
use crate::rollout::{GateState, Phase, State, StepState, StepView};

/// Columns before the text of a row.
const INDENT: usize = 10;

/// How a state looks.
pub(super) fn style(state: State, theme: Theme) -> Style {
    match state {
        State::Promoted | State::Running { phase: Phase::Warming | Phase::Gathering, .. } => theme.good(),
        State::RolledBack | State::Aborted => theme.bad(),
        State::Running { .. } | State::Paused { .. } => theme.warning(),
        State::Idle => theme.faint(),
    }
}

/// Weights, chain, progress of the step, what it waits for.
pub(super) fn rows(release: &ReleaseStatus, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let room = width.saturating_sub(INDENT);
    let mut rows = vec![row("weights", vec![Span::raw(clipped(&plain(&words::weights(release)), room))], theme)];
    rows.push(row("steps", chain(&release.view.steps, room, theme), theme));
    let current = release.view.steps.iter().find(|step| step.state == StepState::Current);
    if let Some(step) = current {
        let progress = progress(step, release.view.canary.numbers.finished);
        rows.push(row("", vec![Span::raw(clipped(&progress, room))], theme));
    }
    // The second line of a long sentence still says what to do.
    for (number, text) in wrapped(&plain(&release.view.waits), room).into_iter().take(2).enumerate() {
        let name = if number == 0 { "now" } else { "" };
        rows.push(row(name, vec![Span::raw(clipped(&text, room))], theme));
    }
    for gate in release.view.gates.iter().take(3) {
        let text = plain(&words::gate(gate));
        let style = if gate.state == GateState::Inside { Style::new() } else { theme.warning() };
        rows.push(row("gate", vec![Span::styled(clipped(&text, room), style)], theme));
    }
    rows
}

/// `✓ 10 %  ▸ 30 %  · 50 %  · 100 %`; where not all fit, the first of them give way.
fn chain(steps: &[StepView], room: usize, theme: Theme) -> Vec<Span<'static>> {
    let link = |step: &StepView| {
        let (mark, style) = match step.state {
            StepState::Done => ("✓", theme.good()),
            StepState::Current => ("▸", theme.strong()),
            StepState::Next => ("·", theme.faint()),
        };
        let more = [(step.soak, " soak"), (step.approve, " (approval)"), (step.adopted, " (from the file)")];
        let more: String = more.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        Span::styled(format!("{mark} {} %{more}  ", step.weight), style)
    };
    let mut spans: Vec<_> = steps.iter().map(link).collect();
    let wide = |spans: &[Span<'_>]| spans.iter().map(|span| width_of(span.content.trim_end())).sum::<usize>();
    let mut cut = false;
    while spans.len() > 1 && wide(&spans) + 2 * spans.len() + 2 * usize::from(cut) > room + 2 {
        // Never what is now and to come, as long as there is something behind.
        spans.remove(0);
        cut = true;
    }
    if cut {
        spans.insert(0, Span::raw("… "));
    }
    spans
}

/// Bake time and requests of the current step.
fn progress(step: &StepView, finished: u64) -> String {
    let time = match step.left {
        Some(left) if left > Duration::ZERO => {
            format!("{} left of {}", clock(rounded_up(left)), clock(step.min_duration))
        }
        _ => format!("{} are over", clock(step.min_duration)),
    };
    format!("{time}; {finished} of {} canary requests", step.min_requests)
}

/// A countdown is at zero when it is over, not before.
fn rounded_up(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}
