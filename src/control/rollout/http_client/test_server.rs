//! A server for the tests of what is asked and told: it keeps every request, and answers as a test says, over sockets or in
//! memory. In memory nothing waits for the kernel, so that a paused clock jumps exactly to the next timer.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::{Client, Dial};

/// Makes a connection in memory.
pub(in crate::control::rollout) type Dialled = Box<dyn Fn() -> io::Result<DuplexStream> + Send + Sync>;

/// A request as it came.
#[derive(Debug)]
pub(in crate::control::rollout) struct Received {
    /// When its body was complete.
    pub(in crate::control::rollout) at: Instant,
    pub(in crate::control::rollout) uri: Uri,
    pub(in crate::control::rollout) headers: HeaderMap,
    pub(in crate::control::rollout) body: Bytes,
}

impl Received {
    /// The text of a header; empty if it is not there.
    pub(in crate::control::rollout) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What a test has answered.
#[derive(Clone, Debug)]
pub(in crate::control::rollout) enum Reply {
    /// This.
    With(u16, Option<(&'static str, String)>, String),
    /// Nothing, ever.
    Silence,
    /// The connection is closed.
    Hangup,
    /// There is no connection.
    Refusal,
}

/// An answer without a body.
pub(in crate::control::rollout) fn status(code: u16) -> Reply {
    Reply::With(code, None, String::new())
}

/// A client that reaches nothing but a server in memory, and what that server gets. The script says what is answered to the
/// n-th connection, from 0.
pub(in crate::control::rollout) fn in_memory(
    script: impl FnMut(usize) -> Reply + Send + 'static,
) -> (Client, UnboundedReceiver<Received>) {
    let (seen, requests) = unbounded_channel();
    let (script, count) = (Mutex::new(script), AtomicUsize::new(0));
    let dialled = move || {
        let count = count.fetch_add(1, Ordering::Relaxed);
        // A script may panic, if that is the test.
        let reply = (script.lock().unwrap_or_else(PoisonError::into_inner))(count);
        if matches!(reply, Reply::Refusal) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(serve(far, reply, seen.clone()));
        Ok(near)
    };
    (Client { dial: Dial::Memory(Box::new(dialled)), tls: OnceCell::new() }, requests)
}

/// A server on a free port, and what it gets. It ends with the runtime.
pub(in crate::control::rollout) async fn on_a_port(
    script: impl FnMut(usize) -> Reply + Send + 'static,
) -> (SocketAddr, UnboundedReceiver<Received>) {
    let (seen, requests) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut script = script;
    tokio::spawn(async move {
        for count in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, script(count), seen.clone()));
        }
    });
    (address, requests)
}

/// Answers the requests of one connection.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    reply: Reply,
    seen: UnboundedSender<Received>,
) {
    let hangup = matches!(reply, Reply::Hangup);
    let (heard, mut hears) = unbounded_channel();
    let service = service_fn(|request: Request<Incoming>| {
        let (reply, seen, heard) = (reply.clone(), seen.clone(), heard.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            // The test may have seen enough.
            let _ = seen.send(Received { at: Instant::now(), uri: parts.uri, headers: parts.headers, body });
            let Reply::With(code, header, text) = reply else {
                heard.send(()).unwrap();
                pending::<()>().await;
                unreachable!();
            };
            let mut response = Response::new(Full::new(Bytes::from(text)));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            if let Some((name, value)) = header {
                response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // The client may go away at any time.
        _ = connection => {}
        Some(()) = hears.recv(), if hangup => {}
    }
}
