//! The journey of one request. Reads one snapshot, once; decides; forwards or answers; hands the record to the body of the
//! answer, which tells the metrics when it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::attempt::Answer;
use super::body::ResponseBody;
use super::cors::Decoration;
use super::failure::Failure;
use super::forward::Way;
use super::journey::{Journey, finish_own, forwarded, redirected, turned_away};
use super::pulse::Activity;
use super::record::Record;
use super::state::ConnectionState;
use super::streams::{self, Waits};
use super::upgrade::{self, Tunnel, Wish};
use super::worker::Worker;
use super::{cors, fault, headers, reply};
use crate::failpoint;
use crate::routing::{Action, Answered, CorsVerdict, Facts, Filters, Found, RequestView, Rule, Split, Target};
use crate::snapshot::{Destination, Exposed, Snapshot};
use crate::telemetry::Entrant;
use crate::telemetry::access_log::Line;

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
        self.worker.pulse().does(Activity::Deciding);
        let (parts, incoming) = request.into_parts();
        // On the heap: it is handed on many times, and futures that hold it stay small.
        let mut parts = Box::new(parts);
        let connects = parts.method == Method::CONNECT;
        upgrade::translate(&mut parts);
        let mut record = Record::start(&self.worker, &self.state, &parts.method);
        if reply::is_grpc(&parts.headers) {
            record.calls_grpc();
        }
        if self.worker.log().is_some() {
            record.logged(Box::new(self.line(&parts)));
        }
        let http1 = parts.version != Version::HTTP_2;
        self.state.set_http10(parts.version == Version::HTTP_10);
        self.state.set_whole(incoming.is_end_stream());
        let head_only = parts.method == Method::HEAD;
        let journey = match record.admit() {
            Ok(()) => self.route(parts, incoming, &mut record).await,
            Err(why) => Box::pin(turned_away(why, &parts, incoming, &mut record)).await,
        };
        let journey = match journey {
            // As an answer to CONNECT it would mean that there is a tunnel now.
            Journey::Own(response) if connects && response.status().is_success() => {
                Journey::failed(&Failure::NoTunnel, None, &HeaderMap::new(), &mut record)
            }
            journey => journey,
        };
        self.state.answering();
        streams::note(Waits::Client);
        let mut response = match journey {
            Journey::Own(response) => finish_own(*response, record, head_only),
            Journey::Upstream(answer, deadline) => {
                // On HTTP/1 the connection's own state knows; the streams of one connection are told apart here.
                let idle = (!http1).then_some(self.worker.limits().stream_idle_timeout);
                forwarded(*answer, (deadline, idle), record)
            }
            Journey::Tunnel(answer, wish) => return self.tunnel(*answer, *wish, record),
        };
        if http1 && (self.worker.is_parting() || self.state.is_leaving()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(&self, mut parts: Box<Parts>, incoming: Incoming, record: &mut Record) -> Journey {
        failpoint::reach("before-routing");
        let authority = match headers::check_target(&parts).and_then(|()| headers::authority(&parts)) {
            Ok(authority) => authority,
            Err(failure) => return Journey::failed(&failure, None, &parts.headers, record),
        };
        let view = self.worker.view();
        record.note(|line| line.generation = view.snapshot().generation);
        // What is held across an await is copied for each request: short views of it are made where they are needed.
        let route = match view.snapshot().routes().find(&self.seen(&parts, authority)) {
            Found::Route(route) => route,
            Found::NoHost => return Journey::failed(&Failure::NoHost, None, &parts.headers, record),
            Found::NoRule => return Journey::failed(&Failure::NoRule, None, &parts.headers, record),
        };
        let decoration = match &route.rule.filters {
            None => None,
            Some(filters) => {
                let filtered = Box::pin(self.filter((&route.rule, filters), view.snapshot(), &parts, record)).await;
                match filtered {
                    Ok(decoration) => decoration,
                    Err(journey) => return *journey,
                }
            }
        };
        let mut journey = match &route.rule.action {
            Action::Redirect(redirect) => {
                answered(record, view.snapshot(), &route.rule);
                let authority = headers::authority(&parts).unwrap_or_default();
                let location = redirect.location(&self.seen(&parts, authority), route.matched);
                self.own(redirected(redirect.status, &location), &route.rule, &parts)
            }
            Action::Respond(answer) => {
                answered(record, view.snapshot(), &route.rule);
                let response = reply::own(answer.status, answer.content_type.clone(), answer.body.clone());
                self.own(response, &route.rule, &parts)
            }
            Action::Forward(_) if !headers::goes_on(&mut parts) => {
                answered(record, view.snapshot(), &route.rule);
                self.own(reply::own(StatusCode::OK, None, Bytes::new()), &route.rule, &parts)
            }
            Action::Forward(split) => {
                let Choice { target, stable, cookie } =
                    self.draw(&route.rule, split, (view.snapshot(), &parts, &incoming), record);
                failpoint::reach("after-the-draw");
                let way = Way { route, target, deadline: route.rule.timeout.map(|limit| Instant::now() + limit) };
                let mut journey = match stable {
                    None => self.forward(way, parts, Some(incoming), record).await,
                    Some(stable) => Box::pin(self.shielded(way, stable, parts, record)).await,
                };
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

    /// A request as routing sees it.
    fn seen<'p>(&self, parts: &'p Parts, authority: &'p str) -> RequestView<'p> {
        RequestView {
            method: parts.method.as_str(),
            scheme: self.scheme,
            authority,
            path: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            headers: &parts.headers,
            port: self.port,
        }
    }

    /// The destination of a request: by a random draw, or by the draw that its key stands for. In a release, the request counts
    /// there from now on.
    fn draw<'r>(
        &self,
        rule: &Rule<Destination>,
        split: &'r Split<Target<Destination>>,
        (snapshot, parts, incoming): (&Snapshot, &Parts, &Incoming),
        record: &mut Record,
    ) -> Choice<'r> {
        let draw = self.worker.draw();
        let exposed = snapshot.exposed(rule);
        let released = exposed.and_then(Exposed::split);
        let (index, key, cookie) = match released.map_or(rule.sticky.as_ref(), |(_, sticky)| sticky) {
            Some(sticky) => {
                let authority = headers::authority(parts).unwrap_or_default();
                let drawn = sticky.draw(&self.seen(parts, authority), self.peer.ip(), draw);
                (drawn.index, Some(drawn.point), drawn.set_cookie.map(Box::new))
            }
            None => (released.map_or_else(|| split.position(draw), |(split, _)| split.position(draw)), None, None),
        };
        let target = |index: usize| &split.entries()[index].value;
        record.note(|line| {
            let share = exposed.and_then(|exposed| exposed.share(index));
            line.share = Some(share.unwrap_or(split.entries()[index].share));
        });
        failpoint::reach("in-the-draw");
        record.routed(&target(index).to.metrics);
        let stable = exposed.and_then(|exposed| {
            let empty = incoming.is_end_stream();
            if let (Some(trial), Some(arm)) = (&exposed.trial, exposed.arm(index)) {
                record.enter(trial, Entrant { arm, key, ages: empty });
            }
            exposed.shield_of(index).filter(|_| empty && parts.method.is_safe())
        });
        Choice { target: target(index), stable: stable.map(target), cookie }
    }

    /// What stands before the router, in Envoy's order: CORS, then the fault. What to add to the answer; or the answer, if the
    /// request goes no further.
    async fn filter<'r>(
        &self,
        (rule, filters): (&'r Rule<Destination>, &'r Filters<Destination>),
        snapshot: &Snapshot,
        parts: &Parts,
        record: &mut Record,
    ) -> Result<Option<Box<Decoration<'r>>>, Box<Journey>> {
        failpoint::reach("in-the-filters");
        let mut decoration = None;
        if let Some(policy) = &filters.cors {
            decoration = match policy.judge(&parts.method, &parts.headers) {
                CorsVerdict::Unconcerned => None,
                CorsVerdict::Allowed(origin) => Some(Box::new(Decoration { cors: policy, origin })),
                CorsVerdict::Preflight(fields) => {
                    answered(record, snapshot, rule);
                    return Err(Box::new(Journey::Own(Box::new(cors::preflight(fields)))));
                }
            };
        }
        if let Some(injected) = &filters.fault {
            let grpc = record.is_grpc();
            if let Some(response) = fault::inject(injected, || self.worker.draw(), grpc, record).await {
                answered(record, snapshot, rule);
                let mut journey = self.own(response, rule, parts);
                if let Some(decoration) = decoration {
                    decoration.apply(journey.headers_mut());
                }
                return Err(Box::new(journey));
            }
        }
        Ok(decoration)
    }

    /// What the access log says of a request that has just come.
    fn line(&self, parts: &Parts) -> Line {
        let header = |name: &str| parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let host = parts.uri.authority().map(|authority| authority.as_str().into());
        // Version, trace, span and flags, with dashes between (W3C Trace Context §3.2).
        let trace = header("traceparent").and_then(|text| text.split('-').nth(1).map(Into::into));
        Line {
            time: Some(SystemTime::now()),
            method: parts.method.clone(),
            scheme: self.scheme,
            host: host.or_else(|| header("host")).unwrap_or_default().into(),
            path: parts.uri.path_and_query().map_or("", PathAndQuery::as_str).into(),
            protocol: protocol(parts.version),
            peer: Some(self.peer),
            request_id: header("x-request-id").map(Into::into),
            trace_id: trace,
            user_agent: header("user-agent").map(Into::into),
            ..Line::default()
        }
    }

    /// What header values may say of a request.
    pub(super) fn facts<'f>(&self, method: &'f Method, uri: &'f Uri, version: Version) -> Facts<'f> {
        Facts {
            method: method.as_str(),
            scheme: self.scheme,
            authority: uri.authority().map(Authority::as_str),
            path: uri.path_and_query().map_or("/", PathAndQuery::as_str),
            protocol: protocol(version),
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
        Journey::Own(Box::new(response))
    }

    /// Both sides agreed to leave HTTP.
    fn tunnel(&self, answer: Answer, wish: Wish, mut record: Record) -> Response<ResponseBody> {
        let Answer { mut response, lease, .. } = answer;
        record.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
        if !wish.is_of_stream() {
            record.give_place_back();
        }
        let endpoint = hyper::upgrade::on(&mut response);
        let mut head = response.map(drop);
        headers::remove_hop_by_hop(head.headers_mut());
        let (worker, state) = (Arc::clone(&self.worker), Arc::clone(&self.state));
        wish.grant(&mut head, endpoint, Tunnel { worker, state, record, lease });
        head.map(|()| ResponseBody::own(Bytes::new()))
    }
}

/// What was drawn for a request.
struct Choice<'r> {
    target: &'r Target<Destination>,
    /// Who answers if that one does not.
    stable: Option<&'r Target<Destination>>,
    /// Tells the client what it was given.
    cookie: Option<Box<HeaderValue>>,
}

/// As Envoy writes it.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// The request counts for a rule that needs no destination.
fn answered(record: &mut Record, snapshot: &Snapshot, rule: &Rule<Destination>) {
    if let Some(metrics) = snapshot.answering(rule) {
        record.routed(metrics);
    }
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
        assert!(future_size(Client::handle) <= 1600, "{} bytes", future_size(Client::handle));
    }
}
