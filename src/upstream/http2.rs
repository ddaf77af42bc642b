//! HTTP/2 connections of one worker to one endpoint: shared by streams, and one more is opened when none has room. Nothing
//! queues behind the endpoint's limit of streams, but for requests that wait while a connection is opened.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Version};
use hyper::client::conn::http2;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::body::RequestBody;
use super::connection::Exchange;
use super::limits::Usage;

/// An open connection.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) opened: Instant,
    /// Streams now.
    pub(super) streams: AtomicU32,
    /// Streams so far.
    pub(super) served: AtomicU32,
    /// The most at once that the endpoint allows; kept up to date by the task.
    pub(super) allowed: Arc<AtomicU32>,
    /// When the last stream ended.
    pub(super) idle_since: Mutex<Instant>,
    /// The name that its TLS handshake asked for, where that depends on the request.
    pub(super) server_name: Option<Box<str>>,
    /// Whether TLS is under it.
    pub(super) tls: bool,
    /// Of a cluster with a limit on connections.
    pub(super) usage: Option<Arc<Usage>>,
    /// What drives it. hyper's goes on after the last handle is gone.
    pub(super) task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A place on a connection, for one request, until it is dropped.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Shared>,
    /// Whether there were others on it before.
    pub(super) reused: bool,
}

impl Stream {
    pub(super) fn send(&self, request: Request<RequestBody>) -> impl Future<Output = Exchange> + use<> {
        let answered = self.connection.sender.clone().try_send_request(request);
        async move {
            let mut response = answered.await?;
            *response.version_mut() = Version::HTTP_11;
            Ok(response)
        }
    }

    /// `:scheme` of its requests.
    pub(super) fn scheme(&self) -> Scheme {
        if self.connection.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.sender.is_closed()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *lock(&self.connection.idle_since) = Instant::now();
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
        if let Some(usage) = &self.connection.usage {
            usage.connection_freed();
        }
    }
}

/// How long and for how much one connection is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Streams at once, if the endpoint allows as many.
    pub streams: u32,
    /// Streams in all; 0: any number.
    pub requests: u32,
    /// Its age after which it takes no new stream.
    pub max_age: Option<Duration>,
}

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct SharedPool {
    open: Mutex<Vec<Arc<Shared>>>,
    /// Held while a connection is opened: those who come meanwhile share it.
    pub(super) opening: tokio::sync::Mutex<()>,
}

impl SharedPool {
    /// A place on an open connection; none where all are full.
    pub(super) fn take(&self, limits: Use, server_name: Option<&str>) -> Option<Stream> {
        let open = self.lock();
        let fits = |one: &&Arc<Shared>| one.server_name.as_deref() == server_name && has_room(one, limits);
        open.iter().find(fits).map(claim)
    }

    /// A first place on a new connection, which others find here from now on.
    pub(super) fn add(&self, connection: Shared) -> Stream {
        let connection = Arc::new(connection);
        let stream = claim(&connection);
        self.lock().push(connection);
        stream
    }

    /// Forgets connections that are closed, too old, used up, or idle for too long; streams on them go on.
    pub(super) fn evict(&self, limits: Use, max_idle: Duration, now: Instant) {
        self.lock().retain(|one| {
            let idle = one.streams.load(Ordering::Relaxed) == 0
                && now.saturating_duration_since(*lock(&one.idle_since)) >= max_idle;
            !idle && !one.sender.is_closed() && !is_used_up(one, limits, now)
        });
    }

    /// Closes one connection without streams; false if there is none.
    pub(super) fn close_idle(&self) -> bool {
        let mut open = self.lock();
        let idle = open.iter().position(|one| one.streams.load(Ordering::Relaxed) == 0);
        idle.map(|index| open.swap_remove(index)).is_some()
    }

    /// Connections without streams.
    pub(super) fn idle(&self) -> usize {
        self.lock().iter().filter(|one| one.streams.load(Ordering::Relaxed) == 0).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        lock(&self.open)
    }
}

fn claim(connection: &Arc<Shared>) -> Stream {
    connection.streams.fetch_add(1, Ordering::Relaxed);
    let reused = connection.served.fetch_add(1, Ordering::Relaxed) > 0;
    Stream { connection: Arc::clone(connection), reused }
}

fn has_room(one: &Shared, limits: Use) -> bool {
    let allowed = one.allowed.load(Ordering::Relaxed).min(limits.streams);
    one.streams.load(Ordering::Relaxed) < allowed && !one.sender.is_closed() && !is_used_up(one, limits, Instant::now())
}

fn is_used_up(one: &Shared, limits: Use, now: Instant) -> bool {
    limits.requests != 0 && one.served.load(Ordering::Relaxed) >= limits.requests
        || limits.max_age.is_some_and(|most| now.saturating_duration_since(one.opened) >= most)
}

/// What it guards is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
