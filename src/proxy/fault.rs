//! Faults that the operator injects. They come before a destination is drawn: what is aborted counts for no version (as
//! `_none`, with flag FI), so that no release is judged by it; a delay is over before the route's timeout begins, and is part
//! of the request's duration but not of the upstream's (flag DI). Neither is ever tried again.

use bytes::Bytes;
use http::Response;
use http::header::HeaderValue;
use tokio::time::sleep;

use super::body::ResponseBody;
use super::record::Record;
use super::reply;
use crate::routing::{Abort, Fault};
use crate::telemetry::Flag;

/// Delays the request, if it is one of those; then the answer that it gets instead of the destination's, if it is one of
/// those. `draw` gives uniform random numbers, `grpc` is whether the client speaks gRPC.
pub(super) async fn inject(
    fault: &Fault,
    draw: impl Fn() -> u64,
    grpc: bool,
    record: &mut Record,
) -> Option<Response<ResponseBody>> {
    if let Some(delay) = fault.delay(&draw) {
        record.flags.insert(Flag::DI);
        sleep(delay).await;
    }
    let abort = fault.abort(&draw)?;
    record.flags.insert(Flag::FI);
    Some(aborted(abort, grpc))
}

fn aborted(abort: Abort, grpc: bool) -> Response<ResponseBody> {
    let mut response = match abort {
        Abort::Grpc(status) => reply::grpc(status.into(), "fault injected by configuration (FI)"),
        Abort::Http(status) if grpc => {
            reply::grpc(reply::grpc_status_of(status.as_u16()).into(), "fault injected by configuration (FI)")
        }
        Abort::Http(status) => {
            let text = format!("{} fault injected by configuration (FI)\n", status.as_u16());
            reply::own(status, Some(HeaderValue::from_static("text/plain")), Bytes::from(text))
        }
    };
    reply::explain(&mut response, Flag::FI, "proxy_internal_response");
    response
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn an_abort_says_that_it_is_one() {
        let reply = aborted(Abort::Http(StatusCode::IM_A_TEAPOT), false);
        assert_eq!((reply.status().as_u16(), &reply.headers()["x-serin-flag"]), (418, &HeaderValue::from_static("FI")));
        assert_eq!(reply.body().own_bytes(), "418 fault injected by configuration (FI)\n");
    }

    #[test]
    fn a_grpc_abort_is_a_200_and_so_is_every_abort_of_a_grpc_client() {
        for (abort, grpc, status) in [
            (Abort::Grpc(14), false, "14"),
            (Abort::Grpc(5), true, "5"),
            (Abort::Http(StatusCode::SERVICE_UNAVAILABLE), true, "14"),
            (Abort::Http(StatusCode::INTERNAL_SERVER_ERROR), true, "2"),
        ] {
            let reply = aborted(abort, grpc);
            assert_eq!(
                (reply.status().as_u16(), &reply.headers()["grpc-status"]),
                (200, &HeaderValue::from_static(status))
            );
        }
    }
}
