//! What happened to the configuration: the `serin_config_*` metrics. Written by the control side only, never by a
//! request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::histogram::ClassicSum;
use super::scale::Scale;

/// What a look at the configuration came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// Something new, now in force.
    Applied,
    /// The same as what is in force.
    Unchanged,
    /// Invalid: what was in force stays.
    Rejected,
}

impl ReloadResult {
    pub(super) const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Rejected];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
        }
    }
}

/// Why the configuration was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadTrigger {
    /// The system reported a change of its files.
    Watch,
    /// The regular comparison of contents found one.
    Poll,
    /// SIGHUP.
    Signal,
    /// `POST /config/reload`.
    Api,
}

impl ReloadTrigger {
    pub(super) const ALL: [Self; 4] = [Self::Watch, Self::Poll, Self::Signal, Self::Api];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Poll => "poll",
            Self::Signal => "signal",
            Self::Api => "api",
        }
    }
}

/// Counts as one live configuration for as long as it exists: each snapshot holds one.
#[derive(Debug, Clone)]
pub struct SnapshotToken {
    _counted: Arc<()>,
}

/// The metrics of reloading. All series exist from the start.
#[derive(Debug)]
pub struct ReloadMetrics {
    scale: Arc<Scale>,
    /// One reference is this one, every other is a token: counting needs no code in a `Drop`.
    live: Arc<()>,
    state: Mutex<Reloads>,
}

#[derive(Debug, Clone)]
pub(super) struct Reloads {
    /// By result, then by trigger.
    pub(super) counts: [[u64; ReloadTrigger::ALL.len()]; ReloadResult::ALL.len()],
    pub(super) durations: ClassicSum,
    pub(super) successful: bool,
    pub(super) last_success: Option<SystemTime>,
    pub(super) generation: u64,
    pub(super) hash: Option<Arc<str>>,
    pub(super) watch_healthy: bool,
}

impl ReloadMetrics {
    pub(super) fn new(scale: Arc<Scale>) -> Self {
        let state = Reloads {
            counts: Default::default(),
            durations: ClassicSum::default(),
            successful: false,
            last_success: None,
            generation: 0,
            hash: None,
            watch_healthy: false,
        };
        Self { scale, live: Arc::new(()), state: Mutex::new(state) }
    }

    /// Records one look at the configuration and how long it took, from the trigger to the effect.
    pub fn looked(&self, result: ReloadResult, trigger: ReloadTrigger, duration: Duration) {
        let mut state = self.lock();
        state.counts[result as usize][trigger as usize] += 1;
        state.durations.record(self.scale.place(duration));
        state.successful = result != ReloadResult::Rejected;
        if state.successful {
            state.last_success = Some(SystemTime::now());
        }
    }

    /// Says which configuration is in force now, the one at the start included. `hash` is the text of its hash.
    pub fn in_force(&self, generation: u64, hash: &str) {
        let mut state = self.lock();
        state.generation = generation;
        state.hash = Some(hash.into());
        state.successful = true;
        state.last_success = Some(SystemTime::now());
    }

    /// Says whether changes of the files can be seen.
    pub fn set_watch_healthy(&self, healthy: bool) {
        self.lock().watch_healthy = healthy;
    }

    /// A token for a new snapshot to hold.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotToken {
        SnapshotToken { _counted: Arc::clone(&self.live) }
    }

    pub(crate) fn snapshots(&self) -> usize {
        Arc::strong_count(&self.live) - 1
    }

    pub(super) fn state(&self) -> Reloads {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Reloads> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
