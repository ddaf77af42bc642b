//! The body of a request on its way to an endpoint.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::fit::fitted;
use super::kept::Bodies;
use super::replay::{self, Copied, Reader, Recording};
use crate::failpoint;

/// How far the upload of one request body has come. Read by whoever decides whether a connection may be used again.
#[derive(Debug, Default)]
pub struct UploadProgress {
    bytes: AtomicU64,
    waiting: AtomicBool,
    finished: AtomicBool,
}

impl UploadProgress {
    /// Body bytes handed to the connection so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the connection would take more and the client has not sent it yet.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether the whole body was handed over.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// The whole body was handed over.
    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    /// It is handed over once more from its beginning.
    pub(super) fn begin_again(&self) {
        self.finished.store(false, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
    }
}

/// Why a body stops before its end.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The client broke off.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// The request is being sent again, so that this attempt gets nothing more.
    #[error("the request is being sent again")]
    Superseded,
    /// A mistake in Serin.
    #[error("internal error")]
    Internal,
}

/// The body of a request as sent upstream.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// Streamed from the client as the endpoint takes it.
    Streaming(Upload),
    /// The same, and kept meanwhile.
    Recorded(Reader),
    /// A copy of what another destination got.
    Copied(Box<Copied>),
}

/// A client's body on its way.
#[derive(Debug)]
pub struct Upload {
    /// Taken when the upload is dropped.
    incoming: Option<Incoming>,
    progress: Arc<UploadProgress>,
}

impl RequestBody {
    /// The client's body; empty when it has none.
    pub fn new(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Streaming(Upload { incoming: Some(incoming), progress: Arc::default() })
    }

    /// The progress of the upload; none for an empty body and for a copy.
    pub fn progress(&self) -> Option<Arc<UploadProgress>> {
        match self {
            Self::Empty | Self::Copied(_) => None,
            Self::Streaming(upload) => Some(Arc::clone(&upload.progress)),
            Self::Recorded(reader) => Some(Arc::clone(reader.recording().progress())),
        }
    }

    /// The same body, kept from now on while it is sent, if it is not known to be too large for that and there is room.
    #[must_use]
    pub fn recorded(self, bodies: &Arc<Bodies>) -> Self {
        if self.is_too_large() {
            return self;
        }
        match self {
            Self::Streaming(upload) => match bodies.begin(upload.size_hint().lower()) {
                Some(claim) => Self::Recorded(Recording::start(upload, claim)),
                None => Self::Streaming(upload),
            },
            other => other,
        }
    }

    /// Whether it is known to be larger than what is kept.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Streaming(upload) if upload.size_hint().lower() > replay::LIMIT)
    }

    /// The recording, of a body that is being kept.
    pub fn recording(&self) -> Option<&Arc<Recording>> {
        if let Self::Recorded(reader) = self { Some(reader.recording()) } else { None }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        failpoint::reach("in-the-upload");
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(upload) => upload.poll(cx).map_err(UploadError::Client),
            Self::Recorded(reader) => reader.poll(cx),
            Self::Copied(copied) => Poll::Ready(copied.next().map(Ok)),
        }
    }
}

impl Upload {
    /// The next frame from the client.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming: Some(incoming), progress } = self else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        progress.waiting.store(polled.is_pending(), Ordering::Relaxed);
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if incoming.is_end_stream() {
                    progress.finish();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Ok(frame.map_data(fitted))))
            }
            Poll::Ready(None) => {
                progress.finish();
                Poll::Ready(None)
            }
            other @ (Poll::Ready(Some(Err(_))) | Poll::Pending) => other,
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }

    pub(super) fn progress(&self) -> &Arc<UploadProgress> {
        &self.progress
    }
}

/// What is left of an upload that the endpoint no longer takes is read on for a while, so that a client that is still sending
/// sees the answer and not a reset.
const LINGER_BYTES: usize = 1024 * 1024;
/// The same, in time.
const LINGER_TIME: Duration = Duration::from_secs(2);

impl Drop for Upload {
    /// hyper owns the upload and drops it when the endpoint closes: nobody else is there to read on.
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !self.progress.is_finished()
            && let Ok(runtime) = Handle::try_current()
        {
            // It ends by itself within `LINGER_TIME`, and at once when the client has gone.
            runtime.spawn(timeout(LINGER_TIME, linger(incoming)));
        }
    }
}

async fn linger(mut incoming: Incoming) {
    let mut left = LINGER_BYTES;
    while let Some(Ok(frame)) = incoming.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    /// Polled by the task of the endpoint's connection: it would end with a panic, and that would look like the endpoint's doing.
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.get_mut().next(cx)));
        polled.unwrap_or(Poll::Ready(Some(Err(UploadError::Internal))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(upload) => upload.is_end_stream(),
            Self::Recorded(reader) => reader.is_end_stream(),
            Self::Copied(copied) => copied.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(upload) => upload.size_hint(),
            Self::Recorded(reader) => reader.size_hint(),
            Self::Copied(copied) => copied.size_hint(),
        }
    }
}
