//! Looks at all connections of a worker a few times a second, so that no request pays for a timer of its own. Judges only; the
//! connection itself closes or answers.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;
use super::state::{ConnectionState, Expired, Phase};

/// A tunnel without a byte in either direction is closed after this (Envoy's idle timeout of TCP proxying, 1 h).
const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

/// Who was served so short a time ago is likely to ask again.
const RECENT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Watched {
    state: Weak<ConnectionState>,
    /// None: it is a stream of a connection that is here, too.
    listener: Option<u64>,
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
        self.push(Some(listener), state);
    }

    /// The same for a stream of a connection that is watched already, if it has limits of its own.
    pub(super) fn add_stream(&self, state: &Arc<ConnectionState>) {
        self.push(None, state);
    }

    fn push(&self, listener: Option<u64>, state: &Arc<ConnectionState>) {
        let watched = Watched { state: Arc::downgrade(state), listener, activity: 0, quiet_since: Instant::now() };
        self.lock().push(watched);
    }

    /// Looks at every connection and expires those that have passed a limit.
    pub fn tick(&self, limits: &Limits, now: Instant) {
        self.lock().retain_mut(|watched| {
            let Some(state) = watched.state.upgrade() else { return false };
            match watched.judge(&state, limits, now) {
                Some(why) => state.expire(why),
                None => state.tire(now),
            }
            true
        });
    }

    /// Lets the connections of a closed listener end: each after its request, and idle ones soon.
    pub fn leave(&self, listener: u64) {
        let now = Instant::now();
        for one in self.lock().iter().filter(|one| one.listener == Some(listener)) {
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
        self.close(|state, now| state.is_idle() || state.is_mute(now));
    }

    /// Closes every connection that can be spared: idle for a while, or without a word though there was time.
    pub(super) fn close_spare(&self) {
        self.close(is_spare);
    }

    /// Closes the connection that can be spared best: who has been idle for longest, or has never said a word. Who asked a moment ago
    /// will ask again: such a one has to go where nobody is left of whom it may turn out that he never says a word, and for whom
    /// that takes too long (`at_once`). Returns whether there was one.
    pub fn close_oldest_idle(&self, at_once: bool) -> bool {
        let now = Instant::now();
        let mut states: Vec<_> = self.lock().iter().filter_map(|one| one.state.upgrade()).collect();
        states.retain(|state| state.expired().is_none());
        let recent_too = at_once || !states.iter().any(|state| state.is_silent());
        let spare = states.iter().filter(|state| is_spare(state, now) || recent_too && state.is_idle());
        let oldest = spare.max_by_key(|state| state.in_phase_for(now));
        oldest.inspect(|state| state.expire(Expired::Idle)).is_some()
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.lock().iter().filter(|one| one.listener.is_some() && one.state.strong_count() > 0).count()
    }

    fn close(&self, which: impl Fn(&ConnectionState, Instant) -> bool) {
        let now = Instant::now();
        self.each(|state| {
            if which(state, now) {
                state.expire(Expired::Idle);
            }
        });
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

fn is_spare(state: &ConnectionState, now: Instant) -> bool {
    state.is_mute(now) || state.is_idle() && state.in_phase_for(now) >= RECENT
}

impl Watched {
    fn judge(&mut self, state: &ConnectionState, limits: &Limits, now: Instant) -> Option<Expired> {
        let activity = state.activity();
        if activity != self.activity {
            self.activity = activity;
            self.quiet_since = now;
        }
        let quiet = now.duration_since(self.quiet_since);
        match state.phase() {
            // One that does not take the last answer would not take a word about its next request.
            Phase::Head if !state.is_write_blocked() && state.in_phase_for(now) >= limits.header_timeout => {
                Some(Expired::Head)
            }
            // Pings, also those that we ask for, keep a connection of HTTP/2 moving that has no stream.
            Phase::Idle if state.is_http2() && state.in_phase_for(now) >= limits.keepalive_timeout => {
                Some(Expired::Idle)
            }
            Phase::Idle if state.in_phase_for(now).min(quiet) >= limits.keepalive_timeout => Some(Expired::Idle),
            Phase::Idle if state.is_past_leave(now) => Some(Expired::Idle),
            _ if state.is_write_blocked() && quiet >= limits.write_timeout => Some(Expired::WriteStalled),
            // A stream that was reset, too, has just ended: nothing says that its client is gone.
            Phase::Tunnel if quiet >= if state.is_ended() { limits.stream_idle_timeout } else { TUNNEL_IDLE } => {
                Some(Expired::Stalled)
            }
            // Pings keep a connection of HTTP/2 moving: each of its requests looks for itself.
            Phase::Busy if quiet >= limits.stream_idle_timeout && !state.is_http2() => Some(Expired::Stalled),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::proxy::state::MUTE;

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
    async fn a_tunnel_whose_client_has_ended_may_be_quiet_for_as_long_as_a_request() {
        let (watch, state, limits) = watched();
        state.request_started();
        state.tunnels();
        state.has_ended();
        after(&watch, &limits, 299).await;
        state.wrote(false);
        after(&watch, &limits, 299).await;
        assert_eq!(state.expired(), None, "the endpoint still talks");
        after(&watch, &limits, 2).await;
        assert_eq!(state.expired(), Some(Expired::Stalled));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_an_answer_is_not_told_of_the_next_request() {
        let (watch, state, limits) = watched();
        served(&state, true);
        state.wrote(true);
        state.read();
        after(&watch, &limits, 59).await;
        assert_eq!(state.expired(), None);
        after(&watch, &limits, 2).await;
        assert_eq!(state.expired(), Some(Expired::WriteStalled));
    }

    fn served(state: &ConnectionState, whole: bool) {
        state.read();
        state.request_started();
        state.set_whole(whole);
        state.request_ended(Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_after_a_while_and_once_for_each_request() {
        let (watch, state, limits) = watched();
        for _ in 0..2 {
            served(&state, true);
            watch.tick(&limits, Instant::now());
            assert!(!state.takes_rest(), "too soon");
            after(&watch, &limits, 1).await;
            assert!(state.takes_rest());
            after(&watch, &limits, 60).await;
            assert!(!state.takes_rest(), "it does already");
        }
        after(&watch, &limits, 20).await;
        assert_eq!(state.expired(), Some(Expired::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_may_be_in_the_middle_of_something_does_not_rest() {
        let (watch, state, limits) = watched();
        after(&watch, &limits, 5).await;
        assert!(!state.takes_rest(), "it has not served a request");
        served(&state, false);
        after(&watch, &limits, 5).await;
        assert!(!state.takes_rest(), "a body was not read to its end");
        served(&state, true);
        after(&watch, &limits, 1).await;
        state.read();
        assert!(!state.takes_rest(), "a request has come in the meantime");
        state.request_started();
        after(&watch, &limits, 5).await;
        assert!(!state.takes_rest(), "it is busy");
        let streams = Arc::new(ConnectionState::accepted());
        streams.speaks_http2();
        watch.add(0, &streams);
        served(&streams, true);
        after(&watch, &limits, 5).await;
        assert!(!streams.takes_rest(), "HTTP/2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_the_limits_of_a_connection_and_is_none() {
        let (watch, connection, limits) = watched();
        connection.speaks_http2();
        connection.request_started();
        let stream = Arc::new(ConnectionState::accepted());
        stream.tunnels();
        watch.add_stream(&stream);
        assert_eq!(watch.len(), 1);
        watch.leave(0);
        watch.close_idle();
        after(&watch, &limits, 3601).await;
        assert_eq!((stream.expired(), connection.expired()), (Some(Expired::Stalled), None));
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
        assert!(watch.close_oldest_idle(false));
        assert_eq!((old.expired(), young.expired()), (Some(Expired::Idle), None));
        after(&watch, &limits, 76).await;
        assert_eq!(young.expired(), Some(Expired::Idle));
        drop(old);
        assert_eq!(watch.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_says_a_word_makes_room_before_who_asked_a_moment_ago() {
        let (watch, asking, _) = watched();
        let mute = Arc::new(ConnectionState::accepted());
        watch.add(0, &mute);
        served(&asking, true);
        assert!(!watch.close_oldest_idle(false), "the silent one may be about to speak");
        assert!(watch.close_oldest_idle(true) && asking.expired().is_some(), "that takes too long");
        asking.read();
        assert!(asking.carries_on());
        advance(MUTE).await;
        served(&asking, true);
        assert!(watch.close_oldest_idle(false));
        assert_eq!((mute.expired(), asking.expired()), (Some(Expired::Idle), None));
        assert!(watch.close_oldest_idle(false), "there is nobody else");
        assert_eq!(asking.expired(), Some(Expired::Idle));
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
        assert!(!watch.close_oldest_idle(false) && state.expired().is_none());
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
