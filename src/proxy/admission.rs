//! How many requests may be under way in the whole process. What is over that is turned away at the door, before it is routed
//! and before its body is read.
//!
//! Nothing is queued. The places are as many as the process can serve at once, so a queue would only age: under a load that
//! lasts, everybody in it would be answered late, many of them after they have given up. A system that turns away what it has
//! no place for goes on serving as much as it can, and is well again as soon as the load is gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Keeps what one worker writes off the cache lines of others; 128 bytes because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// The places for requests under way, and who has them.
///
/// One shared counter would travel between the cores twice for every request. Instead each worker counts its own, and as long as
/// none of them has more than half of its part of the places, there is no need to know the others' counts: more than half of all
/// cannot be taken. The first one to pass that says so, and from then on every entry adds up the counts of all workers, so that
/// near the limit the sum is exact. Two that take the last place in the same moment may both be turned away, never both admitted.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    /// As many requests of one worker need no look at the others.
    carefree: usize,
    /// Whether a worker has passed that. Read by everybody, hardly ever written.
    crowded: Apart<AtomicBool>,
    /// Each is written by its worker only.
    under_way: Box<[Apart<AtomicUsize>]>,
}

impl Admission {
    /// Places for `most` requests of so many workers together.
    #[must_use]
    pub fn new(most: usize, workers: usize) -> Self {
        let carefree = most / (2 * workers.max(1));
        let under_way = (0..workers).map(|_| Apart::default()).collect();
        Self { most, carefree, crowded: Apart::default(), under_way }
    }

    /// Takes a place for a request of this worker, on its own thread. Whether there was one.
    #[inline]
    pub(super) fn enter(&self, worker: usize) -> bool {
        let own = &self.under_way[worker].0;
        let now = own.load(Ordering::Relaxed) + 1;
        own.store(now, Ordering::Relaxed);
        if now <= self.carefree && !self.crowded.0.load(Ordering::Relaxed) {
            return true;
        }
        self.enter_crowd(own, now)
    }

    fn enter_crowd(&self, own: &AtomicUsize, now: usize) -> bool {
        if !self.crowded.0.load(Ordering::Relaxed) {
            self.crowded.0.store(true, Ordering::Relaxed);
        }
        // Of two that enter in the same moment at least one sees the other's count.
        fence(Ordering::SeqCst);
        if self.under_way() <= self.most {
            return true;
        }
        own.store(now - 1, Ordering::Relaxed);
        false
    }

    /// Gives a place of this worker back, on its own thread.
    #[inline]
    pub(super) fn leave(&self, worker: usize) {
        let own = &self.under_way[worker].0;
        own.store(own.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// Ends the counting of all once most places are free again. To be called now and then.
    pub(super) fn relax(&self) {
        if self.crowded.0.load(Ordering::Relaxed) && self.under_way() <= self.most / 4 {
            self.crowded.0.store(false, Ordering::Relaxed);
        }
    }

    /// How many places are taken.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_as_allowed_whoever_serves_them() {
        for (most, workers) in [(0, 1), (1, 1), (1, 4), (5, 2), (16, 3), (100, 8)] {
            let admission = Admission::new(most, workers);
            let admitted = (0..2 * most + 8).filter(|number| admission.enter(number % workers)).count();
            assert_eq!((admitted, admission.under_way()), (most, most), "{most} over {workers} workers");
            let lone = Admission::new(most, workers);
            let admitted = (0..most + 3).filter(|_| lone.enter(workers - 1)).count();
            assert_eq!(admitted, most, "{most}, all of them on one of {workers} workers");
        }
    }

    #[test]
    fn a_place_that_was_given_back_is_taken_by_the_next() {
        let admission = Admission::new(3, 2);
        assert_eq!([0, 0, 1, 1].map(|worker| admission.enter(worker)), [true, true, true, false]);
        for _ in 0..5 {
            admission.leave(0);
            assert!(admission.enter(1) && !admission.enter(0));
            admission.leave(1);
            assert!(admission.enter(0) && !admission.enter(1));
        }
    }

    #[test]
    fn after_a_crowd_the_limit_holds_as_before() {
        let admission = Admission::new(40, 2);
        for _ in 0..3 {
            assert_eq!((0..50).filter(|number| admission.enter(number % 2)).count(), 40);
            admission.relax();
            assert!(admission.crowded.0.load(Ordering::Relaxed), "nobody has left");
            (0..40).for_each(|number| admission.leave(number % 2));
            admission.relax();
            assert!(!admission.crowded.0.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn workers_at_the_same_time_never_admit_more_than_allowed() {
        let admission = Admission::new(8, 4);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (admission, inside, most) = (&admission, &inside, &most);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let taken = (0..1 + round % 5).filter(|_| admission.enter(worker)).count();
                        most.fetch_max(inside.fetch_add(taken, Ordering::SeqCst) + taken, Ordering::SeqCst);
                        inside.fetch_sub(taken, Ordering::SeqCst);
                        (0..taken).for_each(|_| admission.leave(worker));
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 8);
        assert_eq!(admission.under_way(), 0);
    }
}
