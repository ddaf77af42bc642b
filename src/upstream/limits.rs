//! Limits on what a cluster is asked to do at once, over all workers: Envoy's circuit breakers. A cluster without limits
//! counts nothing. What is over a limit is refused at once, but for a connection, which may be waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

/// A limit of the cluster is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much at once")]
pub struct Overloaded;

/// The most of each at once. None: no limit (Istio's default of 2³² − 1 is as good as that).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open connections: `tcp.maxConnections`.
    pub connections: Option<u32>,
    /// Requests without a connection yet: `http.http1MaxPendingRequests`.
    pub pending: Option<u32>,
    /// Requests with an endpoint: `http.http2MaxRequests`.
    pub requests: Option<u32>,
    /// Requests that are a retry: `http.maxRetries`.
    pub retries: Option<u32>,
}

/// How much of each there is now.
#[derive(Debug, Default)]
pub struct Usage {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    freed: Notify,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// See [`Limits::connections`].
    Connection,
    /// See [`Limits::pending`].
    Pending,
    /// See [`Limits::requests`].
    Request,
    /// See [`Limits::retries`].
    Retry,
}

/// The right to one of something, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    usage: Arc<Usage>,
    of: Resource,
}

impl Limits {
    fn of(&self, resource: Resource) -> Option<u32> {
        match resource {
            Resource::Connection => self.connections,
            Resource::Pending => self.pending,
            Resource::Request => self.requests,
            Resource::Retry => self.retries,
        }
    }

    /// One more; `Ok(None)` where there is no limit.
    pub fn claim(&self, usage: &Arc<Usage>, of: Resource) -> Result<Option<Permit>, Overloaded> {
        self.of(of).map(|most| usage.claim(of, most)).transpose()
    }
}

impl Usage {
    fn counter(&self, of: Resource) -> &AtomicU32 {
        match of {
            Resource::Connection => &self.connections,
            Resource::Pending => &self.pending,
            Resource::Request => &self.requests,
            Resource::Retry => &self.retries,
        }
    }

    /// One more, if there are fewer than `most`.
    pub fn claim(self: &Arc<Self>, of: Resource, most: u32) -> Result<Permit, Overloaded> {
        let more = |now: u32| (now < most).then_some(now + 1);
        match self.counter(of).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Permit { usage: Arc::clone(self), of }),
            Err(_) => Err(Overloaded),
        }
    }

    /// How many there are.
    pub fn count(&self, of: Resource) -> u32 {
        self.counter(of).load(Ordering::Relaxed)
    }

    /// A connection has nothing to do now, or is gone: one of those who wait may go on.
    pub fn connection_freed(&self) {
        self.freed.notify_one();
    }

    /// Waits for the next call of [`connection_freed`](Self::connection_freed); one that nobody waited for counts.
    pub async fn wait_for_connection(&self) {
        self.freed.notified().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.usage.counter(self.of).fetch_sub(1, Ordering::Relaxed);
        if self.of == Resource::Connection {
            self.usage.connection_freed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_a_dropped_permit_makes_room() {
        let limits = Limits { requests: Some(2), ..Default::default() };
        let usage = Arc::new(Usage::default());
        let first = limits.claim(&usage, Resource::Request).unwrap();
        let second = limits.claim(&usage, Resource::Request).unwrap();
        assert_eq!(limits.claim(&usage, Resource::Request).unwrap_err(), Overloaded);
        drop(first);
        assert!(limits.claim(&usage, Resource::Request).is_ok());
        drop(second);
        assert_eq!(usage.count(Resource::Request), 0);
    }

    #[test]
    fn what_has_no_limit_is_not_counted() {
        let usage = Arc::new(Usage::default());
        assert!(Limits::default().claim(&usage, Resource::Retry).unwrap().is_none());
        assert_eq!(usage.count(Resource::Retry), 0);
        assert_eq!(Arc::strong_count(&usage), 1);
    }

    #[tokio::test]
    async fn who_waits_for_a_connection_hears_of_a_freed_one() {
        let limits = Limits { connections: Some(1), ..Default::default() };
        let usage = Arc::new(Usage::default());
        let permit = limits.claim(&usage, Resource::Connection).unwrap();
        let waiting = tokio::spawn({
            let usage = Arc::clone(&usage);
            async move { usage.wait_for_connection().await }
        });
        tokio::task::yield_now().await;
        drop(permit);
        waiting.await.unwrap();
        assert!(limits.claim(&usage, Resource::Connection).is_ok());
    }
}
