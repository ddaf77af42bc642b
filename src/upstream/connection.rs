//! An open connection to an endpoint, ready for a request. Which protocol is spoken on it is nobody else's business.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use http::uri::{Authority, Parts as UriParts, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::time::Instant;

use super::body::RequestBody;
use super::http2::Stream;
use super::limits::Usage;

/// A request that is on its way when the endpoint closes may have been done or not: none is begun for so long before.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// A request that got no answer: the error, and the request itself where nothing of it was sent.
pub type SendError = TrySendError<Request<RequestBody>>;

/// What came of sending a request.
pub type Exchange = Result<Response<Incoming>, SendError>;

/// An open connection, ready for one request.
#[derive(Debug)]
pub enum Connection {
    /// A connection for one request at a time. Boxed: it is handed around with every request.
    Http1(Box<Http1>),
    /// A place on a shared connection.
    Http2(Stream),
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) opened: Instant,
    /// Requests so far.
    pub(super) served: u32,
    /// How long it may be idle, by what the endpoint said last; none: it said nothing.
    pub(super) patience: Option<Duration>,
    /// The name that its TLS handshake asked for, where that depends on the request.
    pub(super) server_name: Option<Box<str>>,
    /// Of a cluster with a limit on connections: who waits for one is told when this one is free.
    pub(super) usage: Option<Arc<Usage>>,
}

impl Connection {
    /// Sends a request in the form of HTTP/1.1 (a target without authority, and a `Host`), whatever its version says; the head
    /// of the answer comes back.
    pub fn send(&mut self, mut request: Request<RequestBody>) -> impl Future<Output = Exchange> + use<> {
        match self {
            Self::Http1(one) => {
                one.served = one.served.saturating_add(1);
                *request.version_mut() = Version::HTTP_11;
                Either::Left(one.sender.try_send_request(request))
            }
            Self::Http2(stream) => Either::Right(Box::pin(stream.send(for_http2(request, stream.scheme())))),
        }
    }

    /// Whether it has served a request before: the endpoint may have been about to close it.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(one) => one.served > 0,
            Self::Http2(stream) => stream.reused,
        }
    }

    /// Whether an endpoint may refuse a request on it that was sent.
    pub fn may_refuse(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Waits until it could take the next request: the last one is sent and answered.
    pub async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(one) => one.sender.ready().await,
            Self::Http2(_) => Ok(()),
        }
    }

    /// Takes note of the `Keep-Alive` field of an answer on it: `timeout=5` says that the endpoint closes it when it has been idle
    /// for 5 s. A second before that, no request is begun on it any more.
    pub fn heed(&mut self, keep_alive: Option<&HeaderValue>) {
        if let (Self::Http1(one), Some(timeout)) = (self, keep_alive.and_then(keep_alive_timeout)) {
            one.patience = Some(timeout.saturating_sub(ON_THE_WAY));
        }
    }

    /// Whether the endpoint closed it.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(one) => one.sender.is_closed(),
            Self::Http2(stream) => stream.is_closed(),
        }
    }
}

/// Whether an endpoint said that it did nothing about the request (HTTP/2, RFC 9113 §8.7): it may be sent again, whatever it is.
pub fn was_refused(error: &hyper::Error) -> bool {
    let refused = |h2: &h2::Error| h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
    cause(error).is_some_and(refused)
}

/// The first error of this type among the causes of another.
pub fn cause<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(wanted) = cause.downcast_ref() {
            return Some(wanted);
        }
        source = cause.source();
    }
    None
}

/// The same request as HTTP/2 has it: an absolute target, no `Host`, no field that concerns an HTTP/1 connection.
fn for_http2(request: Request<RequestBody>, scheme: Scheme) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    let host = parts.headers.remove(header::HOST);
    let named = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    // One that was made from `Host` before, if the request comes back from a connection that never wrote it.
    let authority = named.or_else(|| parts.uri.authority().cloned());
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    let grpc = parts.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc);
    if grpc {
        // It was stripped as a matter between neighbours; gRPC servers insist on it.
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let mut target = UriParts::default();
    target.path_and_query = Some(parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    if let Some(authority) = authority {
        target.scheme = Some(scheme);
        target.authority = Some(authority);
    } else if let Some(host) = host {
        parts.headers.insert(header::HOST, host);
    }
    if let Ok(uri) = Uri::from_parts(target) {
        parts.uri = uri;
    }
    parts.version = Version::HTTP_2;
    Request::from_parts(parts, body)
}

/// `timeout` of a `Keep-Alive` field, in seconds.
fn keep_alive_timeout(value: &HeaderValue) -> Option<Duration> {
    let parameters = value.to_str().ok()?.split(',').filter_map(|parameter| parameter.split_once('='));
    let timeout = parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?.1;
    timeout.trim().parse().ok().map(Duration::from_secs)
}

fn is_grpc(value: &HeaderValue) -> bool {
    value.as_bytes().starts_with(b"application/grpc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_one_of_http2() {
        let request = Request::builder()
            .uri("/a?b=c")
            .header("host", "shop.test:81")
            .header("transfer-encoding", "chunked")
            .header("connection", "upgrade")
            .header("content-type", "application/grpc+proto")
            .body(RequestBody::Empty)
            .unwrap();
        let sent = for_http2(request, Scheme::HTTP);
        assert_eq!(sent.uri().to_string(), "http://shop.test:81/a?b=c");
        assert_eq!(sent.headers().len(), 2);
        assert_eq!(sent.headers()["te"], "trailers");
        let again = for_http2(sent, Scheme::HTTP);
        assert_eq!(again.uri().to_string(), "http://shop.test:81/a?b=c");
    }

    #[test]
    fn keep_alive_says_for_how_long() {
        let timeout = |value| keep_alive_timeout(&HeaderValue::from_static(value)).map(|timeout| timeout.as_secs());
        for value in ["timeout=5", "timeout=5, max=1000", "max=100,Timeout = 5 "] {
            assert_eq!(timeout(value), Some(5), "{value}");
        }
        for value in
            ["", "5", "max=5", "timeout", "timeout=", "timeout=-1", "timeout=soon", "timeout=99999999999999999999"]
        {
            assert_eq!(timeout(value), None, "{value}");
        }
    }

    #[test]
    fn a_host_that_is_no_authority_stays_a_field() {
        let request = Request::builder().uri("/").header("host", "a b").body(RequestBody::Empty).unwrap();
        let sent = for_http2(request, Scheme::HTTP);
        assert_eq!((sent.uri().to_string(), sent.headers()["host"].as_bytes()), ("/".to_owned(), &b"a b"[..]));
    }
}
