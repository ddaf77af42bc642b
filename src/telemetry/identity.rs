//! Objects that keep their identity across configurations: the same name gives the same object, and an object that no
//! configuration names any more lives on for an hour. Generic over what is counted in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::limit::LABEL_SETS;

/// How long counters outlive their configuration: scrapers that were away must not miss the end of a version.
pub(super) const KEPT: Duration = Duration::from_secs(3600);

/// How many objects get a name of their own: one place is kept for what the others are folded into.
const ROOM: usize = LABEL_SETS - 1;

/// Objects by name, in the order of their names.
#[derive(Debug)]
pub(super) struct Identities<K, T> {
    entries: BTreeMap<K, Entry<T>>,
    /// Requests to turn away at the cap before looking again for something to forget: keeps the cost of a
    /// configuration far beyond the cap linear.
    patience: usize,
}

#[derive(Debug)]
struct Entry<T> {
    object: Arc<T>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Asked for, but no configuration with it has been applied so far.
    Resolved,
    /// Part of the configuration in force.
    Configured,
    /// Left the configuration then.
    Retired(Instant),
}

impl<K: Ord, T> Identities<K, T> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), patience: 0 }
    }

    /// The object of that name, made if there is room for it.
    pub(super) fn get_or_insert(&mut self, name: K, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        if let Some(entry) = self.entries.get(&name) {
            return Some(Arc::clone(&entry.object));
        }
        (self.entries.len() < ROOM).then(|| self.insert(name, make()))
    }

    /// The object of that name, made if need be, whether there is room or not.
    pub(super) fn get_or_force(&mut self, name: K, make: impl FnOnce() -> T) -> Arc<T> {
        match self.entries.get(&name) {
            Some(entry) => Arc::clone(&entry.object),
            None => self.insert(name, make()),
        }
    }

    fn insert(&mut self, name: K, object: T) -> Arc<T> {
        let object = Arc::new(object);
        self.entries.insert(name, Entry { object: Arc::clone(&object), state: State::Resolved });
        object
    }

    /// Whether it is worth sweeping before an object is asked for.
    pub(super) fn should_sweep(&mut self) -> bool {
        if self.entries.len() < ROOM {
            return false;
        }
        let due = self.patience == 0;
        self.patience = if due { ROOM } else { self.patience - 1 };
        due
    }

    /// Declares which objects the configuration in force names.
    pub(super) fn configure(&mut self, named: impl Fn(&T) -> bool, now: Instant) {
        for entry in self.entries.values_mut() {
            if named(&entry.object) {
                entry.state = State::Configured;
            } else if entry.state == State::Configured {
                entry.state = State::Retired(now);
            }
        }
    }

    /// Removes the objects that nobody holds and that have been retired for an hour, or were never in force and never
    /// `used`.
    pub(super) fn sweep(&mut self, used: impl Fn(&T) -> bool, now: Instant) -> Vec<Arc<T>> {
        let over = |entry: &mut Entry<T>| match entry.state {
            State::Configured => false,
            State::Retired(since) => now.duration_since(since) >= KEPT,
            State::Resolved if used(&entry.object) => {
                entry.state = State::Retired(now);
                false
            }
            State::Resolved => true,
        };
        let unheld = |entry: &Entry<T>| Arc::strong_count(&entry.object) == 1;
        let gone: Vec<_> = self.entries.extract_if(.., |_, entry| unheld(entry) && over(entry)).collect();
        if !gone.is_empty() {
            self.patience = 0;
        }
        gone.into_iter().map(|(_, entry)| entry.object).collect()
    }

    /// Every object and its state, ordered by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<T>, State)> {
        self.entries.values().map(|entry| (&entry.object, entry.state))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_object_until_an_hour_after_it_left() {
        let (mut names, start) = (Identities::new(), Instant::now());
        let first = names.get_or_insert("v1", || 1).unwrap();
        names.configure(|_| true, start);
        names.configure(|_| false, start);
        drop(first);
        assert!(names.sweep(|_| false, start + KEPT - Duration::from_secs(1)).is_empty());
        assert_eq!(*names.get_or_insert("v1", || 2).unwrap(), 1);
        assert_eq!(names.sweep(|_| false, start + KEPT).len(), 1);
        assert_eq!(*names.get_or_insert("v1", || 3).unwrap(), 3);
    }

    #[test]
    fn what_is_held_stays_and_what_comes_back_starts_a_new_hour() {
        let (mut names, start) = (Identities::new(), Instant::now());
        let held = names.get_or_insert("v1", || 1).unwrap();
        names.configure(|_| true, start);
        names.configure(|_| false, start);
        assert!(names.sweep(|_| false, start + 2 * KEPT).is_empty(), "a request may still be running");
        names.configure(|_| true, start + 2 * KEPT);
        drop(held);
        assert!(names.sweep(|_| false, start + 9 * KEPT).is_empty(), "in force");
        names.configure(|_| false, start + 9 * KEPT);
        assert!(names.sweep(|_| false, start + 9 * KEPT).is_empty());
    }

    #[test]
    fn what_never_got_into_force_is_forgotten_at_once() {
        let mut names = Identities::new();
        drop(names.get_or_insert("rejected", || 1));
        assert!(names.sweep(|_| true, Instant::now()).is_empty(), "unless it counted something");
        assert_eq!(names.sweep(|_| false, Instant::now() + KEPT).len(), 1);
        drop(names.get_or_insert("rejected", || 1));
        assert_eq!(names.sweep(|_| false, Instant::now()).len(), 1);
    }

    #[test]
    fn no_room_beyond_the_cap() {
        let mut names = Identities::new();
        let held: Vec<_> = (0..ROOM).map(|n| names.get_or_insert(n, || n).unwrap()).collect();
        assert!(names.get_or_insert(ROOM, || 0).is_none());
        assert_eq!(*names.get_or_insert(7, || 0).unwrap(), 7, "known names are served at the cap");
        assert!(names.should_sweep());
        assert!(names.sweep(|_| false, Instant::now()).is_empty());
        assert!(!names.should_sweep(), "not again for every single name");
        drop(held);
        assert_eq!(names.sweep(|_| false, Instant::now()).len(), ROOM);
        assert!(names.get_or_insert(ROOM, || 0).is_some());
    }
}
