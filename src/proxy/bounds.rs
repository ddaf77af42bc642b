//! What may end a request before its answer begins: the route's timeout, a client that stops sending, a stream on which
//! nothing moves. Costs nothing for a request that none of them concerns.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::failure::Failure;
use super::limits::Limits;
use crate::upstream::UploadProgress;

/// What may end a request before its answer begins; nothing for most requests.
pub(super) struct Bounds {
    deadline: Option<Pin<Box<Sleep>>>,
    stalls: Vec<Pin<Box<dyn Future<Output = Failure> + Send>>>,
}

impl Bounds {
    /// None if nothing may.
    pub(super) fn new(
        limits: &Limits,
        deadline: Option<Instant>,
        upload: Option<Arc<UploadProgress>>,
        http2: bool,
    ) -> Option<Box<Self>> {
        if deadline.is_none() && upload.is_none() && !http2 {
            return None;
        }
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        let mut bounds = Box::new(Self { deadline, stalls: Vec::new() });
        if http2 {
            bounds.stalls.push(Box::pin(stream_stalled(upload.clone(), limits.stream_idle_timeout)));
        }
        if let Some(upload) = upload {
            bounds.stalls.push(Box::pin(upload_stalled(upload, limits.body_timeout)));
        }
        Some(bounds)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Failure::Timeout);
        }
        for stall in &mut self.stalls {
            if let Poll::Ready(failure) = stall.as_mut().poll(cx) {
                return Poll::Ready(failure);
            }
        }
        Poll::Pending
    }
}

/// Returns once nothing of the upload has moved for `limit`.
async fn stream_stalled(upload: Option<Arc<UploadProgress>>, limit: Duration) -> Failure {
    let sent = || upload.as_ref().map_or(0, |upload| upload.bytes());
    loop {
        let before = sent();
        tokio::time::sleep(limit).await;
        if sent() == before {
            return Failure::Stalled;
        }
    }
}

/// Returns once the client has sent nothing of its body for `limit` although the endpoint would take it.
async fn upload_stalled(upload: Arc<UploadProgress>, limit: Duration) -> Failure {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        tokio::time::sleep(limit / 4).await;
        if upload.is_finished() || !upload.is_waiting() || upload.bytes() != seen {
            (seen, since) = (upload.bytes(), Instant::now());
        } else if since.elapsed() >= limit {
            return Failure::BodyTimeout;
        }
    }
}
