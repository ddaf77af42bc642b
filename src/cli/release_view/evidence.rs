//! The evidence that the canary is worse, towards the limit at which it is rolled back.

use ratatui::text::{Line, Span};

use super::row;
use super::words::{label, odds};
use crate::app::ReleaseStatus;
use crate::cli::view::terminal::Theme;
use crate::cli::view::text::clipped;
use crate::rollout::TestView;

/// Columns of a bar.
const BAR: usize = 24;

/// A headline and a bar for each test.
pub(super) fn rows(release: &ReleaseStatus, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let view = &release.view;
    let head = format!("evidence that {} is worse (a full bar rolls it back)", view.canary.version);
    let mut rows = vec![Line::styled(clipped(&head, width), theme.strong())];
    for test in &view.tests {
        let [full, rest] = bar(test.progress, BAR, theme);
        let text = format!(
            " {:3.0} %  {}  {} {}, {} {}",
            clamped(test.progress) * 100.0,
            towards(test),
            view.stable.version,
            test.stable_bad,
            view.canary.version,
            test.canary_bad
        );
        let room = width.saturating_sub(10 + BAR);
        rows.push(row(label(test.test), vec![full, rest, Span::raw(clipped(&text, room))], theme));
    }
    if view.tests.is_empty() {
        rows.push(Line::raw("none so far"));
    }
    rows
}

/// The test that is furthest towards a rollback, with its progress (0–1).
pub(in crate::cli) fn strongest(release: &ReleaseStatus) -> Option<(&'static str, f64)> {
    let tests = release.view.tests.iter().map(|test| (label(test.test), clamped(test.progress)));
    tests.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The full part of a bar and the rest. Only what is decided fills it.
pub(in crate::cli) fn bar(progress: f64, columns: usize, theme: Theme) -> [Span<'static>; 2] {
    let progress = clamped(progress);
    let full = if progress >= 1.0 { columns } else { ((progress * columns as f64) as usize).min(columns - 1) };
    let style = match progress {
        p if p >= 1.0 => theme.bad(),
        p if p >= 0.5 => theme.warning(),
        _ => theme.good(),
    };
    [Span::styled("█".repeat(full), style), Span::styled("░".repeat(columns - full), theme.faint())]
}

fn clamped(progress: f64) -> f64 {
    if progress.is_nan() { 0.0 } else { progress.clamp(0.0, 1.0) }
}

/// `1.45:1 of 200:1`, of the weaker of the two that a rollback needs. The bar is logarithmic, as evidence is.
fn towards(test: &TestView) -> String {
    let limit = odds(test.ln_limit);
    let now = clamped(test.progress) * test.ln_limit;
    if test.progress >= 1.0 { format!("over {limit}") } else { format!("{} of {limit}", odds(now)) }
}
