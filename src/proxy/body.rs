//! The body of an answer. One that comes from upstream carries the request's record, its lease and its connection, and
//! lets go of them at the last byte: the connection goes back to its pool, the record to the metrics.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, timeout};

use super::failure::Failure;
use super::isolation::isolated;
use super::pulse::Activity;
use super::record::Record;
use super::streams::{self, Waits};
use crate::failpoint;
use crate::telemetry::Flag;
use crate::upstream::{Connection, Lease, fitted};

/// How long an endpoint that has answered may take for the rest of the request.
const UPLOAD_AFTER_ANSWER: Duration = Duration::from_secs(60);

/// Why an answer stops before its end. Serin then breaks off the answer to the client, so that it looks incomplete there too.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The endpoint broke off.
    #[error("upstream: {0}")]
    Upstream(#[from] hyper::Error),
    /// The route's timeout is over.
    #[error("upstream request timeout")]
    Timeout,
    /// The endpoint sends nothing more.
    #[error("nothing was received for too long")]
    Stalled,
    /// A mistake in Serin.
    #[error("internal error")]
    Internal,
}

/// What a client gets as the body of an answer.
#[derive(Debug)]
pub(super) struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Own(Full<Bytes>, Option<Record>),
    Upstream(UpstreamBody),
}

/// What is held until an answer from upstream is complete.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The request's record.
    pub record: Record,
    /// Its claim on the endpoint.
    pub lease: Lease,
    /// The connection, to be kept if it may serve another request.
    pub connection: Option<Connection>,
    /// When the route's timeout is over.
    pub deadline: Option<Instant>,
    /// How long no byte may move in either direction, where nobody else watches that.
    pub idle: Option<Duration>,
}

#[derive(Debug)]
struct UpstreamBody {
    incoming: Incoming,
    exchange: Option<Exchange>,
    timer: Option<Pin<Box<Sleep>>>,
    quiet: Option<Quiet>,
}

/// Ends an exchange in which no byte has moved in either direction for `limit`, before that has passed twice.
#[derive(Debug)]
struct Quiet {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// What the client had sent when the timer was over last.
    uploaded: u64,
}

impl Quiet {
    fn new(limit: Duration, uploaded: u64) -> Self {
        Self { limit, timer: Box::pin(tokio::time::sleep(limit)), uploaded }
    }

    /// A byte came from the endpoint.
    fn received(&mut self) {
        self.timer.as_mut().reset(Instant::now() + self.limit);
    }

    /// Ready once it is enough; `uploaded` bytes came from the client so far.
    fn poll(&mut self, uploaded: u64, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if std::mem::replace(&mut self.uploaded, uploaded) == uploaded {
                return Poll::Ready(());
            }
            self.received();
        }
    }
}

impl ResponseBody {
    /// A body of Serin's own.
    pub(super) fn own(bytes: Bytes) -> Self {
        Self(Kind::Own(Full::new(bytes), None))
    }

    /// A body from upstream.
    pub(super) fn upstream(incoming: Incoming, exchange: Exchange) -> Self {
        let timer = exchange.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let quiet = exchange.idle.map(|limit| Quiet::new(limit, exchange.record.uploaded()));
        let mut body = UpstreamBody { incoming, exchange: Some(exchange), timer, quiet };
        if body.incoming.is_end_stream() {
            body.complete();
        }
        Self(Kind::Upstream(body))
    }

    /// The same body, which finishes this record when it is sent or dropped.
    pub(super) fn recorded(self, mut record: Record) -> Self {
        match self.0 {
            Kind::Own(full, _) => {
                if full.is_end_stream() {
                    record.finish(Instant::now());
                    return Self(Kind::Own(full, None));
                }
                record.bytes_out = full.size_hint().exact().unwrap_or(0);
                Self(Kind::Own(full, Some(record)))
            }
            upstream @ Kind::Upstream(_) => Self(upstream),
        }
    }

    /// The bytes of a body of Serin's own.
    #[cfg(test)]
    pub(super) fn own_bytes(&self) -> Bytes {
        use http_body_util::BodyExt;
        match &self.0 {
            Kind::Own(full, _) => {
                let collected =
                    std::pin::pin!(full.clone().collect()).poll(&mut Context::from_waker(std::task::Waker::noop()));
                match collected {
                    Poll::Ready(Ok(bytes)) => bytes.to_bytes(),
                    _ => Bytes::new(),
                }
            }
            Kind::Upstream(_) => Bytes::new(),
        }
    }
}

impl UpstreamBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(timer) = &mut self.timer
            && self.exchange.is_some()
            && timer.as_mut().poll(cx).is_ready()
        {
            self.give_up(Flag::UT);
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Some(quiet) = &mut self.quiet {
            if polled.is_ready() {
                quiet.received();
            } else if let Some(exchange) = &self.exchange
                && quiet.poll(exchange.record.uploaded(), cx).is_ready()
            {
                self.give_up(Flag::SI);
                return Poll::Ready(Some(Err(BodyError::Stalled)));
            }
        }
        let mut frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.give_up(Failure::from_exchange(&error).flag());
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                self.complete();
                return Poll::Ready(None);
            }
        };
        let is_last = self.incoming.is_end_stream();
        if let Some(exchange) = &mut self.exchange {
            match frame.data_ref() {
                Some(data) => {
                    exchange.record.worker().pulse().does(Activity::Answering);
                    failpoint::reach("in-the-body");
                    exchange.record.bytes_out += data.len() as u64;
                }
                None => {
                    frame.trailers_ref().into_iter().for_each(|fields| exchange.record.look_for_grpc_status(fields))
                }
            }
        }
        if is_last {
            self.complete();
        } else if let Some(exchange) = &self.exchange
            // A stream of HTTP/2 may wait although its connection does not.
            && (self.quiet.is_some() || exchange.record.is_read_slowly())
        {
            frame = frame.map_data(fitted);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn complete(&mut self) {
        if self.exchange.is_some() {
            failpoint::reach("at-the-end");
        }
        if let Some(Exchange { record, lease, connection, .. }) = self.exchange.take() {
            let now = Instant::now();
            if let Some(connection) = connection {
                let worker = record.worker().index();
                match record.upload_is_finished() {
                    true => lease.endpoint().pool(worker).put(connection, now),
                    false => keep_when_uploaded(connection, lease, worker),
                }
            }
            record.finish(now);
        }
    }

    fn give_up(&mut self, flag: Flag) {
        if let Some(Exchange { record, .. }) = self.exchange.take() {
            record.broke_off(flag);
        }
    }
}

/// An answer may be complete before its request is. The endpoint may still be reading: its connection is kept open until it
/// has everything, and for other requests only then.
fn keep_when_uploaded(mut connection: Connection, lease: Lease, worker: usize) {
    tokio::spawn(async move {
        if let Ok(Ok(())) = timeout(UPLOAD_AFTER_ANSWER, connection.ready()).await {
            lease.endpoint().pool(worker).put(connection, Instant::now());
        }
    });
}

/// Reads an answer that nobody wants, `most` bytes of it. Whether it came to its end, so that its connection can be used again.
pub(super) async fn drain(mut answer: Incoming, most: u64) -> bool {
    let mut read = 0;
    while let Some(frame) = answer.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > most {
            return false;
        }
    }
    true
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.get_mut().0 {
            Kind::Own(full, record) => {
                if let Some(record) = record.take() {
                    record.finish(Instant::now());
                }
                Pin::new(full).poll_frame(cx).map_err(|never| match never {})
            }
            Kind::Upstream(body) => isolated(|| body.poll(cx)).unwrap_or_else(|| {
                body.give_up(Flag::IE);
                Poll::Ready(Some(Err(BodyError::Internal)))
            }),
        };
        streams::note(if polled.is_ready() { Waits::Client } else { Waits::Endpoint });
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Own(full, _) => full.is_end_stream(),
            Kind::Upstream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Own(full, _) => full.size_hint(),
            Kind::Upstream(body) => body.incoming.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(300);

    fn is_over(quiet: &mut Quiet, uploaded: u64) -> impl Future<Output = bool> {
        poll_fn(move |cx| Poll::Ready(quiet.poll(uploaded, cx).is_ready()))
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_in_either_direction_keep_an_exchange_going() {
        let mut quiet = Quiet::new(LIMIT, 7);
        for byte in 0..10 {
            advance(LIMIT - Duration::from_secs(1)).await;
            assert!(!is_over(&mut quiet, 8 + byte).await, "the client sends");
        }
        for _ in 0..10 {
            advance(LIMIT - Duration::from_secs(1)).await;
            assert!(!is_over(&mut quiet, 17).await, "the endpoint sends");
            quiet.received();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn with_both_sides_quiet_it_ends() {
        let mut quiet = Quiet::new(LIMIT, 7);
        advance(LIMIT - Duration::from_secs(1)).await;
        assert!(!is_over(&mut quiet, 7).await);
        advance(Duration::from_secs(2)).await;
        assert!(is_over(&mut quiet, 7).await);
        let mut quiet = Quiet::new(LIMIT, 0);
        advance(LIMIT + Duration::from_secs(1)).await;
        assert!(!is_over(&mut quiet, 1).await);
        advance(LIMIT + Duration::from_secs(1)).await;
        assert!(is_over(&mut quiet, 1).await);
    }
}
