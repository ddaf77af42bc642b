//! What becomes of a request, and the answer that follows from it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use super::attempt::Answer;
use super::body::{Exchange, ResponseBody};
use super::failure::Failure;
use super::pace::PENANCE;
use super::record::Record;
use super::reply;
use super::upgrade::Wish;
use crate::failpoint;
use crate::telemetry::Shed;
use crate::upstream::RequestBody;

/// What became of a request.
pub(super) enum Journey {
    /// Serin answers itself.
    Own(Box<Response<ResponseBody>>),
    /// An endpoint answers; its body has to be complete by the instant.
    Upstream(Box<Answer>, Option<Instant>),
    /// An endpoint agreed to the upgrade that the client wished for.
    Tunnel(Box<Answer>, Box<Wish>),
}

impl Journey {
    /// What a client is told of a failure, which its record notes.
    pub(super) fn failed(
        failure: &Failure,
        destination: Option<&str>,
        request: &HeaderMap,
        record: &mut Record,
    ) -> Self {
        record.failed(failure);
        Self::Own(Box::new(reply::failure(failure, destination, request)))
    }

    /// The headers of the answer.
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Own(response) => response.headers_mut(),
            Self::Upstream(answer, _) | Self::Tunnel(answer, _) => answer.response.headers_mut(),
        }
    }
}

/// The answer to a request for which there is no place.
pub(super) async fn turned_away(why: Shed, parts: &Parts, incoming: Incoming, record: &mut Record) -> Journey {
    record.worker().count_shed(why);
    // On HTTP/2 who waits takes a stream's place from others of the same client.
    if why == Shed::Delay && parts.version != Version::HTTP_2 {
        sleep(PENANCE).await;
    }
    let mut journey = Journey::failed(&Failure::Full(why), None, &parts.headers, record);
    let has_body = !incoming.is_end_stream();
    // Reads on for a while: closed at once, the connection would be reset, and the answer lost to who still writes.
    drop(RequestBody::new(incoming));
    if parts.version != Version::HTTP_2 && (has_body || why == Shed::Memory) {
        journey.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    journey
}

pub(super) fn finish_own(
    response: Response<ResponseBody>,
    mut record: Record,
    head_only: bool,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    record.answered(parts.status.as_u16());
    if reply::is_grpc(&parts.headers) {
        record.calls_grpc();
        record.look_for_grpc_status(&parts.headers);
    }
    let body = if head_only {
        let length = body.size_hint().exact().unwrap_or(0);
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        ResponseBody::own(Bytes::new())
    } else {
        body
    };
    Response::from_parts(parts, body.recorded(record))
}

pub(super) fn forwarded(
    answer: Answer,
    (deadline, idle): (Option<Instant>, Option<Duration>),
    record: Record,
) -> Response<ResponseBody> {
    let Answer { response, lease, connection } = answer;
    let (mut parts, incoming) = response.into_parts();
    failpoint::reach("with-the-head");
    // The endpoint's version is its own (RFC 9112 §2.3); hyper would say HTTP/1.0 to the client.
    parts.version = Version::HTTP_11;
    let exchange = Exchange { record, lease, connection, deadline, idle };
    Response::from_parts(parts, ResponseBody::upstream(incoming, exchange))
}

pub(super) fn redirected(status: StatusCode, location: &str) -> Response<ResponseBody> {
    let mut response = reply::own(status, None, Bytes::new());
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
