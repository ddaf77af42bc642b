//! What became of look-ups of names: the `serin_dns_*` metrics. Written by the thread that resolves, never by a request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Why a look-up gave no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFailure {
    /// There is no such name, or it has no address.
    NotFound,
    /// There was no answer, or one that says nothing about the name.
    Failed,
}

impl DnsFailure {
    pub(super) const ALL: [Self; 2] = [Self::NotFound, Self::Failed];

    /// The label value.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Failed => "failed",
        }
    }
}

/// The metrics of look-ups.
#[derive(Debug, Default)]
pub struct DnsMetrics {
    failures: [AtomicU64; DnsFailure::ALL.len()],
    oldest: Mutex<Option<Instant>>,
}

impl DnsMetrics {
    /// A look-up gave no address.
    pub fn failed(&self, why: DnsFailure) {
        self.failures[why as usize].fetch_add(1, Relaxed);
    }

    /// Of the names in use, when the one that has waited longest for a good answer got its last one (or was first looked up);
    /// none if no name is in use.
    pub fn set_oldest_answer(&self, at: Option<Instant>) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// How many look-ups failed for this reason.
    #[must_use]
    pub fn failures(&self, why: DnsFailure) -> u64 {
        self.failures[why as usize].load(Relaxed)
    }

    pub(crate) fn oldest_answer(&self) -> Option<Instant> {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
