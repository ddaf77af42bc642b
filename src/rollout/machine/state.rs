//! Where a release stands, what a person can tell it, and what it tells when it moves.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout::seconds;

use crate::rollout::input::{Interval, Test};

/// Where a release stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "camelCase")]
pub enum State {
    /// Not begun, or ended and released by an edit: the declared weights are in force.
    Idle,
    /// On its way.
    Running {
        /// Position in the plan's steps, from 0.
        step: usize,
        /// What that step is doing.
        phase: Phase,
    },
    /// A person holds it at its step. Evidence goes on, and so does the rollback; nothing advances.
    Paused {
        /// Position in the plan's steps, from 0.
        step: usize,
        /// What that step was doing.
        phase: Phase,
    },
    /// Over: the canary has all the traffic, stable is retired.
    Promoted,
    /// Over: the canary was worse (or, with `onInconclusive: rollback`, not proven good in time) and has no traffic.
    RolledBack,
    /// Over: a person, or an edit of the file, ended it; the canary has no traffic.
    Aborted,
}

impl State {
    /// For metric labels and the log: the phase where there is one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running { phase, .. } => phase.name(),
            Self::Paused { .. } => "paused",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolledBack",
            Self::Aborted => "aborted",
        }
    }

    /// The step of a release that has begun and not ended.
    #[must_use]
    pub fn step(self) -> Option<usize> {
        match self {
            Self::Running { step, .. } | Self::Paused { step, .. } => Some(step),
            _ => None,
        }
    }

    /// Begun and not ended.
    #[must_use]
    pub fn is_active(self) -> bool {
        self.step().is_some()
    }

    /// Begun and ended.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Promoted | Self::RolledBack | Self::Aborted)
    }
}

/// What a running step is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The beginning that is left out.
    Warming,
    /// Its bake time is not over.
    Gathering,
    /// Its bake time is over, and something else is missing.
    Held,
    /// Everything is there but a person's yes.
    AwaitingApproval,
}

impl Phase {
    /// For metric labels and the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warming => "warming",
            Self::Gathering => "gathering",
            Self::Held => "held",
            Self::AwaitingApproval => "awaitingApproval",
        }
    }
}

/// What a person can tell a release. Said twice, it does what it did once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase")]
pub enum Verb {
    /// Idle → the first step.
    Start,
    /// Running → Paused.
    Pause,
    /// Paused → Running.
    Resume,
    /// To the next step now, whatever the evidence says; from Paused it runs on.
    Promote {
        /// To the end instead.
        full: bool,
        /// The step the person saw: if the release is at another one, nothing is done. None: whatever step it is at.
        from: Option<usize>,
    },
    /// The yes that a step with `approve` waits for. Given early, it is remembered for this step.
    Approve,
    /// From any state, idle too: the canary goes back to 0 now.
    Abort,
    /// After a rollback or an abort: the same version again, with fresh evidence.
    Retry,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote { full: false, .. } => "promote",
            Self::Promote { full: true, .. } => "promote --full",
            Self::Approve => "approve",
            Self::Abort => "abort",
            Self::Retry => "retry",
        })
    }
}

/// A verb that makes no sense in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("cannot {verb}: {because}")]
pub struct Refused {
    /// What was asked.
    pub verb: String,
    /// Why not, and what to do instead.
    pub because: String,
}

/// Why a release moved. The names are labels of `serin_rollout_transitions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// A person, or the canary's first endpoint, started it.
    Started,
    /// A person had it tried again.
    Retried,
    /// The warm-up of the step is over.
    WarmedUp,
    /// The bake time is over and something is missing.
    Waiting,
    /// What was missing is there, or a gate took it away again.
    Ready,
    /// Everything that the step needed is there.
    Passed,
    /// A person said yes.
    Approved,
    /// A person moved it on.
    PromotedByHand,
    /// The canary fails more than it may.
    Errors,
    /// The canary is slower than it may be.
    Latency,
    /// Both versions fail: held, not the canary's fault.
    BothFail,
    /// Undecided for too long.
    Inconclusive,
    /// A person paused it.
    Paused,
    /// A person resumed it.
    Resumed,
    /// A person ended it.
    Aborted,
    /// The declared weights were edited.
    FileEdited,
    /// The process was started again: the step's window begins anew.
    Restarted,
}

impl Reason {
    /// As in metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Retried => "retried",
            Self::WarmedUp => "warmedUp",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Passed => "passed",
            Self::Approved => "approved",
            Self::PromotedByHand => "promotedByHand",
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::BothFail => "bothFail",
            Self::Inconclusive => "inconclusive",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Aborted => "aborted",
            Self::FileEdited => "fileEdited",
            Self::Restarted => "restarted",
        }
    }
}

/// One move of a release: exactly one for each change of state or step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Counts the moves of this release from 1, over restarts and retries.
    pub sequence: u64,
    /// From 1; one more with each retry.
    pub attempt: u32,
    /// When, as running time of the release.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Where it was.
    pub from: State,
    /// Where it is now.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// The canary weight wanted before; none: as declared.
    pub weight_before: Option<u32>,
    /// The canary weight wanted now; none: as declared.
    pub weight: Option<u32>,
    /// What it was decided on.
    pub numbers: Numbers,
    /// All of it in one sentence for people.
    pub sentence: String,
}

impl Transition {
    /// Which webhook this is: `started`, `advanced`, `held`, `rolledBack`, `promoted`; none for the others.
    #[must_use]
    pub fn webhook(&self) -> Option<&'static str> {
        let held = |state| matches!(state, State::Running { phase: Phase::Held | Phase::AwaitingApproval, .. });
        match (self.from, self.to) {
            (_, State::RolledBack) => Some("rolledBack"),
            (_, State::Promoted) => Some("promoted"),
            _ if matches!(self.reason, Reason::Started | Reason::Retried) => Some("started"),
            (from, to) if from.is_active() && to.step() > from.step() && self.reason != Reason::FileEdited => {
                Some("advanced")
            }
            (from, to) if held(to) && (!held(from) || self.reason == Reason::BothFail) => Some("held"),
            _ => None,
        }
    }
}

/// The numbers behind a decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Canary's percentage when it was decided.
    pub weight: u32,
    /// ln of the evidence that each test needs.
    pub ln_limit: f64,
    /// One entry for each test.
    pub tests: Vec<TestNumbers>,
    /// Stable in this step's window.
    pub stable: ArmNumbers,
    /// The canary in this step's window.
    pub canary: ArmNumbers,
}

/// One test's share of [`Numbers`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestNumbers {
    /// Which test.
    pub test: Test,
    /// ln E of "worse than stable", over the whole release.
    pub ln_ratio: f64,
    /// ln E of "worse than the floor", over the whole release.
    pub ln_guard: f64,
    /// Always-valid p: how surprising this much evidence at any time would be if the canary were good.
    pub p: f64,
    /// Counted bad events of stable in the whole release.
    pub stable_bad: u64,
    /// Counted bad events of the canary in the whole release.
    pub canary_bad: u64,
    /// Counted canary requests routed in the whole release.
    pub canary_requests: u64,
    /// ln E′ that this step's window is acceptable; it is at ln 20.
    pub ln_acceptance: f64,
}

/// One version's share of [`Numbers`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmNumbers {
    /// Counted requests routed.
    pub routed: u64,
    /// Counted requests finished.
    pub finished: u64,
    /// Counted errors.
    pub errors: u64,
    /// Counted slow ones.
    pub slow: u64,
    /// Where the p99 lies with 95 % confidence; none below 299 requests.
    pub p99: Option<Interval>,
}
