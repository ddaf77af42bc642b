//! What one client connection is doing, and since when. Its own task writes it, with plain stores; whoever judges it reads it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::time::Instant;

use super::abuse::Resets;
use crate::telemetry::Closing;

/// An idle connection of a closed listener may bring one more request for this long: it may be on its way.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(2);

/// A connection that has not said a word for so long after it was accepted may be closed for want of room or time.
pub(super) const MUTE: Duration = Duration::from_secs(2);

/// After so long without a request, what only requests need is let go of.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The first byte of a request.
    Idle = 0,
    /// The rest of a request's head.
    Head = 1,
    /// The end of a request under way.
    Busy = 2,
    /// Nothing: it has become a tunnel.
    Tunnel = 3,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Expired {
    /// The head of a request did not arrive in time.
    Head = 1,
    /// No request for too long, or room is needed for another connection.
    Idle = 2,
    /// No byte moved in either direction while a request was under way.
    Stalled = 3,
    /// The client does not take the answer.
    WriteStalled = 4,
    /// The client resets one stream after the other.
    RapidReset = 5,
    /// Too much came that carried nothing.
    EmptyFlood = 6,
}

impl Expired {
    /// Under which reason its end is counted.
    pub(super) fn closing(self) -> Closing {
        match self {
            Self::Head => Closing::HeadTimeout,
            Self::Idle => Closing::Idle,
            Self::Stalled => Closing::Stalled,
            Self::WriteStalled => Closing::WriteStalled,
            Self::RapidReset => Closing::RapidReset,
            Self::EmptyFlood => Closing::EmptyFlood,
        }
    }
}

/// The state of one client connection. Written by its own task, read by the worker's ticker on the same thread.
#[derive(Debug)]
pub struct ConnectionState {
    epoch: Instant,
    http2: AtomicBool,
    http10: AtomicBool,
    /// Whether the request that has just panicked is one of gRPC.
    grpc: AtomicBool,
    phase: AtomicU8,
    /// Microseconds since the epoch at which the phase began; for `Head` and `Busy`, the first byte of the request.
    since: AtomicU64,
    /// Requests under way (more than one on HTTP/2).
    requests: AtomicU64,
    /// Reads and writes that moved bytes.
    activity: AtomicU64,
    /// Whether the last write found the socket full.
    write_blocked: AtomicBool,
    /// Whether the client has said its last word.
    ended: AtomicBool,
    /// Whether the head of an answer has been handed over.
    answering: AtomicBool,
    /// Whether what arrives may still be the body of a request that was answered already.
    uploading: AtomicBool,
    /// Whether the last request was read to its end, so that what follows can only be another one.
    whole: AtomicBool,
    /// Whether it has been idle for long enough to rest; said once each time.
    tired: AtomicBool,
    resting: AtomicBool,
    /// Microseconds since the epoch at which its listener was closed; 0: it was not.
    leaving: AtomicU64,
    resets: Resets,
    expired: AtomicU8,
    waker: AtomicWaker,
}

impl ConnectionState {
    /// A connection accepted now: the head of its first request is awaited.
    pub fn accepted() -> Self {
        Self {
            epoch: Instant::now(),
            http2: AtomicBool::new(false),
            http10: AtomicBool::new(false),
            grpc: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Head as u8),
            since: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            activity: AtomicU64::new(0),
            write_blocked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            tired: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            leaving: AtomicU64::new(0),
            resets: Resets::default(),
            expired: AtomicU8::new(0),
            waker: AtomicWaker::new(),
        }
    }

    /// The connection speaks HTTP/2: heads are not timed one by one.
    pub fn speaks_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
        self.enter(Phase::Idle, Instant::now());
    }

    /// The request under way is one of HTTP/1.0, or is not.
    pub fn set_http10(&self, is: bool) {
        self.http10.store(is, Ordering::Relaxed);
    }

    /// Whether the last request was one of HTTP/1.0, whose answers may end with the connection.
    pub fn is_http10(&self) -> bool {
        self.http10.load(Ordering::Relaxed)
    }

    /// Leaves word for whoever answers a request that has just panicked: does its client speak gRPC?
    pub(super) fn leave_grpc(&self, is: bool) {
        self.grpc.store(is, Ordering::Relaxed);
    }

    /// Takes that word; no, if there is none.
    pub(super) fn take_grpc(&self) -> bool {
        self.grpc.swap(false, Ordering::Relaxed)
    }

    /// Bytes arrived.
    pub fn read(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
        let may_be_head = !self.is_http2() && !self.uploading.load(Ordering::Relaxed);
        if self.phase() == Phase::Idle && may_be_head {
            self.resting.store(false, Ordering::Relaxed);
            self.enter(Phase::Head, Instant::now());
        }
    }

    /// The client has closed its side.
    pub(super) fn has_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether the client sends nothing more.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Bytes left, or could not.
    pub fn wrote(&self, blocked: bool) {
        if !blocked {
            self.activity.fetch_add(1, Ordering::Relaxed);
        }
        self.write_blocked.store(blocked, Ordering::Relaxed);
    }

    /// The head of a request is complete. Returns when its first byte arrived.
    pub fn request_started(&self) -> Instant {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.resets.begun();
        self.uploading.store(false, Ordering::Relaxed);
        if self.phase() == Phase::Head {
            self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
            return self.epoch + Duration::from_micros(self.since.load(Ordering::Relaxed));
        }
        let now = Instant::now();
        self.enter(Phase::Busy, now);
        now
    }

    /// The connection has become a tunnel.
    pub fn tunnels(&self) {
        self.phase.store(Phase::Tunnel as u8, Ordering::Relaxed);
    }

    /// The head of an answer goes out: from now on a stall can only cut it off.
    pub fn answering(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }

    /// Whether the request under way on an HTTP/1 connection is being answered.
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// A request was answered before its body was complete: the rest of it is not the head of the next one.
    pub(super) fn upload_goes_on(&self) {
        self.uploading.store(true, Ordering::Relaxed);
    }

    /// The answer to a request is complete, or given up.
    pub fn request_ended(&self, now: Instant) {
        if self.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.answering.store(false, Ordering::Relaxed);
            self.enter(Phase::Idle, now);
        }
    }

    /// Nobody waits any more for the answer to a request that began then; to be said before it ends. On HTTP/2 its stream was
    /// reset, which may be one reset too many.
    pub(super) fn request_given_up(&self, started: Instant, now: Instant) {
        if self.is_http2() && self.resets.reset(now.duration_since(started), now.duration_since(self.epoch)) {
            self.expire(Expired::RapidReset);
        }
    }

    /// Too much came that carried nothing.
    pub(super) fn flooded(&self) {
        self.expire(Expired::EmptyFlood);
    }

    /// Whether it speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Whether the last write found the socket full.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Ordering::Relaxed)
    }

    /// Counts up whenever bytes move.
    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// The last request was read to its end, or has a body that was not.
    pub(super) fn set_whole(&self, is: bool) {
        self.whole.store(is, Ordering::Relaxed);
    }

    /// Has it rest if it has been idle for long enough.
    pub(super) fn tire(&self, now: Instant) {
        let whole = self.whole.load(Ordering::Relaxed) && !self.is_http2() && !self.resting.load(Ordering::Relaxed);
        if whole && self.is_idle() && self.in_phase_for(now) >= REST_AFTER {
            self.tired.store(true, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// Whether it rests from now on: it was told to, and nothing has come since.
    pub(super) fn takes_rest(&self) -> bool {
        if !self.tired.load(Ordering::Relaxed) {
            return false;
        }
        self.tired.store(false, Ordering::Relaxed);
        let rests = self.is_idle() && self.whole.load(Ordering::Relaxed);
        self.resting.store(rests, Ordering::Relaxed);
        rests
    }

    /// Whether its listener was closed: it ends after its request.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) > 0
    }

    pub(super) fn leave(&self, now: Instant) {
        let since = (now.duration_since(self.epoch).as_micros() as u64).max(1);
        self.leaving.store(since, Ordering::Relaxed);
        self.waker.wake();
    }

    fn leaving_for(&self, now: Instant) -> Option<Duration> {
        let since = self.leaving.load(Ordering::Relaxed);
        (since > 0).then(|| now.duration_since(self.epoch).saturating_sub(Duration::from_micros(since)))
    }

    pub(super) fn is_past_leave(&self, now: Instant) -> bool {
        self.leaving_for(now).is_some_and(|time| time >= LAST_CHANCE)
    }

    /// Why the connection has to end, if it has to. `waker` is woken when that changes.
    pub fn poll_expired(&self, waker: &std::task::Waker) -> Option<Expired> {
        self.waker.register(waker);
        self.expired()
    }

    /// The same without being woken.
    pub fn expired(&self) -> Option<Expired> {
        match self.expired.load(Ordering::Relaxed) {
            1 => Some(Expired::Head),
            2 => Some(Expired::Idle),
            3 => Some(Expired::Stalled),
            4 => Some(Expired::WriteStalled),
            5 => Some(Expired::RapidReset),
            6 => Some(Expired::EmptyFlood),
            _ => None,
        }
    }

    /// Whether no request is under way or on its way, and the last answer has left.
    pub fn is_idle(&self) -> bool {
        self.phase() == Phase::Idle && !self.is_write_blocked()
    }

    /// Whether nothing came since it was accepted.
    pub(super) fn is_silent(&self) -> bool {
        self.phase() == Phase::Head && self.activity() == 0
    }

    /// Whether nothing came since it was accepted, though there was time.
    pub(super) fn is_mute(&self, now: Instant) -> bool {
        self.is_silent() && self.in_phase_for(now) >= MUTE
    }

    /// Takes back that the connection has to end for want of a request, if one has come. Returns whether it has.
    pub fn carries_on(&self) -> bool {
        let busy = !self.is_idle() && self.activity.load(Ordering::Relaxed) > 0;
        if busy {
            self.expired.store(0, Ordering::Relaxed);
        }
        busy
    }

    /// Wakes the connection's task, so that it sees what has changed round it.
    pub fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn expire(&self, why: Expired) {
        self.expired.store(why as u8, Ordering::Relaxed);
        self.waker.wake();
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            3 => Phase::Tunnel,
            _ => Phase::Busy,
        }
    }

    fn enter(&self, phase: Phase, now: Instant) {
        self.since.store(now.duration_since(self.epoch).as_micros() as u64, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn in_phase_for(&self, now: Instant) -> Duration {
        let since = Duration::from_micros(self.since.load(Ordering::Relaxed));
        now.duration_since(self.epoch).saturating_sub(since)
    }
}
