//! The picture of a release for `status`, `top` and the page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout::input::{Gate, Test};
use crate::rollout::plan::Mode;
use crate::rollout::seconds;

use super::state::{ArmNumbers, State, Transition};

/// Everything that is to be seen of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// `metadata.name`.
    pub name: String,
    /// The VirtualService.
    pub virtual_service: String,
    /// Its route.
    pub route: String,
    /// Whether weights are moved.
    pub mode: Mode,
    /// Where it stands.
    pub state: State,
    /// From 1; one more with each retry.
    pub attempt: u32,
    /// Running time since the release began.
    #[serde(with = "seconds")]
    pub elapsed: Duration,
    /// The canary weight that should be in force; none: as declared.
    pub weight: Option<u32>,
    /// What it does or waits for, as [`super::Rollout::waits`].
    pub waits: String,
    /// The chain of steps.
    pub steps: Vec<StepView>,
    /// The evidence, one entry for each test.
    pub tests: Vec<TestView>,
    /// The stable version in this step's window.
    pub stable: ArmView,
    /// The canary in this step's window.
    pub canary: ArmView,
    /// The gates as they were last reported.
    pub gates: Vec<Gate>,
    /// The last moves, oldest first, ten at most.
    pub events: Vec<Transition>,
}

/// One step of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// The canary's percentage.
    pub weight: u32,
    /// Passed, current or to come.
    pub state: StepState,
    /// Bake time asked for.
    #[serde(with = "seconds")]
    pub min_duration: Duration,
    /// Bake time (and warm-up) that the current step still needs; zero when it is over; none for other steps.
    #[serde(with = "seconds::option")]
    pub left: Option<Duration>,
    /// Canary requests asked for.
    pub min_requests: u64,
    /// Whether a person has to say yes.
    pub approve: bool,
    /// The last judged step before 100.
    pub soak: bool,
    /// Written into the file by somebody while the release ran.
    pub adopted: bool,
}

/// Where a step is in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Behind.
    Done,
    /// Now.
    Current,
    /// Ahead.
    Next,
}

/// One evidence bar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestView {
    /// Which test.
    pub test: Test,
    /// ln E of "worse than stable".
    pub ln_ratio: f64,
    /// ln E of "worse than the floor".
    pub ln_guard: f64,
    /// ln E that a rollback needs of both (of the guard alone where the canary has everything).
    pub ln_limit: f64,
    /// Always-valid p.
    pub p: f64,
    /// How far the weaker of the two is towards the limit: 0 to 1, for a bar.
    pub progress: f64,
    /// Bad events of stable in the whole release.
    pub stable_bad: u64,
    /// Bad events of the canary in the whole release.
    pub canary_bad: u64,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmView {
    /// The subset.
    pub version: String,
    /// Share wanted, 0 to 1; none: as declared.
    pub wanted: Option<f64>,
    /// Share of the requests in this window; none before the first.
    pub got: Option<f64>,
    /// Its counts.
    #[serde(flatten)]
    pub numbers: ArmNumbers,
}
