//! A client that speaks HTTP/2 with prior knowledge, and the frame of upstreams that speak more than HTTP/1.1.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::request::Parts;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::PATIENCE;
use super::client::HOST;

/// The body of a request.
pub(crate) type Body = BoxBody<Bytes, Infallible>;
/// One connection; each request is a stream on it.
pub(crate) type Connection = http2::SendRequest<Body>;

/// Runs a test that is asynchronous; it fails when it takes too long.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE * 2, test).await.expect("the test hangs") })
}

/// Connects.
pub(crate) async fn connect(proxy: SocketAddr) -> Connection {
    let stream = TcpStream::connect(proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (connection, task) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(task);
    connection
}

/// A request for the tests' host.
pub(crate) fn request(method: &str, target: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(format!("http://{HOST}{target}")).body(body).unwrap()
}

/// A body that is known at once.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// No body.
pub(crate) fn empty() -> Body {
    http_body_util::Empty::new().boxed()
}

/// A body whose pieces come one by one, and whose end is that of the other side.
pub(crate) fn in_pieces() -> (UnboundedSender<Bytes>, Body) {
    let (sender, pieces) = unbounded_channel();
    (sender, Pieces(pieces).boxed())
}

struct Pieces(UnboundedReceiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// The whole body of an answer; an error unless it is complete.
pub(crate) async fn body(answer: Response<Incoming>) -> Result<Bytes, hyper::Error> {
    Ok(answer.into_body().collect().await?.to_bytes())
}

/// Accepts connections on a thread of its own, for as long as the tests run, and serves each with its number, from 0. Where.
pub(crate) fn accepting<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let (tell, told) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, number));
            }
        });
    });
    told.recv().unwrap()
}

/// Something that blocks, beside the connections of this test.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The requests of an upstream, each with the number of its connection.
pub(crate) type Seen = Arc<Mutex<Vec<(usize, Parts)>>>;

/// An upstream that speaks HTTP/2 and nothing else.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) port: u16,
    seen: Seen,
}

impl Upstream {
    /// Allows so many streams a connection; each is handled by `handle`.
    pub(crate) fn start<F>(
        streams: u32,
        handle: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Copy + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let seen = Seen::default();
        let kept = Arc::clone(&seen);
        let port = accepting(move |stream, number| {
            let kept = Arc::clone(&kept);
            async move {
                let mut builder = server::Builder::new();
                let Ok(mut connection) = builder.max_concurrent_streams(streams).handshake(stream).await else {
                    return;
                };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let (parts, body) = request.into_parts();
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push((number, parts.clone()));
                    tokio::spawn(handle(Request::from_parts(parts, body), respond));
                }
            }
        });
        Self { port, seen }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<(usize, Parts)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many connections brought one.
    pub(crate) fn connections(&self) -> usize {
        let mut numbers: Vec<usize> = self.seen().iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }
}
