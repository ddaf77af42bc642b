//! Copies of requests for other destinations: sent and forgotten. A copy can neither slow nor fail the request it is made of:
//! it runs beside it, its answer is dropped, and where there is no room for it, it is not sent. It counts in no metric of
//! requests or attempts, only as a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::body;
use super::worker::Worker;
use crate::routing::Mirror;
use crate::snapshot::Destination;
use crate::telemetry::MirrorResult;
use crate::upstream::{Connection, Copied, Lease, NotKept, RequestBody};

/// The most copies that one worker has under way.
const MOST: usize = 256;
/// A copy is given up after this (Envoy's default timeout of a route).
const PATIENCE: Duration = Duration::from_secs(15);
/// The most that is read of an answer, in bytes; the connection of a longer one is closed.
const DRAINED: u64 = 1024 * 1024;

/// How many copies a worker has under way.
#[derive(Debug, Default)]
pub(super) struct Copies(AtomicUsize);

/// A place among them.
#[derive(Debug)]
struct Place(Arc<Worker>);

impl Place {
    fn take(worker: &Arc<Worker>) -> Option<Self> {
        let under_way = &worker.copies().0;
        // Only this thread counts, so that nothing happens between the two.
        (under_way.load(Ordering::Relaxed) < MOST).then(|| {
            under_way.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(worker))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.copies().0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a copy.
enum CopyBody {
    Empty,
    /// Still on its way from the client.
    Awaited(oneshot::Receiver<Result<Copied, NotKept>>),
}

/// Sends copies of a request that is about to go to its destination. The body to go on with: the same, kept meanwhile if there
/// is a copy that needs it.
pub(super) fn send(
    worker: &Arc<Worker>,
    mirrors: &[Mirror<Destination>],
    parts: &Parts,
    mut body: RequestBody,
) -> RequestBody {
    for mirror in mirrors.iter().filter(|mirror| mirror.chance.hits(worker.draw())) {
        let metrics = mirror.to.metrics.destination();
        let Some(place) = Place::take(worker) else {
            metrics.mirrored(worker.shard(), MirrorResult::DroppedBusy);
            continue;
        };
        body = body.recorded(worker.bodies());
        let copy = match (&body, body.recording()) {
            (RequestBody::Empty, _) => CopyBody::Empty,
            (_, Some(recording)) => CopyBody::Awaited(recording.copy()),
            (body, None) => {
                let why = if body.is_too_large() { NotKept::TooLarge } else { NotKept::NoRoom };
                metrics.mirrored(worker.shard(), dropped(why));
                continue;
            }
        };
        tokio::spawn(deliver(place, mirror.to.clone(), head(parts), copy));
    }
    body
}

/// What becomes of a copy whose body is not kept.
fn dropped(why: NotKept) -> MirrorResult {
    match why {
        NotKept::TooLarge => MirrorResult::DroppedSize,
        NotKept::NoRoom => MirrorResult::DroppedMemory,
    }
}

/// The head of a copy: Istio's mirrors see that they are mirrors by their Host.
fn head(parts: &Parts) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = parts.method.clone();
    head.uri = parts.uri.clone();
    head.version = parts.version;
    head.headers = parts.headers.clone();
    name_shadow(&mut head.headers);
    head
}

fn name_shadow(headers: &mut HeaderMap) {
    let Some(host) = headers.get(header::HOST).map(HeaderValue::as_bytes) else { return };
    if host.starts_with(b"[") {
        return;
    }
    let at = host.iter().position(|&byte| byte == b':').unwrap_or(host.len());
    let shadow = [&host[..at], b"-shadow", &host[at..]].concat();
    if let Ok(shadow) = HeaderValue::from_bytes(&shadow) {
        headers.insert(header::HOST, shadow);
    }
}

async fn deliver(place: Place, to: Destination, head: Parts, body: CopyBody) {
    let worker = Arc::clone(&place.0);
    let count = |result| to.metrics.destination().mirrored(worker.shard(), result);
    let body = match body {
        CopyBody::Empty => RequestBody::Empty,
        CopyBody::Awaited(copied) => match timeout(PATIENCE, copied).await {
            Ok(Ok(Ok(copied))) => RequestBody::Copied(Box::new(copied)),
            Ok(Ok(Err(why))) => return count(dropped(why)),
            // The client never sent the rest, or takes so long that its place is needed for others.
            Ok(Err(_)) | Err(_) => return count(MirrorResult::Error),
        },
    };
    let until = Instant::now() + PATIENCE;
    let Ok(Some((response, lease, mut connection))) = timeout(PATIENCE, exchange(&worker, &to, head, body)).await
    else {
        return count(MirrorResult::Error);
    };
    count(MirrorResult::Sent);
    connection.heed(response.headers().get("keep-alive"));
    let left = until.saturating_duration_since(Instant::now());
    let drained = timeout(left, body::drain(response.into_body(), DRAINED)).await;
    if let (Ok(true), Some(connection)) = (drained, to.cluster.keep(connection)) {
        lease.endpoint().pool(worker.index()).put(connection, Instant::now());
    }
}

/// One try; a kept connection that was closed meanwhile costs another.
async fn exchange(
    worker: &Worker,
    to: &Destination,
    mut head: Parts,
    mut body: RequestBody,
) -> Option<(Response<Incoming>, Lease, Connection)> {
    let lease = to.cluster.pick(worker.draw(), &[]).ok()?;
    loop {
        let mut connection = to.cluster.connection(&lease, worker.index(), &head).await.ok()?;
        let reused = connection.is_reused();
        match connection.send(Request::from_parts(head, body)).await {
            Ok(response) => return Some((response, lease, connection)),
            Err(mut error) => (head, body) = error.take_message().filter(|_| reused)?.into_parts(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_copy_is_a_shadow() {
        let shadow = |host: &'static str| {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            name_shadow(&mut headers);
            headers[header::HOST].to_str().unwrap().to_owned()
        };
        assert_eq!(shadow("svc"), "svc-shadow");
        assert_eq!(shadow("svc:80"), "svc-shadow:80");
        assert_eq!(shadow("svc.a.example"), "svc.a.example-shadow");
        assert_eq!(shadow("[::1]:80"), "[::1]:80");
        let mut none = HeaderMap::new();
        name_shadow(&mut none);
        assert!(none.is_empty());
    }
}
