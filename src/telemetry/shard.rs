//! One copy of every counter per worker: the worker alone writes it, the scraper reads all of them.
//!
//! With a single writer an addition is a load and a store, without a locked instruction, and with a copy in its own
//! allocation no two workers share a cache line. Nothing here knows what is counted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which data-plane thread is speaking: 0 … workers − 1.
///
/// Each worker must be used by one thread at a time; two threads that claim the same one lose counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker(pub usize);

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Adds a signed amount: for gauges, whose shards may go below zero while their sum does not.
    #[inline]
    pub(super) fn shift(&self, amount: i64) {
        self.add(amount.cast_unsigned());
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value that is allocated when it is first written to.
#[derive(Debug)]
pub(super) struct Lazy<T>(OnceLock<Box<T>>);

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Lazy<T> {
    /// The value if something was ever written.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.get().map(Box::as_ref)
    }

    #[inline]
    pub(super) fn get_or_init(&self, create: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(|| Box::new(create()))
    }
}

/// Keeps a worker's copy off its neighbours' cache lines; 128 bytes because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// One `T` per worker, each allocated when that worker first writes.
#[derive(Debug)]
pub(super) struct Shards<T>(Box<[Lazy<Apart<T>>]>);

impl<T: Default> Shards<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Lazy::default()).collect())
    }

    /// The worker's own copy. Panics when the worker does not exist: a mistake in wiring, seen at its first request.
    #[inline]
    pub(super) fn of(&self, worker: Worker) -> &T {
        &self.0[worker.0].get_or_init(Apart::default).0
    }

    /// The copies that were ever written to.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(Lazy::get).map(|apart| &apart.0)
    }

    /// The sum over all workers of one number.
    pub(super) fn sum(&self, number: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(number).fold(0, u64::wrapping_add)
    }

    /// The sum over all workers of one gauge; never below zero, although a scrape may catch a move half done.
    pub(super) fn level(&self, number: impl Fn(&T) -> u64) -> u64 {
        u64::try_from(self.sum(number).cast_signed()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_with_every_worker_writing() {
        let shards: Shards<Cell> = Shards::new(8);
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let shards = &shards;
                scope.spawn(move || (0..10_000).for_each(|i| shards.of(Worker(worker)).add(i)));
            }
        });
        assert_eq!(shards.sum(Cell::get), 8 * (0..10_000).sum::<u64>());
    }

    #[test]
    fn a_shard_exists_only_once_written() {
        let shards: Shards<Cell> = Shards::new(3);
        assert_eq!(shards.iter().count(), 0);
        shards.of(Worker(1)).add(0);
        assert_eq!(shards.iter().count(), 1);
    }

    #[test]
    fn a_gauge_that_moves_between_workers_keeps_its_sum() {
        let shards: Shards<Cell> = Shards::new(2);
        shards.of(Worker(0)).shift(3);
        shards.of(Worker(1)).shift(-2);
        assert_eq!(shards.level(Cell::get), 1);
        shards.of(Worker(1)).shift(-2);
        assert_eq!(shards.level(Cell::get), 0, "a half-seen move is not a huge number");
    }

    #[test]
    fn copies_are_apart() {
        let shards: Shards<Cell> = Shards::new(2);
        let at = |worker| std::ptr::from_ref(shards.of(Worker(worker))).addr();
        assert!(at(0).abs_diff(at(1)) >= 128);
    }
}
