//! What the thread does: it takes note of events, looks by itself, reads when a change seems complete, and says when it cannot
//! see every change.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use super::Pace;
use super::settle::{Next, Settle, Sign};
use super::watches::{self, Make, Message, Reports, Watches};
use super::way::{self, Ways};
use crate::config::load::Read;
use crate::control::Trigger;
use crate::control::publisher::{Inputs, Publisher};
use crate::failpoint;

/// Everything that the thread knows.
pub(super) struct Watch {
    publisher: Publisher,
    paths: Vec<PathBuf>,
    recursive: bool,
    /// Certificate files that the configuration names.
    named: Arc<Vec<PathBuf>>,
    pace: Pace,
    make: Make,
    reports: Reports,
    began: Instant,
    watches: Option<Watches>,
    ways: Ways,
    settle: Settle,
    /// Files that others were renamed over since the last check: the end of the old one is still to be reported.
    renamed: HashSet<PathBuf>,
    trigger: Trigger,
    /// When the first event of the change at hand was taken from the channel.
    noticed: Option<Instant>,
    stopped: bool,
    /// What was last said about why not every change can be seen; empty when all can.
    complaint: String,
}

impl Watch {
    pub(super) fn new(publisher: Publisher, pace: Pace, make: Make, reports: Reports) -> Self {
        let (paths, recursive) = match publisher.inputs() {
            Inputs::Paths { paths, recursive } => (paths.clone(), *recursive),
            Inputs::Text(_) => (Vec::new(), false),
        };
        Self {
            named: publisher.named(),
            publisher,
            paths,
            recursive,
            pace,
            make,
            reports,
            began: Instant::now(),
            watches: None,
            ways: Ways::default(),
            settle: Settle::default(),
            renamed: HashSet::new(),
            trigger: Trigger::Poll,
            noticed: None,
            stopped: false,
            complaint: String::new(),
        }
    }

    /// Begins to watch, and doubts what was read before.
    pub(super) fn begin(&mut self) {
        self.rebuild();
        if self.is_news() {
            self.settle.suspect();
        }
    }

    pub(super) fn run(&mut self, inbox: &Receiver<Message>) {
        let mut next_stat = Instant::now() + self.pace.stat;
        let mut next_hash = Instant::now() + self.pace.hash;
        while !self.stopped {
            failpoint::reach("config-watch");
            if Instant::now() >= next_stat {
                let hash = Instant::now() >= next_hash;
                self.poll(hash, inbox);
                next_stat = Instant::now() + self.pace.stat;
                if hash {
                    next_hash = Instant::now() + self.pace.hash;
                }
            }
            let until = match self.settle.next(self.began.elapsed()) {
                Next::Idle => next_stat,
                Next::Wait(due) => next_stat.min(self.began + due),
                Next::Check => {
                    self.check(inbox);
                    continue;
                }
                Next::Compare => {
                    self.compare(inbox);
                    continue;
                }
            };
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => self.take(message, inbox),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Takes a message and all that came with it.
    fn take(&mut self, first: Message, inbox: &Receiver<Message>) {
        let mut moved = false;
        for message in std::iter::once(first).chain(inbox.try_iter()) {
            match message {
                Message::Stop => self.stopped = true,
                Message::Event(event) => moved |= self.event(&event),
            }
        }
        if self.reports.lost.swap(false, Ordering::AcqRel) {
            tracing::debug!("changes of files were not reported; watching anew");
            self.rebuild();
            self.trigger = Trigger::Watch;
            self.settle.suspect();
        } else if moved {
            self.arm();
        }
    }

    /// Takes note of an event. Whether it can change what has to be watched.
    fn event(&mut self, event: &notify::Event) -> bool {
        if let Some(watches) = &mut self.watches {
            watches.ended(event);
        }
        let mut matters = false;
        let now = self.began.elapsed();
        // `Both` repeats what two events said before.
        let repeated = event.paths.len() > 1;
        for path in event.paths.iter().filter(|path| !repeated && self.ways.matter(path)) {
            self.settle.sign(path, watches::sign(event, path, &mut self.renamed), now);
            matters = true;
        }
        if matters {
            self.trigger = Trigger::Watch;
            self.noticed.get_or_insert_with(Instant::now);
        }
        matters && watches::moves_ways(event)
    }

    /// Takes everything that was reported for what happened before this call.
    fn catch_up(&mut self, inbox: &Receiver<Message>) {
        if let Some(watches) = &mut self.watches {
            watches.catch_up();
        }
        if let Ok(message) = inbox.try_recv() {
            self.take(message, inbox);
        }
    }

    /// Reads once what is said to be complete.
    fn check(&mut self, inbox: &Receiver<Message>) {
        self.arm();
        self.catch_up(inbox);
        if self.settle.next(self.began.elapsed()) != Next::Check || self.stopped {
            return;
        }
        let started = self.noticed.unwrap_or_else(Instant::now);
        let publisher = self.publisher.clone();
        let mut turn = publisher.turn();
        self.settle.begin();
        let read = turn.read();
        self.catch_up(inbox);
        self.doubt_empty(&read);
        if self.settle.confirm() {
            turn.apply(read, self.trigger, started);
            self.report_health();
            self.rest();
        }
    }

    /// A file that is empty or gone is about to be written, more likely than not. The kernel shows that some time before it
    /// reports it.
    fn doubt_empty(&mut self, read: &Read) {
        let now = self.began.elapsed();
        let sources = read.sources.iter().filter(|source| source.text.is_empty()).map(|source| source.path.as_path());
        for path in sources.chain(read.files.blank()) {
            match way::end(path).filter(|end| self.ways.matter(end)) {
                Some(end) => self.settle.sign(&end, Sign::Unfinished, now),
                None => self.settle.suspect(),
            }
        }
    }

    /// Reads what nobody says is complete; it counts when two reads agree.
    fn compare(&mut self, inbox: &Receiver<Message>) {
        self.arm();
        self.catch_up(inbox);
        if self.settle.next(self.began.elapsed()) != Next::Compare || self.stopped {
            return;
        }
        let started = Instant::now();
        let publisher = self.publisher.clone();
        let mut turn = publisher.turn();
        let read = turn.read();
        let hash = read.hash();
        if !self.settle.compare(&hash, self.began.elapsed()) {
            return;
        }
        // A look that was nobody's wish is only worth a word if it found something.
        if self.trigger == Trigger::Watch || hash != self.publisher.last_hash() {
            turn.apply(read, self.trigger, self.noticed.unwrap_or(started));
        }
        self.report_health();
        self.rest();
    }

    /// What was noticed is dealt with, but for what came meanwhile.
    fn rest(&mut self) {
        let more = self.settle.is_changed();
        self.renamed.clear();
        self.trigger = if more { Trigger::Watch } else { Trigger::Poll };
        self.noticed = more.then(Instant::now);
        if self.named != self.publisher.named() {
            // These were read before they were watched.
            self.arm();
            self.settle.suspect();
        }
    }

    /// The regular look, with or without reading.
    fn poll(&mut self, hash: bool, inbox: &Receiver<Message>) {
        let before = std::mem::take(&mut self.ways.marks);
        if self.watches.is_none() {
            self.rebuild();
        }
        self.arm();
        self.catch_up(inbox);
        let differs = before != self.ways.marks || (hash && self.is_news());
        if differs && !self.settle.is_changed() {
            self.settle.suspect();
        }
        self.report_health();
    }

    /// Whether the content is another than that which was last looked at.
    fn is_news(&self) -> bool {
        self.publisher.turn().read().hash() != self.publisher.last_hash()
    }

    /// A new watcher, or none if there is none to be had.
    fn rebuild(&mut self) {
        self.watches = None;
        self.ways = self.ways_now();
        if !self.paths.is_empty() {
            match Watches::new(self.make, self.reports.clone()) {
                Ok(watches) => {
                    self.watches = Some(watches);
                    self.arm();
                }
                Err(error) => tracing::debug!(%error, "no file watcher to be had"),
            }
        }
        self.report_health();
    }

    /// Watches the ways as they are now. What was put on a folder after it changed would miss that change, so the ways are
    /// walked again until nothing new needs a watch.
    fn arm(&mut self) {
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            self.ways = self.ways_now();
            self.settle.retain(|path| self.ways.matter(path));
            let Some(watches) = &mut self.watches else { return };
            let new = watches.arm(&self.ways);
            if new.is_empty() {
                return;
            }
            if new.iter().any(|path| self.ways.folders.contains_key(*path)) {
                self.settle.hold(self.began.elapsed());
            }
        }
    }

    fn ways_now(&mut self) -> Ways {
        self.named = self.publisher.named();
        Ways::of(&self.paths, self.recursive).and_to(&self.named)
    }

    /// Says whether every change can be seen, and once per reason why not.
    fn report_health(&mut self) {
        let complaint = self.complaint();
        self.publisher.metrics().reloads().set_watch_healthy(complaint.is_empty());
        if complaint != self.complaint {
            match complaint.is_empty() {
                true => tracing::info!("changes of the configuration are seen at once again"),
                false => tracing::warn!("{complaint}"),
            }
            self.complaint = complaint;
        }
    }

    fn complaint(&self) -> String {
        let every = self.pace.stat;
        if let Some(orphan) = self.ways.orphans().next() {
            return format!(
                "{} was replaced where it is mounted from, and what replaced it cannot be seen from here\n  \
                 help: mount the folder it is in instead of the single file",
                orphan.display()
            );
        }
        match self.watches.as_ref().map(Watches::failed) {
            _ if self.paths.is_empty() => String::new(),
            Some(None) => String::new(),
            Some(Some((path, why))) => {
                format!("cannot watch {}: {why}; looking at it every {every:?} instead", path.display())
            }
            None => format!(
                "no file watcher to be had; looking at the files every {every:?} instead\n  \
                 help: raise fs.inotify.max_user_instances if other programs used them up"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;
    use crate::control::file_watch::BACKLOG;
    use crate::control::file_watch::tests::{PATIENCE, Started};

    #[test]
    fn lost_reports_lead_to_a_new_watcher_and_a_look_at_everything() {
        let started = Started::new();
        let (messages, inbox) = sync_channel(BACKLOG);
        let reports = Reports { messages, lost: Arc::default() };
        let mut watch = Watch::new(
            started.publisher.clone(),
            Pace { stat: PATIENCE, hash: PATIENCE },
            watches::make,
            reports.clone(),
        );
        watch.begin();
        assert_eq!(watch.settle.next(Duration::ZERO), Next::Idle);
        reports.lost.store(true, Ordering::Release);
        watch.take(Message::Event(notify::Event::new(notify::EventKind::Other)), &inbox);
        assert_eq!(watch.settle.next(Duration::ZERO), Next::Compare);
        assert!(watch.watches.is_some());
    }
}
