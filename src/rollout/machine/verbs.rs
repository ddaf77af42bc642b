//! What people do to a release: verbs, edits of the file, restarts of the process.

use std::time::Duration;

use super::{Phase, Reason, Refused, Rollout, State, Transition, Verb};
use crate::rollout::evidence::Evidence;
use crate::rollout::input::Test;
use crate::rollout::plan::{Mode, OnFileChange, Step};

impl Rollout {
    /// Does what a person says. An empty list: it was already so.
    ///
    /// # Errors
    /// The verb makes no sense in this state; nothing changed.
    pub fn apply(&mut self, verb: Verb, at: Duration) -> Result<Vec<Transition>, Refused> {
        self.elapsed = self.elapsed.max(at);
        self.check(verb).map_err(|because| Refused { verb: verb.to_string(), because })?;
        let moved = match (verb, self.state) {
            (Verb::Start, State::Idle) => Some(self.begin(Reason::Started)),
            (Verb::Retry, State::RolledBack | State::Aborted) => Some(self.begin(Reason::Retried)),
            (Verb::Pause, State::Running { step, phase }) => {
                self.paused_at = Some(self.elapsed);
                Some(self.go(State::Paused { step, phase }, Reason::Paused))
            }
            (Verb::Resume, State::Paused { step, phase }) => {
                self.unpause();
                Some(self.go(State::Running { step, phase }, Reason::Resumed))
            }
            (Verb::Promote { full, from }, State::Running { step, .. } | State::Paused { step, .. }) => {
                (from.is_none_or(|seen| seen == step)).then(|| self.promote(step, full))
            }
            (Verb::Approve, State::Running { .. } | State::Paused { .. }) => {
                self.approved = true;
                self.after_approval()
            }
            (Verb::Abort, State::Idle | State::Running { .. } | State::Paused { .. } | State::Promoted) => {
                self.unpause();
                Some(self.go(State::Aborted, Reason::Aborted))
            }
            _ => None,
        };
        Ok(moved.into_iter().collect())
    }

    /// Why the verb makes no sense now.
    fn check(&self, verb: Verb) -> Result<(), String> {
        let no = |because: &str| Err(because.to_owned());
        let raises = match (verb, self.state) {
            (Verb::Start, State::Promoted) => return no("the release is over, the canary was promoted"),
            (Verb::Start, State::RolledBack | State::Aborted) => {
                return no("the release is over; `retry` tries the same version again");
            }
            (Verb::Retry, State::Idle) => return no("the release has not begun; `start` it"),
            (Verb::Retry, State::Promoted) => return no("the release is over, the canary was promoted"),
            (Verb::Pause | Verb::Resume | Verb::Promote { .. } | Verb::Approve, State::Idle) => {
                return no("the release has not begun; `start` it");
            }
            (Verb::Pause | Verb::Resume | Verb::Approve, State::Promoted) => {
                return no("the release is over, the canary was promoted");
            }
            (Verb::Pause | Verb::Resume | Verb::Promote { .. } | Verb::Approve, State::RolledBack | State::Aborted) => {
                return no("the release is over; `retry` tries the same version again");
            }
            (Verb::Start, State::Idle) | (Verb::Retry, State::RolledBack | State::Aborted) => true,
            (Verb::Promote { from, .. }, state) => state.is_active() && (from.is_none() || from == state.step()),
            _ => false,
        };
        match &self.blocked {
            Some(reason) if raises => Err(format!("no weight rises while {reason}")),
            _ => Ok(()),
        }
    }

    /// From the first step, with no evidence.
    fn begin(&mut self, reason: Reason) -> Transition {
        let analysis = &self.plan.analysis;
        let tests = [Test::Error, Test::Slow].into_iter().take(analysis.tests() as usize);
        self.evidence =
            tests.map(|test| Evidence::new(test, analysis.tolerance, self.floor(test), self.elapsed)).collect();
        self.attempt += 1;
        self.windows.clear();
        self.routed = (0, 0);
        self.paused_at = None;
        self.plan.steps.retain(|step| !step.adopted);
        self.go(State::Running { step: 0, phase: Phase::Warming }, reason)
    }

    fn promote(&mut self, step: usize, full: bool) -> Transition {
        self.unpause();
        let to = if full { State::Promoted } else { self.after(step) };
        self.go(to, Reason::PromotedByHand)
    }

    /// The yes was what it waited for, unless something else has gone wrong since.
    fn after_approval(&mut self) -> Option<Transition> {
        let State::Running { step, phase: Phase::AwaitingApproval } = self.state else { return None };
        self.missing().is_empty().then(|| self.go(self.after(step), Reason::Approved))
    }

    /// The state that follows a passed step.
    pub(super) fn after(&self, step: usize) -> State {
        if step + 1 < self.plan.steps.len() {
            State::Running { step: step + 1, phase: Phase::Warming }
        } else {
            State::Promoted
        }
    }

    fn unpause(&mut self) {
        let Some(paused_at) = self.paused_at.take() else { return };
        if let Some(window) = self.windows.last_mut() {
            window.paused += self.elapsed - paused_at.max(window.entered);
        }
    }

    /// Somebody changed the declared weights; `weight` is the canary's percentage now. While the release runs, the plan's
    /// `on_file_change` says what happens (a weight of 0 always ends it); after its end the declared weights come into force
    /// and it is idle again.
    pub fn edited(&mut self, weight: u32, at: Duration) -> Vec<Transition> {
        self.elapsed = self.elapsed.max(at);
        let to = match self.state {
            State::Idle => return Vec::new(),
            state if state.is_over() => State::Idle,
            _ if weight == 0 || self.plan.analysis.on_file_change == OnFileChange::Abort => {
                self.unpause();
                State::Aborted
            }
            state => {
                let weight = weight.min(100);
                if state.step().is_some_and(|step| self.plan.steps[step].weight == weight) {
                    return Vec::new();
                }
                self.adopt(weight)
            }
        };
        vec![self.go(to, Reason::FileEdited)]
    }

    /// Makes the weight a step, if it is none, and goes there.
    fn adopt(&mut self, weight: u32) -> State {
        let place = self.plan.steps.partition_point(|step| step.weight < weight);
        if self.plan.steps.get(place).is_none_or(|step| step.weight != weight) {
            let current = self.state.step().map(|step| &self.plan.steps[step]);
            let adopted = Step {
                weight,
                approve: false,
                soak: false,
                adopted: true,
                ..current.cloned().unwrap_or(Step::new(weight))
            };
            self.plan.steps.insert(place, adopted);
        }
        let (step, phase) = (place, Phase::Warming);
        match self.state {
            State::Paused { .. } => {
                self.unpause();
                self.paused_at = Some(self.elapsed);
                State::Paused { step, phase }
            }
            _ => State::Running { step, phase },
        }
    }

    /// The process was started again with this state. The step's window begins anew (so nothing advances before a full fresh
    /// window), the counters of [`crate::rollout::Totals`] may begin anywhere, and a raise that was never [`Rollout::applied`]
    /// is taken back.
    pub fn restarted(&mut self) -> Vec<Transition> {
        self.last = None;
        let to = match self.state {
            State::Idle | State::RolledBack | State::Aborted => return Vec::new(),
            state => self.no_higher_than_applied(state),
        };
        if to == State::Promoted {
            return Vec::new();
        }
        if let State::Paused { .. } = to {
            self.unpause();
            self.paused_at = Some(self.elapsed);
        }
        vec![self.go(to, Reason::Restarted)]
    }

    fn no_higher_than_applied(&self, state: State) -> State {
        let fresh = match state {
            State::Running { step, .. } => State::Running { step, phase: Phase::Warming },
            State::Paused { step, .. } => State::Paused { step, phase: Phase::Warming },
            state => state,
        };
        if self.plan.mode == Mode::Observe || self.weight() <= self.applied {
            return fresh;
        }
        let Some(applied) = self.applied else { return State::Idle };
        match self.plan.steps.iter().rposition(|step| step.weight <= applied) {
            Some(step) if matches!(state, State::Paused { .. }) => State::Paused { step, phase: Phase::Warming },
            Some(step) => State::Running { step, phase: Phase::Warming },
            None => State::Aborted,
        }
    }
}
