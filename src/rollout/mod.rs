//! The release: what a person does with weights and a board, decided by arithmetic. Pure: events and a clock in, verdicts out.
//!
//! [`Plan`] says what is asked. [`Rollout`] is the whole state of one release; it is told of [`Bad`] events and [`Totals`] and
//! answers with [`Transition`]s. [`Watermark`] puts bad events in order before they arrive here. Nothing here knows of a wall clock, a file, or the proxy.

pub mod evidence;
pub mod forecast;
mod input;
mod machine;
mod plan;
pub mod report;
mod seconds;
pub mod simulate;
#[cfg(test)]
pub(crate) mod testing;
mod watermark;

/// Numbers as sentences of a release have them.
pub mod words {
    pub use super::machine::words::{duration, interval, millis, odds, percent};
}

pub use input::{Arm, Bad, Count, Gate, GateState, Interval, Test, Totals};
pub use machine::{
    ArmNumbers, ArmView, Numbers, Phase, Reason, Refused, Rollout, State, StepState, StepView, Tally, TestNumbers,
    TestView, Transition, Verb, View, Window,
};
pub use plan::{Analysis, InvalidPlan, Mode, OnFileChange, OnInconclusive, Plan, SLOW_MARGIN, Step, edge_from};
pub use watermark::{LONGEST_WAIT, Watermark};
