//! A worker's sign of life: whether it moves, and what it was last seen doing. Written by the worker alone, with plain stores;
//! read by whoever watches over it.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::thread;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    /// It waits for something to happen.
    Waiting = 0,
    /// It looks after its connections.
    Tending = 1,
    /// It takes a connection.
    Accepting = 2,
    /// It decides about a request.
    Deciding = 3,
    /// It sends a request to an endpoint.
    Forwarding = 4,
    /// It passes the body of an answer on.
    Answering = 5,
}

impl Activity {
    const ALL: [Self; 6] =
        [Self::Waiting, Self::Tending, Self::Accepting, Self::Deciding, Self::Forwarding, Self::Answering];
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for something to happen",
            Self::Tending => "looking after its connections",
            Self::Accepting => "taking a connection",
            Self::Deciding => "deciding about a request",
            Self::Forwarding => "sending a request to an endpoint",
            Self::Answering => "passing the body of an answer on",
        })
    }
}

/// Whether a worker's thread is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Life {
    /// It runs.
    Alive = 0,
    /// It ended as it was told to.
    Ended = 1,
    /// It panicked.
    Died = 2,
}

/// See the module. Off its neighbours' cache lines, because it is written for each request.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Pulse {
    beats: AtomicU64,
    doing: AtomicU8,
    life: AtomicU8,
}

impl Pulse {
    /// A number that changes several times a second while the worker moves.
    pub fn beats(&self) -> u64 {
        self.beats.load(Relaxed)
    }

    /// What it was last seen doing.
    pub fn doing(&self) -> Activity {
        Activity::ALL[usize::from(self.doing.load(Relaxed))]
    }

    /// Whether its thread is there.
    pub fn life(&self) -> Life {
        match self.life.load(Relaxed) {
            0 => Life::Alive,
            1 => Life::Ended,
            _ => Life::Died,
        }
    }

    /// The worker moves.
    pub(super) fn beat(&self) {
        self.beats.store(self.beats.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// The worker begins with something.
    pub(super) fn does(&self, activity: Activity) {
        self.doing.store(activity as u8, Relaxed);
    }
}

/// Notes how a worker's thread ends, when it is dropped there.
pub(super) struct LastWord<'p>(pub(super) &'p Pulse);

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        let life = if thread::panicking() { Life::Died } else { Life::Ended };
        self.0.life.store(life as u8, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_end_and_a_death_are_told_apart() {
        for (dies, life) in [(false, Life::Ended), (true, Life::Died)] {
            let pulse = Arc::new(Pulse::default());
            assert_eq!((pulse.life(), pulse.doing()), (Life::Alive, Activity::Waiting));
            let its = Arc::clone(&pulse);
            let thread = thread::spawn(move || {
                let _last_word = LastWord(&its);
                its.does(Activity::Deciding);
                its.beat();
                assert!(!dies, "on purpose");
            });
            assert_eq!(thread.join().is_err(), dies);
            assert_eq!((pulse.life(), pulse.doing(), pulse.beats()), (life, Activity::Deciding, 1));
        }
    }

    #[test]
    fn every_activity_is_found_under_its_number() {
        for activity in Activity::ALL {
            let pulse = Pulse::default();
            pulse.does(activity);
            assert_eq!(pulse.doing(), activity);
        }
    }
}
