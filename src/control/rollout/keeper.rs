//! Keeps the state of releases on disk, one write at a time for each and never on the driver's own thread, so that a slow disk
//! delays no rollback. The order of things is the driver's: a raise waits for its state to be kept, a rollback does not.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::state_file::{Kept, StateDir};
use crate::rollout::report::Report;

/// A release that is on its way is kept at least this often.
const EVERY: Duration = Duration::from_secs(1);

/// How a write ended.
#[derive(Debug)]
pub(super) struct Saved {
    /// Of which release.
    pub name: String,
    /// The canary weight in what was written; none: the declared one.
    weight: Option<u32>,
    change: u64,
    result: io::Result<()>,
}

/// What is known of the file of one release.
#[derive(Debug, Default)]
struct File {
    /// Counts changes; the state on disk has those up to `kept`.
    changes: u64,
    kept: u64,
    /// The weight in the state on disk.
    weight: Option<Option<u32>>,
    under_way: bool,
    last: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: Option<StateDir>,
    files: HashMap<String, File>,
    saved: UnboundedSender<Saved>,
}

impl Keeper {
    /// Keeps states in `folder`; without one nothing outlives the process. `saved` is told how each write ended.
    pub(super) fn new(folder: Option<StateDir>, saved: UnboundedSender<Saved>) -> Self {
        Self { folder, files: HashMap::new(), saved }
    }

    /// Where states are kept.
    pub(super) fn folder(&self) -> Option<&StateDir> {
        self.folder.as_ref()
    }

    /// The state of a release is not what is on disk any more.
    pub(super) fn changed(&mut self, name: &str) {
        self.file(name).changes += 1;
    }

    /// Whether a crash now would find this weight on disk.
    pub(super) fn has(&self, name: &str, weight: Option<u32>) -> bool {
        self.folder.is_none() || self.files.get(name).is_some_and(|file| file.weight == Some(weight))
    }

    /// Whether everything that happened is on disk.
    pub(super) fn is_up_to_date(&self, name: &str) -> bool {
        self.folder.is_none() || self.files.get(name).is_none_or(|file| file.kept == file.changes)
    }

    /// Writes the state of a release if it is time to; `active` ones are due even if nothing happened but evidence.
    pub(super) fn keep(&mut self, name: &str, now: Instant, active: bool, state: impl FnOnce() -> (Kept, Option<u32>)) {
        let Some(folder) = self.folder.clone() else { return };
        let saved = self.saved.clone();
        let file = self.file(name);
        let waited = file.last.is_none_or(|last| now.duration_since(last) >= EVERY);
        // What failed is tried again once a second; what is new, at once.
        let new = file.kept < file.changes && (file.weight.is_some() || file.last.is_none());
        if file.under_way || !(new || waited && (active || file.kept < file.changes)) {
            return;
        }
        (file.under_way, file.last) = (true, Some(now));
        let change = file.changes;
        let (kept, weight) = state();
        let name = name.to_owned();
        spawn_blocking(move || {
            let result = folder.save(&name, &kept);
            // The driver is gone only when the process ends.
            let _ = saved.send(Saved { name, weight, change, result });
        });
    }

    /// Keeps the report of a release that has ended.
    pub(super) fn report(&self, name: &str, report: Report) {
        let Some(folder) = self.folder.clone() else { return };
        let name = name.to_owned();
        spawn_blocking(move || {
            let json = serde_json::to_vec_pretty(&report).unwrap_or_default();
            match folder.report(&name, &json, &report.text()) {
                Ok(path) => tracing::info!("release {name}: its report is {}", path.display()),
                Err(error) => tracing::error!("release {name}: its report cannot be written: {error}"),
            }
        });
    }

    /// A write ended.
    ///
    /// # Errors
    /// It failed: nothing may be raised until one succeeds.
    pub(super) fn ended(&mut self, saved: Saved) -> io::Result<()> {
        let file = self.file(&saved.name);
        file.under_way = false;
        // What is on disk after a failure is what was there before; whatever that is, nothing new may rely on it.
        file.weight = saved.result.is_ok().then_some(saved.weight);
        saved.result?;
        file.kept = saved.change;
        Ok(())
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.entry(name.to_owned()).or_default()
    }
}
