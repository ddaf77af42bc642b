//! The clients of the demo: a steady stream of small requests over a few connections that stay open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::cli::view::background::{End, ended};

/// Requests a second on one connection, at most; an answer of the slower version takes less than a tenth of the time between.
const PER_CONNECTION: u32 = 20;
/// Connections at most.
const CONNECTIONS: u32 = 256;
/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Requests sent.
    pub sent: AtomicU64,
    /// Those of them that got no complete answer.
    pub unanswered: AtomicU64,
}

/// Sends `rate` requests a second, evenly spread, until told to end; then finishes those that are under way.
pub(super) async fn send(target: SocketAddr, rate: u32, seen: Arc<Seen>, end: End) {
    let connections = (rate / PER_CONNECTION).clamp(1, CONNECTIONS);
    let period = Duration::from_secs(1) * connections / rate.max(1);
    let start = Instant::now();
    let mut lanes = JoinSet::new();
    for number in 0..connections {
        let first = start + period * number / connections;
        lanes.spawn(Lane { target, connection: None, seen: Arc::clone(&seen) }.run(first, period, end.clone()));
    }
    while lanes.join_next().await.is_some() {}
}

type Connection = (SendRequest<Empty<Bytes>>, JoinSet<()>);

/// One client.
struct Lane {
    target: SocketAddr,
    connection: Option<Connection>,
    seen: Arc<Seen>,
}

impl Lane {
    async fn run(mut self, first: Instant, period: Duration, mut end: End) {
        let mut turns = interval_at(first, period);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = ended(&mut end) => return,
                _ = turns.tick() => {}
            }
            self.seen.sent.fetch_add(1, Relaxed);
            if !matches!(timeout(PATIENCE, self.ask()).await, Ok(Ok(()))) {
                self.seen.unanswered.fetch_add(1, Relaxed);
                self.connection = None;
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (sender, _) = match &mut self.connection {
            // The proxy may have closed it between two requests: that is no failure.
            Some(connection) if !connection.0.is_closed() => connection,
            other => other.insert(connect(self.target).await?),
        };
        sender.ready().await?;
        let request = Request::get("/")
            .header(header::HOST, "product-service")
            .header(header::USER_AGENT, concat!("serin-demo/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;
        sender.send_request(request).await?.into_body().collect().await?;
        Ok(())
    }
}

async fn connect(target: SocketAddr) -> io::Result<Connection> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut driver = JoinSet::new();
    // Its error is the sender's error as well.
    driver.spawn(async move { drop(connection.await) });
    Ok((sender, driver))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;
    use crate::cli::echo::{Behaviour, Responder, serve};

    #[tokio::test]
    async fn requests_keep_their_connections_and_are_finished_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let echo = Arc::new(Responder::new("v1", Behaviour::default(), 1));
        let (end, ended) = watch::channel(false);
        let seen = Arc::new(Seen::default());
        let enough = async {
            while echo.served() < 50 {
                tokio::task::yield_now().await;
            }
            end.send_replace(true);
        };
        let both = async { tokio::join!(send(target, 2000, Arc::clone(&seen), ended), enough) };
        tokio::select! {
            _ = both => {}
            () = serve(listener, Arc::clone(&echo)) => {}
        }
        assert_eq!(seen.sent.load(Relaxed), echo.served());
        assert_eq!(seen.unanswered.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_gets_no_answer_is_counted_and_tried_anew() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        let (end, ended) = watch::channel(false);
        let seen = Arc::new(Seen::default());
        let enough = async {
            while seen.unanswered.load(Relaxed) < 5 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            end.send_replace(true);
        };
        tokio::join!(send(target, 10, Arc::clone(&seen), ended), enough);
        assert_eq!(seen.sent.load(Relaxed), seen.unanswered.load(Relaxed));
    }
}
