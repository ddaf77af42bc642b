//! How many requests may be under way in the whole process. What is over that is turned away at the door, before it is routed
//! and before its body is read. So is what comes while the process is short of memory, and what is too much for a worker that is
//! late ([`pace`](super::pace)).
//!
//! Nothing is queued. The places are as many as the process can serve at once, so a queue would only age: under a load that
//! lasts, everybody in it would be answered late, many of them after they have given up. A system that turns away what it has
//! no place for goes on serving as much as it can, and is well again as soon as the load is gone.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};

use crate::telemetry::Shed;

/// A worker with at most so many requests under way serves each of them, however late it is: their number is not what makes it
/// late.
const FEW: usize = 16;

/// Keeps what one worker writes off the cache lines of others; 128 bytes because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// How much of the memory that the process may have is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Memory {
    /// There is enough left.
    Enough = 0,
    /// Idle connections of clients have to go.
    Scarce = 1,
    /// Connections have to go after their request, and new requests are turned away.
    Short = 2,
}

/// How many requests a worker takes until it says something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// As many as come.
    All,
    /// Only so many more.
    Some(usize),
}

/// What a worker has admitted and refused since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Counted only while there is an allowance.
    pub admitted: usize,
    /// For want of one.
    pub refused: usize,
}

/// What one worker counts, which alone writes it.
#[derive(Debug, Default)]
struct Own {
    under_way: AtomicUsize,
    /// As many need no look at anything else.
    carefree: AtomicUsize,
    is_limited: AtomicBool,
    /// How many more it admits, if it is limited.
    left: AtomicUsize,
    admitted: AtomicUsize,
    refused: AtomicUsize,
    /// Whether it has admitted one since it last looked round while there was a crowd …
    has_admitted: AtomicBool,
    /// … and whether it had not for the whole time before, so that it may admit one more though memory is short.
    may_take_one: AtomicBool,
}

/// The places for requests under way, and who has them.
///
/// One shared counter would travel between the cores twice for every request. Instead each worker counts its own, and as long as
/// none of them has more than half of its part of the places, there is no need to know the others' counts: more than half of all
/// cannot be taken. The first one to pass that says so, and from then on every entry adds up the counts of all workers, so that
/// near the limit the sum is exact. Two that take the last place in the same moment may both be turned away, never both admitted.
///
/// The other reasons to turn a request away cost nothing where there is none: a worker that has an allowance sets its carefree
/// number to nought, and want of memory looks like a crowd.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    /// As many requests of one worker need no look at the others.
    carefree: usize,
    /// Whether a worker has passed that, or memory is short. Read by everybody, hardly ever written.
    crowded: Apart<AtomicBool>,
    memory: Apart<AtomicU8>,
    workers: Box<[Apart<Own>]>,
}

impl Admission {
    /// Places for `most` requests of so many workers together.
    #[must_use]
    pub fn new(most: usize, workers: usize) -> Self {
        let carefree = most / (2 * workers.max(1));
        let own = || Apart(Own { carefree: AtomicUsize::new(carefree), ..Own::default() });
        let workers = (0..workers).map(|_| own()).collect();
        Self { most, carefree, crowded: Apart::default(), memory: Apart::default(), workers }
    }

    /// Takes a place for a request of this worker, on its own thread; or says why there is none.
    #[inline]
    pub(super) fn enter(&self, worker: usize) -> Result<(), Shed> {
        let own = &self.workers[worker].0;
        let now = own.under_way.load(Ordering::Relaxed) + 1;
        own.under_way.store(now, Ordering::Relaxed);
        if now <= own.carefree.load(Ordering::Relaxed) && !self.crowded.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let entered = self.enter_crowd(own, now);
        if entered.is_err() {
            own.under_way.store(now - 1, Ordering::Relaxed);
        }
        entered
    }

    fn enter_crowd(&self, own: &Own, now: usize) -> Result<(), Shed> {
        // A few are served all the same: memory that does not come back must not make a dead proxy of a full one.
        if now > 1 && self.memory() == Memory::Short && !own.may_take_one.load(Ordering::Relaxed) {
            return Err(Shed::Memory);
        }
        let is_limited = own.is_limited.load(Ordering::Relaxed);
        if is_limited && now > FEW && own.left.load(Ordering::Relaxed) == 0 {
            add_one(&own.refused);
            return Err(Shed::Delay);
        }
        if now > self.carefree || self.crowded.0.load(Ordering::Relaxed) {
            self.crowded.0.store(true, Ordering::Relaxed);
            // Of two that enter in the same moment at least one sees the other's count.
            fence(Ordering::SeqCst);
            if self.under_way() > self.most {
                return Err(Shed::Requests);
            }
        }
        own.has_admitted.store(true, Ordering::Relaxed);
        own.may_take_one.store(false, Ordering::Relaxed);
        if is_limited {
            own.left.store(own.left.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
            add_one(&own.admitted);
        }
        Ok(())
    }

    /// Gives a place of this worker back, on its own thread.
    #[inline]
    pub(super) fn leave(&self, worker: usize) {
        let own = &self.workers[worker].0.under_way;
        own.store(own.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// Ends the counting of all once most places are free again. To be called by a worker now and then.
    pub(super) fn relax(&self, worker: usize) {
        let own = &self.workers[worker].0;
        own.may_take_one.store(!own.has_admitted.load(Ordering::Relaxed), Ordering::Relaxed);
        own.has_admitted.store(false, Ordering::Relaxed);
        let is_needed = self.memory() == Memory::Short || self.under_way() > self.most / 4;
        if self.crowded.0.load(Ordering::Relaxed) && !is_needed {
            self.crowded.0.store(false, Ordering::Relaxed);
        }
    }

    /// What this worker admits from now on, on its own thread.
    pub(super) fn allow(&self, worker: usize, allowance: Allowance) {
        let own = &self.workers[worker].0;
        let (carefree, left) = match allowance {
            Allowance::All => (self.carefree, 0),
            Allowance::Some(left) => (0, left),
        };
        own.is_limited.store(allowance != Allowance::All, Ordering::Relaxed);
        own.carefree.store(carefree, Ordering::Relaxed);
        own.left.store(left, Ordering::Relaxed);
    }

    /// What it has done since this was last asked, on its own thread.
    pub(super) fn take_passed(&self, worker: usize) -> Passed {
        let own = &self.workers[worker].0;
        let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
        Passed { admitted: take(&own.admitted), refused: take(&own.refused) }
    }

    /// Says how much memory is in use: to be repeated a few times a second while it is short, because a worker that is just
    /// ending a crowd may not have heard of it.
    pub fn set_memory(&self, memory: Memory) {
        self.memory.0.store(memory as u8, Ordering::Relaxed);
        if memory == Memory::Short {
            self.crowded.0.store(true, Ordering::Relaxed);
        }
    }

    /// How much memory is in use.
    pub(super) fn memory(&self) -> Memory {
        match self.memory.0.load(Ordering::Relaxed) {
            0 => Memory::Enough,
            1 => Memory::Scarce,
            _ => Memory::Short,
        }
    }

    /// How many places are taken.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.workers.iter().map(|own| own.0.under_way.load(Ordering::Relaxed)).sum()
    }
}

fn add_one(count: &AtomicUsize) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_as_allowed_whoever_serves_them() {
        for (most, workers) in [(0, 1), (1, 1), (1, 4), (5, 2), (16, 3), (100, 8)] {
            let admission = Admission::new(most, workers);
            let admitted = (0..2 * most + 8).filter(|number| admission.enter(number % workers).is_ok()).count();
            assert_eq!((admitted, admission.under_way()), (most, most), "{most} over {workers} workers");
            let lone = Admission::new(most, workers);
            let admitted = (0..most + 3).filter(|_| lone.enter(workers - 1).is_ok()).count();
            assert_eq!(admitted, most, "{most}, all of them on one of {workers} workers");
        }
    }

    #[test]
    fn a_place_that_was_given_back_is_taken_by_the_next() {
        let admission = Admission::new(3, 2);
        assert_eq!([0, 0, 1, 1].map(|worker| admission.enter(worker).is_ok()), [true, true, true, false]);
        for _ in 0..5 {
            admission.leave(0);
            assert!(admission.enter(1).is_ok() && admission.enter(0) == Err(Shed::Requests));
            admission.leave(1);
            assert!(admission.enter(0).is_ok() && admission.enter(1) == Err(Shed::Requests));
        }
    }

    #[test]
    fn after_a_crowd_the_limit_holds_as_before() {
        let admission = Admission::new(40, 2);
        for _ in 0..3 {
            assert_eq!((0..50).filter(|number| admission.enter(number % 2).is_ok()).count(), 40);
            admission.relax(0);
            assert!(admission.crowded.0.load(Ordering::Relaxed), "nobody has left");
            (0..40).for_each(|number| admission.leave(number % 2));
            admission.relax(0);
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
                        let taken = (0..1 + round % 5).filter(|_| admission.enter(worker).is_ok()).count();
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

    #[test]
    fn a_worker_with_an_allowance_admits_that_many_more_and_others_as_before() {
        let admission = Admission::new(1000, 2);
        (0..FEW).for_each(|_| admission.enter(0).unwrap());
        admission.allow(0, Allowance::Some(3));
        assert_eq!(admission.take_passed(0), Passed::default(), "before that, nobody counts");
        let entered: Vec<_> = (0..5).map(|_| admission.enter(0)).collect();
        assert_eq!(entered, [Ok(()), Ok(()), Ok(()), Err(Shed::Delay), Err(Shed::Delay)]);
        assert!((0..100).all(|_| admission.enter(1).is_ok()));
        assert_eq!(admission.under_way(), FEW + 3 + 100);
        assert!(!admission.crowded.0.load(Ordering::Relaxed), "which is no crowd");
        assert_eq!(admission.take_passed(0), Passed { admitted: 3, refused: 2 });
        admission.allow(0, Allowance::Some(1));
        assert_eq!([(); 2].map(|()| admission.enter(0).is_ok()), [true, false]);
        assert_eq!(admission.take_passed(0), Passed { admitted: 1, refused: 1 });
        admission.allow(0, Allowance::All);
        assert!((0..100).all(|_| admission.enter(0).is_ok()));
    }

    #[test]
    fn a_few_are_served_without_an_allowance_and_the_places_count_with_one() {
        let admission = Admission::new(FEW + 4, 1);
        admission.allow(0, Allowance::Some(0));
        assert_eq!((0..50).filter(|_| admission.enter(0).is_ok()).count(), FEW);
        admission.allow(0, Allowance::Some(50));
        let refused: Vec<_> = (0..50).filter_map(|_| admission.enter(0).err()).collect();
        assert_eq!((admission.under_way(), &refused[..]), (FEW + 4, &[Shed::Requests; 46][..]));
    }

    #[test]
    fn short_of_memory_each_worker_serves_one_at_a_time_or_one_more_now_and_then() {
        let admission = Admission::new(1000, 2);
        admission.enter(0).unwrap();
        admission.set_memory(Memory::Scarce);
        admission.enter(0).unwrap();
        admission.set_memory(Memory::Short);
        let enter = |worker| admission.enter(worker).map_err(|shed| assert_eq!(shed, Shed::Memory)).is_ok();
        assert_eq!([0, 0, 1, 1].map(enter), [false, false, true, false]);
        (0..2).for_each(|worker| admission.relax(worker));
        assert_eq!([0, 0, 1].map(enter), [true, false, false], "one more, where none was admitted all the time");
        (0..2).for_each(|worker| admission.relax(worker));
        assert_eq!([0, 1, 1].map(enter), [false, true, false]);
        admission.set_memory(Memory::Enough);
        admission.relax(0);
        assert!((0..100).all(|_| admission.enter(1).is_ok()));
    }
}
