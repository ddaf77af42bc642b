//! What a release is asked to do, fixed when it starts: the checked and completed form of `kind: Canary`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// So much slower than the p99 of the stable version is slow, where nobody says a time.
pub const SLOW_MARGIN: f64 = 1.2;

/// The smallest of these edges that is at least so long; none: it lies beyond the last.
#[must_use]
pub fn edge_from(edges: &[Duration], wanted: Duration) -> Option<Duration> {
    edges.iter().copied().find(|edge| *edge >= wanted)
}

/// The whole order of one release. It does not change while the release runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `metadata.name`.
    pub name: String,
    /// The VirtualService whose route is released.
    pub virtual_service: String,
    /// The name of that route.
    pub route: String,
    /// The subset that serves now.
    pub stable: String,
    /// The subset that is to take over.
    pub canary: String,
    /// In rising order of weight, at least one. A plan whose last step is below 100 goes to 100 when that step is passed.
    pub steps: Vec<Step>,
    /// What is judged, and how strictly.
    pub analysis: Analysis,
    /// Whether the release moves weights.
    pub mode: Mode,
    /// Upper bounds of the latency buckets, rising, without the last one (which has none). Those of [`super::Count::latency`].
    #[serde(with = "seconds::list")]
    pub latency_edges: Vec<Duration>,
}

/// One weight of the canary, and what it takes to leave it for the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The canary's percentage, 1 to 100.
    pub weight: u32,
    /// Bake time, counted from the end of the warm-up. Default 60 s.
    #[serde(with = "seconds")]
    pub min_duration: Duration,
    /// Finished canary requests, counted from the end of the warm-up. Default 300: a statement on a p99 needs 299.
    pub min_requests: u64,
    /// Whether a person has to say yes before the next step.
    pub approve: bool,
    /// The last judged step before 100 (where no control is left), shown as such.
    pub soak: bool,
    /// Set by [`super::Rollout::edited`]: somebody wrote this weight into the file while the release ran.
    #[serde(default)]
    pub adopted: bool,
}

impl Step {
    /// A step with the defaults of `kind: Canary`: 60 s, 300 requests, no approval.
    #[must_use]
    pub fn new(weight: u32) -> Self {
        let min_duration = Duration::from_secs(60);
        Self { weight, min_duration, min_requests: 300, approve: false, soak: false, adopted: false }
    }
}

/// How the release is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// α: the probability that an equally good canary is rolled back, over the whole release, however often it is
    /// looked at. Above 0, below 1; default 0.01. Split evenly over the tests.
    pub false_rollback_rate: f64,
    /// r0: the canary may be up to this many times worse than stable. At least 1; default 1.2.
    pub tolerance: f64,
    /// The share of failures below which nothing is rolled back. Above 0, below 0.5; default 0.01.
    pub max_error_rate: f64,
    /// τ: a request that takes longer until its response headers is slow. A bucket edge, frozen before the release;
    /// none: latency is not judged.
    #[serde(with = "seconds::option")]
    pub slower_than: Option<Duration>,
    /// What is left out at the beginning of each step. Default 10 s.
    #[serde(with = "seconds")]
    pub warm_up: Duration,
    /// When a step that is not decided is decided by `on_inconclusive`. Default 1 h. Pauses do not count.
    #[serde(with = "seconds")]
    pub max_step_duration: Duration,
    /// What happens to a step that stays undecided.
    pub on_inconclusive: OnInconclusive,
    /// Whether somebody else's change of the declared weights becomes a step or the end.
    pub on_file_change: OnFileChange,
    /// Names of the Prometheus gates. One that is not reported holds the release as one that cannot be reached.
    pub gates: Vec<String>,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            false_rollback_rate: 0.01,
            tolerance: 1.2,
            max_error_rate: 0.01,
            slower_than: None,
            warm_up: Duration::from_secs(10),
            max_step_duration: Duration::from_secs(3600),
            on_inconclusive: OnInconclusive::Hold,
            on_file_change: OnFileChange::Adopt,
            gates: Vec::new(),
        }
    }
}

impl Analysis {
    /// Tests that share α: errors, and latency if it is judged.
    #[must_use]
    pub fn tests(&self) -> u32 {
        1 + u32::from(self.slower_than.is_some())
    }

    /// ln of the evidence that each test needs: tests/α.
    #[must_use]
    pub fn ln_limit(&self) -> f64 {
        (f64::from(self.tests()) / self.false_rollback_rate).ln()
    }
}

/// Whether the release moves weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// It does.
    Run,
    /// It decides and tells, but the declared weights stay in force.
    Observe,
}

/// What happens to a step that is undecided after `max_step_duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnInconclusive {
    /// It stays where it is until evidence or a person decides.
    Hold,
    /// The canary goes back to 0.
    Rollback,
    /// The next step is taken.
    Advance,
}

/// What an edit of the declared weights does to a running release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFileChange {
    /// The edited weight becomes the step.
    Adopt,
    /// The release ends with weight 0.
    Abort,
}

/// Why a plan cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPlan(pub(super) String);

impl Plan {
    /// What `kind: Canary` promises about its values.
    ///
    /// # Errors
    /// Says which value is out of its range.
    pub fn check(&self) -> Result<(), InvalidPlan> {
        let invalid = |what: String| Err(InvalidPlan(what));
        if self.steps.is_empty() {
            return invalid("a release needs at least one step".to_owned());
        }
        if let Some(step) = self.steps.iter().find(|step| !(1..=100).contains(&step.weight)) {
            return invalid(format!("a step's weight is from 1 to 100, not {}", step.weight));
        }
        if let Some(pair) = self.steps.windows(2).find(|pair| pair[0].weight >= pair[1].weight) {
            return invalid(format!("steps rise: {} does not come after {}", pair[1].weight, pair[0].weight));
        }
        let Analysis { false_rollback_rate: alpha, tolerance, max_error_rate: floor, .. } = self.analysis;
        if !(alpha > 0.0 && alpha < 1.0) {
            return invalid(format!("the false rollback rate is above 0 and below 1, not {alpha}"));
        }
        if !(1.0..=1000.0).contains(&tolerance) {
            return invalid(format!("the tolerance is from 1 to 1000, not {tolerance}"));
        }
        if !(floor > 0.0 && floor < 0.5) {
            return invalid(format!("the maximal error rate is above 0 and below 50 %, not {floor}"));
        }
        if self.latency_edges.windows(2).any(|pair| pair[0] >= pair[1]) {
            return invalid("latency edges rise".to_owned());
        }
        Ok(())
    }
}
