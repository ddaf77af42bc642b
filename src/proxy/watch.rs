//! What each client connection is doing, and since when. A worker looks at all of its connections a few times a second,
//! so that no request pays for a timer of its own. Judges only; the connection itself closes or answers.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::time::Instant;

use super::abuse::Resets;
use super::limits::Limits;
use crate::telemetry::Closing;

/// A tunnel without a byte in either direction is closed after this (Envoy's idle timeout of TCP proxying, 1 h).
const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

/// An idle connection of a closed listener may bring one more request for this long: it may be on its way.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(2);

/// A connection that has not said a word for so long after it was accepted may be closed for want of room or time.
const MUTE: Duration = Duration::from_secs(2);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
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
    /// Whether the head of an answer has been handed over.
    answering: AtomicBool,
    /// Whether what arrives may still be the body of a request that was answered already.
    uploading: AtomicBool,
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
            answering: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
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
        let may_be_head = !self.http2.load(Ordering::Relaxed) && !self.uploading.load(Ordering::Relaxed);
        if self.phase() == Phase::Idle && may_be_head {
            self.enter(Phase::Head, Instant::now());
        }
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
        let is_stream = self.http2.load(Ordering::Relaxed);
        if is_stream && self.resets.reset(now.duration_since(started), now.duration_since(self.epoch)) {
            self.expire(Expired::RapidReset);
        }
    }

    /// Too much came that carried nothing.
    pub(super) fn flooded(&self) {
        self.expire(Expired::EmptyFlood);
    }

    /// Counts up whenever bytes move.
    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// Whether its listener was closed: it ends after its request.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) > 0
    }

    fn leave(&self, now: Instant) {
        let since = (now.duration_since(self.epoch).as_micros() as u64).max(1);
        self.leaving.store(since, Ordering::Relaxed);
        self.waker.wake();
    }

    fn leaving_for(&self, now: Instant) -> Option<Duration> {
        let since = self.leaving.load(Ordering::Relaxed);
        (since > 0).then(|| now.duration_since(self.epoch).saturating_sub(Duration::from_micros(since)))
    }

    fn is_past_leave(&self, now: Instant) -> bool {
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
        self.phase() == Phase::Idle && !self.write_blocked.load(Ordering::Relaxed)
    }

    /// Whether the last write found the socket full.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Ordering::Relaxed)
    }

    /// Whether nothing came since it was accepted, though there was time.
    fn is_mute(&self, now: Instant) -> bool {
        self.phase() == Phase::Head && self.activity.load(Ordering::Relaxed) == 0 && self.in_phase_for(now) >= MUTE
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

    fn expire(&self, why: Expired) {
        self.expired.store(why as u8, Ordering::Relaxed);
        self.waker.wake();
    }

    fn phase(&self) -> Phase {
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

    fn in_phase_for(&self, now: Instant) -> Duration {
        let since = Duration::from_micros(self.since.load(Ordering::Relaxed));
        now.duration_since(self.epoch).saturating_sub(since)
    }
}

#[derive(Debug)]
struct Watched {
    state: Weak<ConnectionState>,
    listener: u64,
    activity: u64,
    quiet_since: Instant,
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub struct Watch {
    connections: Mutex<Vec<Watched>>,
}

impl Watch {
    /// Begins to watch a connection of a listener, until its state is dropped.
    pub fn add(&self, listener: u64, state: &Arc<ConnectionState>) {
        let watched = Watched { state: Arc::downgrade(state), listener, activity: 0, quiet_since: Instant::now() };
        self.lock().push(watched);
    }

    /// Looks at every connection and expires those that have passed a limit.
    pub fn tick(&self, limits: &Limits, now: Instant) {
        self.lock().retain_mut(|watched| {
            let Some(state) = watched.state.upgrade() else { return false };
            if let Some(why) = watched.judge(&state, limits, now) {
                state.expire(why);
            }
            true
        });
    }

    /// Lets the connections of a closed listener end: each after its request, and idle ones soon.
    pub fn leave(&self, listener: u64) {
        let now = Instant::now();
        for one in self.lock().iter().filter(|one| one.listener == listener) {
            if let Some(state) = one.state.upgrade() {
                state.leave(now);
            }
        }
    }

    /// Wakes every connection.
    pub fn wake_all(&self) {
        self.each(|state| state.wake());
    }

    /// Closes every connection that brings no request.
    pub fn close_idle(&self) {
        let now = Instant::now();
        self.each(|state| {
            if state.is_idle() || state.is_mute(now) {
                state.expire(Expired::Idle);
            }
        });
    }

    /// Closes the connection that has been idle longest. Returns whether there was one.
    pub fn close_oldest_idle(&self) -> bool {
        let now = Instant::now();
        let states: Vec<_> = self.lock().iter().filter_map(|one| one.state.upgrade()).collect();
        let idle = states.iter().filter(|state| state.is_idle() && state.expired().is_none());
        let oldest = idle.max_by_key(|state| state.in_phase_for(now));
        oldest.inspect(|state| state.expire(Expired::Idle)).is_some()
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.lock().iter().filter(|one| one.state.strong_count() > 0).count()
    }

    fn each(&self, mut action: impl FnMut(&ConnectionState)) {
        for one in self.lock().iter() {
            if let Some(state) = one.state.upgrade() {
                action(&state);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn judge(&mut self, state: &ConnectionState, limits: &Limits, now: Instant) -> Option<Expired> {
        let activity = state.activity.load(Ordering::Relaxed);
        if activity != self.activity {
            self.activity = activity;
            self.quiet_since = now;
        }
        let quiet = now.duration_since(self.quiet_since);
        match state.phase() {
            Phase::Head if state.in_phase_for(now) >= limits.header_timeout => Some(Expired::Head),
            // Pings, also those that we ask for, keep a connection of HTTP/2 moving that has no stream.
            Phase::Idle
                if state.http2.load(Ordering::Relaxed) && state.in_phase_for(now) >= limits.keepalive_timeout =>
            {
                Some(Expired::Idle)
            }
            Phase::Idle if state.in_phase_for(now).min(quiet) >= limits.keepalive_timeout => Some(Expired::Idle),
            Phase::Idle if state.is_past_leave(now) => Some(Expired::Idle),
            _ if state.write_blocked.load(Ordering::Relaxed) && quiet >= limits.write_timeout => {
                Some(Expired::WriteStalled)
            }
            Phase::Tunnel if quiet >= TUNNEL_IDLE => Some(Expired::Stalled),
            // Pings keep a connection of HTTP/2 moving: each of its requests looks for itself.
            Phase::Busy if quiet >= limits.stream_idle_timeout && !state.http2.load(Ordering::Relaxed) => {
                Some(Expired::Stalled)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn watched() -> (Watch, Arc<ConnectionState>, Limits) {
        let (watch, state) = (Watch::default(), Arc::new(ConnectionState::accepted()));
        watch.add(0, &state);
        (watch, state, Limits::default())
    }

    async fn after(watch: &Watch, limits: &Limits, seconds: u64) {
        for _ in 0..seconds {
            advance(Duration::from_secs(1)).await;
            watch.tick(limits, Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_is_awaited_from_accept_and_from_the_first_byte_of_a_later_request() {
        let (watch, state, limits) = watched();
        after(&watch, &limits, 9).await;
        assert_eq!(state.expired(), None);
        state.read();
        state.request_started();
        state.request_ended(Instant::now());
        after(&watch, &limits, 30).await;
        assert_eq!(state.expired(), None, "idle is not a head");
        state.read();
        after(&watch, &limits, 9).await;
        assert_eq!(state.expired(), None);
        state.read();
        after(&watch, &limits, 1).await;
        assert_eq!(state.expired(), Some(Expired::Head), "bytes do not prolong it");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_is_no_head() {
        let (watch, state, limits) = watched();
        state.request_started();
        state.upload_goes_on();
        state.request_ended(Instant::now());
        state.read();
        after(&watch, &limits, 20).await;
        assert_eq!(state.expired(), None);
        state.request_started();
        state.request_ended(Instant::now());
        state.read();
        after(&watch, &limits, 10).await;
        assert_eq!(state.expired(), Some(Expired::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_request_stalls_and_a_trickle_keeps_it_alive() {
        let (watch, state, limits) = watched();
        state.request_started();
        for _ in 0..3 {
            after(&watch, &limits, 299).await;
            state.wrote(false);
        }
        assert_eq!(state.expired(), None);
        after(&watch, &limits, 301).await;
        assert_eq!(state.expired(), Some(Expired::Stalled));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_may_be_quiet_for_an_hour() {
        let (watch, state, limits) = watched();
        state.request_started();
        state.tunnels();
        after(&watch, &limits, 3599).await;
        state.read();
        after(&watch, &limits, 3599).await;
        assert_eq!(state.expired(), None);
        after(&watch, &limits, 2).await;
        assert_eq!(state.expired(), Some(Expired::Stalled));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (watch, state, limits) = watched();
        state.request_started();
        after(&watch, &limits, 1).await;
        state.wrote(true);
        after(&watch, &limits, 61).await;
        assert_eq!(state.expired(), Some(Expired::WriteStalled));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_close_and_the_oldest_goes_first() {
        let (watch, old, limits) = watched();
        old.request_started();
        old.request_ended(Instant::now());
        advance(Duration::from_secs(1)).await;
        let young = Arc::new(ConnectionState::accepted());
        watch.add(1, &young);
        young.request_started();
        young.request_ended(Instant::now());
        assert!(watch.close_oldest_idle());
        assert_eq!((old.expired(), young.expired()), (Some(Expired::Idle), None));
        after(&watch, &limits, 76).await;
        assert_eq!(young.expired(), Some(Expired::Idle));
        drop(old);
        assert_eq!(watch.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_a_closed_listener_end_and_others_stay() {
        let (watch, idle, limits) = watched();
        let (busy, other) = (Arc::new(ConnectionState::accepted()), Arc::new(ConnectionState::accepted()));
        watch.add(0, &busy);
        watch.add(1, &other);
        for state in [&idle, &busy, &other] {
            state.request_started();
        }
        for state in [&idle, &other] {
            state.request_ended(Instant::now());
        }
        after(&watch, &limits, 10).await;
        watch.leave(0);
        assert_eq!([&idle, &busy, &other].map(|state| state.is_leaving()), [true, true, false]);
        after(&watch, &limits, 1).await;
        assert_eq!(idle.expired(), None, "a request may be on its way");
        after(&watch, &limits, 1).await;
        assert_eq!([&idle, &busy, &other].map(|state| state.expired()), [Some(Expired::Idle), None, None]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_not_left_is_not_idle() {
        let (watch, state, _) = watched();
        state.request_started();
        state.wrote(true);
        state.request_ended(Instant::now());
        watch.close_idle();
        assert!(!watch.close_oldest_idle() && state.expired().is_none());
        state.wrote(false);
        watch.close_idle();
        assert_eq!(state.expired(), Some(Expired::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_while_its_connection_is_closed_is_served() {
        let (watch, state, _) = watched();
        state.request_started();
        state.request_ended(Instant::now());
        watch.close_idle();
        assert!(!state.carries_on());
        state.read();
        assert!(state.carries_on());
        assert_eq!(state.expired(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_a_connection_that_never_said_a_word_is_closed_after_a_while() {
        let (watch, mute, _) = watched();
        let (_, slow, _) = watched();
        watch.add(0, &slow);
        slow.read();
        watch.close_idle();
        assert_eq!(mute.expired(), None, "its first words may be on their way");
        advance(MUTE).await;
        watch.close_idle();
        assert_eq!((mute.expired(), slow.expired()), (Some(Expired::Idle), None));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_a_connection_without_streams() {
        let (watch, state, limits) = watched();
        state.speaks_http2();
        for _ in 0..8 {
            after(&watch, &limits, 9).await;
            state.read();
        }
        assert_eq!(state.expired(), None);
        after(&watch, &limits, 3).await;
        assert_eq!(state.expired(), Some(Expired::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn one_stream_reset_after_the_other_ends_a_connection_of_http2_only() {
        for is_http2 in [true, false] {
            let (_, state, _) = watched();
            if is_http2 {
                state.speaks_http2();
            }
            for _ in 0..201 {
                assert_eq!(state.expired(), None);
                let started = state.request_started();
                state.request_given_up(started, Instant::now());
                state.request_ended(Instant::now());
            }
            assert_eq!(state.expired(), is_http2.then_some(Expired::RapidReset));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_is_when_a_request_began() {
        let (_, state, _) = watched();
        state.request_started();
        state.request_ended(Instant::now());
        advance(Duration::from_secs(3)).await;
        state.read();
        let first = Instant::now();
        advance(Duration::from_secs(2)).await;
        state.read();
        assert_eq!(state.request_started().duration_since(first), Duration::ZERO);
    }
}
