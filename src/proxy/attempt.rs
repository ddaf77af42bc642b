//! Getting one request answered by its destination: pick an endpoint, take or open a connection, send, and try again where
//! that is safe. What calls for another try is in [`retry`](super::retry); every try, wanted or free, is charged to the
//! budget of the destination's version, and stays in the destination that was drawn.
//!
//! Free, once: a request that is idempotent, has no body, and met a kept-alive connection that the endpoint was just closing.

mod next;

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::next::{Later, Spare, Step, Try};
use super::body;
use super::failure::Failure;
use super::pulse::Activity;
use super::record::Record;
use super::retry::Rules;
use super::upgrade::Wish;
use super::worker::Worker;
use crate::failpoint;
use crate::snapshot::Destination;
use crate::telemetry::AttemptResult;
use crate::upstream::{ConnectError, Connection, Endpoint, Lease, Outcome, Permit, RequestBody, UploadProgress};

/// Tells the application which try this is, from the second on.
static ATTEMPT: HeaderName = HeaderName::from_static("x-serin-attempt");

/// The most that is read of an answer that is not wanted, in bytes, so that its connection can be used again.
const DRAINED: u64 = 64 * 1024;

/// An answer whose body is still to come, with what has to be held until then.
#[derive(Debug)]
pub(super) struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    /// The claim on the endpoint.
    pub lease: Lease,
    /// The connection, if it may be kept.
    pub connection: Option<Connection>,
}

/// The attempts of one request.
#[derive(Debug)]
pub(super) struct Attempts<'r> {
    worker: &'r Worker,
    destination: &'r Destination,
    rules: Rules<'r>,
    record: &'r mut Record,
    /// The claim on the endpoint of the attempt under way.
    lease: Option<Lease>,
    /// The hash of what chooses the endpoint, where something of the request does.
    key: Option<NonZeroU64>,
    /// What the client wants its connection to become.
    wish: Option<&'r Wish>,
    /// Boxed: most requests are tried once, and each of them holds this.
    again: Option<Box<Again>>,
    may_repeat: bool,
    stale_retry_used: bool,
}

/// What there is to know about a request that is tried again.
#[derive(Debug, Default)]
struct Again {
    /// Endpoints to be passed over while there are others.
    tried: Vec<Arc<Endpoint>>,
    retries: u32,
    /// Held while a retry is under way.
    permit: Option<Permit>,
}

impl<'r> Attempts<'r> {
    /// No attempt was made yet.
    pub(super) fn new(
        worker: &'r Worker,
        destination: &'r Destination,
        rules: Rules<'r>,
        record: &'r mut Record,
    ) -> Self {
        let may_repeat = rules.may_repeat();
        let (lease, key, wish, again, stale_retry_used) = (None, None, None, None, false);
        Self { worker, destination, rules, record, lease, key, wish, again, may_repeat, stale_retry_used }
    }

    /// The same, to the endpoint that this hash chooses.
    pub(super) fn keyed(self, key: Option<NonZeroU64>) -> Self {
        Self { key, ..self }
    }

    /// The same, for a client that wants its connection to become something else.
    pub(super) fn wishing(self, wish: Option<&'r Wish>) -> Self {
        Self { wish, ..self }
    }

    /// Takes note of an attempt that was dropped before it came to an end of its own.
    pub(super) fn cut_off(&mut self, failure: &Failure) {
        if !self.record.attempting {
            return;
        }
        self.count(AttemptResult::Failed(failure.flag()), None);
        if let (Failure::Timeout | Failure::Stalled, Some(lease)) = (failure, self.lease.take()) {
            lease.report(|| Outcome::TimedOut);
        }
    }

    /// Makes attempts until there is an answer or no further attempt is allowed.
    pub(super) async fn run(&mut self, mut parts: Box<Parts>, mut body: RequestBody) -> Result<Box<Answer>, Failure> {
        if self.may_repeat {
            body = body.recorded(self.worker.bodies());
            body.recording().into_iter().for_each(|recording| recording.keep());
        }
        loop {
            let mut connection = self.connect(&parts).await?;
            let reused = connection.is_reused();
            self.worker.pulse().does(Activity::Forwarding);
            failpoint::reach("in-the-attempt");
            let (request, spare, mut limit) = self.prepare(&connection, parts, body);
            let started = Instant::now();
            let outcome = {
                // Polled in place: each layer of futures would hold it once more.
                let mut exchange = pin!(connection.send(request));
                std::future::poll_fn(|cx| match (exchange.as_mut().poll(cx), &mut limit) {
                    (Poll::Ready(outcome), _) => Poll::Ready(Some(outcome)),
                    (Poll::Pending, Some(limit)) => limit.as_mut().poll(cx).map(|()| None),
                    (Poll::Pending, None) => Poll::Pending,
                })
                .await
            };
            let tried = Try { connection, reused, spare, started };
            let step = self.judge(outcome, tried);
            failpoint::reach("after-the-attempt");
            match step {
                Step::Again(..) => self.record.take_back(),
                _ => self.record.settle(),
            }
            match step {
                Step::Answered(answer) => return Ok(answer),
                Step::Again(same_parts, same_body) => (parts, body) = (same_parts, same_body),
                Step::Later(later) => (parts, body) = Box::pin(self.wait(later)).await,
                Step::Failed(failure) => return Err(failure),
            }
        }
    }

    /// A connection to an endpoint, on which there is a claim from now on.
    async fn connect(&mut self, head: &Parts) -> Result<Connection, Failure> {
        let cluster = &self.destination.cluster;
        loop {
            self.record.attempting = true;
            let draw = self.key.map_or_else(|| self.worker.draw(), NonZeroU64::get);
            let lease = match cluster.pick(draw, self.tried()) {
                Ok(lease) => &*self.lease.insert(lease),
                Err(none) => {
                    self.count(AttemptResult::Failed(Failure::from(none).flag()), None);
                    self.record.settle();
                    return Err(none.into());
                }
            };
            self.record.note(|line| line.endpoint = Some(lease.endpoint().name().into()));
            failpoint::reach("with-the-claim");
            // Rare paths are boxed: they are large beside what a request on a kept connection needs.
            match cluster.connection(lease, self.worker.index(), head).await {
                Ok(connection) => return Ok(connection),
                Err(error) => Box::pin(self.connect_failed(error)).await?,
            }
        }
    }

    async fn connect_failed(&mut self, error: ConnectError) -> Result<(), Failure> {
        // Until it is decided on another try, the request counts as active.
        let lease = self.lease.take().expect("a connection is opened for a claim");
        let endpoint = lease.endpoint();
        let hopeless = !error.blames_endpoint();
        self.worker.report_unreachable(self.destination, endpoint, &error);
        let failure = Failure::from(error);
        self.count(AttemptResult::Failed(failure.flag()), None);
        self.record.settle();
        if hopeless || !self.rules.repeats_unconnected() || !self.take_retry() {
            return Err(failure);
        }
        let untried = self.destination.cluster.endpoints().endpoints().len() > self.tried().len() + 1;
        self.avoid(endpoint);
        drop(lease);
        if !untried {
            sleep(self.pause()).await;
        }
        Ok(())
    }

    /// The request of the next try, what the one after it would be made from, and the limit of the policy.
    fn prepare(
        &self,
        connection: &Connection,
        mut parts: Box<Parts>,
        body: RequestBody,
    ) -> (Request<RequestBody>, Option<Spare>, Option<Pin<Box<impl Future<Output = ()> + use<>>>>) {
        if self.record.attempts > 0 {
            parts.headers.insert(&ATTEMPT, HeaderValue::from(self.record.attempts + 1));
        }
        let spare = self.spare(connection, &parts, &body);
        let limit = self.rules.policy().per_try_timeout.map(|limit| Box::pin(passed(limit, body.progress())));
        (Request::from_parts(*parts, body), spare, limit)
    }

    async fn wait(&self, later: Box<Later>) -> (Box<Parts>, RequestBody) {
        let Later { parts, body, pause, unwanted } = *later;
        let until = Instant::now() + pause;
        if let Some(Answer { response, lease, connection: Some(connection) }) = unwanted
            && timeout(pause, body::drain(response.into_body(), DRAINED)).await == Ok(true)
        {
            lease.endpoint().pool(self.worker.index()).put(connection, Instant::now());
        }
        sleep_until(until).await;
        (parts, body)
    }

    /// The next attempts pass over an endpoint while there are others.
    fn avoid(&mut self, endpoint: &Arc<Endpoint>) {
        if self.rules.policy().other_endpoint {
            self.again().tried.push(Arc::clone(endpoint));
        }
    }

    fn again(&mut self) -> &mut Again {
        self.again.get_or_insert_default()
    }

    fn tried(&self) -> &[Arc<Endpoint>] {
        self.again.as_ref().map_or(&[], |again| &again.tried)
    }

    fn retries(&self) -> u32 {
        self.again.as_ref().map_or(0, |again| again.retries)
    }

    fn pause(&self) -> Duration {
        self.rules.pause(self.retries(), self.worker.draw())
    }

    fn count(&mut self, result: AttemptResult, latency: Option<Duration>) {
        self.record.tried(result, latency);
        self.destination.metrics.destination().attempt(self.worker.shard(), result);
    }
}

/// Returns when `limit` has passed since the request was complete: a slow client does not use up the time of a try.
async fn passed(limit: Duration, upload: Option<Arc<UploadProgress>>) {
    if let Some(upload) = upload {
        while !upload.is_finished() {
            sleep(limit / 16).await;
        }
    }
    sleep(limit).await;
}
