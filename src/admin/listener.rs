//! Where the admin port is, and the socket that listens there: an address of the network, or a Unix socket.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::guard::Peer;

/// The longest path of a Unix socket, in bytes (unix(7), less the end of the text).
const LONGEST_PATH: usize = 107;

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of the network, with its port.
    Network(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The path that stands behind `unix:`; none: `text` does not begin so.
    ///
    /// # Errors
    /// It is no path that a socket could have: what to tell the operator.
    pub fn unix(text: &str) -> Option<Result<PathBuf, String>> {
        let path = text.strip_prefix("unix:")?;
        // As a URL: no host, and then the path.
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        Some(match path {
            "" => Err("wanted a path, such as unix:/run/serin/admin.sock".to_owned()),
            _ if path.starts_with("//") => {
                Err("wanted a path and no host, such as unix:/run/serin/admin.sock".to_owned())
            }
            // Whoever shares the machine could use it: nothing has an owner there.
            _ if path.starts_with('@') => Err("wanted a path: an abstract name has no permissions".to_owned()),
            _ if path.len() > LONGEST_PATH => {
                Err(format!("the path of a socket has at most {LONGEST_PATH} bytes, and this one {}", path.len()))
            }
            _ => Ok(path.into()),
        })
    }
}

impl FromStr for Address {
    type Err = String;

    /// `127.0.0.1:15000`, `[::1]:15000`, `unix:/run/serin/admin.sock`.
    fn from_str(text: &str) -> Result<Self, String> {
        let network = || {
            let address = text.parse().map(Self::Network);
            address.map_err(|_| "wanted an IP address and port, such as 127.0.0.1:15000, or unix:PATH".to_owned())
        };
        Self::unix(text).map_or_else(network, |path| path.map(Self::Unix))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Network(address)
    }
}

/// A socket that listens for the admin port.
#[derive(Debug)]
pub enum Listener {
    /// Of the network.
    Network(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say, or it is a Unix socket without a path.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Network(socket) => socket.local_addr().map(Address::Network),
            Self::Unix(socket) => match socket.local_addr()?.as_pathname() {
                Some(path) if !path.as_os_str().as_bytes().is_empty() => Ok(Address::Unix(path.to_owned())),
                _ => Err(io::Error::other("the Unix socket has no path")),
            },
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Network(socket) => socket.try_clone().map(Self::Network),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// For the runtime in which this is called.
    pub(super) fn acceptor(self) -> io::Result<Acceptor> {
        match self {
            Self::Network(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(socket).map(Acceptor::Network)
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(socket).map(Acceptor::Unix)
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self::Network(socket)
    }
}

impl From<UnixListener> for Listener {
    fn from(socket: UnixListener) -> Self {
        Self::Unix(socket)
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Network(socket) => socket.into(),
            Listener::Unix(socket) => socket.into(),
        }
    }
}

/// A connection, whichever way it came.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Takes connections.
pub(super) enum Acceptor {
    Network(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Network(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Box::new(stream), Peer::Network(peer)))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((Box::new(stream), Peer::Unix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_network_or_a_path() {
        for text in ["127.0.0.1:15000", "[::1]:0", "unix:/run/serin/admin.sock", "unix:admin.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("unix:///run/a".parse(), Ok(Address::Unix("/run/a".into())), "as a URL");
        let longest = format!("unix:/{}", "x".repeat(LONGEST_PATH - 1));
        assert!(longest.parse::<Address>().is_ok());
        for (text, why) in [
            ("", "unix:PATH"),
            ("localhost:15000", "IP address"),
            ("127.0.0.1", "127.0.0.1:15000"),
            ("/run/a", "unix:PATH"),
            ("unix:", "wanted a path"),
            ("unix://", "no host"),
            ("unix://host/run/a", "no host"),
            ("unix:////run/a", "no host"),
            ("unix:@serin", "no permissions"),
            (&format!("{longest}x"), "at most 107 bytes, and this one 108"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
