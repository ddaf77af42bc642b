//! One client connection: which protocol it speaks, and the server of that on it until it ends. Every limit of HTTP is set outright,
//! here and in [`http1`]: hyper's defaults are made for servers that trust their clients.

use std::future::{Future, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::abuse;
use super::handler::Client;
use super::http1;
use super::io::{ClientIo, Protocol, Stream};
use super::isolation;
use super::listener::Bound;
use super::state::{ConnectionState, Expired, LAST_CHANCE};
use super::streams::Streams;
use super::tls::TlsServers;
use super::worker::Worker;

/// The most that hyper buffers for one connection and direction, in bytes.
pub(super) const BUFFER: usize = 64 * 1024;
/// Request fields, as many as hyper takes by default on HTTP/1.
pub(super) const MAX_FIELDS: usize = 100;
/// HTTP/2 streams at once on one connection (nginx's 128, HAProxy's 100).
const MAX_STREAMS: u32 = 100;
/// HTTP/2 flow control: a stalled stream must leave room for its neighbours.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// HTTP/2 streams that Serin itself had to reset, before the connection is closed.
const MAX_LOCAL_RESETS: usize = 256;

/// HTTP/2 has no other sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nx-serin-flag: SI\r\n\
proxy-status: serin; error=http_request_error; details=\"SI\"\r\ncontent-type: text/plain\r\n\
content-length: 44\r\nconnection: close\r\n\r\n408 the request did not arrive in time (SI)\n";

/// A connection that was just accepted.
pub(super) struct Arrival {
    /// By whom.
    pub worker: Arc<Worker>,
    /// Its state, watched already.
    pub state: Arc<ConnectionState>,
    /// Where.
    pub bound: Bound,
    /// From whom.
    pub peer: SocketAddr,
}

impl Arrival {
    fn client(self) -> Arc<Client> {
        let Self { worker, state, bound, peer } = self;
        Arc::new(Client {
            state,
            peer,
            address: peer_value(peer),
            port: bound.port,
            scheme: bound.scheme.name(),
            worker,
        })
    }
}

/// Serves a plain connection until it ends.
pub(super) async fn serve(arrival: Arrival, stream: TcpStream) {
    serve_stream(arrival, stream, None).await;
}

/// Serves a connection within TLS until it ends. The handshake has the time of the first request's head.
pub(super) async fn serve_tls(arrival: Arrival, stream: TcpStream, servers: Arc<TlsServers>) {
    let handshake = until_expired(&arrival.state, servers.accept(stream)).await;
    drop(servers);
    match handshake {
        Ok(Ok((stream, protocol))) => serve_stream(arrival, stream, protocol).await,
        Ok(Err(error)) => tracing::debug!(peer = %arrival.peer, %error, "no TLS handshake"),
        Err(why) => arrival.worker.count_closed(why.closing()),
    }
}

async fn serve_stream<S: Stream>(arrival: Arrival, stream: S, protocol: Option<Protocol>) {
    let mut io = ClientIo::new(stream, Arc::clone(&arrival.state));
    let protocol = match protocol {
        Some(protocol) => protocol,
        None => match until_expired(&arrival.state, io.detect()).await {
            Ok(Ok(Some(protocol))) => protocol,
            Ok(Ok(None) | Err(_)) => return,
            Err(why) => {
                arrival.worker.count_closed(why.closing());
                if why == Expired::Head && io.has_read() {
                    refuse_head(&arrival.worker, io).await;
                }
                return;
            }
        },
    };
    match protocol {
        Protocol::Http1 => http1::serve(arrival.client(), io).await,
        Protocol::Http2 => serve_http2(arrival.client(), io).await,
    }
}

async fn serve_http2<S: Stream>(client: Arc<Client>, mut io: ClientIo<S>) {
    let (state, worker) = (Arc::clone(&client.state), Arc::clone(&client.worker));
    state.speaks_http2();
    io.weigh_frames();
    let service = service_fn(move |request| isolation::answer(Arc::clone(&client), request));
    let mut server = http2::Builder::new(Streams { write_timeout: worker.limits().write_timeout })
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(BUFFER)
        // h2 takes what is smaller than its limit.
        .max_header_list_size(u32::try_from(worker.limits().max_header_size).unwrap_or(u32::MAX).saturating_add(1))
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let (mut told, mut parting) = (false, Parting::default());
    let ended = poll_fn(|cx| {
        let expired = state.poll_expired(cx.waker());
        if !told && (worker.is_draining() || state.is_leaving() || expired.is_some()) {
            told = true;
            Pin::new(&mut server).graceful_shutdown();
        }
        if let Some(why @ (Expired::Stalled | Expired::WriteStalled)) = expired {
            return Poll::Ready(Err(why));
        }
        match (Pin::new(&mut server).poll(cx), expired) {
            (Poll::Ready(outcome), Some(Expired::Idle)) if outcome.is_ok() => Poll::Ready(Err(Expired::Idle)),
            (Poll::Ready(outcome), _) => Poll::Ready(Ok(outcome)),
            // What could be said was said by the poll: GOAWAY.
            (Poll::Pending, Some(why @ (Expired::RapidReset | Expired::EmptyFlood))) => Poll::Ready(Err(why)),
            (Poll::Pending, Some(Expired::Idle)) => parting.poll(cx, &state).map(|()| Err(Expired::Idle)),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await;
    match ended {
        Err(why) => worker.count_closed(why.closing()),
        // Each of its requests was recorded by its own record.
        Ok(Err(error)) => abuse::of_library(&error).into_iter().for_each(|why| worker.count_closed(why)),
        Ok(Ok(())) => {}
    }
}

/// The end of a connection of HTTP/2 without streams. hyper waits for its client to answer, for ever if need be.
#[derive(Default)]
struct Parting {
    timer: Option<Pin<Box<Sleep>>>,
    activity: u64,
    looks: u32,
}

impl Parting {
    /// After this many looks, two seconds each, it ends even if bytes move: it may be pinging.
    const LOOKS: u32 = 30;

    /// Ready when there is no request, and nothing has moved since the last look.
    fn poll(&mut self, cx: &mut Context<'_>, state: &ConnectionState) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LAST_CHANCE)));
        while timer.as_mut().poll(cx).is_ready() {
            let quiet = mem::replace(&mut self.activity, state.activity()) == state.activity();
            self.looks += 1;
            if state.is_idle() && (quiet || self.looks >= Self::LOOKS) {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + LAST_CHANCE);
        }
        Poll::Pending
    }
}

/// The outcome, or why the connection has to end before it.
pub(super) async fn until_expired<T>(state: &ConnectionState, outcome: impl Future<Output = T>) -> Result<T, Expired> {
    let mut outcome = pin!(outcome);
    poll_fn(|cx| match state.poll_expired(cx.waker()) {
        Some(why) => Poll::Ready(Err(why)),
        None => outcome.as_mut().poll(cx).map(Ok),
    })
    .await
}

/// Tells a client that its request came too slowly. It may not be listening: then the connection just closes.
pub(super) async fn refuse_head<S: Stream>(worker: &Worker, mut io: ClientIo<S>) {
    worker.count_slow();
    let told = async {
        io.write_all(HEAD_TIMEOUT).await?;
        io.shutdown().await
    };
    let _ = timeout(LAST_CHANCE, told).await;
}

fn peer_value(peer: SocketAddr) -> HeaderValue {
    let address = peer.ip().to_canonical().to_string();
    HeaderValue::from_str(&address).unwrap_or(HeaderValue::from_static("unknown"))
}
