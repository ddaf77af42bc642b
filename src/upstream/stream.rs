//! The bytes to and from an endpoint: TCP or a Unix socket, with or without TLS. Counts as an open connection of its cluster
//! until it is dropped, whoever holds it by then.
//!
//! An endpoint may answer, and close with a part of the request unread. Then writing fails before the answer was read, and hyper
//! would give up both: a write that fails waits until what the endpoint had said is read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;

use super::gather::poll_write_gathered;
use super::limits::Permit;

/// How long a write that failed waits for the last words of the endpoint to be read. They are all there already.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    /// Whether nothing more can be read.
    read_ended: bool,
    parting: Option<Box<Parting>>,
    /// Last, so that the socket is closed when the next connection may be opened.
    _permit: Option<Permit>,
}

/// A write that failed while there was something to read.
#[derive(Debug)]
struct Parting {
    why: io::ErrorKind,
    patience: Pin<Box<Sleep>>,
}

#[derive(Debug)]
enum Layers {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// A socket as it is.
    pub(super) fn plain(socket: Socket, permit: Option<Permit>) -> Self {
        Self::new(Layers::Plain(socket), permit)
    }

    /// A socket with TLS on it.
    pub(super) fn tls(stream: TlsStream<Socket>, permit: Option<Permit>) -> Self {
        Self::new(Layers::Tls(Box::new(stream)), permit)
    }

    fn new(layers: Layers, permit: Option<Permit>) -> Self {
        Self { layers, heard: None, read_ended: false, parting: None, _permit: permit }
    }

    /// The same, which wakes whoever is registered with each read. A waker that nobody is registered with costs little.
    pub(super) fn waking(self, heard: Arc<AtomicWaker>) -> Self {
        Self { heard: Some(heard), ..self }
    }

    /// What becomes of a write: its failure waits for the last words of the endpoint.
    fn written<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match outcome {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) && !self.read_ended => {
                let parting = || Box::new(Parting { why: error.kind(), patience: Box::pin(sleep(LAST_WORDS)) });
                ready!(self.parting.get_or_insert_with(parting).patience.as_mut().poll(cx));
                Poll::Ready(Err(error))
            }
            outcome => outcome,
        }
    }

    /// Nothing more can be read. An end after a write that failed is that failure.
    fn ended(&mut self, outcome: io::Result<()>) -> io::Result<()> {
        self.read_ended = true;
        match self.parting.take() {
            Some(parting) if outcome.is_ok() => Err(parting.why.into()),
            _ => outcome,
        }
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
        let (this, before) = (self.get_mut(), buffer.remaining());
        let read = on!(&mut this.layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_read(cx, buffer));
        let outcome = ready!(read);
        if let Some(heard) = &this.heard {
            heard.wake();
        }
        let is_end = outcome.is_err() || before > 0 && buffer.remaining() == before;
        Poll::Ready(if is_end { this.ended(outcome) } else { outcome })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on!(&mut this.layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_write(cx, bytes));
        this.written(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written =
            on!(&mut this.layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_write_vectored(cx, bytes));
        this.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = on!(&mut this.layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_flush(cx));
        this.written(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(&mut self.get_mut().layers, Layers { Plain, Tls }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection whose other end has said something and was torn off.
    async fn torn_off(words: &[u8]) -> Stream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(words).await.unwrap();
        SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        Stream::plain(Socket::Tcp(near), None)
    }

    #[tokio::test]
    async fn what_was_said_is_read_before_a_write_fails() {
        let mut stream = torn_off(b"too large").await;
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let sends = async {
            loop {
                if let Err(error) = write.write_all(&[0; 4096]).await {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        };
        let reads = async {
            let mut said = Vec::new();
            let end = read.read_to_end(&mut said).await;
            (said, end.unwrap_err().kind())
        };
        let (error, (said, end)) = tokio::join!(sends, reads);
        assert_eq!((said.as_slice(), end), (&b"too large"[..], io::ErrorKind::ConnectionReset));
        assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_reader_does_not_come_fails_after_a_while() {
        let mut stream = torn_off(b"too large").await;
        let before = tokio::time::Instant::now();
        while stream.write_all(&[0; 4096]).await.is_ok() {}
        assert!(before.elapsed() >= LAST_WORDS);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert_eq!(said, b"too large");
        let again = tokio::time::Instant::now();
        assert!(stream.write_all(&[0; 4096]).await.is_err());
        assert_eq!(again.elapsed(), Duration::ZERO, "there is nothing more to wait for");
    }
}
