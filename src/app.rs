//! The composition root: builds everything, connects it, and ends it in order. The only place that knows all modules.

mod admin;
mod admin_socket;
mod descriptors;
mod inherited;
mod install;
mod listeners;
mod memory;
mod notices;
mod process;
mod serve;
mod service;
mod successor;
mod tls;
mod watchdog;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::config::settings::{Listeners, Settings};
pub use crate::proxy::Limits;
use crate::telemetry::{Buckets, access_log};

pub use crate::admin::{Address as AdminAddress, Token as AdminToken};
pub use crate::control::rollout::{
    Latency as LatencyOrder, Order as ReleaseOrder, Status as ReleaseStatus, order as release_order,
};
pub use crate::control::{Inputs, OnDiskState};
pub use descriptors::connections_allowed;
pub use process::run;
pub use serve::{Farewell, Running, start};

/// Everything that `serin run` can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub inputs: Inputs,
    /// How it is read. `mesh_ports` is filled in from `listeners`.
    pub settings: Settings,
    /// Where it is served.
    pub listeners: Listeners,
    /// The admin address.
    pub admin: AdminAddress,
    /// Names, besides `localhost` and the admin address, that a request to it may carry as its Host.
    pub admin_hosts: Vec<String>,
    /// Holds the token that the admin port asks for. Needed where other machines can reach it.
    pub admin_token_file: Option<PathBuf>,
    /// The buckets of the duration histograms.
    pub buckets: Buckets,
    /// Data-plane threads, at least 1.
    pub workers: usize,
    /// Makes every draw reproducible.
    pub seed: Option<u64>,
    /// Limits on clients.
    pub limits: Limits,
    /// How long requests under way may take to end after a signal.
    pub drain_timeout: Duration,
    /// Whether to start without a valid configuration.
    pub wait_for_config: bool,
    /// Where finished requests are logged, if they are.
    pub access_log: Option<access_log::Destination>,
    /// Where the states of releases outlive the process.
    pub state_dir: Option<PathBuf>,
}

/// The cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
