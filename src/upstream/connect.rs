//! Opening a connection to an endpoint: the socket, TLS where it is asked for, and hyper's client on top. Never retries; that
//! is the caller's.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::body::RequestBody;
use super::connection::Http1;
use super::descriptors::is_kept_from_endpoints;
use super::http2::Shared;
use super::limits::{Overloaded, Permit, Usage};
use super::stream::{Socket, Stream};
use super::transport::{Http2Policy, Keepalive};

/// The most that hyper buffers for one connection and direction, in bytes (its own default is 400 KiB).
const BUFFER: usize = 64 * 1024;
/// A response head larger than this is refused, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Unread bytes that a stream of HTTP/2 may have under way …
const STREAM_WINDOW: u32 = 128 * 1024;
/// … and all streams of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP; tried in this order (`localhost` has two). Empty while a name has no address.
    Tcp(Vec<SocketAddr>),
    /// A Unix socket; a path that begins with a zero byte is an abstract name.
    Unix(PathBuf),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered within the connect timeout.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The endpoint's name has no address (yet).
    #[error("the name has no address")]
    Unresolved,
    /// This process has no descriptor, port or memory left for it: not the endpoint's fault.
    #[error("out of descriptors, ports or memory: {0}")]
    Exhausted(io::Error),
    /// The cluster has all the connections, or all the requests that wait for one, that it may have.
    #[error("the limit of connections or of waiting requests is reached")]
    Overloaded(#[from] Overloaded),
    /// No TLS with it: a certificate that is not believed, say.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The request's `Host` is no name that TLS could ask for.
    #[error("the host of the request is no server name for TLS")]
    NoServerName,
    /// The operating system's answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The HTTP client could not start on it.
    #[error("{0}")]
    Handshake(#[from] hyper::Error),
}

impl ConnectError {
    /// Whether it says something about the endpoint.
    pub fn blames_endpoint(&self) -> bool {
        !matches!(self, Self::Exhausted(_) | Self::Overloaded(_) | Self::NoServerName)
    }
}

/// What a connection is opened with.
#[derive(Debug)]
pub(super) struct Opening {
    /// For everything until it is open.
    pub limit: Duration,
    pub keepalive: Keepalive,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// That name, where it depends on the request.
    pub server_name: Option<Box<str>>,
    pub permit: Option<Permit>,
    /// Who is told when the connection has nothing to do.
    pub usage: Option<Arc<Usage>>,
}

/// Opens a connection for one request at a time.
pub(super) async fn http1(address: &Address, mut opening: Opening) -> Result<Http1, ConnectError> {
    let stream = open(address, &mut opening).await?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .max_header_size(MAX_HEAD)
        .handshake::<_, RequestBody>(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        // Its error reaches whoever waits for the response; here it only means that the connection is gone.
        let _ = connection.with_upgrades().await;
    });
    let Opening { server_name, usage, .. } = opening;
    Ok(Http1 { sender, opened: Instant::now(), served: 0, patience: None, server_name, usage })
}

/// Opens a connection for many streams.
pub(super) async fn http2(
    address: &Address,
    mut opening: Opening,
    policy: Http2Policy,
) -> Result<Shared, ConnectError> {
    let tls = opening.tls.is_some();
    let until = Instant::now() + opening.limit;
    // hyper reads in a task of its own and tells nobody what the endpoint allows: it has to be looked at.
    let heard = Arc::new(AtomicWaker::new());
    let stream = open(address, &mut opening).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // None before the endpoint has said how many: a stream too many would wait for others to end.
        .initial_max_send_streams(0)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(BUFFER)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(policy.ping_interval)
        .keep_alive_timeout(policy.ping_timeout)
        .keep_alive_while_idle(true)
        .handshake::<_, RequestBody>(TokioIo::new(stream.waking(Arc::clone(&heard))))
        .await?;
    let allowed = Arc::new(AtomicU32::new(0));
    let (task, told) = drive(connection, Arc::clone(&allowed), heard);
    let greeted = timeout_at(until, told).await;
    if greeted.is_err() {
        task.abort();
    }
    greeted.map_err(|_| ConnectError::Timeout(opening.limit))?.map_err(io::Error::other)??;
    let now = Instant::now();
    let Opening { server_name, usage, .. } = opening;
    Ok(Shared {
        sender,
        opened: now,
        streams: AtomicU32::new(0),
        allowed,
        served: AtomicU32::new(0),
        idle_since: Mutex::new(now),
        server_name,
        tls,
        usage,
        task,
    })
}

/// Drives a connection, and says in `allowed` how many streams the endpoint allows; the receiver hears when it has said so
/// first, or that the connection ended before.
fn drive(
    mut connection: http2::Connection<TokioIo<Stream>, RequestBody, TokioExecutor>,
    allowed: Arc<AtomicU32>,
    heard: Arc<AtomicWaker>,
) -> (AbortHandle, oneshot::Receiver<hyper::Result<()>>) {
    let (tell, told) = oneshot::channel();
    let mut tell = Some(tell);
    let task = tokio::spawn(poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        let most = connection.current_max_send_streams();
        if most == 0 {
            heard.register(cx.waker());
        }
        allowed.store(u32::try_from(most).unwrap_or(u32::MAX), Ordering::Relaxed);
        if let Some(tell) = tell.take_if(|_| most > 0 && polled.is_pending()) {
            // Nobody may be left who waits.
            let _ = tell.send(Ok(()));
        }
        polled.map(|ended| {
            // Later, the error reaches whoever waits for a response.
            if let Some(tell) = tell.take() {
                let _ = tell.send(ended);
            }
        })
    }));
    (task.abort_handle(), told)
}

/// The stream to an address; the limit is for all of its attempts together.
async fn open(address: &Address, opening: &mut Opening) -> Result<Stream, ConnectError> {
    let limit = opening.limit;
    timeout(limit, open_unbounded(address, opening)).await.map_err(|_| ConnectError::Timeout(limit))?
}

async fn open_unbounded(address: &Address, opening: &mut Opening) -> Result<Stream, ConnectError> {
    let socket = match address {
        Address::Tcp(addresses) => Socket::Tcp(connect_tcp(addresses, opening.keepalive).await?),
        Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await.map_err(classify)?),
    };
    match opening.tls.take() {
        None => Ok(Stream::plain(socket, opening.permit.take())),
        Some((config, name)) => {
            let stream = TlsConnector::from(config).connect(name, socket).await.map_err(ConnectError::Tls)?;
            Ok(Stream::tls(stream, opening.permit.take()))
        }
    }
}

async fn connect_tcp(addresses: &[SocketAddr], keepalive: Keepalive) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Unresolved;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) if is_kept_from_endpoints(&stream) => {
                return Err(ConnectError::Exhausted(io::Error::from_raw_os_error(EMFILE)));
            }
            Ok(stream) => {
                set_options(&stream, keepalive)?;
                return Ok(stream);
            }
            Err(error) => last = classify(error),
        }
    }
    Err(last)
}

/// The number of "too many open files".
const EMFILE: i32 = 24;

fn classify(error: io::Error) -> ConnectError {
    // EADDRNOTAVAIL 99 (no source port left), ENOMEM 12, ENFILE 23, ENOBUFS 105.
    match error.raw_os_error() {
        Some(12 | 23 | EMFILE | 99 | 105) => ConnectError::Exhausted(error),
        _ => ConnectError::Io(error),
    }
}

fn set_options(stream: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (socket, keepalive) = (SockRef::from(stream), keepalive.possible());
    let probes =
        TcpKeepalive::new().with_time(keepalive.time).with_interval(keepalive.interval).with_retries(keepalive.probes);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(keepalive.patience()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening() -> Opening {
        Opening {
            limit: Duration::from_secs(5),
            keepalive: Keepalive::default(),
            tls: None,
            server_name: None,
            permit: None,
            usage: None,
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_the_next_address_is_tried() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = closed.local_addr().unwrap();
        drop(closed);
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let both = Address::Tcp(vec![refused, open.local_addr().unwrap()]);
        assert!(http1(&both, opening()).await.is_ok());
        let error = http1(&Address::Tcp(vec![refused]), opening()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Io(ref io) if io.kind() == io::ErrorKind::ConnectionRefused), "{error}");
    }

    #[tokio::test]
    async fn a_peer_that_vanishes_is_noticed_by_the_system() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let seconds = Duration::from_secs;
        let other = Keepalive { time: seconds(40), interval: seconds(7), probes: 9 };
        let brisk = Keepalive { time: seconds(2), interval: seconds(1), probes: 3 };
        for (wanted, patience) in [(Keepalive::default(), 20), (other, 20), (brisk, 5)] {
            let stream = connect_tcp(&[listener.local_addr().unwrap()], wanted).await.unwrap();
            let socket = SockRef::from(&stream);
            let set = Keepalive {
                time: socket.tcp_keepalive_time().unwrap(),
                interval: socket.tcp_keepalive_interval().unwrap(),
                probes: socket.tcp_keepalive_retries().unwrap(),
            };
            assert_eq!((socket.keepalive().unwrap(), set), (true, wanted));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(patience)));
            assert!(socket.tcp_nodelay().unwrap());
        }
    }

    #[tokio::test]
    async fn probes_that_the_system_does_not_take_cost_no_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for (time, probes) in [(Duration::from_millis(1), 0), (Duration::from_secs(1 << 40), u32::MAX)] {
            let wanted = Keepalive { time, interval: time, probes };
            assert!(connect_tcp(&[listener.local_addr().unwrap()], wanted).await.is_ok(), "{wanted:?}");
        }
    }

    #[tokio::test]
    async fn no_address_is_an_error_of_its_own() {
        let error = http1(&Address::Tcp(Vec::new()), opening()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unresolved));
    }

    #[tokio::test]
    async fn unix_sockets_are_reached_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(http1(&Address::Unix(path), opening()).await.is_ok());
        let name = format!("\0{}", folder.path().display());
        let error = http1(&Address::Unix(name.clone().into()), opening()).await.unwrap_err();
        assert!(error.blames_endpoint());
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        assert!(http1(&Address::Unix(name.into()), opening()).await.is_ok());
    }
}
