//! The state of one release and what moves it.

mod state;
mod view;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::input::{Bad, Gate, Totals};
use super::plan::{InvalidPlan, Plan};

pub use state::{ArmNumbers, Numbers, Phase, Reason, Refused, State, TestNumbers, Transition, Verb};
pub use view::{ArmView, StepState, StepView, TestView, View};

/// One release: its plan, where it stands, and all the evidence so far. Serialised, it is what a restart needs.
///
/// Time is a `Duration` since the release began, as the caller's monotonic clock runs: down-time does not count, so after a
/// restart the caller goes on from [`Rollout::elapsed`]. Time that runs backwards is taken as standing still.
///
/// The order of calls, on each tick (100 ms) and on each bad event: [`Rollout::totals`] (counters read now), then
/// [`Rollout::bad`], then [`Rollout::decide`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    plan: Plan,
    state: State,
    #[serde(with = "super::seconds")]
    elapsed: Duration,
    gates: Vec<Gate>,
    blocked: Option<String>,
    history: Vec<Transition>,
}

impl Rollout {
    /// An idle release.
    ///
    /// # Errors
    /// What [`Plan::check`] says.
    pub fn new(plan: Plan) -> Result<Self, InvalidPlan> {
        plan.check()?;
        let (gates, history) = (Vec::new(), Vec::new());
        Ok(Self { plan, state: State::Idle, elapsed: Duration::ZERO, gates, blocked: None, history })
    }

    /// What was asked. Its steps may have become one more by [`Rollout::edited`].
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The latest time it was told: where the clock goes on after a restart.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// All moves so far, oldest first. The first ones are forgotten when there are more than 256.
    #[must_use]
    pub fn history(&self) -> &[Transition] {
        &self.history
    }

    /// Does what a person says. An empty list: it was already so.
    ///
    /// # Errors
    /// The verb makes no sense in this state; nothing changed.
    pub fn apply(&mut self, verb: Verb, at: Duration) -> Result<Vec<Transition>, Refused> {
        let _ = at;
        Err(Refused { verb: verb.to_string(), because: "releases do not move yet".to_owned() })
    }

    /// Somebody changed the declared weights; `weight` is the canary's percentage now. While the release runs, the plan's
    /// `on_file_change` says what happens (a weight of 0 always ends it); after its end the declared weights come into force
    /// and it is idle again.
    pub fn edited(&mut self, weight: u32, at: Duration) -> Vec<Transition> {
        let _ = (weight, at);
        Vec::new()
    }

    /// The process was started again with this state. The step's window begins anew (so nothing advances before a full fresh
    /// window), the counters of [`Totals`] may begin anywhere, and a raise that was never [`Rollout::applied`] is taken back.
    pub fn restarted(&mut self) -> Vec<Transition> {
        Vec::new()
    }

    /// The weight that really is in force; none: the declared one. To be told after each change, before it is saved again:
    /// a restart never goes above it.
    pub fn applied(&mut self, weight: Option<u32>) {
        let _ = weight;
    }

    /// While there is a reason here (the state cannot be saved, say), no weight rises. Rollbacks still happen.
    pub fn block(&mut self, reason: Option<String>) {
        self.blocked = reason;
    }

    /// One bad event. Out-of-order ones are for [`super::Watermark`].
    pub fn bad(&mut self, bad: &Bad) {
        let _ = bad;
    }

    /// The counters as they are at this moment.
    pub fn totals(&mut self, totals: &Totals, at: Duration) {
        let _ = (totals, at);
    }

    /// What all gates said last.
    pub fn gates(&mut self, gates: Vec<Gate>) {
        self.gates = gates;
    }

    /// Decides: rolls back, advances or holds. An empty list is a hold that was one before.
    pub fn decide(&mut self, at: Duration) -> Vec<Transition> {
        self.elapsed = self.elapsed.max(at);
        Vec::new()
    }

    /// The canary's percentage that should be in force; none: the declared one (idle, or only observing).
    #[must_use]
    pub fn weight(&self) -> Option<u32> {
        None
    }

    /// The picture of it at this moment. `rate` is canary requests a second, as in [`Rollout::waits`].
    #[must_use]
    pub fn view(&self, at: Duration, rate: f64) -> View {
        let arm = |version: &String| ArmView {
            version: version.clone(),
            wanted: None,
            got: None,
            numbers: ArmNumbers::default(),
        };
        View {
            name: self.plan.name.clone(),
            virtual_service: self.plan.virtual_service.clone(),
            route: self.plan.route.clone(),
            mode: self.plan.mode,
            state: self.state,
            attempt: 1,
            elapsed: self.elapsed.max(at),
            weight: self.weight(),
            waits: self.waits(at, rate),
            steps: Vec::new(),
            tests: Vec::new(),
            stable: arm(&self.plan.stable),
            canary: arm(&self.plan.canary),
            gates: self.gates.clone(),
            events: self.history.clone(),
        }
    }

    /// What it does or waits for, as one line: `held: 180 of 300 canary requests, about 7 min left at 0.3 rps`.
    /// `rate` is canary requests a second.
    #[must_use]
    pub fn waits(&self, at: Duration, rate: f64) -> String {
        let _ = (at, rate);
        self.state.name().to_owned()
    }
}
