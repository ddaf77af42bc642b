//! The body of a request on its way to an endpoint.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::replay::{self, Copied, Reader, Recording};

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

    /// The next frame from the client.
    pub(super) fn poll(
        &self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        self.waiting.store(polled.is_pending(), Ordering::Relaxed);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if incoming.is_end_stream() {
                    self.finish();
                }
            }
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
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
}

/// The body of a request as sent upstream.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// Streamed from the client as the endpoint takes it.
    Streaming(Incoming, Arc<UploadProgress>),
    /// The same, and kept meanwhile.
    Recorded(Reader),
    /// A copy of what another destination got.
    Copied(Box<Copied>),
}

impl RequestBody {
    /// The client's body; empty when it has none.
    pub fn new(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Streaming(incoming, Arc::default()) }
    }

    /// The progress of the upload; none for an empty body and for a copy.
    pub fn progress(&self) -> Option<Arc<UploadProgress>> {
        match self {
            Self::Empty | Self::Copied(_) => None,
            Self::Streaming(_, progress) => Some(Arc::clone(progress)),
            Self::Recorded(reader) => Some(Arc::clone(reader.recording().progress())),
        }
    }

    /// The same body, kept from now on while it is sent, if it is not known to be too large for that.
    #[must_use]
    pub fn recorded(self) -> Self {
        match self {
            Self::Streaming(incoming, progress) if incoming.size_hint().lower() <= replay::LIMIT => {
                Self::Recorded(Recording::start(incoming, progress))
            }
            other => other,
        }
    }

    /// The recording, of a body that is being kept.
    pub fn recording(&self) -> Option<&Arc<Recording>> {
        if let Self::Recorded(reader) = self { Some(reader.recording()) } else { None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(incoming, progress) => progress.poll(incoming, cx).map_err(UploadError::Client),
            Self::Recorded(reader) => reader.poll(cx),
            Self::Copied(copied) => Poll::Ready(copied.next().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(incoming, _) => incoming.is_end_stream(),
            Self::Recorded(reader) => reader.is_end_stream(),
            Self::Copied(copied) => copied.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(incoming, _) => incoming.size_hint(),
            Self::Recorded(reader) => reader.size_hint(),
            Self::Copied(copied) => copied.size_hint(),
        }
    }
}
