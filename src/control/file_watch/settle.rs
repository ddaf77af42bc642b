//! When may content be believed? A state machine fed with what the system reports and the time; it reads nothing itself.
//!
//! A file that was closed or renamed is complete: it is checked at once. One that was written to and not closed is
//! perhaps half a file, and half a list of weights is often a valid one: it gets time to be closed, and if nobody closes it,
//! it counts only once two reads in a row agree.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long after the last write a file may stay open before it is read anyway; also the time between two reads that must
/// agree.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// How long all writes together may put a read off.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// How long a folder that was not watched before is given to report that something in it is just being written.
pub(super) const GRACE: Duration = Duration::from_millis(5);

/// What an event says about one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Whoever wrote it is done: closed, renamed into place, a link that stands.
    Complete,
    /// It is being written, or is gone and may come back.
    Unfinished,
    /// What stood there is gone, and something stands there again: whoever put it there says when it is complete.
    Replaced,
    /// Something about it changed, its owner perhaps; it says nothing about the content.
    Touched,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing is known to have changed.
    Idle,
    /// Nothing before this time.
    Wait(Duration),
    /// Read once.
    Check,
    /// Read, and report the hash to [`Settle::compare`].
    Compare,
}

/// All times are since an arbitrary but fixed moment.
#[derive(Debug, Default)]
pub(super) struct Settle {
    changed: bool,
    /// No event will say when it is complete.
    doubtful: bool,
    unfinished: HashMap<PathBuf, Duration>,
    since: Option<Duration>,
    /// Something was written since the read began, or since the first of two, even if it was closed by now.
    spoiled: bool,
    /// Nothing is checked before this.
    held: Option<Duration>,
    first: Option<(String, Duration)>,
}

impl Settle {
    /// Takes note of an event.
    pub(super) fn sign(&mut self, path: &Path, sign: Sign, now: Duration) {
        self.changed = true;
        match sign {
            Sign::Complete => {
                self.unfinished.remove(path);
            }
            Sign::Unfinished => {
                self.unfinished.insert(path.to_owned(), now);
                self.since.get_or_insert(now);
                self.spoiled = true;
            }
            Sign::Replaced => self.spoiled = true,
            Sign::Touched => {}
        }
        if self.unfinished.is_empty() {
            self.since = None;
        }
    }

    /// Takes note that something may have changed without an event.
    pub(super) fn suspect(&mut self) {
        self.changed = true;
        self.doubtful = true;
    }

    /// Takes note that a folder is watched that was not before: what was written in it until now went unseen.
    pub(super) fn hold(&mut self, now: Duration) {
        self.held = Some(now + GRACE);
    }

    /// Keeps only what is said of paths that still matter: a folder that was left behind may go.
    pub(super) fn retain(&mut self, matters: impl Fn(&Path) -> bool) {
        self.unfinished.retain(|path, _| matters(path));
        if self.unfinished.is_empty() {
            self.since = None;
        }
    }

    /// Whether there is anything to look at.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// What to do at this time.
    pub(super) fn next(&self, now: Duration) -> Next {
        if !self.changed {
            return Next::Idle;
        }
        let last = self.unfinished.values().max();
        let due = match (&self.first, last) {
            (None, None) if !self.doubtful => return self.check(now),
            (None, None) => now,
            (Some((_, at)), _) if self.doubtful || last.is_some() => *at + PAUSE,
            (Some(_), _) => return self.check(now),
            (None, Some(last)) => (*last + PAUSE).min(self.since.unwrap_or(*last) + LIMIT),
        };
        if now >= due { Next::Compare } else { Next::Wait(due) }
    }

    fn check(&self, now: Duration) -> Next {
        match self.held {
            Some(held) if now < held => Next::Wait(held),
            _ => Next::Check,
        }
    }

    /// A [`Next::Check`] begins: whatever is reported from now on came after what will be read.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// Whether what was read since [`begin`](Self::begin) may count. If something was written meanwhile it may not, and is to
    /// be looked at again.
    pub(super) fn confirm(&mut self) -> bool {
        let whole = !self.spoiled && !self.doubtful;
        self.changed |= !whole;
        whole
    }

    /// Whether this read agrees with the one before it, with nothing written between them, and so may count. If it does, everything reported so far is settled.
    pub(super) fn compare(&mut self, hash: &str, now: Duration) -> bool {
        let rested = |at: Duration| !self.spoiled && now >= at + PAUSE;
        let agrees = self.first.as_ref().is_some_and(|(first, at)| first == hash && rested(*at));
        if agrees {
            self.begin();
        } else {
            self.first = Some((hash.to_owned(), now));
            self.spoiled = false;
        }
        agrees
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn file() -> &'static Path {
        Path::new("/conf/vs.yaml")
    }

    fn other() -> &'static Path {
        Path::new("/conf/other.yaml")
    }

    #[test]
    fn a_closed_or_renamed_file_is_checked_at_once() {
        let mut settle = Settle::default();
        assert_eq!(settle.next(Duration::ZERO), Next::Idle);
        settle.sign(file(), Sign::Unfinished, MS);
        settle.sign(file(), Sign::Unfinished, 2 * MS);
        settle.sign(file(), Sign::Complete, 3 * MS);
        assert_eq!(settle.next(3 * MS), Next::Check);
        settle.begin();
        assert!(settle.confirm());
        assert_eq!(settle.next(3 * MS), Next::Idle);
    }

    #[test]
    fn an_open_file_waits_for_its_close_100_ms_since_the_last_write() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Unfinished, Duration::ZERO);
        settle.sign(file(), Sign::Unfinished, 50 * MS);
        settle.sign(file(), Sign::Touched, 60 * MS);
        assert_eq!(settle.next(60 * MS), Next::Wait(150 * MS));
        assert_eq!(settle.next(150 * MS), Next::Compare);
    }

    #[test]
    fn writes_without_end_put_a_read_off_for_one_second() {
        let mut settle = Settle::default();
        for at in (0..=980).step_by(20) {
            settle.sign(file(), Sign::Unfinished, at * MS);
            assert!(matches!(settle.next(at * MS), Next::Wait(_)), "{at}");
        }
        assert_eq!(settle.next(999 * MS), Next::Wait(1000 * MS));
        assert_eq!(settle.next(1000 * MS), Next::Compare);
    }

    #[test]
    fn an_open_file_counts_only_after_two_equal_reads_one_pause_apart() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Unfinished, Duration::ZERO);
        assert!(!settle.compare("half", 100 * MS));
        assert_eq!(settle.next(100 * MS), Next::Wait(200 * MS));
        assert!(!settle.compare("half", 199 * MS), "too soon");
        assert!(!settle.compare("whole", 299 * MS));
        assert_eq!(settle.next(398 * MS), Next::Wait(399 * MS));
        assert!(settle.compare("whole", 399 * MS));
        assert_eq!(settle.next(399 * MS), Next::Idle);
    }

    #[test]
    fn two_equal_reads_with_a_write_between_them_do_not_agree() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Unfinished, Duration::ZERO);
        assert!(!settle.compare("", 100 * MS));
        settle.sign(file(), Sign::Unfinished, 150 * MS);
        assert!(!settle.compare("", 200 * MS));
        assert!(settle.compare("", 300 * MS));
    }

    #[test]
    fn the_close_ends_the_wait_between_two_reads() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Unfinished, Duration::ZERO);
        assert!(!settle.compare("half", 100 * MS));
        settle.sign(file(), Sign::Complete, 120 * MS);
        assert_eq!(settle.next(120 * MS), Next::Check);
    }

    #[test]
    fn one_open_file_holds_the_others_back() {
        let mut settle = Settle::default();
        settle.sign(other(), Sign::Unfinished, Duration::ZERO);
        settle.sign(file(), Sign::Complete, 10 * MS);
        assert_eq!(settle.next(10 * MS), Next::Wait(100 * MS));
        settle.sign(other(), Sign::Complete, 20 * MS);
        assert_eq!(settle.next(20 * MS), Next::Check);
    }

    #[test]
    fn a_write_during_the_read_spoils_it() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Complete, Duration::ZERO);
        settle.begin();
        settle.sign(file(), Sign::Unfinished, MS);
        assert!(!settle.confirm());
        settle.sign(file(), Sign::Complete, 2 * MS);
        assert_eq!(settle.next(2 * MS), Next::Check);
    }

    #[test]
    fn a_write_that_began_and_ended_during_the_read_spoils_it_too() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Complete, Duration::ZERO);
        settle.begin();
        settle.sign(file(), Sign::Unfinished, MS);
        settle.sign(file(), Sign::Complete, MS);
        assert!(!settle.confirm());
        assert_eq!(settle.next(MS), Next::Check);
        settle.begin();
        assert!(settle.confirm());
    }

    #[test]
    fn a_rename_during_the_read_asks_for_another_one_and_leaves_this_one_valid() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Complete, Duration::ZERO);
        settle.begin();
        settle.sign(file(), Sign::Complete, MS);
        assert!(settle.confirm());
        assert_eq!(settle.next(MS), Next::Check);
    }

    #[test]
    fn a_suspicion_is_compared_at_once_and_a_close_does_not_dispel_it() {
        let mut settle = Settle::default();
        settle.suspect();
        assert_eq!(settle.next(Duration::ZERO), Next::Compare);
        assert!(!settle.compare("a", Duration::ZERO));
        settle.sign(file(), Sign::Complete, MS);
        assert_eq!(settle.next(MS), Next::Wait(100 * MS));
        assert!(settle.compare("a", 100 * MS));
    }

    #[test]
    fn a_folder_that_was_not_watched_before_gets_a_moment_to_show_a_write() {
        let mut settle = Settle::default();
        settle.sign(Path::new("/current"), Sign::Complete, Duration::ZERO);
        settle.hold(MS);
        assert_eq!(settle.next(MS), Next::Wait(MS + GRACE));
        assert_eq!(settle.next(MS + GRACE), Next::Check);
        settle.sign(file(), Sign::Unfinished, 2 * MS);
        assert_eq!(settle.next(MS + GRACE), Next::Wait(102 * MS));
        settle.sign(file(), Sign::Complete, 3 * MS);
        assert_eq!(settle.next(MS + GRACE), Next::Check);
        settle.begin();
        settle.sign(file(), Sign::Complete, 10 * MS);
        assert_eq!(settle.next(10 * MS), Next::Check);
    }

    #[test]
    fn what_does_not_matter_any_more_holds_nothing_back() {
        let mut settle = Settle::default();
        settle.sign(other(), Sign::Unfinished, Duration::ZERO);
        settle.sign(file(), Sign::Complete, MS);
        settle.retain(|path| path == file());
        assert_eq!(settle.next(MS), Next::Check);
        settle.sign(file(), Sign::Unfinished, 500 * MS);
        settle.retain(|path| path == file());
        assert_eq!(settle.next(MS), Next::Wait(600 * MS));
    }

    #[test]
    fn a_new_burst_has_a_second_of_its_own() {
        let mut settle = Settle::default();
        settle.sign(file(), Sign::Unfinished, Duration::ZERO);
        settle.sign(file(), Sign::Complete, 10 * MS);
        settle.sign(file(), Sign::Unfinished, 990 * MS);
        assert_eq!(settle.next(991 * MS), Next::Wait(1090 * MS));
    }
}
