//! One step of a release as its requests see it: what each of the two versions got, and what went wrong, in the order in which
//! the requests began. Written by the workers, read by whoever judges the release.
//!
//! Only requests whose version was drawn with the share of this step come here, each with its first attempt. One that goes well
//! costs a short lock of its worker's own and a few additions; one that goes badly leaves a [`Mishap`]. Slow ones are found by
//! their age, when the trial is looked at, so that none needs a timer and one that hangs is seen before it ends.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Flag;
use super::record::AttemptResult;
use super::scale::{CLASSIC, Scale};
use super::shard::{Shards, Worker};

/// A request that takes longer than this holds up the order of events no more (spec: "or older than 5 s").
const HOLDS_UP: Duration = Duration::from_secs(5);

/// One of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The one that serves already.
    Stable,
    /// The new one.
    Canary,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Its first attempt failed: 5xx, no connection, reset, timeout.
    Error,
    /// Its first attempt has had no answer for longer than the step allows.
    Slow,
}

/// One request on which something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mishap {
    /// When its version was drawn.
    pub begun: Instant,
    /// The version.
    pub arm: Arm,
    /// What.
    pub wrong: Wrong,
    /// What its version was drawn by, where that is the client and not chance.
    pub key: Option<u64>,
}

/// A request that is counted: who comes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Entrant {
    /// The version that it got.
    pub arm: Arm,
    /// See [`Mishap::key`].
    pub key: Option<u64>,
    /// Whether time that passes is the version's. Not while a client may still be sending its request.
    pub ages: bool,
}

/// Stands for a request that has begun; to be given back to [`Trial::end`] exactly once.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    number: u64,
    begun: Instant,
    entrant: Entrant,
}

/// What a version got in this step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Those that were drawn for it, whether they have ended or not.
    pub routed: u64,
    /// First attempts that ended, or are known to be slow.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Those that were slow.
    pub slow: u64,
    /// How long the answers took, from the request sent to the response headers, by the metrics' buckets and one above them.
    pub latency: Vec<u64>,
}

/// What a look at a trial finds.
#[derive(Debug)]
pub struct Look {
    /// What went wrong since the last look, in no order.
    pub mishaps: Vec<Mishap>,
    /// Every request that began before this has ended, or is too old to be waited for.
    pub settled: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Trial {
    share: f64,
    slower_than: Option<Duration>,
    scale: Arc<Scale>,
    shards: Shards<Mutex<Shard>>,
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Shard {
    /// The number of the first of the requests below.
    first: u64,
    under_way: VecDeque<Request>,
    mishaps: Vec<Mishap>,
    arms: [Tally; 2],
}

#[derive(Debug)]
struct Request {
    ticket: Ticket,
    ended: bool,
    slow: bool,
}

#[derive(Debug)]
struct Tally {
    routed: u64,
    requests: u64,
    errors: u64,
    slow: u64,
    latency: [u64; CLASSIC],
}

impl Default for Tally {
    fn default() -> Self {
        Self { routed: 0, requests: 0, errors: 0, slow: 0, latency: [0; CLASSIC] }
    }
}

impl Trial {
    /// A step in which the canary is drawn with `share`, 0 to 1. `bell` rings when something has gone wrong.
    pub(super) fn new(
        workers: usize,
        scale: Arc<Scale>,
        share: f64,
        slower_than: Option<Duration>,
        bell: Arc<Notify>,
    ) -> Self {
        Self { share, slower_than, scale, shards: Shards::new(workers), bell }
    }

    /// The share with which the canary is drawn.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.share
    }

    /// The version of a request was drawn. Called by the worker named.
    #[inline]
    pub fn begin(&self, worker: Worker, now: Instant, entrant: Entrant) -> Ticket {
        let mut shard = self.shard(worker);
        let ticket = Ticket { number: shard.first + shard.under_way.len() as u64, begun: now, entrant };
        shard.arms[entrant.arm as usize].routed += 1;
        shard.under_way.push_back(Request { ticket, ended: false, slow: false });
        ticket
    }

    /// The first attempt of a request ended; its answer came `latency` after the request was sent, if one came. Called by the
    /// worker that began it.
    #[inline]
    pub fn end(
        &self,
        worker: Worker,
        now: Instant,
        ticket: Ticket,
        (result, latency): (AttemptResult, Option<Duration>),
    ) {
        let failed = match result {
            AttemptResult::Status(status) => status >= 500,
            // The client's doing, whatever version it met; and the proxy's own limits, which say nothing of it either.
            AttemptResult::Failed(Flag::DC | Flag::DPE | Flag::SI | Flag::UO) => return self.give_up(worker, ticket),
            AttemptResult::Failed(_) => true,
        };
        let late = self.slower_than.is_some_and(|limit| latency.unwrap_or(now.duration_since(ticket.begun)) > limit);
        let place = latency.map(|latency| self.scale.place(latency));
        let mut shard = self.shard(worker);
        let known_slow = shard.leave(ticket).unwrap_or(self.slower_than.is_some() && ticket.entrant.ages);
        let Shard { arms, mishaps, .. } = &mut *shard;
        let tally = &mut arms[ticket.entrant.arm as usize];
        tally.requests += u64::from(!known_slow);
        if let Some(place) = place {
            tally.latency[place.bucket] += 1;
        }
        if failed {
            tally.errors += 1;
            mishaps.push(ticket.mishap(Wrong::Error));
        }
        if late && !known_slow {
            tally.slow += 1;
            mishaps.push(ticket.mishap(Wrong::Slow));
        }
        let wrong = failed || late;
        drop(shard);
        if wrong {
            self.bell.notify_one();
        }
    }

    /// A request ended in a way that says nothing about its version: its client went away, say.
    pub fn give_up(&self, worker: Worker, ticket: Ticket) {
        let mut shard = self.shard(worker);
        if shard.leave(ticket) == Some(false) {
            shard.arms[ticket.entrant.arm as usize].routed -= 1;
        }
    }

    /// The answer of a request that ended well so far broke off.
    pub fn broke_off(&self, worker: Worker, ticket: Ticket) {
        let mut shard = self.shard(worker);
        shard.arms[ticket.entrant.arm as usize].errors += 1;
        shard.mishaps.push(ticket.mishap(Wrong::Error));
        drop(shard);
        self.bell.notify_one();
    }

    /// Takes what went wrong since the last look, with what has become slow by `now`.
    pub fn look(&self, now: Instant) -> Look {
        let mut look = Look { mishaps: Vec::new(), settled: now };
        let kept = self.slower_than.map_or(HOLDS_UP, |limit| limit.max(HOLDS_UP));
        for shard in self.shards.iter() {
            let mut shard = lock(shard);
            if let Some(limit) = self.slower_than {
                shard.find_slow(now, limit);
            }
            while shard.under_way.front().is_some_and(|oldest| oldest.age(now) > kept) {
                shard.under_way.pop_front();
                shard.first += 1;
            }
            let oldest = shard.under_way.iter().find(|one| !one.ended && one.age(now) <= HOLDS_UP);
            look.settled = look.settled.min(oldest.map_or(now, |one| one.ticket.begun));
            look.mishaps.append(&mut shard.mishaps);
        }
        look
    }

    /// What a version got so far.
    #[must_use]
    pub fn counts(&self, arm: Arm) -> Counts {
        let buckets = self.scale.bounds().len() + 1;
        let mut counts = Counts { routed: 0, requests: 0, errors: 0, slow: 0, latency: vec![0; buckets] };
        for shard in self.shards.iter() {
            let shard = lock(shard);
            let tally = &shard.arms[arm as usize];
            counts.routed += tally.routed;
            counts.requests += tally.requests;
            counts.errors += tally.errors;
            counts.slow += tally.slow;
            counts.latency.iter_mut().zip(&tally.latency).for_each(|(sum, more)| *sum += more);
        }
        counts
    }

    /// Whether no counted request is under way any more.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.shards.iter().all(|shard| lock(shard).under_way.is_empty())
    }

    fn shard(&self, worker: Worker) -> MutexGuard<'_, Shard> {
        lock(self.shards.of(worker))
    }
}

impl Shard {
    /// Takes a request off the list. Whether it was found to be slow already; nothing if it is no longer on the list, being
    /// older than anything that is waited for.
    fn leave(&mut self, ticket: Ticket) -> Option<bool> {
        let place = usize::try_from(ticket.number.checked_sub(self.first)?).ok()?;
        let request = self.under_way.get_mut(place)?;
        request.ended = true;
        let slow = request.slow;
        while self.under_way.front().is_some_and(|oldest| oldest.ended) {
            self.under_way.pop_front();
            self.first += 1;
        }
        Some(slow)
    }

    /// Notes each request that has become too old without an answer.
    fn find_slow(&mut self, now: Instant, limit: Duration) {
        let Self { under_way, mishaps, arms, .. } = self;
        for request in under_way.iter_mut().take_while(|one| one.age(now) > limit) {
            if request.ended || !request.ticket.entrant.ages || mem::replace(&mut request.slow, true) {
                continue;
            }
            let tally = &mut arms[request.ticket.entrant.arm as usize];
            tally.requests += 1;
            tally.slow += 1;
            mishaps.push(request.ticket.mishap(Wrong::Slow));
        }
    }
}

impl Request {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.ticket.begun)
    }
}

impl Ticket {
    fn mishap(self, wrong: Wrong) -> Mishap {
        Mishap { begun: self.begun, arm: self.entrant.arm, wrong, key: self.entrant.key }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::scale::Buckets;

    const W: Worker = Worker(0);
    const OK: AttemptResult = AttemptResult::Status(200);

    fn trial(slower_than: Option<Duration>) -> (Trial, Instant) {
        let now = Instant::now();
        (Trial::new(2, Arc::new(Scale::new(Buckets::Fine)), 0.1, slower_than, Arc::default()), now)
    }

    fn entrant(arm: Arm) -> Entrant {
        Entrant { arm, key: None, ages: true }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn failures_and_answers_are_counted_for_their_version() {
        let (trial, now) = trial(None);
        for (arm, result) in [
            (Arm::Stable, OK),
            (Arm::Stable, AttemptResult::Status(404)),
            (Arm::Canary, AttemptResult::Status(503)),
            (Arm::Canary, AttemptResult::Failed(Flag::UF)),
            (Arm::Canary, AttemptResult::Failed(Flag::DC)),
            (Arm::Canary, AttemptResult::Failed(Flag::UO)),
        ] {
            let ticket = trial.begin(W, now, entrant(arm));
            trial.end(W, now, ticket, (result, Some(ms(4))));
        }
        let (stable, canary) = (trial.counts(Arm::Stable), trial.counts(Arm::Canary));
        assert_eq!((stable.requests, stable.errors), (2, 0));
        assert_eq!(
            (canary.requests, canary.errors),
            (2, 2),
            "a client that went away, or our own limit, is no failure and no request"
        );
        assert_eq!((stable.latency[6], stable.latency.len()), (2, 37));
        let mishaps = trial.look(now).mishaps;
        assert!(mishaps.iter().all(|one| one.arm == Arm::Canary && one.wrong == Wrong::Error));
        assert_eq!((mishaps.len(), trial.look(now).mishaps.len()), (2, 0), "each is told once");
        assert!(trial.is_quiet());
    }

    #[test]
    fn settled_is_where_the_oldest_request_began() {
        let (trial, now) = trial(None);
        let first = trial.begin(W, now + ms(1), entrant(Arm::Stable));
        let second = trial.begin(W, now + ms(2), entrant(Arm::Canary));
        let other = trial.begin(Worker(1), now + ms(3), entrant(Arm::Stable));
        trial.end(W, now + ms(4), second, (AttemptResult::Status(500), None));
        assert_eq!(trial.look(now + ms(5)).settled, now + ms(1));
        trial.end(W, now + ms(6), first, (OK, None));
        assert_eq!(trial.look(now + ms(7)).settled, now + ms(3));
        assert_eq!(trial.look(now + ms(5_004)).settled, now + ms(5_004), "too old to be waited for");
        trial.end(Worker(1), now + ms(6_000), other, (OK, Some(ms(5_900))));
        assert_eq!(trial.counts(Arm::Stable).requests, 2);
    }

    #[test]
    fn a_request_is_slow_once_whether_its_age_or_its_end_says_so() {
        let (trial, now) = trial(Some(ms(300)));
        let hangs = trial.begin(W, now, entrant(Arm::Canary));
        let late = trial.begin(W, now + ms(200), entrant(Arm::Stable));
        let uploads = trial.begin(W, now, Entrant { ages: false, ..entrant(Arm::Stable) });
        let look = trial.look(now + ms(301));
        assert_eq!((look.mishaps.len(), look.mishaps[0].wrong, look.mishaps[0].arm), (1, Wrong::Slow, Arm::Canary));
        assert!(trial.look(now + ms(302)).mishaps.is_empty());
        trial.end(W, now + ms(600), late, (OK, Some(ms(301))));
        trial.end(W, now + ms(900), hangs, (AttemptResult::Failed(Flag::UT), None));
        trial.end(W, now + ms(900), uploads, (OK, Some(ms(5))));
        let wrong: Vec<_> = trial.look(now + ms(901)).mishaps.iter().map(|one| (one.arm, one.wrong)).collect();
        assert_eq!(wrong, [(Arm::Stable, Wrong::Slow), (Arm::Canary, Wrong::Error)]);
        let (stable, canary) = (trial.counts(Arm::Stable), trial.counts(Arm::Canary));
        assert_eq!((canary.requests, canary.slow, canary.errors), (1, 1, 1));
        assert_eq!((stable.requests, stable.slow, stable.errors), (2, 1, 0));
    }

    #[test]
    fn one_that_is_older_than_anything_waited_for_counts_once() {
        let (trial, now) = trial(Some(ms(300)));
        let hangs = trial.begin(W, now, entrant(Arm::Canary));
        assert_eq!(trial.look(now + ms(10_000)).mishaps.len(), 1);
        assert!(trial.is_quiet(), "the list does not grow behind one that hangs");
        trial.end(W, now + ms(20_000), hangs, (OK, Some(ms(20_000))));
        let canary = trial.counts(Arm::Canary);
        assert_eq!((canary.requests, canary.slow), (1, 1));
        assert!(trial.look(now + ms(20_000)).mishaps.is_empty());
    }

    #[test]
    fn an_answer_that_breaks_off_is_a_failure_of_a_request_that_was_counted() {
        let (trial, now) = trial(None);
        let ticket = trial.begin(W, now, entrant(Arm::Canary));
        trial.end(W, now, ticket, (OK, Some(ms(1))));
        trial.broke_off(W, ticket);
        let canary = trial.counts(Arm::Canary);
        assert_eq!((canary.requests, canary.errors), (1, 1));
        assert_eq!(trial.look(now).mishaps.len(), 1);
    }
}
