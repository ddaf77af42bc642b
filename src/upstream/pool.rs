//! Idle connections of one endpoint on one worker. Only that worker's thread uses it, so its lock is never contended;
//! the scraper looks in now and then. Never opens a connection, never retries.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connect::Connection;

/// The most idle connections that one pool keeps.
const MAX_IDLE: usize = 1024;

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// Idle connections, the one used last on top: it is the least likely to be closed by the endpoint meanwhile.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
}

impl Pool {
    /// The connection that was used last and is still open, if it is younger than `max_idle`.
    pub fn take(&self, max_idle: Duration) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some(Idle { connection, since }) = idle.pop() {
            if !connection.is_closed() && since.elapsed() < max_idle {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps an open connection that has nothing left to do.
    pub fn put(&self, connection: Connection, now: Instant) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes what has been idle for `max_idle`, and what the endpoint has closed.
    pub fn evict(&self, max_idle: Duration, now: Instant) {
        let mut idle = self.lock();
        if !idle.is_empty() {
            idle.retain(|one| !one.connection.is_closed() && now.duration_since(one.since) < max_idle);
        }
    }

    /// How many connections wait here.
    pub fn len(&self) -> usize {
        self.lock().len()
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
