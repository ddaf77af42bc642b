//! What the process turns away because it has too much to do or too little memory, and the memory that it counts itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::shard::{Cell, Shards, Worker};

/// What a request was turned away for at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// As many requests are under way as may be.
    Requests,
    /// The worker comes late to everything it does.
    Delay,
    /// The process has nearly as much memory as it may have.
    Memory,
}

impl Shed {
    const ALL: [Self; 3] = [Self::Requests, Self::Delay, Self::Memory];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Delay => "delay",
            Self::Memory => "memory",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct OverloadMetrics {
    shed: Shards<[Cell; Shed::ALL.len()]>,
    /// In bytes; 0: there is none.
    memory_limit: AtomicU64,
    kept: AtomicU64,
    not_kept: AtomicU64,
}

impl OverloadMetrics {
    pub(super) fn new(workers: usize) -> Self {
        let [memory_limit, kept, not_kept] = Default::default();
        Self { shed: Shards::new(workers), memory_limit, kept, not_kept }
    }

    /// A request was turned away.
    pub fn shed(&self, worker: Worker, why: Shed) {
        self.shed.of(worker)[why as usize].add(1);
    }

    /// The memory that the process may have, in bytes.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.memory_limit.store(bytes, Relaxed);
    }

    /// So many bytes more are kept of bodies that may have to be sent again. How many there are now.
    pub fn keep(&self, bytes: u64) -> u64 {
        self.kept.fetch_add(bytes, Relaxed) + bytes
    }

    /// So many bytes less.
    pub fn let_go(&self, bytes: u64) {
        self.kept.fetch_sub(bytes, Relaxed);
    }

    /// How many bytes are kept now.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// A body was not kept, because there were too many already.
    pub fn not_kept(&self) {
        self.not_kept.fetch_add(1, Relaxed);
    }

    pub(super) fn turned_away(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Shed::ALL.iter().map(|why| (why.as_str(), self.shed.sum(|shed| shed[*why as usize].get())))
    }

    /// That memory, if it is limited.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        Some(self.memory_limit.load(Relaxed)).filter(|bytes| *bytes > 0)
    }

    pub(super) fn bodies_not_kept(&self) -> u64 {
        self.not_kept.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Buckets, Metrics};

    #[test]
    fn each_reason_is_counted_on_its_own_over_all_workers() {
        let metrics = Metrics::new(2, Buckets::Small);
        let overload = metrics.overload();
        for (number, why) in Shed::ALL.into_iter().enumerate() {
            (0..=number).for_each(|worker| overload.shed(Worker(worker % 2), why));
        }
        let text = metrics.render();
        let counted = |series: &str, count: u64| assert!(text.contains(&format!("{series} {count}\n")), "{text}");
        counted("serin_shed_requests_total{reason=\"requests\"}", 1);
        counted("serin_shed_requests_total{reason=\"delay\"}", 2);
        counted("serin_shed_requests_total{reason=\"memory\"}", 3);
    }

    #[test]
    fn there_is_a_limit_once_it_was_set_and_bodies_are_counted_both_ways() {
        let metrics = Metrics::new(1, Buckets::Small);
        assert!(!metrics.render().contains("serin_memory_limit_bytes"));
        let overload = metrics.overload();
        overload.set_memory_limit(1 << 20);
        assert_eq!((overload.keep(300), overload.keep(50)), (300, 350));
        overload.let_go(300);
        overload.not_kept();
        let text = metrics.render();
        for line in ["serin_memory_limit_bytes 1048576", "serin_kept_body_bytes 50", "serin_bodies_not_kept_total 1"] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
