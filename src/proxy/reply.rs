//! Answers that Serin makes itself. Each failure says in one line what went wrong, and carries its flag, so that a 503 of
//! Serin's and one of the application can be told apart.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::failure::Failure;
use crate::telemetry::Flag;

/// The flag of a reply that Serin made itself.
static SERIN_FLAG: HeaderName = HeaderName::from_static("x-serin-flag");
static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
static OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A reply with a body of Serin's own.
pub(super) fn own(status: StatusCode, content_type: Option<HeaderValue>, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(body));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

/// The reply to a request that failed. `destination` is the name of where it should have gone.
pub(super) fn failure(failure: &Failure, destination: Option<&str>, request: &HeaderMap) -> Response<ResponseBody> {
    let flag = failure.flag().as_str();
    let status = failure.status();
    let target = destination.map(|name| format!(" for {name}")).unwrap_or_default();
    let mut response = if is_grpc(request) {
        grpc(failure.grpc_status().into(), &format!("{failure}{target} ({flag})"))
    } else {
        let text = format!("{} {failure}{target} ({flag})\n", status.as_u16());
        own(status, Some(HeaderValue::from_static("text/plain")), Bytes::from(text))
    };
    explain(&mut response, failure.flag(), failure.error().as_str());
    let headers = response.headers_mut();
    if failure.is_overload() {
        headers.insert(&OVERLOADED, HeaderValue::from_static("true"));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if failure.ends_connection() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer of gRPC that consists of its status alone.
pub(super) fn grpc(status: u16, message: &str) -> Response<ResponseBody> {
    let mut response = own(StatusCode::OK, Some(HeaderValue::from_static("application/grpc")), Bytes::new());
    response.headers_mut().insert(&GRPC_STATUS, HeaderValue::from(status));
    if let Ok(message) = HeaderValue::from_str(message) {
        response.headers_mut().insert(&GRPC_MESSAGE, message);
    }
    response
}

/// The status of gRPC in these fields. What is no number is as good as one that nobody knows.
pub(super) fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    let status = fields.get(&GRPC_STATUS)?.to_str().ok().and_then(|status| status.parse().ok());
    Some(status.unwrap_or(u8::MAX))
}

/// What an HTTP status means to a client of gRPC that finds none of its own, as gRPC's table has it.
pub(super) fn grpc_status_of(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Says in the headers that the reply is Serin's own, and why. `error` is a token of `proxy-status` (RFC 9209 §2.3).
pub(super) fn explain(response: &mut Response<ResponseBody>, flag: Flag, error: &str) {
    let flag = flag.as_str();
    let headers = response.headers_mut();
    headers.insert(&SERIN_FLAG, HeaderValue::from_static(flag));
    if let Ok(detail) = HeaderValue::from_str(&format!("serin; error={error}; details=\"{flag}\"")) {
        headers.insert(&PROXY_STATUS, detail);
    }
}

/// A request's headers, as far as [`failure`] looks at them, of a client that speaks gRPC.
pub(super) fn grpc_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))])
}

/// Whether the client speaks gRPC, which has its errors in fields and not in the status.
pub(super) fn is_grpc(request: &HeaderMap) -> bool {
    request
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'+' || rest[0] == b';')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Shed;
    use crate::upstream::{ConnectError, NoHealthyUpstream, Overloaded};

    #[test]
    fn a_failure_names_its_flag_and_destination() {
        let reply = failure(&Failure::from(NoHealthyUpstream), Some("product-service v2"), &HeaderMap::new());
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.headers()["x-serin-flag"], "UH");
        assert_eq!(reply.headers()["proxy-status"], "serin; error=destination_unavailable; details=\"UH\"");
        assert_eq!(reply.body().own_bytes(), "503 no healthy endpoint for product-service v2 (UH)\n");
    }

    #[test]
    fn grpc_clients_get_a_grpc_status() {
        let mut request = HeaderMap::new();
        request.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
        let reply = failure(&Failure::Timeout, None, &request);
        assert_eq!((reply.status().as_u16(), reply.headers()["grpc-status"].as_bytes()), (200, &b"4"[..]));
        request.insert("content-type", HeaderValue::from_static("application/grpcish"));
        assert_eq!(failure(&Failure::Timeout, None, &request).status(), 504);
    }

    #[test]
    fn a_grpc_status_is_a_number() {
        let fields =
            |status: &'static str| HeaderMap::from_iter([(GRPC_STATUS.clone(), HeaderValue::from_static(status))]);
        assert_eq!(
            ["0", "14", "300", "OK"].map(|status| grpc_status(&fields(status))),
            [Some(0), Some(14), Some(255), Some(255)]
        );
        assert_eq!(grpc_status(&HeaderMap::new()), None);
    }

    #[test]
    fn a_limit_of_ours_is_an_overload_whichever_it_is() {
        let exhausted = Failure::from(ConnectError::Exhausted(std::io::Error::from_raw_os_error(24)));
        for failed in [Failure::Full(Shed::Requests), exhausted] {
            let reply = failure(&failed, None, &HeaderMap::new());
            assert_eq!((reply.status().as_u16(), reply.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
            assert_eq!(reply.headers()["proxy-status"], "serin; error=connection_limit_reached; details=\"UO\"");
        }
        let refused = ConnectError::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert!(!failure(&refused.into(), None, &HeaderMap::new()).headers().contains_key("retry-after"));
    }

    #[test]
    fn an_overload_says_that_it_is_one() {
        let reply = failure(&Failure::from(Overloaded), Some("reviews v1"), &HeaderMap::new());
        assert_eq!((reply.status().as_u16(), reply.headers()["x-serin-flag"].as_bytes()), (503, &b"UO"[..]));
        assert_eq!(reply.headers()["x-envoy-overloaded"], "true");
        assert_eq!(reply.headers()["retry-after"], "1");
    }
}
