//! Idle connections of one endpoint on one worker. Only that worker's thread uses it, so its lock is never contended;
//! the scraper looks in now and then. Never opens a connection, never retries.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Connection, Http1};
use super::http2::{SharedPool, Use};

/// The most idle connections that one pool keeps.
const MAX_IDLE: usize = 1024;

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
    /// The connection that was used last and is still open, if it is young enough, and for the right server name.
    pub(super) fn take(&self, lifetime: Lifetime, server_name: Option<&str>) -> Option<Box<Http1>> {
        let mut idle = self.lock();
        let mut top = idle.len();
        while top > 0 {
            top -= 1;
            if idle[top].connection.server_name.as_deref() != server_name {
                continue;
            }
            let one = idle.remove(top);
            if one.is_good(lifetime, Instant::now()) {
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
        !self.connection.sender.is_closed()
            && now.saturating_duration_since(self.since) < lifetime.idle
            && lifetime.age.is_none_or(|most| now.saturating_duration_since(self.connection.opened) < most)
    }
}
