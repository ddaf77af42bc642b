//! The memory of all bodies that are kept while they are sent. Each of them is small, and there may be as many as there are
//! requests: together they have a limit. What finds no room goes on without being kept, so that its request cannot be sent again
//! after it was written, and is not copied to a mirror. That is better than to be out of memory, and than to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::telemetry::OverloadMetrics;

/// All bodies of the process that are kept.
#[derive(Debug)]
pub struct Bodies {
    /// In bytes.
    most: u64,
    /// Counts them, too.
    metrics: Arc<OverloadMetrics>,
}

/// The part that one body has of them, given back when the last who holds it lets it go.
#[derive(Debug)]
pub(super) struct Claim {
    bodies: Arc<Bodies>,
    bytes: AtomicU64,
}

impl Bodies {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(most: u64, metrics: Arc<OverloadMetrics>) -> Self {
        Self { most, metrics }
    }

    /// Begins with a body of at least so many bytes, if there is room for it.
    pub(super) fn begin(self: &Arc<Self>, length: u64) -> Option<Arc<Claim>> {
        if self.metrics.kept() + length > self.most {
            self.metrics.not_kept();
            return None;
        }
        Some(Arc::new(Claim { bodies: Arc::clone(self), bytes: AtomicU64::new(0) }))
    }
}

impl Claim {
    /// So many bytes more. Whether there is room for them.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let Bodies { most, metrics } = &*self.bodies;
        if metrics.keep(bytes) > *most {
            metrics.let_go(bytes);
            metrics.not_kept();
            return false;
        }
        self.bytes.fetch_add(bytes, Relaxed);
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.bodies.metrics.let_go(*self.bytes.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Buckets, Metrics};

    fn bodies(most: u64) -> (Arc<Bodies>, Arc<OverloadMetrics>) {
        let metrics = Arc::clone(Metrics::new(1, Buckets::Small).overload());
        (Arc::new(Bodies::new(most, Arc::clone(&metrics))), metrics)
    }

    #[test]
    fn all_together_never_have_more_than_there_is() {
        let (bodies, metrics) = bodies(100);
        let (one, other) = (bodies.begin(60).unwrap(), bodies.begin(100).unwrap());
        assert!(one.grow(60) && !other.grow(41) && other.grow(40), "what was refused takes nothing");
        assert_eq!(metrics.kept(), 100);
        assert!(bodies.begin(1).is_none() && bodies.begin(0).is_some());
        drop(one);
        assert_eq!(metrics.kept(), 40);
        assert!(bodies.begin(60).unwrap().grow(60));
        drop(other);
        assert_eq!(metrics.kept(), 0);
    }

    #[test]
    fn a_part_is_held_by_whoever_is_last() {
        let (bodies, metrics) = bodies(100);
        let claim = bodies.begin(10).unwrap();
        let copy = Arc::clone(&claim);
        assert!(claim.grow(10));
        drop(claim);
        assert_eq!(metrics.kept(), 10);
        drop(copy);
        assert_eq!(metrics.kept(), 0);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let (bodies, _) = bodies(0);
        assert!(bodies.begin(1).is_none() && !bodies.begin(0).unwrap().grow(1));
    }
}
