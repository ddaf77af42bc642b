//! The admin's thread: accepts connections and serves the resources on them. It knows nothing of what they say.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::guard::Peer;
use super::listener::{Acceptor, Listener, Stream};
use super::write_limit::WriteLimit;
use super::{AdminState, routes};

/// Connections served at a time; the next ones wait to be accepted.
const CONNECTIONS: usize = 16;
/// How long a head may take to arrive, and how long a connection may be silent between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long a connection is closed at the end of its request, so that none can be held for ever.
const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long that request may still take; the same at the end of the process.
const LAST_REQUEST: Duration = Duration::from_secs(30);
/// How long to wait for the last requests when the process ends.
const GRACE: Duration = Duration::from_secs(1);
/// How long a connection that has asked nothing so far may still ask then: its request may be on its way.
const FIRST_WORDS: Duration = Duration::from_millis(500);
/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the admin resources on `listener`, on a thread of its own, until `shutdown` is done. The thread ends at most
/// two seconds later.
///
/// # Errors
/// When the listener cannot be used or the thread cannot be started.
pub fn serve(
    listener: impl Into<Listener>,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let listener = listener.into();
    let listen = listener.address()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("admin-blocking")
        .max_blocking_threads(4)
        .build()?;
    let listener = {
        let _within = runtime.enter();
        listener.acceptor()?
    };
    let router = routes(Arc::new(state), &listen);
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(run(listener, router, shutdown));
        runtime.shutdown_timeout(GRACE);
    })
}

async fn run(listener: Acceptor, router: Router, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(());
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(stream, peer, router, stopped).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(stream: impl Stream, peer: Peer, router: Router, mut stopped: watch::Receiver<()>) {
    let resources = TowerToHyperService::new(router);
    let asked = Arc::new(Notify::new());
    let asks = Arc::clone(&asked);
    let service = service_fn(move |mut request: Request<Incoming>| {
        asks.notify_one();
        request.extensions_mut().insert(peer);
        resources.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(WriteLimit::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let over = async {
        tokio::select! {
            _ = stopped.changed() => {
                let _ = timeout(FIRST_WORDS, asked.notified()).await;
            }
            () = sleep(CONNECTION_AGE) => {}
        }
    };
    let ended = tokio::select! {
        result = &mut connection => Some(result),
        () = over => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_REQUEST, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, ?peer, "an admin connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A connection, and what ends the server.
    fn connected() -> (DuplexStream, watch::Sender<()>, impl Future<Output = ()>) {
        let (client, server) = duplex(64 * 1024);
        let (stop, stopped) = watch::channel(());
        let router = Router::new().route("/", get(async || "here"));
        (client, stop, connection(server, Peer::Unix, router, stopped))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_when_the_server_ends_is_answered() {
        let (mut client, stop, served) = connected();
        let ask = async {
            drop(stop);
            sleep(FIRST_WORDS / 2).await;
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (answer, ()) = tokio::join!(ask, served);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("here"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_waited_for_once() {
        let (_client, stop, served) = connected();
        let start = Instant::now();
        drop(stop);
        served.await;
        assert_eq!(start.elapsed(), FIRST_WORDS);

        let (mut client, stop, served) = connected();
        let ask = async {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            client.read_u8().await.unwrap();
            let start = Instant::now();
            drop(stop);
            client.read_to_end(&mut Vec::new()).await.unwrap();
            start.elapsed()
        };
        assert_eq!(tokio::join!(ask, served).0, Duration::ZERO, "it has been heard");
    }
}
