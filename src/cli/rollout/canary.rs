//! The release that is asked about, from files and without a proxy.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::app::{LatencyOrder, ReleaseOrder, release_order};
use crate::cli::fail;
use crate::cli::offline::Reading;
use crate::cli::values::parse_duration;
use crate::config::release::Release;
use crate::rollout::{Plan, SLOW_MARGIN, edge_from, words};

/// Which of the Canaries of some files, and how the files are read.
#[derive(Args, Debug)]
pub(super) struct Canary {
    /// The Canary, as NAMESPACE/NAME outside the default namespace; needed where there are several
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// From when on an answer is slow, instead of what `slowerThan` says; rounded up to the edge of a bucket
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    slower_than: Option<Duration>,

    #[command(flatten)]
    reading: Reading,
}

/// The plan of a release, but for what only traffic can tell.
#[derive(Debug)]
pub(super) struct Asked {
    /// What it is to do. What is slow is still open where `auto` says so.
    pub(super) plan: Plan,
    /// Whether it is open.
    pub(super) is_auto: bool,
    /// Whether the version is drawn by key instead of by request.
    pub(super) sticky: bool,
    /// What metrics and the access log call the stable version.
    pub(super) stable: String,
    /// The same of the canary.
    pub(super) canary: String,
    /// The canary's share in the file, 0 to 1.
    pub(super) declared: f64,
}

impl Canary {
    /// The Canary that is meant.
    ///
    /// # Errors
    /// With what status to exit; why has been told.
    pub(super) fn asked(&self, paths: &[PathBuf]) -> Result<Asked, ExitCode> {
        let order = |release: Release| {
            let labels = (release.sticky, release.stable.version.clone(), release.canary.version.clone());
            (release_order(release), labels)
        };
        let orders = self.reading.load(paths)?.releases.into_iter().map(order).collect();
        let (order, (sticky, stable, canary)) =
            chosen(orders, self.name.as_deref()).map_err(|message| fail(&message))?;
        let declared = f64::from(order.declared_percent()) / 100.0;
        let mut plan = order.plan;
        let wanted = match (self.slower_than, order.latency) {
            (Some(wanted), _) | (None, LatencyOrder::Fixed(wanted)) => Some(wanted),
            (None, LatencyOrder::Auto | LatencyOrder::Off) => None,
        };
        if let Some(wanted) = wanted {
            let edge = edge_from(&plan.latency_edges, wanted);
            let longest = plan.latency_edges.last().copied().unwrap_or_default();
            plan.analysis.slower_than = Some(edge.ok_or_else(|| {
                let message = "`--slower-than` lies beyond the last bucket of the latency histograms";
                fail(&format!("{message}\n  help: at most {} ms", words::millis(longest)))
            })?);
        }
        let is_auto = wanted.is_none() && order.latency == LatencyOrder::Auto;
        Ok(Asked { plan, is_auto, sticky, stable, canary, declared })
    }
}

/// A release, whether it is sticky, and what metrics call its versions.
type Labelled = (ReleaseOrder, (bool, String, String));

/// The only one, or the one of this name.
fn chosen(orders: Vec<Labelled>, name: Option<&str>) -> Result<Labelled, String> {
    let known: Vec<String> = orders.iter().map(|(order, _)| format!("`{}`", order.name)).collect();
    let known = known.join(", ");
    let mut fitting: Vec<_> =
        orders.into_iter().filter(|(order, _)| name.is_none_or(|name| order.name == name)).collect();
    match (fitting.len(), name) {
        (1, _) => Ok(fitting.remove(0)),
        (_, _) if known.is_empty() => {
            Err("there is no Canary in these files\n  help: `kind: Canary` describes a release, see docs/canary.md"
                .to_owned())
        }
        (0, Some(name)) => Err(format!("there is no Canary `{name}` in these files\n  help: there are {known}")),
        _ => Err(format!("there are several Canaries in these files\n  help: say which with `--name`: {known}")),
    }
}

impl Asked {
    /// Decides what `auto` stands for: the p99 of the stable version, and a margin.
    pub(super) fn settle(&mut self, p99: Duration) {
        if self.is_auto {
            self.plan.analysis.slower_than = edge_from(&self.plan.latency_edges, p99.mul_f64(SLOW_MARGIN));
        }
    }

    /// `product-service: v1 to v2 on product-service-vs/0, 10 → 30 → 50 → 100 %`.
    pub(super) fn headline(&self) -> String {
        let Plan { name, route, stable, canary, steps, .. } = &self.plan;
        let weights: Vec<String> = steps.iter().map(|step| step.weight.to_string()).collect();
        format!("{name}: {stable} to {canary} on {route}, {} %", weights.join(" → "))
    }

    /// How strictly it is judged, in a line.
    pub(super) fn strictness(&self) -> String {
        let analysis = &self.plan.analysis;
        let slow = match analysis.slower_than {
            Some(edge) => format!("slow: beyond {} ms", words::millis(edge)),
            None => "latency not judged".to_owned(),
        };
        format!(
            "false rollbacks at most {}, tolerance {}, floor {}, {slow}",
            words::percent(analysis.false_rollback_rate),
            analysis.tolerance,
            words::percent(analysis.max_error_rate)
        )
    }
}

/// `14,000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
