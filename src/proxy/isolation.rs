//! A panic is a mistake in Serin, and it costs the one request that met it: this one is answered with 500, or its answer breaks off
//! if that has begun, and every other one goes on. What the request held is let go of by its guards as the stack unwinds.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use super::body::ResponseBody;
use super::failure::Failure;
use super::handler::Client;
use super::reply;

/// Answers one request, whatever happens.
pub(super) async fn answer(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (head_only, connects) = (request.method() == Method::HEAD, request.method() == Method::CONNECT);
    // Whatever is half done belongs to the request and is dropped with it. What requests share is counters of single words, and
    // locks that are held for a few lines and taken again even where a panic passed through.
    let handled = AssertUnwindSafe(client.handle(request)).catch_unwind().await;
    // Status 200, as gRPC has it, would mean to CONNECT that there is a tunnel.
    Ok(handled.unwrap_or_else(|_| internal_error(client.state.take_grpc() && !connects, head_only)))
}

/// What `step` gives, or none if it panicked. The caller gives up what the step worked on.
pub(super) fn isolated<T>(step: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(step)).ok()
}

/// The record of the request has told the metrics and the log already, when it was dropped.
fn internal_error(grpc: bool, head_only: bool) -> Response<ResponseBody> {
    let request = if grpc { reply::grpc_headers() } else { HeaderMap::new() };
    let mut response = reply::failure(&Failure::Internal, None, &request);
    if head_only {
        let length = response.body().size_hint().exact().unwrap_or(0);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = ResponseBody::own(Bytes::new());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_that_it_is_serins_mistake() {
        let reply = internal_error(false, false);
        assert_eq!((reply.status().as_u16(), &reply.headers()["x-serin-flag"]), (500, &HeaderValue::from_static("IE")));
        assert_eq!(reply.headers()["proxy-status"], "serin; error=proxy_internal_error; details=\"IE\"");
        assert_eq!(reply.body().own_bytes(), "500 internal error (IE)\n");
        let grpc = internal_error(true, false);
        assert_eq!((grpc.status().as_u16(), grpc.headers()["grpc-status"].as_bytes()), (200, &b"13"[..]));
        let head = internal_error(false, true);
        assert_eq!((head.headers()["content-length"].as_bytes(), head.body().own_bytes().len()), (&b"24"[..], 0));
    }

    #[test]
    fn a_step_that_panics_gives_nothing() {
        assert_eq!(isolated(|| 1), Some(1));
        assert_eq!(isolated(|| assert!(std::hint::black_box(false), "on purpose")), None);
    }
}
