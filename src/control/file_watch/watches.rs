//! The watches themselves: one `notify` watcher, kept in step with the ways, and the translation of its events into signs.
//!
//! A watch follows the inode, not the name. So each one is kept with the identity of what it was put on, and put again on
//! whatever stands at its path now.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::settle::Sign;
use super::way::Ways;

/// What reaches the thread of the file watch.
#[derive(Debug)]
pub(super) enum Message {
    /// Something was reported.
    Event(Event),
    /// The thread is to end.
    Stop,
}

/// The end of the channel that the watcher's own thread writes to.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    pub(super) messages: SyncSender<Message>,
    /// Reports were lost: by the kernel, by `notify`, or because nobody took them for too long.
    pub(super) lost: Arc<AtomicBool>,
}

impl Reports {
    /// Passes on what can mean a change. Reading our own files is reported too, and must not: it would never end.
    fn take(&self, report: notify::Result<Event>) {
        let event = match report {
            Ok(event) if event.need_rescan() => return self.lose(),
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "the file watcher failed");
                return self.lose();
            }
        };
        if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.messages.try_send(Message::Event(event)) {
            self.lose();
        }
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        // Wakes the thread. A full channel wakes it as well.
        let _ = self.messages.try_send(Message::Event(Event::new(EventKind::Other)));
    }
}

/// Makes a watcher; a parameter so that tests can have none.
pub(super) type Make = fn(Reports) -> notify::Result<RecommendedWatcher>;

/// A watcher of this system.
pub(super) fn make(reports: Reports) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |report| reports.take(report))
}

/// A watcher with all its watches.
pub(super) struct Watches {
    watcher: RecommendedWatcher,
    armed: BTreeMap<PathBuf, Identity>,
    /// Paths that cannot be watched, and why.
    failed: BTreeMap<PathBuf, String>,
}

type Identity = (u64, u64);

impl Watches {
    pub(super) fn new(make: Make, reports: Reports) -> notify::Result<Self> {
        Ok(Self { watcher: make(reports)?, armed: BTreeMap::new(), failed: BTreeMap::new() })
    }

    /// Watches exactly this, and gives what was not watched before.
    pub(super) fn arm<'a>(&mut self, ways: &'a Ways) -> Vec<&'a Path> {
        let wanted: BTreeSet<&'a PathBuf> = ways.folders.keys().chain(&ways.files).collect();
        let superfluous: Vec<PathBuf> = self.armed.keys().filter(|path| !wanted.contains(path)).cloned().collect();
        for path in superfluous {
            self.disarm(&path);
        }
        self.failed.retain(|path, _| wanted.contains(path));
        wanted.into_iter().map(PathBuf::as_path).filter(|path| self.arm_one(path)).collect()
    }

    fn arm_one(&mut self, path: &Path) -> bool {
        let Ok(found) = fs::metadata(path) else {
            self.disarm(path);
            return false;
        };
        let identity = (found.dev(), found.ino());
        if self.armed.get(path) == Some(&identity) {
            return false;
        }
        self.disarm(path);
        match self.watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.failed.remove(path);
                self.armed.insert(path.to_owned(), identity);
                true
            }
            Err(error) => {
                self.failed.insert(path.to_owned(), error.to_string());
                false
            }
        }
    }

    fn disarm(&mut self, path: &Path) {
        if self.armed.remove(path).is_some() {
            // It may be gone already, with what it was on.
            let _ = self.watcher.unwatch(path);
        }
    }

    /// Forgets watches that ended with what they were on, as the watcher itself does.
    pub(super) fn ended(&mut self, event: &Event) {
        let gone = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)));
        if gone {
            for path in &event.paths {
                self.armed.retain(|armed, _| !armed.starts_with(path));
            }
        }
    }

    /// Returns once everything that happened before this call has been reported: the watcher answers in order.
    pub(super) fn catch_up(&mut self) {
        let _ = self.watcher.configure(Config::default());
    }

    /// What cannot be watched, and why.
    pub(super) fn failed(&self) -> Option<(&Path, &str)> {
        self.failed.first_key_value().map(|(path, why)| (path.as_path(), why.as_str()))
    }
}

/// What the event says about this path. `renamed` holds the files that others were renamed over.
pub(super) fn sign(event: &Event, path: &Path, renamed: &mut HashSet<PathBuf>) -> Sign {
    match event.kind {
        EventKind::Access(_) => Sign::Complete,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            renamed.insert(path.to_owned());
            Sign::Complete
        }
        // The end of the old file, which is reported under the name of the new one.
        EventKind::Remove(_) if renamed.remove(path) => Sign::Touched,
        // The content of a new folder, or of a new file, is still to come. A link is whole from the start.
        EventKind::Create(CreateKind::Folder) => Sign::Unfinished,
        EventKind::Create(_) if path.is_symlink() => Sign::Complete,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => Sign::Unfinished,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            if path.symlink_metadata().is_ok() { Sign::Replaced } else { Sign::Unfinished }
        }
        _ => Sign::Touched,
    }
}

/// Whether the event can change which folders the ways lead through.
pub(super) fn moves_ways(event: &Event) -> bool {
    matches!(event.kind, EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use notify::event::{DataChange, Flag, MetadataKind, RemoveKind};

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event::new(kind).add_path(PathBuf::from("/conf/vs.yaml"))
    }

    #[test]
    fn our_own_reading_is_not_passed_on() {
        let (messages, inbox) = sync_channel(1);
        let reports = Reports { messages, lost: Arc::default() };
        for kind in
            [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read), AccessKind::Read, AccessKind::Any]
        {
            reports.take(Ok(event(EventKind::Access(kind))));
        }
        assert!(inbox.try_recv().is_err());
        reports.take(Ok(event(EventKind::Access(AccessKind::Close(AccessMode::Write)))));
        assert!(inbox.try_recv().is_ok());
        assert!(!reports.lost.load(Ordering::Acquire));
    }

    #[test]
    fn lost_reports_are_remembered() {
        let change = || Ok(event(EventKind::Modify(ModifyKind::Data(DataChange::Any))));
        let rescan = || Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan));
        let failure = || Err(notify::Error::generic("poll"));
        for reported in [vec![change(), change()], vec![rescan()], vec![failure()]] {
            let (messages, inbox) = sync_channel(1);
            let reports = Reports { messages, lost: Arc::default() };
            reported.into_iter().for_each(|report| reports.take(report));
            assert!(reports.lost.load(Ordering::Acquire));
            assert!(inbox.try_recv().is_ok(), "the thread is woken");
        }
    }

    #[test]
    fn each_kind_of_event_has_its_sign() {
        let path = Path::new("/conf/vs.yaml");
        let signs = [
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), Sign::Complete),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), Sign::Complete),
            (EventKind::Modify(ModifyKind::Name(RenameMode::From)), Sign::Unfinished),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), Sign::Unfinished),
            (EventKind::Create(CreateKind::File), Sign::Unfinished),
            (EventKind::Create(CreateKind::Folder), Sign::Unfinished),
            (EventKind::Remove(RemoveKind::File), Sign::Unfinished),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), Sign::Touched),
        ];
        for (kind, wanted) in signs {
            assert_eq!(sign(&event(kind), path, &mut HashSet::new()), wanted, "{kind:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("vs.yaml");
        std::os::unix::fs::symlink("elsewhere", &link).unwrap();
        let mut renamed = HashSet::new();
        assert_eq!(sign(&event(EventKind::Create(CreateKind::File)), &link, &mut renamed), Sign::Complete);
        assert_eq!(sign(&event(EventKind::Remove(RemoveKind::File)), &link, &mut renamed), Sign::Replaced);
    }

    #[test]
    fn the_end_of_a_file_that_was_renamed_over_is_no_end_of_its_name() {
        let (path, mut renamed) = (Path::new("/conf/vs.yaml"), HashSet::new());
        let moved = event(EventKind::Modify(ModifyKind::Name(RenameMode::To)));
        let removed = event(EventKind::Remove(RemoveKind::File));
        assert_eq!(sign(&moved, path, &mut renamed), Sign::Complete);
        assert_eq!(sign(&removed, path, &mut renamed), Sign::Touched);
        assert_eq!(sign(&removed, path, &mut renamed), Sign::Unfinished);
    }
}
