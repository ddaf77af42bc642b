//! What follows from how a try went: the answer, another try, or a failure.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::{Answer, Attempts};
use crate::failpoint;
use crate::proxy::failure::Failure;
use crate::proxy::headers;
use crate::snapshot::Destination;
use crate::telemetry::{AttemptResult, Flag};
use crate::upstream::connection::was_refused;
use crate::upstream::{Connection, Exchange, Lease, NoRetry, Outcome, Recording, RequestBody};

/// What is done next about a request.
pub(super) enum Step {
    /// There is an answer to give.
    Answered(Box<Answer>),
    /// Sent again at once.
    Again(Box<Parts>, RequestBody),
    /// Sent again after a pause.
    Later(Box<Later>),
    /// There will be none.
    Failed(Failure),
}

/// Another try, and what is to be done in the pause before it.
pub(super) struct Later {
    pub(super) parts: Box<Parts>,
    pub(super) body: RequestBody,
    pub(super) pause: Duration,
    /// An answer that is not wanted: what is left of it has the time of the pause.
    pub(super) unwanted: Option<Answer>,
}

/// One attempt that has ended.
pub(super) struct Try {
    pub(super) connection: Connection,
    /// Whether the connection had served a request before.
    pub(super) reused: bool,
    pub(super) spare: Option<Spare>,
    pub(super) started: Instant,
}

/// What a request is made from again after it was written.
pub(super) struct Spare {
    parts: Box<Parts>,
    /// None if it has no body.
    recording: Option<Arc<Recording>>,
    /// Whether it may be sent again for nothing, should the connection turn out to be closed.
    free: bool,
}

impl Attempts<'_> {
    /// What follows from how a try went; without an outcome it took too long.
    pub(super) fn judge(&mut self, outcome: Option<Exchange>, tried: Try) -> Step {
        let Try { connection, reused, spare, started } = tried;
        let lease = self.lease.take().expect("what was sent was sent to an endpoint");
        match outcome {
            Some(Ok(mut response)) => {
                let agreed = match self.wish {
                    None => response.status() != StatusCode::SWITCHING_PROTOCOLS,
                    Some(wish) => wish.allows(&response),
                };
                let sound = agreed
                    && headers::settle_framing(response.headers_mut())
                    && (!response.body().is_end_stream() || headers::has_sound_length(response.headers()));
                if !sound {
                    self.count(AttemptResult::Failed(Failure::Protocol.flag()), None);
                    return Step::Failed(Failure::Protocol);
                }
                let metrics = self.destination.metrics.destination();
                let latency = started.elapsed();
                failpoint::reach("with-the-answer");
                metrics.upstream_duration(self.worker.shard(), latency);
                self.count(AttemptResult::Status(response.status().as_u16()), Some(latency));
                lease.report(|| Outcome::of_answer(response.status(), response.headers()));
                let connection = self.destination.cluster.keep(connection);
                self.answered(Box::new(Answer { response, lease, connection }), spare)
            }
            Some(Err(mut error)) => {
                let unwritten = error.take_message();
                let failure = Failure::from_exchange(error.error());
                self.count(AttemptResult::Failed(failure.flag()), None);
                if failure.blames_endpoint() && (!reused || connection.may_refuse()) {
                    // A kept-alive connection that was just closed says nothing about the endpoint.
                    lease.report(|| Outcome::Failed);
                }
                match unwritten {
                    Some(request) => self.unwritten(request, reused, failure),
                    None if was_refused(error.error()) => self.refused(failure, &lease, spare),
                    None => self.unanswered(failure, &lease, spare),
                }
            }
            None => {
                self.count(AttemptResult::Failed(Failure::Timeout.flag()), None);
                lease.report(|| Outcome::TimedOut);
                self.unanswered(Failure::Timeout, &lease, spare)
            }
        }
    }

    pub(super) fn spare(&self, connection: &Connection, parts: &Parts, body: &RequestBody) -> Option<Spare> {
        let empty = matches!(body, RequestBody::Empty);
        let free = connection.is_reused() && empty && !self.stale_retry_used && self.rules.is_idempotent();
        let kept = self.may_repeat && (empty || body.recording().is_some());
        let refusable = connection.may_refuse() && empty && self.rules.repeats_refused();
        (free || kept || refusable).then(|| Spare {
            parts: Box::new(parts.clone()),
            recording: body.recording().cloned(),
            free,
        })
    }

    /// An answer came: the one to give, unless it calls for another try and there is one left.
    fn answered(&mut self, answer: Box<Answer>, spare: Option<Spare>) -> Step {
        let Some(spare) = spare.filter(|_| self.may_repeat) else { return Step::Answered(answer) };
        if !self.rules.repeats_answered(&answer.response) || !spare.is_kept() || !self.take_retry() {
            spare.release();
            return Step::Answered(answer);
        }
        self.avoid(answer.lease.endpoint());
        let mut unwanted = *answer;
        match &mut unwanted.connection {
            Some(connection) if spare.is_sent() => connection.heed(unwanted.response.headers().get("keep-alive")),
            connection => *connection = None,
        }
        self.later(spare, Some(unwanted), Failure::Closed)
    }

    /// The request was written, at least in part, and there will be no answer.
    fn unanswered(&mut self, failure: Failure, lease: &Lease, spare: Option<Spare>) -> Step {
        let Some(spare) = spare.filter(Spare::is_kept) else { return Step::Failed(failure) };
        if spare.free && matches!(failure, Failure::Closed | Failure::Reset) {
            self.stale_retry_used = true;
            return if self.charge() { Step::Again(spare.parts, RequestBody::Empty) } else { Step::Failed(failure) };
        }
        let broken = matches!(failure, Failure::Closed | Failure::Reset | Failure::Protocol | Failure::Timeout);
        if !broken || !self.may_repeat || !self.rules.repeats_unanswered() || !self.take_retry() {
            return Step::Failed(failure);
        }
        self.avoid(lease.endpoint());
        self.later(spare, None, failure)
    }

    /// The endpoint says that it did nothing about the request: whatever it is, it can be sent again.
    fn refused(&mut self, failure: Failure, lease: &Lease, spare: Option<Spare>) -> Step {
        match spare.filter(Spare::is_kept) {
            Some(spare) if self.rules.repeats_refused() && self.take_retry() => {
                self.avoid(lease.endpoint());
                self.later(spare, None, failure)
            }
            _ => Step::Failed(failure),
        }
    }

    fn later(&self, spare: Spare, unwanted: Option<Answer>, failure: Failure) -> Step {
        let pause = self.pause();
        match spare.body() {
            Some(body) => Step::Later(Box::new(Later { parts: spare.parts, body, pause, unwanted })),
            None => Step::Failed(failure),
        }
    }

    /// The request never left: whatever it is, it can be sent again.
    fn unwritten(&mut self, request: Request<RequestBody>, reused: bool, failure: Failure) -> Step {
        // Not on a fresh connection for ever: each of those that breaks at once costs a retry.
        let allowed = if reused { self.charge() } else { self.take_retry() };
        if !allowed {
            return Step::Failed(failure);
        }
        let (parts, body) = request.into_parts();
        Step::Again(Box::new(parts), body)
    }

    /// One retry of those that the policy gives to each request, if there is one left.
    pub(super) fn take_retry(&mut self) -> bool {
        let most = self.rules.policy().retries;
        if self.retries() >= most {
            if most > 0 {
                self.record.flags.insert(Flag::URX);
            }
            return false;
        }
        let allowed = self.charge();
        self.again().retries += u32::from(allowed);
        allowed
    }

    /// Charges another attempt to the budget of the version, or of its cluster, and to what that may have under way.
    fn charge(&mut self) -> bool {
        let Destination { cluster, budget, metrics, .. } = self.destination;
        let metrics = metrics.destination();
        // The place of the last retry is free again.
        self.again().permit = None;
        match cluster.admit_retry(budget, metrics.attempts_made(), Instant::now()) {
            Ok(permit) => {
                self.again().permit = permit;
                return true;
            }
            Err(NoRetry::Spent) => metrics.retry_refused(self.worker.shard()),
            Err(NoRetry::Overloaded(_)) => {}
        }
        self.record.flags.insert(Flag::UO);
        false
    }
}

impl Spare {
    fn is_kept(&self) -> bool {
        self.recording.as_ref().is_none_or(|recording| recording.is_kept())
    }

    fn release(&self) {
        self.recording.iter().for_each(|recording| recording.release());
    }

    fn is_sent(&self) -> bool {
        self.recording.as_ref().is_none_or(|recording| recording.is_passed_on())
    }

    fn body(&self) -> Option<RequestBody> {
        match &self.recording {
            None => Some(RequestBody::Empty),
            Some(recording) => recording.replay().map(RequestBody::Recorded),
        }
    }
}
