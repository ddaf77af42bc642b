//! The releases of this process: feeds the pure core (`rollout`) with what the data plane counts, and puts its verdicts in
//! force. One thread of its own; nothing here runs on a data-plane thread.

mod begin;
mod driver;
pub mod gates;
mod gauges;
mod http_client;
mod keeper;
mod order;
mod orders;
mod release;
mod state_file;
mod threshold;
pub mod webhook;

use std::io;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use serde::{Deserialize, Serialize};

pub use order::{GateOrder, Latency, Order, RuleAddress, Start, WebhookOrder};
pub use orders::{order, orders};

use super::{Meant, Outdated};
use crate::rollout::{Refused, Verb, View};
use crate::snapshot::{Snapshot, Snapshots, active_routes};
use crate::telemetry::Metrics;
use driver::{Ask, Driver, Means};
use state_file::StateDir;

/// A release as it is shown: its picture, and what the file says beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// It was meant for another generation of the configuration.
    #[error(transparent)]
    Outdated(#[from] Outdated),
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
    /// What a release has done so far, in full.
    pub report: Box<Report>,
}

/// Says a verb to the release of this name, if it is meant for the generation in force.
pub type Command = dyn Fn(&str, Verb, &Meant) -> Result<Status, CommandError> + Send + Sync;

/// The report of the release of this name; none while there is nothing to report.
pub type Report = dyn Fn(&str) -> Option<serde_json::Value> + Send + Sync;

/// The releases of this process; clones are the same.
#[derive(Clone, Debug)]
pub struct Releases {
    asks: UnboundedSender<Ask>,
    shown: Arc<Mutex<Vec<Status>>>,
    snapshots: Arc<Snapshots>,
    metrics: Metrics,
}

impl Releases {
    /// Starts the thread that drives releases. Their states are kept in `state_dir`; without one they end with the process.
    ///
    /// # Errors
    /// Another process has the folder, or there is no thread.
    pub fn start(
        snapshots: Arc<Snapshots>,
        metrics: Metrics,
        state_dir: Option<&Path>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let folder = state_dir.map(StateDir::open).transpose()?;
        let (sender, asks) = unbounded_channel();
        let shown = Arc::default();
        let releases = Self {
            asks: sender,
            shown: Arc::clone(&shown),
            snapshots: Arc::clone(&snapshots),
            metrics: metrics.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("serin-rollout".to_owned()).spawn(move || {
            runtime.block_on(async { Driver::new(Means { snapshots, metrics, folder, shown }, asks).run().await });
        })?;
        Ok((releases, thread))
    }

    /// Puts a new configuration in force, under the weights of the releases that it orders. Returns when it is, and
    /// [`Self::list`] shows its releases.
    pub fn publish(&self, next: Snapshot, orders: Vec<Order>) {
        // Series exist before the first request can count in them. Here, because it takes its time and a rollback has none.
        self.metrics.activate(active_routes(&next));
        let (done, wait) = sync_channel(1);
        match self.asks.send(Ask::Publish(Box::new(next), orders, done)) {
            // The thread is gone if it panicked, which was reported where it happened: then there are no releases any more.
            Err(refused) => {
                if let Ask::Publish(next, ..) = refused.0 {
                    self.snapshots.publish(*next);
                }
            }
            Ok(()) => {
                let _ = wait.recv();
            }
        }
    }

    /// Every release of the configuration in force, by name, as of the last look.
    pub fn list(&self) -> Vec<Status> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says a verb to a release; returns when what follows from it is in force and kept.
    ///
    /// # Errors
    /// There is no such release, the verb makes no sense in its state, or another generation is in force than it is meant for.
    pub fn say(&self, name: &str, verb: Verb, meant: &Meant) -> Result<Status, CommandError> {
        let (answer, wait) = sync_channel(1);
        self.asks.send(Ask::Say((name.to_owned(), verb), meant.clone(), answer)).map_err(|_| CommandError::Ending)?;
        wait.recv().unwrap_or(Err(CommandError::Ending))
    }

    /// What a release has done so far, in full; none if there is no such release.
    pub fn report(&self, name: &str) -> Option<serde_json::Value> {
        let (answer, wait) = sync_channel(1);
        self.asks.send(Ask::Report(name.to_owned(), answer)).ok()?;
        wait.recv().ok().flatten()
    }

    /// Leaves the releases to another process: returns when all is kept and their folder is free. They stay at their weights,
    /// and are not judged until [`resume`](Self::resume).
    pub fn suspend(&self) {
        let (done, wait) = sync_channel(1);
        if self.asks.send(Ask::Suspend(done)).is_ok() {
            // The thread is gone if it panicked, which was reported where it happened.
            let _ = wait.recv();
        }
    }

    /// The releases go on here after all.
    pub fn resume(&self) {
        // As above.
        let _ = self.asks.send(Ask::Resume);
    }

    /// Keeps what is to be kept, and ends the thread.
    pub fn end(&self) {
        // It may have ended already.
        let _ = self.asks.send(Ask::End);
    }

    /// What the admin port may ask.
    pub fn desk(&self) -> Desk {
        let (list, command, report) = (self.clone(), self.clone(), self.clone());
        Desk {
            list: Box::new(move || list.list()),
            command: Box::new(move |name, verb, meant| command.say(name, verb, meant)),
            report: Box::new(move |name| report.report(name)),
        }
    }
}
