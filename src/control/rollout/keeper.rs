//! Keeps the state of releases on disk, one write at a time for each and never on the driver's own thread, so that a slow disk
//! delays no rollback. The order of things is the driver's: a raise waits for its state to be kept, a rollback does not.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
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
    /// Where the folder is that was let go.
    suspended: Option<PathBuf>,
    files: HashMap<String, File>,
    saved: UnboundedSender<Saved>,
}

impl Keeper {
    /// Keeps states in `folder`; without one nothing outlives the process. `saved` is told how each write ended.
    pub(super) fn new(folder: Option<StateDir>, saved: UnboundedSender<Saved>) -> Self {
        Self { folder, suspended: None, files: HashMap::new(), saved }
    }

    /// Where states are kept.
    pub(super) fn folder(&self) -> Option<&StateDir> {
        self.folder.as_ref()
    }

    /// Whether a write is under way.
    pub(super) fn is_writing(&self) -> bool {
        self.files.values().any(|file| file.under_way)
    }

    /// Whether the folder is let go, and should be taken back.
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    fn keeps(&self) -> bool {
        self.folder.is_some() || self.is_suspended()
    }

    /// Lets the folder go, for another process. Nothing may be under way.
    pub(super) fn suspend(&mut self) {
        self.suspended = self.folder.take().map(|folder| folder.path().to_owned());
        // What another process writes meanwhile is not known here.
        self.files.values_mut().for_each(|file| file.weight = None);
    }

    /// Takes the folder back.
    ///
    /// # Errors
    /// It cannot be had. Nothing is kept then, so that nothing may be raised.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        if let Some(path) = &self.suspended {
            self.folder = Some(StateDir::open(path)?);
            self.suspended = None;
        }
        Ok(())
    }

    /// The state of a release is not what is on disk any more.
    pub(super) fn changed(&mut self, name: &str) {
        self.file(name).changes += 1;
    }

    /// Whether a crash now would find this weight on disk.
    pub(super) fn has(&self, name: &str, weight: Option<u32>) -> bool {
        !self.keeps() || self.files.get(name).is_some_and(|file| file.weight == Some(weight))
    }

    /// Whether everything that happened is on disk.
    pub(super) fn is_up_to_date(&self, name: &str) -> bool {
        !self.keeps() || self.files.get(name).is_none_or(|file| file.kept == file.changes)
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
            // Whoever never ends would block every later one, and with them every raise.
            let result = catch_unwind(AssertUnwindSafe(|| folder.save(&name, &kept)));
            let result = result.unwrap_or_else(|_| Err(io::Error::other("the write failed inside serin")));
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::control::rollout::state_file::tests::kept;

    fn keeper(folder: Option<&Path>) -> (Keeper, UnboundedReceiver<Saved>) {
        let (sender, receiver) = unbounded_channel();
        (Keeper::new(folder.map(|folder| StateDir::open(folder).unwrap()), sender), receiver)
    }

    impl Keeper {
        /// Whether a write of this weight begins.
        fn begins(&mut self, now: Instant, active: bool, weight: u32) -> bool {
            let mut asked = false;
            self.keep("a", now, active, || {
                asked = true;
                (kept(weight), Some(weight))
            });
            asked
        }
    }

    #[tokio::test]
    async fn without_a_folder_nothing_is_written_and_nothing_is_waited_for() {
        let (mut keeper, _saves) = keeper(None);
        keeper.changed("a");
        assert!(!keeper.begins(Instant::now(), true, 10));
        assert!(keeper.has("a", Some(10)) && keeper.is_up_to_date("a"));
    }

    #[tokio::test]
    async fn what_changes_while_a_write_is_under_way_is_written_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let ((mut keeper, mut saves), now) = (keeper(Some(folder.path())), Instant::now());
        assert!(!keeper.begins(now, false, 5), "nothing has happened");
        keeper.changed("a");
        assert!(keeper.begins(now, false, 10));
        assert!(!keeper.has("a", Some(10)) && !keeper.is_up_to_date("a"), "a write that has begun is no promise");
        keeper.changed("a");
        assert!(!keeper.begins(now, true, 30), "one at a time");
        keeper.ended(saves.recv().await.unwrap()).unwrap();
        assert!(keeper.has("a", Some(10)) && !keeper.has("a", Some(30)) && !keeper.is_up_to_date("a"));
        assert!(keeper.begins(now, false, 30), "what is new is written at once");
        keeper.ended(saves.recv().await.unwrap()).unwrap();
        assert!(keeper.has("a", Some(30)) && keeper.is_up_to_date("a"));
        assert_eq!(keeper.folder().unwrap().load("a").unwrap().unwrap(), kept(30));
        assert!(!keeper.has("b", Some(30)), "each has a file of its own");
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_written_each_second_and_the_rest_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let ((mut keeper, mut saves), mut now) = (keeper(Some(folder.path())), Instant::now());
        assert!(keeper.begins(now, true, 10));
        keeper.ended(saves.recv().await.unwrap()).unwrap();
        now += EVERY - Duration::from_millis(1);
        assert!(!keeper.begins(now, true, 10), "only its evidence has changed");
        now += Duration::from_millis(1);
        assert!(!keeper.begins(now, false, 10), "it is over");
        assert!(keeper.begins(now, true, 10));
    }

    #[tokio::test]
    async fn after_a_failure_nothing_is_known_and_it_is_tried_again_each_second() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("state");
        let ((mut keeper, mut saves), mut now) = (keeper(Some(&place)), Instant::now());
        keeper.changed("a");
        assert!(keeper.begins(now, true, 10));
        keeper.ended(saves.recv().await.unwrap()).unwrap();
        fs::remove_dir_all(&place).unwrap();
        keeper.changed("a");
        assert!(keeper.begins(now, true, 30));
        assert!(keeper.ended(saves.recv().await.unwrap()).is_err());
        assert!(!keeper.has("a", Some(30)) && !keeper.has("a", Some(10)) && !keeper.is_up_to_date("a"));
        keeper.changed("a");
        assert!(!keeper.begins(now, true, 30), "a disk that fails is not asked all the time");
        now += EVERY;
        fs::create_dir(&place).unwrap();
        assert!(keeper.begins(now, true, 30));
        keeper.ended(saves.recv().await.unwrap()).unwrap();
        assert!(keeper.has("a", Some(30)) && keeper.is_up_to_date("a"));
    }
}
