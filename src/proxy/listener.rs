//! Accepting connections: one socket per address and worker (`SO_REUSEPORT`), so that workers share nothing. Listeners come
//! and go while the others serve.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::connection::{self, Arrival};
use super::pulse::Activity;
use super::state::ConnectionState;
use super::tls::TlsServers;
use super::worker::Worker;
use crate::failpoint;
use crate::upstream::{is_kept_from_clients, is_next_kept_from_clients};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// After a failed accept (no descriptor left, say) the next one waits this long, doubled each time up to …
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// … this (nginx waits as long).
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A connection without a place waits for so long before one makes room that was used a moment ago.
const PATIENCE: Duration = Duration::from_millis(200);

/// The number of "too many open files".
const EMFILE: i32 = 24;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP within TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A listener that has its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Where clients connect.
    pub local: SocketAddr,
    /// The port as rules and Location headers see it.
    pub port: u16,
    /// What it speaks.
    pub scheme: Scheme,
}

/// A listener of this process: one for all workers.
#[derive(Debug)]
pub struct Listener {
    /// Tells its connections from those of others.
    id: u64,
    bound: Bound,
    /// Those of a handshake that begins now; none for plain HTTP.
    tls: Option<ArcSwap<TlsServers>>,
    closed: AtomicBool,
    closing: Notify,
}

/// One worker's socket of a listener.
#[derive(Debug)]
pub struct Opened {
    /// The listener.
    pub listener: Arc<Listener>,
    /// The socket, bound and listening.
    pub socket: StdListener,
}

impl Listener {
    /// A listener of plain HTTP, or with servers one of HTTPS.
    pub fn new(local: SocketAddr, port: u16, tls: Option<TlsServers>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            bound: Bound { local, port, scheme },
            tls: tls.map(ArcSwap::from_pointee),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    /// Where it is.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// The servers of its next handshake.
    pub fn tls(&self) -> Option<Arc<TlsServers>> {
        self.tls.as_ref().map(ArcSwap::load_full)
    }

    /// Other servers, from the next handshake on. Means nothing to a listener of plain HTTP.
    pub fn replace_tls(&self, servers: TlsServers) {
        if let Some(tls) = &self.tls {
            tls.store(Arc::new(servers));
        }
    }

    /// Closes its sockets once they have taken what waits there. Its connections end after their request. As long as anybody
    /// but the caller holds the listener, a socket is still open.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    async fn closed(&self) {
        let closing = self.closing.notified();
        if !self.is_closed() {
            closing.await;
        }
    }
}

/// Binds an address once for each worker. Port 0 takes a free one, the same for all.
///
/// # Errors
/// The address is in use (also by another process that would share it), not local, or not permitted.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    // Without SO_REUSEPORT this fails where the shared bind below would quietly join another process's port. It must not listen:
    // who connects in this moment would be reset.
    let probe = bound(address, false)?;
    let unknown = || io::Error::other("the socket has no address");
    let taken = probe.local_addr()?.as_socket().ok_or_else(unknown)?;
    drop(probe);
    Ok((taken, bind_shared(taken, workers)?))
}

/// The same for an address that overlaps with one that this process holds: the narrower one gets its connections.
///
/// # Errors
/// As [`bind`], but for sockets of the same user that share the address.
pub fn bind_shared(address: SocketAddr, workers: usize) -> io::Result<Vec<StdListener>> {
    let all: Vec<Socket> = (0..workers).map(|_| bound(address, true)).collect::<io::Result<_>>()?;
    all.into_iter().map(|socket| socket.listen(BACKLOG).map(|()| socket.into())).collect()
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// How many connections are open over all workers, and how many may be.
#[derive(Debug)]
pub struct Room {
    open: AtomicUsize,
    waiting: AtomicUsize,
    most: usize,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
struct Place(Arc<Room>);

impl Room {
    /// Room for this many connections.
    pub fn new(most: usize) -> Self {
        Self { open: AtomicUsize::new(0), waiting: AtomicUsize::new(0), most }
    }

    /// Whether a connection waits for another one to end.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A place for a connection, as soon as there is one and a descriptor for the next: idle connections go first.
    async fn enter(self: &Arc<Self>, worker: &Worker, stream: &TcpStream) -> Place {
        let mut is_scarce = is_kept_from_clients(stream);
        if is_scarce {
            worker.report_accept_error(&io::Error::from_raw_os_error(EMFILE));
        }
        if is_scarce || self.is_full() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let since = Instant::now();
            while is_scarce || self.is_full() {
                worker.watch().close_oldest_idle(since.elapsed() >= PATIENCE);
                sleep(FIRST_PAUSE).await;
                is_scarce = is_scarce && is_next_kept_from_clients(stream);
            }
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }

    fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.most
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until the worker drains or the listener is closed; then takes what already waits and closes the socket.
pub(super) async fn accept(worker: Arc<Worker>, listener: Arc<Listener>, socket: TcpListener, room: Arc<Room>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = socket.accept() => accepted,
            () = worker.drained() => break,
            () = listener.closed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                worker.pulse().does(Activity::Accepting);
                failpoint::reach("accept");
                // The ones behind it wait in the backlog, where they lose nothing.
                let place = room.enter(&worker, &stream).await;
                serve(&worker, &listener, (stream, peer), place);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                worker.report_accept_error(&error);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // Asked directly: the runtime does not know yet of what came since it last looked, and closing would reset it.
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok((stream, peer)) = socket.accept() else { break };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            let place = room.enter(&worker, &stream).await;
            serve(&worker, &listener, (stream, peer), place);
        }
    }
    // Before the socket closes: whoever is refused may rely on it.
    if listener.is_closed() {
        worker.watch().leave(listener.id);
    }
}

/// Serves a connection; it counts as open from this call on.
fn serve(worker: &Arc<Worker>, listener: &Listener, (stream, peer): (TcpStream, SocketAddr), place: Place) {
    // Answers are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let state = Arc::new(ConnectionState::accepted());
    worker.watch().add(listener.id, &state);
    let arrival = Arrival { worker: Arc::clone(worker), state, bound: listener.bound, peer };
    match listener.tls() {
        None => drop(tokio::spawn(async move {
            connection::serve(arrival, stream).await;
            drop(place);
        })),
        Some(tls) => drop(tokio::spawn(async move {
            connection::serve_tls(arrival, stream, tls).await;
            drop(place);
        })),
    }
}

/// Whether the error concerns a client that left before it was accepted, and not the socket.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A balancer may try a port at any moment: until it is served, it is refused, and never taken and reset.
    #[test]
    fn an_address_is_tried_without_listening_there() {
        let probe = bound("127.0.0.1:0".parse().unwrap(), false).unwrap();
        assert!(!probe.is_listener().unwrap());
        assert!(std::net::TcpStream::connect(probe.local_addr().unwrap().as_socket().unwrap()).is_err());
    }

    #[test]
    fn a_port_that_another_process_holds_is_refused() {
        let (address, sockets) = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(sockets.len(), 2);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert!(bind(address, 1).is_ok());
    }
}
