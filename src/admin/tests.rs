//! The admin port as its clients see it: through a socket. One file per resource, and one each for who may ask and for connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::resources::RESOURCES;
use super::{AdminState, Board, Listener, Readiness, Reloaded, Token, serve};
use crate::telemetry::{Buckets, Metrics};

mod config;
mod guard;
mod index;
mod metrics;
mod probes;
mod rollouts;
mod server;
mod versions;

/// Longer than anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Admin {
    /// That of nobody where it listens on a Unix socket.
    address: SocketAddr,
    reloads: Arc<AtomicU64>,
    readiness: Arc<AtomicUsize>,
    said: rollouts::Said,
    metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Everything until the connection ends.
    fn read(mut stream: impl Read) -> Self {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Admin {
    fn start() -> Self {
        Self::with(|_| {})
    }

    /// The same, which asks for a token.
    fn locked(token: Token) -> Self {
        Self::with(|state| state.token = Some(token))
    }

    /// The same with something changed.
    fn with(change: impl FnOnce(&mut AdminState)) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap().into(), change)
    }

    fn at(listener: Listener, change: impl FnOnce(&mut AdminState)) -> Self {
        let address = match &listener {
            Listener::Network(socket) => socket.local_addr().unwrap(),
            Listener::Unix(_) => ([0; 4], 0).into(),
        };
        let (reloads, readiness) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(1)));
        let said = rollouts::Said::default();
        let (counted, asked) = (Arc::clone(&reloads), Arc::clone(&readiness));
        let metrics = Metrics::new(1, Buckets::Fine);
        let (rendered, versions) = (metrics.clone(), metrics.clone());
        let mut state = AdminState {
            metrics: Box::new(move || rendered.render()),
            hosts: vec!["serin.internal".to_owned()],
            token: None,
            readiness: Box::new(move || match asked.load(SeqCst) {
                0 => Readiness::Starting,
                1 => Readiness::Serving,
                _ => Readiness::Draining,
            }),
            status: Box::new(|| json!({ "generation": 7, "on_disk": { "state": "rejected" } })),
            versions: Board::new(Box::new(move || versions.versions())),
            dump: Box::new(|| panic!("a bug in a resource")),
            reload: Box::new(move |meant| {
                meant.check(7)?;
                Ok(match counted.fetch_add(1, SeqCst) {
                    0 => Reloaded::InForce { generation: 8, changed: true },
                    1 => Reloaded::InForce { generation: 8, changed: false },
                    _ => Reloaded::Rejected { generation: 8, diagnostics: json!([{ "line": 3 }]) },
                })
            }),
            releases: rollouts::desk(said.clone()),
        };
        change(&mut state);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap_or(()) };
        let thread = serve(listener, state, shutdown).unwrap();
        Self { address, reloads, readiness, said, metrics, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// `headers` replace the host when they name one.
    fn ask(&self, request: &str, headers: &str) -> Answer {
        let host = if headers.contains("host:") { String::new() } else { format!("host: {}\r\n", self.address) };
        self.send(format!("{request} HTTP/1.1\r\n{host}{headers}connection: close\r\n\r\n").as_bytes())
    }

    fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Answer::read(stream)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}
