//! A connection that speaks HTTP/1: hyper's server on it, and a rest without one while nothing comes. hyper keeps two buffers of 8 KiB
//! for as long as it lives, which is most of what an idle connection costs.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;

use super::connection::{BUFFER, MAX_FIELDS, refuse_head, until_expired};
use super::handler::Client;
use super::io::{ClientIo, Stream};
use super::isolation;
use super::state::{ConnectionState, Expired};
use crate::telemetry::Closing;

/// Why hyper's server on a connection is left.
enum Left {
    /// It has ended by itself.
    Ended(hyper::Result<()>),
    /// It has to end.
    Expired(Expired),
    /// It has nothing to do.
    Resting,
}

/// Serves a connection until it ends.
pub(super) async fn serve<S: Stream>(client: Arc<Client>, mut io: ClientIo<S>) {
    loop {
        // On the heap, so that nothing of it is left while the connection rests.
        match Box::pin(awake(Arc::clone(&client), io)).await {
            None => return,
            Some(resting) => io = resting,
        }
        tracing::trace!(peer = %client.peer, "a connection rests");
        match rest(&client.state, &mut io).await {
            Ok(true) => {}
            Ok(false) => {
                let _ = until_expired(&client.state, io.shutdown()).await;
                return;
            }
            Err(why) => return client.worker.count_closed(why.closing()),
        }
    }
}

/// Requests and answers, until the connection ends or has had nothing to do for a while: then it is given back.
async fn awake<S: Stream>(client: Arc<Client>, io: ClientIo<S>) -> Option<ClientIo<S>> {
    let (state, worker) = (Arc::clone(&client.state), Arc::clone(&client.worker));
    let service = service_fn(move |request| isolation::answer(Arc::clone(&client), request));
    let mut server = http1::Builder::new()
        .timer(TokioTimer::new())
        // The connection's own state knows the head's first byte from an idle connection; hyper's one limit is for both.
        .header_read_timeout(None)
        .half_close(false)
        .max_headers(MAX_FIELDS)
        .max_header_size(worker.limits().max_header_size)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let left = poll_fn(|cx| {
        let expired = state.poll_expired(cx.waker());
        match expired {
            None | Some(Expired::Idle | Expired::Stalled) => {}
            Some(why) => return Poll::Ready(Left::Expired(why)),
        }
        if let Poll::Ready(outcome) = Pin::new(&mut server).poll(cx) {
            return Poll::Ready(Left::Ended(outcome));
        }
        match expired {
            None if state.takes_rest() => Poll::Ready(Left::Resting),
            // A request may have come in the same moment: then it is served.
            Some(Expired::Idle) if !state.carries_on() => Poll::Ready(Left::Expired(Expired::Idle)),
            // Waiting for an endpoint, the handler turns this into an answer; with an answer under way there is none to give.
            Some(Expired::Stalled) if state.is_answering() => Poll::Ready(Left::Expired(Expired::Stalled)),
            _ => Poll::Pending,
        }
    })
    .await;
    if let Left::Expired(why) = left {
        worker.count_closed(why.closing());
    }
    match left {
        Left::Resting => {
            let parts = server.into_parts()?;
            let mut io = parts.io.into_inner();
            io.put_back(&parts.read_buf);
            return Some(io);
        }
        Left::Ended(Err(error)) if error.is_parse() || error.is_parse_too_large() => {
            worker.count_closed(Closing::ProtocolError);
            worker.count_malformed(&error);
        }
        Left::Ended(Err(error)) if error.is_user() && state.is_http10() => {
            if let Some(parts) = server.into_parts() {
                parts.io.into_inner().reset();
            }
        }
        Left::Expired(Expired::Head) => {
            if let Some(parts) = server.into_parts() {
                refuse_head(&worker, parts.io.into_inner()).await;
            }
        }
        Left::Ended(_) | Left::Expired(_) => {}
    }
    None
}

/// Waits for the next request to begin. False if the client has closed.
async fn rest<S: Stream>(state: &ConnectionState, io: &mut ClientIo<S>) -> Result<bool, Expired> {
    poll_fn(|cx| {
        let expired = state.poll_expired(cx.waker());
        match io.poll_ahead(cx) {
            Poll::Ready(Ok(woken)) => {
                // It has come in time, if only just.
                state.carries_on();
                Poll::Ready(Ok(woken))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Ok(false)),
            Poll::Pending => expired.map_or(Poll::Pending, |why| Poll::Ready(Err(why))),
        }
    })
    .await
}
