//! Opening a connection to an endpoint: TCP, then the HTTP/1.1 client of hyper on top. Never retries; that is the caller's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::RequestBody;
use super::gather::Gather;

/// The most that hyper buffers for one connection and direction, in bytes (its own default is 400 KiB).
const BUFFER: usize = 64 * 1024;
/// A response head larger than this is refused, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Unacknowledged data is given up after this: a peer that vanished without a word.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// An open connection, ready for one request at a time.
pub type Connection = http1::SendRequest<RequestBody>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered within the connect timeout.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The endpoint's name has no address (yet).
    #[error("the name has no address")]
    Unresolved,
    /// This process has no descriptor or port left for it: not the endpoint's fault.
    #[error("out of descriptors or ports: {0}")]
    Exhausted(io::Error),
    /// The operating system's answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The HTTP client could not start on it.
    #[error("{0}")]
    Handshake(#[from] hyper::Error),
}

/// Connects to the first address that answers; `limit` is for all of them together.
pub async fn connect(addresses: &[SocketAddr], limit: Duration) -> Result<Connection, ConnectError> {
    let stream = timeout(limit, connect_tcp(addresses)).await.map_err(|_| ConnectError::Timeout(limit))??;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .max_header_size(MAX_HEAD)
        .handshake::<_, RequestBody>(TokioIo::new(Gather(stream)))
        .await?;
    tokio::spawn(async move {
        // Its error reaches whoever waits for the response; here it only means that the connection is gone.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn connect_tcp(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Unresolved;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                set_options(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = classify(error),
        }
    }
    Err(last)
}

fn classify(error: io::Error) -> ConnectError {
    // EMFILE 24, ENFILE 23, EADDRNOTAVAIL 99 (no source port left).
    match error.raw_os_error() {
        Some(23 | 24 | 99) => ConnectError::Exhausted(error),
        _ => ConnectError::Io(error),
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)).with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_refused_and_the_next_address_is_tried() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = closed.local_addr().unwrap();
        drop(closed);
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let limit = Duration::from_secs(5);
        assert!(connect(&[refused, open.local_addr().unwrap()], limit).await.is_ok());
        let error = connect(&[refused], limit).await.unwrap_err();
        assert!(matches!(error, ConnectError::Io(ref io) if io.kind() == io::ErrorKind::ConnectionRefused), "{error}");
    }

    #[tokio::test]
    async fn no_address_is_an_error_of_its_own() {
        let error = connect(&[], Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unresolved));
    }
}
