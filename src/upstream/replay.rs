//! A request body that is kept while it streams to the endpoint, up to a limit: so that the request can be sent again, or a
//! copy of it elsewhere. Nothing is copied: what is kept shares its memory with what was sent. Whoever sends the request
//! again continues where the client is; the body does not have to be complete for that. All that are kept have a limit, too
//! ([`kept`](super::kept)).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::body::{Upload, UploadError, UploadProgress};
use super::fit::fitted;
use super::kept::Claim;

/// The largest body that is kept, in bytes.
pub const LIMIT: u64 = 64 * 1024;

/// Why a body is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It is larger than what is kept.
    #[error("the body is larger than {LIMIT} bytes")]
    TooLarge,
    /// All bodies together have as much memory as they may.
    #[error("there is no room for the body")]
    NoRoom,
}

/// A whole body, or what is there of it.
#[derive(Clone, Debug)]
pub struct Copied {
    pieces: VecDeque<Piece>,
    claim: Arc<Claim>,
}

/// One frame of a body.
#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// A body under way, with what was sent of it so far. Used by one thread.
#[derive(Debug)]
pub struct Recording {
    progress: Arc<UploadProgress>,
    /// The length that was announced.
    length: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    upload: Upload,
    /// Whether the client has sent everything.
    ended: bool,
    /// The number of the reader that may take from the client, and how many pieces it has passed on.
    reader: u32,
    read: usize,
    kept: Option<Copied>,
    size: u64,
    wants_replay: bool,
    waiting: Vec<oneshot::Sender<Result<Copied, NotKept>>>,
}

/// One pass over a recording; the one that was begun last goes on with the client's body, those before have an error.
#[derive(Debug)]
pub struct Reader {
    recording: Arc<Recording>,
    number: u32,
    /// How many pieces were passed on, and how many bytes.
    at: usize,
    passed: u64,
}

impl Recording {
    /// Begins to keep a body.
    pub(super) fn start(upload: Upload, claim: Arc<Claim>) -> Reader {
        let (length, progress) = (upload.size_hint().exact(), Arc::clone(upload.progress()));
        let state = State {
            upload,
            ended: false,
            reader: 0,
            read: 0,
            kept: Some(Copied { pieces: VecDeque::new(), claim }),
            size: 0,
            wants_replay: false,
            waiting: Vec::new(),
        };
        let recording = Arc::new(Self { progress, length, state: Mutex::new(state) });
        Reader { recording, number: 0, at: 0, passed: 0 }
    }

    /// Asks for the body to be kept for [`replay`](Self::replay) until [`release`](Self::release).
    pub fn keep(&self) {
        self.lock().wants_replay = true;
    }

    /// Whether the whole of it is still there.
    pub fn is_kept(&self) -> bool {
        self.lock().kept.is_some()
    }

    /// Whether all of it was handed to the connection.
    pub fn is_passed_on(&self) -> bool {
        self.progress.is_finished()
    }

    /// The body from its beginning; none if it could not be kept.
    pub fn replay(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        state.kept.as_ref()?;
        state.reader += 1;
        state.read = 0;
        self.progress.begin_again();
        Some(Reader { recording: Arc::clone(self), number: state.reader, at: 0, passed: 0 })
    }

    /// It will not be sent again.
    pub fn release(&self) {
        let mut state = self.lock();
        state.wants_replay = false;
        state.forget_if_unwanted();
    }

    /// The whole body, as soon as the client has sent it. The sender is gone if that never happens.
    pub fn copy(&self) -> oneshot::Receiver<Result<Copied, NotKept>> {
        let (sender, receiver) = oneshot::channel();
        self.lock().waiting.push(sender);
        receiver
    }

    pub(super) fn progress(&self) -> &Arc<UploadProgress> {
        &self.progress
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between two consistent states can panic but the client's body, which then has ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        let mut length = 0;
        if let Some(trailers) = frame.trailers_ref() {
            kept.pieces.push_back(Piece::Trailers(trailers.clone()));
        } else if let Some(data) = frame.data_ref() {
            length = data.len() as u64;
            kept.pieces.push_back(Piece::Data(fitted(data.clone())));
        }
        self.size += length;
        // A body of many small pieces takes more than its bytes.
        if self.size > LIMIT {
            self.give_up(NotKept::TooLarge);
        } else if !kept.claim.grow(length + size_of::<Piece>() as u64) {
            self.give_up(NotKept::NoRoom);
        }
    }

    fn give_up(&mut self, why: NotKept) {
        self.kept = None;
        self.waiting.drain(..).for_each(|one| drop(one.send(Err(why))));
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(kept) = &self.kept {
            self.waiting.drain(..).for_each(|one| drop(one.send(Ok(kept.clone()))));
        }
        self.forget_if_unwanted();
    }

    fn forget_if_unwanted(&mut self) {
        let passed_on = self.kept.as_ref().is_none_or(|kept| self.read >= kept.pieces.len());
        if passed_on && !self.wants_replay && self.waiting.is_empty() {
            self.kept = None;
        }
    }

    fn is_over(&self, at: usize) -> bool {
        self.ended && self.kept.as_ref().is_none_or(|kept| at >= kept.pieces.len())
    }
}

impl Reader {
    /// What it reads.
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let recording = Arc::clone(&self.recording);
        let mut state = recording.lock();
        if state.reader != self.number {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        if let Some(piece) = state.kept.as_ref().and_then(|kept| kept.pieces.get(self.at)) {
            let frame = Frame::from(piece.clone());
            self.pass(&mut state, &frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        if state.ended {
            recording.progress.finish();
            return Poll::Ready(None);
        }
        let polled = state.upload.poll(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                state.keep(frame);
                self.pass(&mut state, frame);
                if frame.is_trailers() || state.upload.is_end_stream() {
                    state.end();
                }
            }
            Poll::Ready(None) => state.end(),
            Poll::Ready(Some(Err(_))) => state.waiting.clear(),
            Poll::Pending => {}
        }
        polled.map_err(UploadError::Client)
    }

    fn pass(&mut self, state: &mut State, frame: &Frame<Bytes>) {
        self.at += 1;
        self.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
        state.read = self.at;
        if state.is_over(self.at) {
            self.recording.progress.finish();
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let state = self.recording.lock();
        state.reader == self.number && state.is_over(self.at)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let left = |length: u64| SizeHint::with_exact(length.saturating_sub(self.passed));
        self.recording.length.map_or_else(SizeHint::default, left)
    }
}

impl Copied {
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        self.pieces.pop_front().map(Frame::from)
    }

    pub(super) fn is_over(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let length = |piece: &Piece| if let Piece::Data(data) = piece { data.len() as u64 } else { 0 };
        SizeHint::with_exact(self.pieces.iter().map(length).sum())
    }
}

impl From<Piece> for Frame<Bytes> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Data(data) => Self::data(data),
            Piece::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}
