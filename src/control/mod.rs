//! What changes the proxy while it runs: files, signals and the admin port, all through one writer, the [`Publisher`].
//! Nothing here serves a request or runs on a data-plane thread.

mod changes;
mod courteous;
pub mod file_watch;
mod meant;
pub mod publisher;
pub mod rollout;
pub mod status;

pub use courteous::give_way;
pub use file_watch::{FileWatch, Pace};
pub use meant::{Meant, Outdated};
pub use publisher::{Inputs, Install, Outcome, Publisher};
pub use status::{OnDisk, OnDiskState, Rejection, Status};

pub use crate::telemetry::ReloadTrigger as Trigger;
