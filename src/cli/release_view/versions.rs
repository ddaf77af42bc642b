//! Both versions side by side.

use std::time::Duration;

use ratatui::text::{Line, Span};

use super::words::interval;
use super::{NAMES, Scene, decimal, share};
use crate::cli::view::recent::Lately;
use crate::cli::view::terminal::Theme;
use crate::cli::view::text::{NOTHING, clipped, duration, part, percent, plain, width_of};
use crate::rollout::{ArmView, Test};

/// One version of the release.
struct Side<'s> {
    arm: &'s ArmView,
    role: &'static str,
    /// 0–100.
    weight: u32,
    rate: Option<f64>,
    got: Option<f64>,
    lately: Option<&'s Lately>,
    judges_latency: bool,
}

/// The table, as wide as the terminal.
pub(super) fn table(scene: &Scene<'_>, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let wide = (width.saturating_sub(NAMES) / 2).max(1);
    let sides = sides(scene);
    let span = scene.canary.as_ref().or(scene.stable.as_ref()).map_or(0, |lately| lately.span.as_secs());
    let lately = |what: &str| if span == 0 { format!("{what}, lately") } else { format!("{what}, last {span} s") };
    let got = if scene.flow().of_step { "share got, this step".to_owned() } else { lately("share got") };
    let row = |name: &str, value: &dyn Fn(&Side<'_>) -> String| {
        let mut line = vec![Span::styled(format!("{:NAMES$}", clipped(name, NAMES)), theme.faint())];
        line.extend(sides.iter().map(|side| {
            let text = clipped(&plain(&value(side)), wide - 1);
            let gap = wide - width_of(&text);
            Span::raw(text + &" ".repeat(gap))
        }));
        Line::from(line)
    };
    let mut heads = row("", &|side| format!("{} ({})", side.arm.version, side.role));
    heads.spans.iter_mut().for_each(|span| span.style = theme.strong());
    let mut failed = row(&lately("5xx"), &|side| {
        side.lately.map_or_else(|| NOTHING.to_owned(), |lately| part(lately.done.errors, lately.done.requests))
    });
    for (side, span) in sides.iter().zip(&mut failed.spans[1..]) {
        if side.lately.is_some_and(|lately| lately.done.errors > 0) {
            span.style = theme.bad();
        }
    }
    vec![
        heads,
        row("share wanted", &|side| percent(f64::from(side.weight) / 100.0, 0)),
        row(&got, &|side| share(side.got)),
        row("requests/s", &|side| decimal(side.rate)),
        failed,
        row(&lately("p50"), &|side| duration(side.quantile(0.5))),
        row(&lately("p99"), &|side| duration(side.quantile(0.99))),
        row("judged, this step", &|side| side.judged()),
        row("p99, this step", &|side| side.arm.numbers.p99.map_or_else(|| NOTHING.to_owned(), interval)),
    ]
}

/// Stable, then the canary.
fn sides<'s>(scene: &'s Scene<'_>) -> [Side<'s>; 2] {
    let (status, flow) = (scene.release, scene.flow());
    let canary = status.effective_weight.min(100);
    let judges_latency = status.view.tests.iter().any(|test| test.test == Test::Slow);
    [
        Side {
            arm: &status.view.stable,
            role: "stable",
            weight: 100 - canary,
            rate: flow.rates[0],
            got: flow.got[0],
            lately: scene.stable.as_ref(),
            judges_latency,
        },
        Side {
            arm: &status.view.canary,
            role: "canary",
            weight: canary,
            rate: flow.rates[1],
            got: flow.got[1],
            lately: scene.canary.as_ref(),
            judges_latency,
        },
    ]
}

impl Side<'_> {
    fn quantile(&self, q: f64) -> Option<Duration> {
        self.lately?.done.latency.quantile(q)
    }

    /// What the release itself counts: first attempts of requests whose version was drawn.
    fn judged(&self) -> String {
        let numbers = &self.arm.numbers;
        let slow = if self.judges_latency { format!(", {} slow", numbers.slow) } else { String::new() };
        format!("{} failed{slow} of {}", numbers.errors, numbers.finished)
    }
}
