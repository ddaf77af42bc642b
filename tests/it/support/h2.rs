//! A client that speaks HTTP/2 with prior knowledge, and the frame of upstreams that speak more than HTTP/1.1.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::channel;
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
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
