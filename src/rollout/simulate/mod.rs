//! The very decision code against traffic that was made up or written down: how often a release would be rolled back or promoted,
//! after how long, and how often wrongly. Time is a number here; nothing sleeps.

mod fixed;
#[cfg(test)]
mod picture;
mod run;
mod summary;
#[cfg(test)]
mod tests;
mod traffic;

pub use fixed::FixedRule;
pub use run::{Outcome, replay, run};
pub use summary::{Spread, Summary};
pub use traffic::{Behaviour, Change, Latency, Recorded, Traffic};
