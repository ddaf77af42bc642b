//! The picture of a release for `status`, `top` and the page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout::evidence::Evidence;
use crate::rollout::input::{Gate, Test};
use crate::rollout::plan::Mode;
use crate::rollout::seconds;

use super::Rollout;
use super::state::{ArmNumbers, State, Transition};

/// Everything that is to be seen of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Moves that a [`View`] shows.
const EVENTS: usize = 10;

impl Rollout {
    /// The picture of it at this moment. `rate` is canary requests a second, as in [`Rollout::waits`].
    #[must_use]
    pub fn view(&self, at: Duration, rate: f64) -> View {
        let plan = &self.plan;
        let numbers = self.numbers();
        let wanted = self.weight().map(|weight| f64::from(weight) / 100.0);
        let all = numbers.stable.routed + numbers.canary.routed;
        let got = |routed: u64| (all > 0).then(|| routed as f64 / all as f64);
        let (stable_got, canary_got) = (got(numbers.stable.routed), got(numbers.canary.routed));
        View {
            name: plan.name.clone(),
            virtual_service: plan.virtual_service.clone(),
            route: plan.route.clone(),
            mode: plan.mode,
            state: self.state,
            attempt: self.attempt,
            elapsed: self.elapsed.max(at),
            weight: self.weight(),
            waits: self.waits(at, rate),
            steps: self.chain(at),
            tests: self.evidence.iter().map(|evidence| self.bar(evidence)).collect(),
            stable: ArmView {
                version: plan.stable.clone(),
                wanted: wanted.map(|share| 1.0 - share),
                got: stable_got,
                numbers: numbers.stable,
            },
            canary: ArmView { version: plan.canary.clone(), wanted, got: canary_got, numbers: numbers.canary },
            gates: self.gates.clone(),
            events: self.history[self.history.len().saturating_sub(EVENTS)..].to_vec(),
        }
    }

    fn chain(&self, at: Duration) -> Vec<StepView> {
        let current = self.state.step();
        let left = || {
            let window = self.windows.last()?;
            let step = self.plan.steps.get(current?)?;
            let from = window.counted_from.unwrap_or(window.entered + self.plan.analysis.warm_up);
            Some((from + step.min_duration).saturating_sub(self.elapsed.max(at)))
        };
        // A release that is over has passed the steps it got to.
        let reached = self.windows.last().map_or(0, |window| window.weight);
        let state = |position: usize, weight: u32| match (current, self.state) {
            (Some(now), _) if position == now => StepState::Current,
            (Some(now), _) if position < now => StepState::Done,
            (None, State::Promoted) => StepState::Done,
            (None, State::RolledBack | State::Aborted) if weight < reached => StepState::Done,
            _ => StepState::Next,
        };
        let steps = self.plan.steps.iter().enumerate().map(|(position, step)| StepView {
            weight: step.weight,
            state: state(position, step.weight),
            min_duration: step.min_duration,
            left: (current == Some(position)).then(left).flatten(),
            min_requests: step.min_requests,
            approve: step.approve,
            soak: step.soak,
            adopted: step.adopted,
        });
        steps.collect()
    }

    fn bar(&self, evidence: &Evidence) -> TestView {
        let ln_limit = self.plan.analysis.ln_limit();
        let (stable_bad, canary_bad) = evidence.counts();
        TestView {
            test: evidence.test(),
            ln_ratio: evidence.engine().ln_ratio(),
            ln_guard: evidence.engine().ln_guard(),
            ln_limit,
            p: evidence.p(),
            progress: (evidence.engine().ln_e() / ln_limit).clamp(0.0, 1.0),
            stable_bad,
            canary_bad,
        }
    }
}
