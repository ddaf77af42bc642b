//! Getting one request answered by its destination: pick an endpoint, take or open a connection, send, and try again where
//! that is safe.
//!
//! A request is sent again only if no byte of an answer was seen and either it was never written (any method), or it is
//! idempotent, has no body, and met a kept-alive connection that the endpoint was just closing. POST is never sent twice.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::headers;
use super::worker::Worker;
use crate::routing::{RetryOn, RetryPolicy};
use crate::snapshot::Destination;
use crate::telemetry::AttemptResult;
use crate::upstream::connection::was_refused;
use crate::upstream::{ConnectError, Connection, Endpoint, Lease, Outcome, RequestBody};

/// The longest pause before another try, as a multiple of the policy's backoff (Envoy's default).
const LONGEST_BACKOFF: u32 = 10;

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
    retry: &'r RetryPolicy,
    tried: Vec<Arc<Endpoint>>,
    /// The hash of what chooses the endpoint, where something of the request does.
    key: Option<NonZeroU64>,
    retries: u32,
    stale_retry_used: bool,
}

enum Step {
    Answered(Box<Answer>),
    Again(Box<Parts>, RequestBody),
    Failed(Failure),
}

impl<'r> Attempts<'r> {
    /// No attempt was made yet.
    pub(super) fn new(worker: &'r Worker, destination: &'r Destination, retry: &'r RetryPolicy) -> Self {
        Self { worker, destination, retry, tried: Vec::new(), key: None, retries: 0, stale_retry_used: false }
    }

    /// The same, to the endpoint that this hash chooses.
    pub(super) fn keyed(self, key: Option<NonZeroU64>) -> Self {
        Self { key, ..self }
    }

    /// Makes attempts until there is an answer or no further attempt is allowed.
    pub(super) async fn run(mut self, mut parts: Box<Parts>, mut body: RequestBody) -> Result<Box<Answer>, Failure> {
        loop {
            let (lease, connection) = self.connect(&parts.headers).await?;
            match self.send(lease, connection, parts, body).await {
                Step::Answered(answer) => return Ok(answer),
                Step::Again(same_parts, same_body) => (parts, body) = (same_parts, same_body),
                Step::Failed(failure) => return Err(failure),
            }
        }
    }

    /// An endpoint and a connection to it.
    async fn connect(&mut self, headers: &HeaderMap) -> Result<(Lease, Connection), Failure> {
        let cluster = &self.destination.cluster;
        loop {
            let lease = match cluster.pick(self.key.map_or_else(|| self.worker.draw(), NonZeroU64::get), &self.tried) {
                Ok(lease) => lease,
                Err(none) => {
                    self.count(AttemptResult::Failed(Failure::from(none).flag()));
                    return Err(none.into());
                }
            };
            // Rare paths are boxed: they are large beside what a request on a kept connection needs.
            match cluster.connection(&lease, self.worker.index(), headers).await {
                Ok(connection) => return Ok((lease, connection)),
                Err(error) => Box::pin(self.connect_failed(&lease, error)).await?,
            }
        }
    }

    async fn connect_failed(&mut self, lease: &Lease, error: ConnectError) -> Result<(), Failure> {
        let endpoint = lease.endpoint();
        let hopeless = !error.blames_endpoint();
        self.worker.report_unreachable(self.destination, endpoint, &error);
        let failure = Failure::from(error);
        self.count(AttemptResult::Failed(failure.flag()));
        if hopeless || self.retries >= self.retry.retries || !self.retry.on.contains(RetryOn::CONNECT_FAILURE) {
            return Err(failure);
        }
        self.retries += 1;
        let untried = self.destination.cluster.endpoints().endpoints().len() > self.tried.len() + 1;
        if self.retry.other_endpoint {
            self.tried.push(Arc::clone(endpoint));
        }
        if !untried {
            sleep(self.backoff()).await;
        }
        Ok(())
    }

    /// A random pause of up to backoff · (2ⁿ − 1), as Envoy makes it before the n-th retry.
    fn backoff(&self) -> Duration {
        let longest = self.retry.backoff * ((1 << self.retries.min(16)) - 1).min(LONGEST_BACKOFF);
        longest.mul_f64(self.worker.draw() as f64 / u64::MAX as f64)
    }

    async fn send(&mut self, lease: Lease, mut connection: Connection, parts: Box<Parts>, body: RequestBody) -> Step {
        let reused = connection.is_reused();
        let may_repeat = reused && !self.stale_retry_used && is_idempotent(&parts.method);
        let keeps = may_repeat || connection.may_refuse();
        let spare = (keeps && matches!(body, RequestBody::Empty)).then(|| parts.clone());
        let sent = Instant::now();
        match connection.send(Request::from_parts(*parts, body)).await {
            Ok(mut response) => {
                if !headers::settle_framing(response.headers_mut()) {
                    self.count(AttemptResult::Failed(Failure::Protocol.flag()));
                    return Step::Failed(Failure::Protocol);
                }
                let shard = self.worker.shard();
                let metrics = self.destination.metrics.destination();
                metrics.upstream_duration(shard, sent.elapsed());
                self.count(AttemptResult::Status(response.status().as_u16()));
                lease.report(|| Outcome::of_answer(response.status(), response.headers()));
                let connection = self.destination.cluster.keep(connection);
                Step::Answered(Box::new(Answer { response, lease, connection }))
            }
            Err(mut error) => {
                let unwritten = error.take_message();
                let failure = Failure::from_exchange(error.error());
                self.count(AttemptResult::Failed(failure.flag()));
                if !reused || connection.may_refuse() {
                    // A kept-alive connection that was just closed says nothing about the endpoint.
                    lease.report(|| Outcome::Failed);
                }
                if let Some(request) = unwritten {
                    // Not on a fresh connection for ever: each of those that breaks at once costs a retry.
                    if !reused {
                        if self.retries >= self.retry.retries {
                            return Step::Failed(failure);
                        }
                        self.retries += 1;
                    }
                    let (parts, body) = request.into_parts();
                    return Step::Again(Box::new(parts), body);
                }
                let refused = was_refused(error.error());
                match spare {
                    Some(parts) if refused => {
                        if self.retries >= self.retry.retries || !self.retry.on.contains(RetryOn::REFUSED_STREAM) {
                            return Step::Failed(failure);
                        }
                        self.retries += 1;
                        Step::Again(parts, RequestBody::Empty)
                    }
                    Some(parts) if may_repeat && matches!(failure, Failure::Closed | Failure::Reset) => {
                        self.stale_retry_used = true;
                        Step::Again(parts, RequestBody::Empty)
                    }
                    _ => Step::Failed(failure),
                }
            }
        }
    }

    fn count(&self, result: AttemptResult) {
        self.destination.metrics.destination().attempt(self.worker.shard(), result);
    }
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}
