//! The machine by its behaviour: what it does with traffic, with people, with edits and with restarts.

mod drive;
mod holds;
mod input;
mod model;
mod people;
mod verdicts;

use self::drive::Drive;
use super::*;
use crate::rollout::testing::plan;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn reasons(moved: &[Transition]) -> Vec<Reason> {
    moved.iter().map(|transition| transition.reason).collect()
}
