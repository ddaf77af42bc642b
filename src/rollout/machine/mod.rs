//! The state of one release and what moves it: `verbs.rs` by people, `decide.rs` by evidence, `words.rs` says so.

mod decide;
mod state;
#[cfg(test)]
mod tests;
mod verbs;
mod view;
mod window;
pub(super) mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Floor, LN_ACCEPTED, ln_acceptance};
use super::input::{Arm, Bad, Gate, Test, Totals};
use super::plan::{InvalidPlan, Mode, Plan};

pub use state::{ArmNumbers, Numbers, Phase, Reason, Refused, State, TestNumbers, Transition, Verb};
pub use view::{ArmView, StepState, StepView, TestView, View};
pub use window::{Tally, Window};

/// Moves that are remembered.
const MOST_HISTORY: usize = 256;
/// The share of slow requests that is still good enough: "p99 above τ" is "more than 1 % slower than τ".
pub(super) const SLOW_FLOOR: f64 = 0.01;

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
    attempt: u32,
    sequence: u64,
    #[serde(with = "super::seconds")]
    elapsed: Duration,
    /// One entry for each test, errors first.
    evidence: Vec<Evidence>,
    /// Those of this attempt; the last is the current one.
    windows: Vec<Window>,
    /// Counted requests routed in this attempt: stable, canary.
    routed: (u64, u64),
    /// A person's yes to the current step.
    approved: bool,
    #[serde(with = "super::seconds::option")]
    paused_at: Option<Duration>,
    gates: Vec<Gate>,
    blocked: Option<String>,
    applied: Option<u32>,
    history: Vec<Transition>,
    /// The last reading of the counters. It means nothing to another process.
    #[serde(skip)]
    last: Option<Totals>,
}

impl Rollout {
    /// An idle release.
    ///
    /// # Errors
    /// What [`Plan::check`] says.
    pub fn new(plan: Plan) -> Result<Self, InvalidPlan> {
        plan.check()?;
        Ok(Self {
            plan,
            state: State::Idle,
            attempt: 0,
            sequence: 0,
            elapsed: Duration::ZERO,
            evidence: Vec::new(),
            windows: Vec::new(),
            routed: (0, 0),
            approved: false,
            paused_at: None,
            gates: Vec::new(),
            blocked: None,
            applied: None,
            history: Vec::new(),
            last: None,
        })
    }

    /// What was asked. Its steps may have become more by [`Rollout::edited`].
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// From 1; one more with each retry; 0 before the first start.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
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

    /// What was counted in this attempt, step by step; the last is the current one.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The evidence of this attempt, one entry for each test.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// The canary's percentage that should be in force; none: the declared one (idle, or only observing).
    #[must_use]
    pub fn weight(&self) -> Option<u32> {
        match self.state {
            _ if self.plan.mode == Mode::Observe => None,
            State::Idle => None,
            State::Running { step, .. } | State::Paused { step, .. } => Some(self.plan.steps[step].weight),
            State::Promoted => Some(100),
            State::RolledBack | State::Aborted => Some(0),
        }
    }

    /// The weight that really is in force; none: the declared one. To be told after each change, before it is saved again:
    /// a restart never goes above it.
    pub fn applied(&mut self, weight: Option<u32>) {
        self.applied = weight;
    }

    /// While there is a reason here (the state cannot be saved, say), no weight rises by itself or by a verb. Rollbacks still
    /// happen.
    pub fn block(&mut self, reason: Option<String>) {
        self.blocked = reason;
    }

    /// What all gates said last.
    pub fn gates(&mut self, gates: Vec<Gate>) {
        self.gates = gates;
    }

    /// The counters as they are at this moment. The first reading only says where counting begins.
    pub fn totals(&mut self, totals: &Totals, at: Duration) {
        self.elapsed = self.elapsed.max(at);
        let buckets = self.plan.latency_edges.len() + 1;
        if let (true, Some(window)) = (self.state.is_active(), self.windows.last_mut()) {
            match (&self.last, window.counted_from) {
                (Some(last), Some(_)) => {
                    self.routed.0 += totals.stable.routed.saturating_sub(last.stable.routed);
                    self.routed.1 += totals.canary.routed.saturating_sub(last.canary.routed);
                    window.add(Arm::Stable, &totals.stable, &last.stable, buckets);
                    window.add(Arm::Canary, &totals.canary, &last.canary, buckets);
                }
                // Counting begins with a reading, so that requests and bad events are left out up to the same moment.
                (_, None) if self.elapsed >= window.entered + self.plan.analysis.warm_up => {
                    window.counted_from = Some(self.elapsed);
                }
                _ => {}
            }
            self.evidence.iter_mut().for_each(|evidence| evidence.requests(self.routed.1, self.elapsed));
        }
        match &mut self.last {
            Some(last) => last.clone_from(totals),
            None => self.last = Some(totals.clone()),
        }
    }

    /// One bad event. Out-of-order ones are for [`super::Watermark`].
    pub fn bad(&mut self, bad: &Bad) {
        if !self.state.is_active() {
            return;
        }
        let routed_in = self.windows.iter_mut().rev().find(|window| window.entered <= bad.at);
        if routed_in.is_some_and(|window| window.bad(bad))
            && let Some(evidence) = self.evidence.iter_mut().find(|evidence| evidence.test() == bad.test)
        {
            evidence.bad(bad);
        }
    }

    /// The share of bad requests below which this test rolls nothing back.
    fn floor(&self, test: Test) -> f64 {
        match test {
            Test::Error => self.plan.analysis.max_error_rate,
            Test::Slow => SLOW_FLOOR,
        }
    }

    /// The floor where there is no control: never below what stable was seen to be, times the tolerance. A canary is not sent
    /// back for being as bad as what it replaces.
    fn floor_alone(&self, evidence: &Evidence) -> f64 {
        let stable = evidence.counts().0 as f64 / self.routed.0.max(1) as f64;
        let floor = self.floor(evidence.test()).max(self.plan.analysis.tolerance * stable);
        Floor::new(floor).share()
    }

    /// Whether the canary has all the traffic, and the guard decides alone.
    fn is_alone(&self, step: usize) -> bool {
        self.plan.mode == Mode::Run && self.plan.steps[step].weight == 100
    }

    /// ln E′ that this test's share of bad requests in the window is acceptable.
    fn ln_acceptance(&self, test: Test) -> f64 {
        let Some(window) = self.windows.last() else { return 0.0 };
        ln_acceptance(window.canary.bad(test), window.canary.judged(test), self.floor(test))
    }

    /// Whether the window shows that the canary is good enough: by itself, or because stable itself is no better.
    fn is_acceptable(&self, test: Test) -> bool {
        let Some(window) = self.windows.last() else { return false };
        if self.ln_acceptance(test) >= LN_ACCEPTED {
            return true;
        }
        let rate = |tally: &Tally| tally.bad(test) as f64 / tally.judged(test).max(1) as f64;
        let stable = match window.weight {
            100 => self.stable_rate(test),
            _ => rate(&window.stable),
        };
        let good_enough = self.floor(test) / 2.0;
        stable >= good_enough && rate(&window.canary) <= self.plan.analysis.tolerance * stable
    }

    /// Stable's share of bad requests in the whole release, for the time when it gets none.
    fn stable_rate(&self, test: Test) -> f64 {
        let (bad, judged) = self
            .windows
            .iter()
            .fold((0, 0), |(bad, judged), window| (bad + window.stable.bad(test), judged + window.stable.judged(test)));
        bad as f64 / judged.max(1) as f64
    }

    /// What is known now.
    fn numbers(&self) -> Numbers {
        let ln_limit = self.plan.analysis.ln_limit();
        let edges = &self.plan.latency_edges;
        let Some(window) = self.windows.last() else { return Numbers { ln_limit, ..Numbers::default() } };
        let tests = self.evidence.iter().map(|evidence| TestNumbers {
            test: evidence.test(),
            ln_ratio: evidence.engine().ln_ratio(),
            ln_guard: evidence.engine().ln_guard(),
            p: evidence.p(),
            stable_bad: evidence.counts().0,
            canary_bad: evidence.counts().1,
            canary_requests: evidence.canary_requests(),
            ln_acceptance: self.ln_acceptance(evidence.test()),
        });
        Numbers {
            weight: window.weight,
            ln_limit,
            tests: tests.collect(),
            stable: window.stable.numbers(edges),
            canary: window.canary.numbers(edges),
        }
    }

    /// Makes a move: numbers first, then the state, then the window of the new step.
    fn go(&mut self, to: State, reason: Reason) -> Transition {
        self.sequence += 1;
        let (from, weight_before, numbers) = (self.state, self.weight(), self.numbers());
        self.evidence.iter_mut().for_each(|evidence| evidence.decided(self.sequence));
        self.state = to;
        let stays = from.step() == to.step() && reason != Reason::Restarted && reason != Reason::FileEdited;
        if !stays {
            self.enter(to);
        }
        let mut transition = Transition {
            sequence: self.sequence,
            attempt: self.attempt,
            at: self.elapsed,
            from,
            to,
            reason,
            weight_before,
            weight: self.weight(),
            numbers,
            sentence: String::new(),
        };
        transition.sentence = self.sentence(&transition);
        self.history.push(transition.clone());
        if self.history.len() > MOST_HISTORY {
            self.history.remove(0);
        }
        transition
    }

    /// Closes the window, and opens the one of the step that begins, if one does.
    fn enter(&mut self, state: State) {
        if let Some(window) = self.windows.last_mut() {
            window.left = window.left.or(Some(self.elapsed));
        }
        self.approved = false;
        let Some(step) = state.step() else { return };
        self.windows.push(Window::new(self.plan.steps[step].weight, self.elapsed));
        let is_alone = self.is_alone(step);
        let floors: Vec<f64> = self.evidence.iter().map(|evidence| self.floor_alone(evidence)).collect();
        for (evidence, floor) in self.evidence.iter_mut().zip(floors) {
            evidence.step(is_alone, floor, self.elapsed);
        }
    }
}
