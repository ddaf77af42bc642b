//! The releases of this process: feeds the pure core (`rollout`) with what the data plane counts, and puts its verdicts in
//! force. One thread of its own; nothing here runs on a data-plane thread.

pub mod gates;
mod http_client;
mod order;
pub mod webhook;

use serde::{Deserialize, Serialize};

pub use order::{GateOrder, Latency, Order, RuleAddress, Start, WebhookOrder};

use crate::rollout::{Refused, Verb, View};

/// A release as it is shown: its picture, and what the file says beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What it is doing.
    #[serde(flatten)]
    pub view: View,
    /// The canary's percentage in the file.
    pub declared_weight: u32,
    /// The canary's percentage in force.
    pub effective_weight: u32,
    /// Since when, where that is not the file's (RFC 3339).
    pub since: Option<String>,
    /// What is wrong with keeping its state, if anything is.
    pub trouble: Option<String>,
    /// How many canary requests came a second lately.
    pub canary_rate: f64,
    /// How many stable requests came a second lately.
    pub stable_rate: f64,
}

/// Why a verb did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No Canary of the configuration in force has this name.
    #[error("there is no release `{name}`")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// Not in this state.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The process is ending.
    #[error("serin is shutting down")]
    Ending,
}

/// What operators may ask of the releases. Closures, so that the admin port can be tested without any.
pub struct Desk {
    /// Every release of the configuration in force, by name.
    pub list: Box<dyn Fn() -> Vec<Status> + Send + Sync>,
    /// Says a verb to a release and waits for its new state.
    pub command: Box<Command>,
}

/// Says a verb to the release of this name.
pub type Command = dyn Fn(&str, Verb) -> Result<Status, CommandError> + Send + Sync;
