//! The body of a request on its way to an endpoint.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

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
}

/// The body of a request as sent upstream.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// Streamed from the client as the endpoint takes it.
    Streaming(Incoming, Arc<UploadProgress>),
}

impl RequestBody {
    /// The client's body; empty when it has none.
    pub fn new(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Streaming(incoming, Arc::default()) }
    }

    /// The progress of the upload; none for an empty body.
    pub fn progress(&self) -> Option<Arc<UploadProgress>> {
        match self {
            Self::Empty => None,
            Self::Streaming(_, progress) => Some(Arc::clone(progress)),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Streaming(incoming, progress) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        progress.waiting.store(polled.is_pending(), Ordering::Relaxed);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if incoming.is_end_stream() {
                    progress.finished.store(true, Ordering::Relaxed);
                }
            }
            Poll::Ready(None) => progress.finished.store(true, Ordering::Relaxed),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(incoming, _) => incoming.size_hint(),
        }
    }
}
