//! The bytes to and from an endpoint: TCP or a Unix socket, with or without TLS. Counts as an open connection of its cluster
//! until it is dropped, whoever holds it by then.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::gather::poll_write_gathered;
use super::limits::Permit;

/// A socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// What HTTP is spoken on.
#[derive(Debug)]
pub(super) struct Stream {
    layers: Layers,
    /// Woken by each read, for who waits for the first words of the endpoint.
    heard: Option<Arc<AtomicWaker>>,
    /// Last, so that the socket is closed when the next connection may be opened.
    _permit: Option<Permit>,
}

#[derive(Debug)]
enum Layers {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// A socket as it is.
    pub(super) fn plain(socket: Socket, permit: Option<Permit>) -> Self {
        Self { layers: Layers::Plain(socket), heard: None, _permit: permit }
    }

    /// A socket with TLS on it.
    pub(super) fn tls(stream: TlsStream<Socket>, permit: Option<Permit>) -> Self {
        Self { layers: Layers::Tls(Box::new(stream)), heard: None, _permit: permit }
    }

    /// The same, which wakes whoever is registered with each read. A waker that nobody is registered with costs little.
    pub(super) fn waking(self, heard: Arc<AtomicWaker>) -> Self {
        Self { heard: Some(heard), ..self }
    }
}

/// The same call on whichever stream it is.
macro_rules! on {
    ($of:expr, $kind:ident { $($variant:ident),+ }, $stream:ident => $call:expr) => {
        match $of { $($kind::$variant($stream) => $call,)+ }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), Self { Tcp, Unix }, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), Self { Tcp, Unix }, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), Self { Tcp, Unix }, stream => poll_write_gathered(stream, cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), Self { Tcp, Unix }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), Self { Tcp, Unix }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = on!(&mut this.layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_read(cx, buffer));
        if let (Some(heard), Poll::Ready(_)) = (&this.heard, &read) {
            heard.wake();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on!(&mut self.get_mut().layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(&mut self.get_mut().layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(&mut self.get_mut().layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(&mut self.get_mut().layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
