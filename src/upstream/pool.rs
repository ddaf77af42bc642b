//! Idle connections of one endpoint on one worker. Only that worker's thread uses it, so its lock is never contended;
//! the scraper looks in now and then. Never opens a connection, never retries.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Connection, Http1};
use super::http2::{SharedPool, Use};

/// The most idle connections that one pool keeps.
const MAX_IDLE: usize = 1024;

/// A request that could not be sent again gets no connection that has been idle for this long.
const FRESH: Duration = Duration::from_secs(1);

/// What kind of connection a request needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'n> {
    /// Opened for this name, where that matters.
    pub server_name: Option<&'n str>,
    /// Unlikely to be closed by the endpoint this very moment: the request could not be sent again.
    pub fresh: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    since: Instant,
}

/// When connections are given up although nothing is wrong with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// Idle time.
    pub idle: Duration,
    /// Age; none: any.
    pub age: Option<Duration>,
}

/// Idle connections, the one used last on top: it is the least likely to be closed by the endpoint meanwhile.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    shared: SharedPool,
}

impl Pool {
    /// The connection that was used last and is still open, if it is young enough and good for this request.
    pub(super) fn take(&self, lifetime: Lifetime, wanted: Wanted<'_>) -> Option<Box<Http1>> {
        let mut idle = self.lock();
        let mut top = idle.len();
        while top > 0 {
            top -= 1;
            if idle[top].connection.server_name.as_deref() != wanted.server_name {
                continue;
            }
            let now = Instant::now();
            if wanted.fresh && now.saturating_duration_since(idle[top].since) >= FRESH {
                // Those below it have waited longer. They are left to others.
                return None;
            }
            let one = idle.remove(top);
            if one.is_good(lifetime, now) {
                return Some(one.connection);
            }
        }
        None
    }

    /// Keeps an open connection that has nothing left to do.
    pub fn put(&self, connection: Connection, now: Instant) {
        let Connection::Http1(connection) = connection else { return };
        if connection.sender.is_closed() {
            return;
        }
        let usage = connection.usage.clone();
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since: now });
        }
        drop(idle);
        if let Some(usage) = usage {
            usage.connection_freed();
        }
    }

    /// Closes what has been idle for too long or is too old, and what the endpoint has closed.
    pub(super) fn evict(&self, lifetime: Lifetime, limits: Use, now: Instant) {
        let mut idle = self.lock();
        if !idle.is_empty() {
            idle.retain(|one| one.is_good(lifetime, now));
        }
        drop(idle);
        self.shared.evict(limits, lifetime.idle, now);
    }

    /// Closes one connection that has nothing to do; false if there is none.
    pub(super) fn close_idle(&self) -> bool {
        let mut idle = self.lock();
        if !idle.is_empty() {
            // The one at the bottom has waited longest.
            idle.remove(0);
            return true;
        }
        drop(idle);
        self.shared.close_idle()
    }

    /// The connections that are shared by streams.
    pub(super) fn shared(&self) -> &SharedPool {
        &self.shared
    }

    /// How many connections wait here.
    pub fn len(&self) -> usize {
        self.lock().len() + self.shared.idle()
    }

    /// Whether none waits here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A panic while it was held leaves a list of connections, each of which is checked when taken.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn is_good(&self, lifetime: Lifetime, now: Instant) -> bool {
        let (idle, most) = (now.saturating_duration_since(self.since), self.connection.patience);
        !self.connection.sender.is_closed()
            && idle < most.map_or(lifetime.idle, |most| most.min(lifetime.idle))
            && lifetime.age.is_none_or(|most| now.saturating_duration_since(self.connection.opened) < most)
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::DuplexStream;
    use tokio::time::advance;

    use super::*;
    use crate::upstream::RequestBody;

    const LIFETIME: Lifetime = Lifetime { idle: Duration::from_secs(4), age: None };
    const ANY: Wanted<'_> = Wanted { server_name: None, fresh: false };
    const FRESH_ONE: Wanted<'_> = Wanted { server_name: None, fresh: true };

    /// An open connection, and the endpoint's end of it.
    async fn connection(keep_alive: Option<&'static str>) -> (Connection, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let (sender, task) = hyper::client::conn::http1::handshake::<_, RequestBody>(TokioIo::new(near)).await.unwrap();
        tokio::spawn(task);
        let one = Http1 { sender, opened: Instant::now(), served: 0, patience: None, server_name: None, usage: None };
        let mut connection = Connection::Http1(Box::new(one));
        connection.heed(keep_alive.map(http::HeaderValue::from_static).as_ref());
        (connection, far)
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_says_how_long_it_waits_is_asked_for_no_longer() {
        for (said, good_for) in [(None, 4), (Some("timeout=3"), 2), (Some("timeout=60"), 4), (Some("max=7"), 4)] {
            for (seconds, good) in [(good_for * 1000 - 1, true), (good_for * 1000, false)] {
                let (pool, (connection, _far)) = (Pool::default(), connection(said).await);
                pool.put(connection, Instant::now());
                advance(Duration::from_millis(seconds)).await;
                assert_eq!(pool.take(LIFETIME, ANY).is_some(), good, "{said:?} after {seconds} ms");
            }
        }
        let (pool, (connection, _far)) = (Pool::default(), connection(Some("timeout=1")).await);
        pool.put(connection, Instant::now());
        assert!(pool.take(LIFETIME, ANY).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_sent_again_gets_one_that_was_used_just_now() {
        let pool = Pool::default();
        let (first, _far) = connection(None).await;
        pool.put(first, Instant::now());
        advance(FRESH - Duration::from_millis(1)).await;
        let taken = pool.take(LIFETIME, FRESH_ONE).expect("it was used just now");
        pool.put(Connection::Http1(taken), Instant::now());
        advance(FRESH).await;
        assert!(pool.take(LIFETIME, FRESH_ONE).is_none());
        assert_eq!(pool.len(), 1, "it is left to others");
        let (second, _far) = connection(None).await;
        pool.put(second, Instant::now());
        assert!(pool.take(LIFETIME, FRESH_ONE).is_some());
        assert!(pool.take(LIFETIME, FRESH_ONE).is_none());
        assert!(pool.take(LIFETIME, ANY).is_some());
    }
}
