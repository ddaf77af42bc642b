//! The three-valued decision: roll back, advance, or hold and say what for.

use std::time::Duration;

use super::{Phase, Reason, Rollout, State, Transition};
use crate::rollout::evidence::Evidence;
use crate::rollout::input::{Gate, GateState, Test};
use crate::rollout::plan::OnInconclusive;

/// A release does not advance while the evidence against the canary is above this, ln 5: p below 0.2. It is the evidence of
/// the moment that counts, not the p of the whole release, which never rises again and would hold 1 in 100 healthy releases
/// for ever.
const LN_SUSPICIOUS: f64 = 1.609_437_912_434_1;

/// Something that a step still needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Missing {
    /// The warm-up is not over; none left: it waits for the first reading of the counters.
    WarmUp(Duration),
    /// Bake time that is left.
    Time(Duration),
    /// Finished canary requests: these of those.
    Requests(u64, u64),
    /// ln E is above [`LN_SUSPICIOUS`].
    Suspicion(Test, f64),
    /// The window does not show yet that the canary is good enough.
    Acceptance(Test),
    /// Both versions fail.
    BothFail(Test),
    /// A gate is not inside its bound.
    Gate(Gate),
    /// No weight may rise.
    Blocked(String),
}

impl Missing {
    /// Whether `onInconclusive: advance` may pass over it: too little evidence, not a known obstacle.
    fn is_doubt(&self) -> bool {
        matches!(self, Self::Requests(..) | Self::Suspicion(..) | Self::Acceptance(_))
    }

    /// Whether `onInconclusive: rollback` is meant for it. What is not the canary's doing is not.
    fn is_failure_to_convince(&self) -> bool {
        self.is_doubt() || matches!(self, Self::Gate(gate) if gate.state == GateState::Outside)
    }
}

impl Rollout {
    /// Decides: rolls back, advances or holds. An empty list is a hold that was one before.
    pub fn decide(&mut self, at: Duration) -> Vec<Transition> {
        self.elapsed = self.elapsed.max(at);
        let mut moves = Vec::new();
        while let Some((to, reason)) = self.next_move() {
            if reason == Reason::BothFail
                && let Some(window) = self.windows.last_mut()
            {
                window.told_both_fail = true;
            }
            moves.push(self.go(to, reason));
        }
        moves
    }

    fn next_move(&self) -> Option<(State, Reason)> {
        let step = self.state.step()?;
        let ln_limit = self.plan.analysis.ln_limit();
        if let Some(worse) = self.evidence.iter().find(|evidence| evidence.is_against(ln_limit)) {
            let reason = if worse.test() == Test::Error { Reason::Errors } else { Reason::Latency };
            return Some((State::RolledBack, reason));
        }
        let State::Running { phase, .. } = self.state else { return None };
        let window = self.windows.last()?;
        let running = |phase| State::Running { step, phase };
        if phase == Phase::Warming {
            return window.counted_from.map(|_| (running(Phase::Gathering), Reason::WarmedUp));
        }
        let missing = self.missing();
        if !window.told_both_fail && missing.iter().any(|missing| matches!(missing, Missing::BothFail(_))) {
            return Some((running(Phase::Held), Reason::BothFail));
        }
        if missing.is_empty() && !self.needs_approval(step) {
            return Some((self.after(step), if self.approved { Reason::Approved } else { Reason::Passed }));
        }
        if let Some(decided) = self.overdue(step, &missing) {
            return Some((decided, Reason::Inconclusive));
        }
        if missing.iter().any(|missing| matches!(missing, Missing::Time(_))) {
            return None;
        }
        match (phase, missing.is_empty()) {
            (Phase::AwaitingApproval, true) | (Phase::Held, false) => None,
            (_, true) => Some((running(Phase::AwaitingApproval), Reason::Ready)),
            (_, false) => Some((running(Phase::Held), Reason::Waiting)),
        }
    }

    /// Whether the step still waits for a person.
    pub(super) fn needs_approval(&self, step: usize) -> bool {
        self.plan.steps[step].approve && !self.approved
    }

    /// What becomes of a step that has been undecided for too long; none: it is not, or it holds.
    fn overdue(&self, step: usize, missing: &[Missing]) -> Option<State> {
        let window = self.windows.last()?;
        let analysis = &self.plan.analysis;
        let is_due = self.elapsed >= window.entered + window.paused + analysis.max_step_duration;
        // No data is no failure to convince.
        if !is_due || missing.is_empty() || window.canary.finished == 0 {
            return None;
        }
        match analysis.on_inconclusive {
            OnInconclusive::Rollback if missing.iter().any(Missing::is_failure_to_convince) => Some(State::RolledBack),
            OnInconclusive::Advance if missing.iter().all(Missing::is_doubt) && !self.needs_approval(step) => {
                Some(self.after(step))
            }
            _ => None,
        }
    }

    /// Everything that the current step still needs, but for a person's yes.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let (Some(step), Some(window)) = (self.state.step(), self.windows.last()) else { return Vec::new() };
        let step = &self.plan.steps[step];
        let Some(from) = window.counted_from else {
            return vec![Missing::WarmUp((window.entered + self.plan.analysis.warm_up).saturating_sub(self.elapsed))];
        };
        let mut missing = Vec::new();
        let left = (from + step.min_duration).saturating_sub(self.elapsed);
        if !left.is_zero() {
            missing.push(Missing::Time(left));
        }
        // No data holds, whatever was asked for.
        let wanted = step.min_requests.max(1);
        if window.canary.finished < wanted {
            missing.push(Missing::Requests(window.canary.finished, wanted));
        }
        self.evidence.iter().for_each(|evidence| missing.extend(self.doubt(evidence)));
        for name in &self.plan.analysis.gates {
            match self.gates.iter().find(|gate| gate.name == *name) {
                Some(gate) if gate.state == GateState::Inside => {}
                Some(gate) => missing.push(Missing::Gate(gate.clone())),
                None => missing.push(Missing::Gate(Gate {
                    name: name.clone(),
                    state: GateState::Unreachable,
                    value: None,
                    detail: "not asked yet".to_owned(),
                })),
            }
        }
        missing.extend(self.blocked.clone().map(Missing::Blocked));
        missing
    }

    /// What speaks against advancing by one test.
    fn doubt(&self, evidence: &Evidence) -> Option<Missing> {
        let test = evidence.test();
        if self.both_fail(evidence) {
            Some(Missing::BothFail(test))
        } else if let Some(ln_e) = evidence.engine().ln_e_above(LN_SUSPICIOUS) {
            Some(Missing::Suspicion(test, ln_e))
        } else if !self.is_acceptable(test) {
            Some(Missing::Acceptance(test))
        } else {
            None
        }
    }

    /// The guard alone is certain, while stable fails more than it may as well: not the canary's fault. (Were it, the ratio
    /// would have told.)
    fn both_fail(&self, evidence: &Evidence) -> bool {
        let Some(window) = self.windows.last() else { return false };
        let (test, floor) = (evidence.test(), self.floor(evidence.test()));
        let fails = |bad: u64, judged: u64| bad as f64 > floor * judged as f64;
        let both = fails(window.stable.bad(test), window.stable.judged(test))
            && fails(window.canary.bad(test), window.canary.judged(test));
        both && evidence.engine().ln_guard() >= self.plan.analysis.ln_limit()
    }
}
