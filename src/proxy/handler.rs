//! The journey of one request. Reads one snapshot, once; decides; forwards or answers; hands the record to the body of the
//! answer, which tells the metrics when it ends.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::attempt::{Answer, Attempts};
use super::body::{Exchange, ResponseBody};
use super::cors::Decoration;
use super::failure::Failure;
use super::limits::Limits;
use super::record::Record;
use super::retry::Rules;
use super::upgrade::{Tunnel, Wish};
use super::watch::{ConnectionState, Expired};
use super::worker::Worker;
use super::{cors, fault, headers, mirror, reply};
use crate::routing::{Action, Answered, CorsVerdict, Facts, Filters, Found, Kept, RequestView, Route, Rule, Target};
use crate::snapshot::{Destination, Snapshot};
use crate::telemetry::AttemptResult;
use crate::upstream::{RequestBody, UploadProgress};

/// What every request of one client connection has in common.
#[derive(Debug)]
pub(super) struct Client {
    /// The worker whose thread this is.
    pub worker: Arc<Worker>,
    /// What the connection is doing.
    pub state: Arc<ConnectionState>,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// The client's address, as it goes into `x-forwarded-for`.
    pub address: HeaderValue,
    /// The port of the listener, as rules see it.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: &'static str,
}

impl Client {
    /// Answers one request. Never fails: what went wrong is an answer too.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let (parts, incoming) = request.into_parts();
        // On the heap: it is handed on many times, and futures that hold it stay small.
        let parts = Box::new(parts);
        let mut record = Record::start(&self.worker, &self.state, &parts.method);
        let http1 = parts.version != Version::HTTP_2;
        self.state.set_http10(parts.version == Version::HTTP_10);
        let head_only = parts.method == Method::HEAD;
        let journey = self.route(parts, incoming, &mut record).await;
        self.state.answering();
        let mut response = match journey {
            Journey::Own(response) => finish_own(response, record, head_only),
            Journey::Upstream(answer, deadline) => {
                // On HTTP/1 the connection's own state knows; the streams of one connection are told apart here.
                let idle = (!http1).then_some(self.worker.limits().stream_idle_timeout);
                forwarded(*answer, (deadline, idle), record)
            }
            Journey::Tunnel(answer, wish) => return self.tunnel(*answer, wish, record),
        };
        if http1 && (self.worker.is_draining() || self.state.is_leaving()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(&self, parts: Box<Parts>, incoming: Incoming, record: &mut Record) -> Journey {
        let authority = match headers::check_target(&parts).and_then(|()| headers::authority(&parts)) {
            Ok(authority) => authority,
            Err(failure) => return Journey::failed(&failure, None, &parts.headers, record),
        };
        let view = self.worker.view();
        let request = RequestView {
            method: parts.method.as_str(),
            scheme: self.scheme,
            authority,
            path: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            headers: &parts.headers,
            port: self.port,
        };
        let route = match view.snapshot().routes.find(&request) {
            Found::Route(route) => route,
            Found::NoHost => return Journey::failed(&Failure::NoHost, None, &parts.headers, record),
            Found::NoRule => return Journey::failed(&Failure::NoRule, None, &parts.headers, record),
        };
        let decoration = match &route.rule.filters {
            None => None,
            Some(filters) => match Box::pin(self.filter(&route.rule, filters, &parts, record)).await {
                Ok(decoration) => decoration,
                Err(journey) => {
                    answered(record, view.snapshot(), &route.rule);
                    return *journey;
                }
            },
        };
        let mut journey = match &route.rule.action {
            Action::Redirect(redirect) => {
                answered(record, view.snapshot(), &route.rule);
                let location = redirect.location(&request, route.matched);
                self.own(redirected(redirect.status, &location), &route.rule, &parts)
            }
            Action::Respond(answer) => {
                answered(record, view.snapshot(), &route.rule);
                let response = reply::own(answer.status, answer.content_type.clone(), answer.body.clone());
                self.own(response, &route.rule, &parts)
            }
            Action::Forward(split) => {
                let draw = self.worker.draw();
                let (target, cookie) = match &route.rule.sticky {
                    None => (&split.pick(draw).value, None),
                    Some(sticky) => {
                        let drawn = sticky.draw(&request, self.peer.ip(), draw);
                        (&split.entries()[drawn.index].value, drawn.set_cookie.map(Box::new))
                    }
                };
                record.routed(&target.to.metrics);
                let mut journey = self.forward(route, target, parts, incoming, record).await;
                if let Some(cookie) = cookie {
                    journey.headers_mut().append(header::SET_COOKIE, *cookie);
                }
                journey
            }
        };
        if let Some(decoration) = decoration {
            decoration.apply(journey.headers_mut());
        }
        journey
    }

    /// What stands before the router, in Envoy's order: CORS, then the fault. What to add to the answer; or the answer, if the
    /// request goes no further.
    async fn filter<'r>(
        &self,
        rule: &'r Rule<Destination>,
        filters: &'r Filters<Destination>,
        parts: &Parts,
        record: &mut Record,
    ) -> Result<Option<Box<Decoration<'r>>>, Box<Journey>> {
        let mut decoration = None;
        if let Some(policy) = &filters.cors {
            decoration = match policy.judge(&parts.method, &parts.headers) {
                CorsVerdict::Unconcerned => None,
                CorsVerdict::Allowed(origin) => Some(Box::new(Decoration { cors: policy, origin })),
                CorsVerdict::Preflight(fields) => return Err(Box::new(Journey::Own(cors::preflight(fields)))),
            };
        }
        if let Some(injected) = &filters.fault {
            let grpc = reply::is_grpc(&parts.headers);
            if let Some(response) = fault::inject(injected, || self.worker.draw(), grpc, record).await {
                let mut journey = self.own(response, rule, parts);
                if let Some(decoration) = decoration {
                    decoration.apply(journey.headers_mut());
                }
                return Err(Box::new(journey));
            }
        }
        Ok(decoration)
    }

    async fn forward(
        &self,
        route: &Route<Destination>,
        target: &Target<Destination>,
        mut parts: Box<Parts>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Journey {
        let deadline = route.rule.timeout.map(|limit| Instant::now() + limit);
        let http2 = parts.version == Version::HTTP_2;
        let wants_grpc = reply::is_grpc(&parts.headers);
        let mut body = RequestBody::new(incoming);
        let wish = Wish::take(&mut parts);
        let kept = self.prepare(route, target, &mut parts, &body);
        if let Some(wish) = &wish {
            wish.offer(&mut parts.headers);
        } else if let Some(filters) = &route.rule.filters {
            body = mirror::send(&self.worker, &filters.mirrors, &parts, body);
        }
        let upload = body.progress();
        if let Some(upload) = &upload {
            record.uploading(Arc::clone(upload));
        }
        let bounds = Bounds::new(self.worker.limits(), deadline, upload, http2);
        let outcome = {
            let rules = Rules::new(&route.rule.retry, &parts.method, wants_grpc);
            let mut attempts = Attempts::new(&self.worker, &target.to, rules, record);
            self.within(bounds, pin!(attempts.run(parts, body))).await
        };
        if let (Err(failure), true) = (&outcome, record.attempting) {
            // The attempt was dropped before it could count itself.
            let cut_off = AttemptResult::Failed(failure.flag());
            target.to.metrics.destination().attempt(self.worker.shard(), cut_off);
        }
        let outcome = match (outcome, wish) {
            (Ok(answer), wish) if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS => match wish {
                Some(wish) => return Journey::Tunnel(answer, wish),
                None => Err(Failure::Protocol),
            },
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(mut answer) => {
                let status = answer.response.status().as_u16();
                let answered = Answered { status, upstream: Some(answer.lease.endpoint().name()) };
                let fields = answer.response.headers_mut();
                headers::remove_hop_by_hop(fields);
                target.response_headers.apply_to_response(fields, kept.as_deref(), answered);
                record.status = status;
                Journey::Upstream(answer, deadline)
            }
            Err(failure) => {
                let request = if wants_grpc { grpc_headers() } else { HeaderMap::new() };
                let name = target.to.cluster.name();
                let mut journey = Journey::failed(&failure, Some(name), &request, record);
                if let Journey::Own(response) = &mut journey {
                    let answered = Answered { status: response.status().as_u16(), upstream: None };
                    target.response_headers.apply_to_response(response.headers_mut(), kept.as_deref(), answered);
                }
                journey
            }
        }
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
        parts.version = Version::HTTP_11;
        kept
    }

    /// What header values may say of a request.
    fn facts<'f>(&self, method: &'f Method, uri: &'f Uri, version: Version) -> Facts<'f> {
        Facts {
            method: method.as_str(),
            scheme: self.scheme,
            authority: uri.authority().map(Authority::as_str),
            path: uri.path_and_query().map_or("/", PathAndQuery::as_str),
            protocol: match version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            peer: self.peer,
            port: self.port,
            started: SystemTime::now(),
        }
    }

    /// A rule's own answer.
    fn own(&self, mut response: Response<ResponseBody>, rule: &Rule<Destination>, parts: &Parts) -> Journey {
        let facts = || self.facts(&parts.method, &parts.uri, parts.version);
        let kept = rule.response_headers.keep(&parts.headers, facts);
        let answered = Answered { status: response.status().as_u16(), upstream: None };
        rule.response_headers.apply_to_response(response.headers_mut(), kept.as_deref(), answered);
        Journey::Own(response)
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

    /// Both sides agreed to leave HTTP.
    fn tunnel(&self, answer: Answer, wish: Wish, mut record: Record) -> Response<ResponseBody> {
        let Answer { mut response, lease, .. } = answer;
        record.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
        let endpoint = hyper::upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        headers::remove_hop_by_hop(&mut parts.headers);
        wish.grant(&mut parts.headers, endpoint, Tunnel { state: Arc::clone(&self.state), record, lease });
        Response::from_parts(parts, ResponseBody::own(Bytes::new()))
    }
}

/// The request counts for a rule that needs no destination.
fn answered(record: &mut Record, snapshot: &Snapshot, rule: &Rule<Destination>) {
    if let Some(metrics) = snapshot.answering(rule) {
        record.routed(metrics);
    }
}

fn finish_own(response: Response<ResponseBody>, mut record: Record, head_only: bool) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    record.answered(parts.status.as_u16());
    let body = if head_only {
        let length = http_body::Body::size_hint(&body).exact().unwrap_or(0);
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        ResponseBody::own(Bytes::new())
    } else {
        body
    };
    Response::from_parts(parts, body.recorded(record))
}

/// What may end a request before its answer begins; nothing for most requests.
struct Bounds {
    deadline: Option<Pin<Box<Sleep>>>,
    stalls: Vec<Pin<Box<dyn Future<Output = Failure> + Send>>>,
}

impl Bounds {
    /// None if nothing may.
    fn new(
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
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

/// What became of a request.
enum Journey {
    /// Serin answers itself.
    Own(Response<ResponseBody>),
    /// An endpoint answers; its body has to be complete by the instant.
    Upstream(Box<Answer>, Option<Instant>),
    /// An endpoint agreed to the upgrade that the client wished for.
    Tunnel(Box<Answer>, Wish),
}

impl Journey {
    fn failed(failure: &Failure, destination: Option<&str>, request: &HeaderMap, record: &mut Record) -> Self {
        record.flags.insert(failure.flag());
        Self::Own(reply::failure(failure, destination, request))
    }

    /// The headers of the answer.
    fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Own(response) => response.headers_mut(),
            Self::Upstream(answer, _) | Self::Tunnel(answer, _) => answer.response.headers_mut(),
        }
    }
}

fn forwarded(
    answer: Answer,
    (deadline, idle): (Option<Instant>, Option<Duration>),
    record: Record,
) -> Response<ResponseBody> {
    let Answer { response, lease, connection } = answer;
    let (mut parts, incoming) = response.into_parts();
    // The endpoint's version is its own (RFC 9112 §2.3); hyper would say HTTP/1.0 to the client.
    parts.version = Version::HTTP_11;
    let exchange = Exchange { record, lease, connection, deadline, idle };
    Response::from_parts(parts, ResponseBody::upstream(incoming, exchange))
}

fn redirected(status: StatusCode, location: &str) -> Response<ResponseBody> {
    let mut response = reply::own(status, None, Bytes::new());
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn grpc_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))])
}
#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<F>(_: impl Fn(&'static Client, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }

    /// It is copied for each request. Whoever makes it larger (a future held twice, a rare path not boxed) sees it here.
    #[test]
    fn the_future_of_a_request_stays_small() {
        assert!(future_size(Client::handle) <= 1536, "{} bytes", future_size(Client::handle));
    }
}
