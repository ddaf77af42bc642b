//! The release in lines, for a pipe.

use super::evidence::strongest;
use super::words::standing;
use super::{Scene, decimal, share};
use crate::cli::view::recent::Lately;
use crate::cli::view::text::{NOTHING, clock, duration, part, percent, plain};
use crate::rollout::{ArmView, Transition};

/// One event: its time and its sentence.
pub(in crate::cli) fn event(event: &Transition) -> String {
    format!("{}  {}", clock(event.at), plain(&event.sentence))
}

/// The state of this moment on one line.
pub(in crate::cli) fn line(scene: &Scene<'_>) -> String {
    let status = scene.release;
    let (view, canary) = (&status.view, status.effective_weight.min(100));
    let flow = scene.flow();
    let versions = [
        version(&view.stable, 100 - canary, (flow.got[0], flow.rates[0]), scene.stable.as_ref()),
        version(&view.canary, canary, (flow.got[1], flow.rates[1]), scene.canary.as_ref()),
    ];
    let evidence = strongest(status).map_or_else(String::new, |(test, progress)| {
        format!(" | evidence {} ({test}) of what a rollback needs", percent(progress, 0))
    });
    let trouble = status.trouble.as_ref().map_or_else(String::new, |trouble| format!(" | {trouble}"));
    plain(&format!(
        "{}  {} {} | {}{evidence} | {}{trouble}",
        clock(view.elapsed),
        view.name,
        standing(status),
        versions.join(" | "),
        view.waits
    ))
}

fn version(arm: &ArmView, weight: u32, (got, rate): (Option<f64>, Option<f64>), lately: Option<&Lately>) -> String {
    let (failed, p50, p99) = match lately {
        Some(Lately { done, .. }) => {
            (part(done.errors, done.requests), done.latency.quantile(0.5), done.latency.quantile(0.99))
        }
        None => (NOTHING.to_owned(), None, None),
    };
    let (wanted, p50, p99) = (percent(f64::from(weight) / 100.0, 0), duration(p50), duration(p99));
    let (got, rate) = (share(got), decimal(rate));
    format!("{} wanted {wanted}, got {got}, {rate}/s, 5xx {failed}, p50 {p50}, p99 {p99}", arm.version)
}
