//! How long workers were held up, so that their other requests had to wait.

use std::time::Duration;

use super::shard::{Cell, Worker};

/// One counter for each worker, which alone writes it.
#[derive(Debug)]
pub struct WorkerStalls(Box<[Cell]>);

impl WorkerStalls {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Cell::new()).collect())
    }

    /// The worker came back so late to what it does several times a second.
    pub fn add(&self, worker: Worker, late: Duration) {
        self.0[worker.0].add(late.as_nanos() as u64);
    }

    /// Seconds of each worker.
    pub(super) fn seconds(&self) -> impl Iterator<Item = f64> {
        self.0.iter().map(|nanos| nanos.get() as f64 / 1e9)
    }
}
