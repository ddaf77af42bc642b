//! One client connection: which protocol it speaks, and hyper's server on it until it ends. Every limit of HTTP is set here,
//! outright: hyper's defaults are made for servers that trust their clients.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::handler::Client;
use super::io::{ClientIo, Protocol};
use super::listener::Bound;
use super::watch::{ConnectionState, Expired};
use super::worker::Worker;
use crate::telemetry::Flag;

/// The most that hyper buffers for one connection and direction, in bytes.
const BUFFER: usize = 64 * 1024;
/// Request fields, as many as hyper takes by default on HTTP/1.
const MAX_FIELDS: usize = 100;
/// HTTP/2 streams at once on one connection (nginx's 128, HAProxy's 100).
const MAX_STREAMS: u32 = 100;
/// HTTP/2 flow control: a stalled stream must leave room for its neighbours.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// HTTP/2 streams that Serin itself had to reset, before the connection is closed.
const MAX_LOCAL_RESETS: usize = 256;

const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nx-serin-flag: SI\r\ncontent-type: text/plain\r\n\
content-length: 44\r\nconnection: close\r\n\r\n408 the request did not arrive in time (SI)\n";

type Server = http1::Connection<TokioIo<ClientIo<TcpStream>>, BoxedService>;
type BoxedService = Box<dyn hyper::service::Service<
    http::Request<hyper::body::Incoming>,
    Response = http::Response<super::body::ResponseBody>,
    Error = std::convert::Infallible,
    Future = Pin<Box<dyn Future<Output = Result<http::Response<super::body::ResponseBody>, std::convert::Infallible>> + Send>>,
> + Send>;

/// Serves a connection until it ends.
pub async fn serve(worker: Arc<Worker>, bound: Bound, stream: TcpStream, peer: std::net::SocketAddr) {}
