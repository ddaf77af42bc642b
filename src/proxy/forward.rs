//! The part of a request's journey that leaves Serin: the request as it goes upstream, its attempts, and what becomes of the
//! answer's head.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::affinity::{self, Affinity};
use super::attempt::{Answer, Attempts};
use super::bounds::Bounds;
use super::failure::Failure;
use super::handler::Client;
use super::journey::Journey;
use super::record::Record;
use super::retry::Rules;
use super::state::Expired;
use super::upgrade::Wish;
use super::{headers, mirror, reply};
use crate::failpoint;
use crate::routing::{Answered, Kept, Route, Target};
use crate::snapshot::Destination;
use crate::upstream::RequestBody;

/// The route of a request, and the destination that was drawn for it.
#[derive(Clone, Copy)]
pub(super) struct Way<'r> {
    /// The route.
    pub route: &'r Route<Destination>,
    /// One of its destinations.
    pub target: &'r Target<Destination>,
    /// When the route's timeout is over.
    pub deadline: Option<Instant>,
}

impl Client {
    /// Gets a request answered by the destination that was drawn for it.
    pub(super) async fn forward(
        &self,
        Way { route, target, deadline }: Way<'_>,
        mut parts: Box<Parts>,
        incoming: Option<Incoming>,
        record: &mut Record,
    ) -> Journey {
        let http2 = parts.version == Version::HTTP_2;
        let wants_grpc = record.is_grpc();
        if wants_grpc {
            // Whatever an answer that was given up said.
            record.calls_grpc();
        }
        let affinity = Affinity::find(target.to.cluster.policy(), &parts, &self.address, || self.worker.draw());
        let (key, cookie) = affinity.map_or((None, None), |affinity| (Some(affinity.key), affinity.cookie));
        if !headers::add_via(&mut parts.headers, parts.version) {
            return self.failed(&Failure::Loop, target, (wants_grpc, None), record);
        }
        let mut body = incoming.map_or(RequestBody::Empty, RequestBody::new);
        let wish = Wish::take(&mut parts);
        let kept = self.prepare(route, target, &mut parts, &body);
        if let Some(wish) = &wish {
            wish.offer(&mut parts);
        } else if let Some(filters) = &route.rule.filters {
            body = mirror::send(&self.worker, &filters.mirrors, &parts, body);
        }
        let upload = body.progress();
        upload.iter().for_each(|upload| record.uploading(Arc::clone(upload)));
        let bounds = Bounds::new(self.worker.limits(), deadline, upload, http2);
        let outcome = {
            let rules = Rules::new(&route.rule.retry, &parts.method, wants_grpc);
            let attempts = Attempts::new(&self.worker, &target.to, rules, record).keyed(key);
            let mut attempts = attempts.wishing(wish.as_deref());
            let outcome = self.within(bounds, pin!(attempts.run(parts, body))).await;
            outcome.inspect_err(|failure| attempts.cut_off(failure))
        };
        match (outcome, wish) {
            (Ok(answer), Some(wish)) if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Journey::Tunnel(answer, wish)
            }
            (Ok(mut answer), _) => {
                record.status = answer.response.status().as_u16();
                let upstream = Some(answer.lease.endpoint().name());
                let fields = answer.response.headers_mut();
                record.look_for_grpc_status(fields);
                let kept_alive = headers::remove_hop_by_hop(fields);
                if let Some(connection) = &mut answer.connection {
                    connection.heed(kept_alive.as_ref());
                }
                let answered = Answered { status: record.status, upstream };
                target.response_headers.apply_to_response(fields, kept.as_deref(), answered);
                affinity::remember(cookie, fields);
                Journey::Upstream(answer, deadline)
            }
            (Err(failure), _) => self.failed(&failure, target, (wants_grpc, kept.as_deref()), record),
        }
    }

    /// The same, but what the destination fails to answer is asked of another one: `stable`, if its budget of retries allows.
    pub(super) async fn shielded(
        &self,
        way: Way<'_>,
        stable: &Target<Destination>,
        parts: Box<Parts>,
        record: &mut Record,
    ) -> Journey {
        let spare = parts.clone();
        let journey = self.forward(way, parts, None, record).await;
        let Journey::Own(_) = journey else { return journey };
        let now = Instant::now();
        let in_time = way.deadline.is_none_or(|deadline| now < deadline);
        let metrics = &stable.to.metrics;
        if !in_time || record.is_given_up() || !stable.to.budget.withdraw(metrics.destination().attempts_made(), now) {
            return journey;
        }
        record.shielded(metrics);
        self.forward(Way { target: stable, ..way }, spare, None, record).await
    }

    /// What the client is told instead of the endpoint's answer, with the operations that the answer would have got.
    fn failed(
        &self,
        failure: &Failure,
        target: &Target<Destination>,
        (wants_grpc, kept): (bool, Option<&Kept>),
        record: &mut Record,
    ) -> Journey {
        let request = if wants_grpc { reply::grpc_headers() } else { HeaderMap::new() };
        let mut journey = Journey::failed(failure, Some(target.to.cluster.name()), &request, record);
        if let Journey::Own(response) = &mut journey {
            let answered = Answered { status: response.status().as_u16(), upstream: None };
            target.response_headers.apply_to_response(response.headers_mut(), kept, answered);
        }
        journey
    }

    /// The request as it goes upstream; gives back what the answer's headers will have to know of it.
    fn prepare(
        &self,
        route: &Route<Destination>,
        target: &Target<Destination>,
        parts: &mut Parts,
        body: &RequestBody,
    ) -> Option<Box<Kept>> {
        let rewritten = parts.uri.path_and_query().and_then(|path| route.rewritten(path.as_str()));
        headers::remove_hop_by_hop(&mut parts.headers);
        if parts.version == Version::HTTP_2 {
            headers::join_cookies(&mut parts.headers);
        }
        failpoint::reach("in-the-headers");
        headers::add_forwarded(&mut parts.headers, &self.address, self.scheme);
        let Parts { method, uri, version, headers: fields, .. } = &mut *parts;
        target.request_headers.apply_to_request(fields, || self.facts(method, uri, *version));
        let kept = target.response_headers.keep(fields, || self.facts(method, uri, *version));
        headers::set_host(fields, uri, target.host.as_ref());
        if matches!(body, RequestBody::Streaming(_)) && !parts.headers.contains_key(header::CONTENT_LENGTH) {
            // Said outright, because hyper sends no body of unknown length with GET otherwise.
            parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if rewritten.is_some() || parts.uri.authority().is_some() {
            parts.uri = headers::origin_form(&parts.uri, rewritten.and_then(|path| path.parse().ok()));
        }
        kept
    }

    /// The outcome of `attempts`, or a failure once a bound is passed or nothing has moved on this connection for too long.
    /// One future that polls the others in place: each layer of combinators would hold a copy of the largest.
    async fn within(
        &self,
        mut bounds: Option<Box<Bounds>>,
        mut attempts: Pin<&mut impl Future<Output = Result<Box<Answer>, Failure>>>,
    ) -> Result<Box<Answer>, Failure> {
        std::future::poll_fn(|cx| {
            let passed = match self.state.expired() {
                Some(Expired::Stalled) => Poll::Ready(Failure::Stalled),
                _ => match attempts.as_mut().poll(cx) {
                    Poll::Pending => bounds.as_mut().map_or(Poll::Pending, |bounds| bounds.poll(cx)),
                    ready => return ready,
                },
            };
            passed.map(Err)
        })
        .await
    }
}
