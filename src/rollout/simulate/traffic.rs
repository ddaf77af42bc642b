//! Requests that were made up: Poisson arrivals, a coin for the version, its failures and its latency.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::rollout::input::Arm;

/// Made-up traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Requests a second, on average; arrivals are a Poisson process. Above 0.
    pub rps: f64,
    /// The version that serves now.
    pub stable: Behaviour,
    /// The version that is released.
    pub canary: Behaviour,
    /// How both behave later, if they change.
    pub change: Option<Change>,
    /// The canary's declared share, which holds in observe mode.
    pub declared: f64,
    /// A release that is not over by then is given up.
    pub longest: Duration,
}

/// Versions that change while the release runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When, after the start of the release.
    pub after: Duration,
    /// The version that serves now, from then on.
    pub stable: Behaviour,
    /// The version that is released, from then on.
    pub canary: Behaviour,
}

/// How a version answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behaviour {
    /// The share of requests that fail, 0 to 1.
    pub error_rate: f64,
    /// How long it takes.
    pub latency: Latency,
}

/// How long a version takes to answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// Always as long.
    Fixed(Duration),
    /// Log-normal, which is about how services behave.
    LogNormal {
        /// Half of the requests are faster.
        median: Duration,
        /// 99 of 100 requests are faster. At least the median.
        p99: Duration,
    },
}

/// One request, made up or written down, in order of `at`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it was routed, since the release began.
    #[serde(with = "crate::rollout::seconds")]
    pub at: Duration,
    /// The version that it was routed to by the coin.
    pub version: Arm,
    /// The canary's share at that time, 0 to 1.
    pub share: f64,
    /// Whether its first attempt failed.
    pub bad: bool,
    /// How long its response headers took, or its failure.
    #[serde(with = "crate::rollout::seconds")]
    pub latency: Duration,
    /// The hashed key of a sticky route.
    pub key: Option<u64>,
}

/// The normal quantile of 99 %.
const Z99: f64 = 2.326_347_874_040_841;

impl Latency {
    fn draw(self, random: &mut impl Rng) -> Duration {
        match self {
            Self::Fixed(latency) => latency,
            Self::LogNormal { median, p99 } => {
                let median = median.as_secs_f64().max(1e-9);
                let sigma = (p99.as_secs_f64() / median).ln().max(0.0) / Z99;
                let seconds = median * (sigma * normal(random)).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
        }
    }
}

/// A draw from (0, 1].
fn unit(random: &mut impl Rng) -> f64 {
    1.0 - random.random::<f64>()
}

/// A standard normal draw, after Box and Muller.
fn normal(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * unit(random).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

impl Traffic {
    /// The request after the one at `last`. `share` is the canary's share in force.
    pub(super) fn next(&self, last: Duration, share: f64, random: &mut impl Rng) -> Recorded {
        let pause = Duration::try_from_secs_f64(-unit(random).ln() / self.rps).unwrap_or(Duration::MAX);
        let at = last.saturating_add(pause);
        let version = if random.random::<f64>() < share { Arm::Canary } else { Arm::Stable };
        let (stable, canary) = match &self.change {
            Some(change) if at >= change.after => (change.stable, change.canary),
            _ => (self.stable, self.canary),
        };
        let behaviour = if version == Arm::Canary { canary } else { stable };
        let bad = random.random::<f64>() < behaviour.error_rate;
        let latency = behaviour.latency.draw(random);
        Recorded { at, version, share, bad, latency, key: None }
    }
}
