//! The socket of a client as hyper sees it: bytes that were read ahead come first, and every movement is noted in the
//! connection's state. Knows nothing of HTTP beyond the preface of HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::abuse::Meter;
use super::state::ConnectionState;
use crate::upstream::gather::poll_write_gathered;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that is read ahead of a request that wakes a connection, in bytes: most heads are shorter.
const AHEAD: usize = 4096;

/// A client's stream, plain or within TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// What it runs on.
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A client's stream with its state.
#[derive(Debug)]
pub(super) struct ClientIo<S> {
    stream: S,
    ahead: BytesMut,
    /// Whether the last flush, or the shutdown, found the socket full.
    flushing: bool,
    /// Weighs what is read, on HTTP/2.
    meter: Option<Meter>,
    state: Arc<ConnectionState>,
}

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Anything that does not begin with HTTP/2's preface.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientIo<S> {
    /// Wraps a stream.
    pub(super) fn new(stream: S, state: Arc<ConnectionState>) -> Self {
        Self { stream, ahead: BytesMut::new(), flushing: false, meter: None, state }
    }

    /// What is read from now on are the frames of HTTP/2, the preface first: the connection expires when they carry too little.
    pub(super) fn weigh_frames(&mut self) {
        self.meter = Some(Meter::new());
    }

    /// Whether anything arrived that was not taken yet.
    pub(super) fn has_read(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// These bytes were read, and are to be read again.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.ahead.extend_from_slice(bytes);
    }

    /// Reads ahead once, unless there is something already. False: the client has closed.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ahead.is_empty() {
            let mut bytes = [0; AHEAD];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.ahead.extend_from_slice(buffer.filled());
            if self.ahead.is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.state.read();
        }
        Poll::Ready(Ok(true))
    }

    /// Reads until the protocol is certain; what was read is read again by the next reader. None: closed without a byte.
    pub(super) async fn detect(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Ok((!self.ahead.is_empty()).then_some(Protocol::Http1));
            }
            self.state.read();
            let known = self.ahead.len().min(PREFACE.len());
            if self.ahead[..known] != PREFACE[..known] {
                return Ok(Some(Protocol::Http1));
            }
            if known == PREFACE.len() {
                return Ok(Some(Protocol::Http2));
            }
        }
    }
}

impl<S> ClientIo<S> {
    fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        self.state.wrote(polled.is_pending());
        if let (Some(meter), Poll::Ready(Ok(length))) = (&mut self.meter, polled) {
            meter.wrote(*length);
        }
    }
}

impl<S: Stream> ClientIo<S> {
    /// Tears the connection off. To a client of HTTP/1.0 an orderly end would mean that the answer is complete.
    pub(super) fn reset(self) {
        // Failing, it ends in order: that is what would have happened anyway.
        let _ = self.stream.socket().set_zero_linger();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Some(meter) = &mut self.meter {
            if meter.is_flood() {
                // Its task is woken and ends it; to read on would only keep it busy.
                self.state.flooded();
                return Poll::Pending;
            }
            if meter.turn_is_over() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..length]);
            self.ahead.advance(length);
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            if let Some(meter) = &mut self.meter {
                meter.read(&buf.filled()[before..]);
            }
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        match polled {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.state.read();
                if let Some(meter) = &mut self.meter {
                    meter.read(&buf.filled()[before..]);
                }
            }
            Poll::Ready(Ok(())) if buf.remaining() > 0 => self.state.has_ended(),
            _ => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = poll_write_gathered(&mut self.stream, cx, bufs);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS takes a write before the socket does.
        if polled.is_pending() || self.flushing {
            self.flushing = polled.is_pending();
            self.state.wrote(self.flushing);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        // The last word of TLS, or of a stream, waits for what was sent before.
        if polled.is_pending() || self.flushing {
            self.flushing = polled.is_pending();
            self.state.wrote(self.flushing);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn detected(pieces: &[&[u8]]) -> (Option<Protocol>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(256);
        let mut io = ClientIo::new(server, Arc::new(ConnectionState::accepted()));
        let feed = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let (protocol, ()) = tokio::join!(io.detect(), feed);
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        (protocol.unwrap(), rest)
    }

    #[tokio::test]
    async fn the_preface_is_recognised_in_any_pieces_and_nothing_is_lost() {
        let whole = [PREFACE, b"rest"].concat();
        for cut in 1..whole.len() {
            let (protocol, read) = detected(&[&whole[..cut], &whole[cut..]]).await;
            assert_eq!((protocol, read), (Some(Protocol::Http2), whole.clone()), "cut at {cut}");
        }
    }

    /// How much is read at once of so many frames.
    async fn read_in_one_turn(frame: &[u8], count: usize) -> usize {
        let all = [PREFACE, &frame.repeat(count)].concat();
        let (mut client, server) = tokio::io::duplex(all.len());
        client.write_all(&all).await.unwrap();
        let mut io = ClientIo::new(server, Arc::new(ConnectionState::accepted()));
        io.weigh_frames();
        let (mut turns, mut read, mut most) = (0, 0, 0);
        while read < all.len() {
            let mut turn = 0;
            std::future::poll_fn(|cx| {
                let mut bytes = [0; 8 * 1024];
                let mut buffer = ReadBuf::new(&mut bytes);
                while read + turn < all.len() && Pin::new(&mut io).poll_read(cx, &mut buffer).is_ready() {
                    turn += buffer.filled().len();
                    buffer.clear();
                }
                Poll::Ready(())
            })
            .await;
            (turns, read, most) = (turns + 1, read + turn, most.max(turn));
            assert!(turns <= all.len(), "it goes on");
        }
        most
    }

    #[tokio::test]
    async fn frames_that_carry_nothing_are_read_in_turns_with_others() {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert!(read_in_one_turn(&ping, 20_000).await <= 48 * 1024);
        let data = [&[0, 4, 0, 0, 0, 0, 0, 0, 1][..], &[0; 1024]].concat();
        assert!(read_in_one_turn(&data, 500).await > 256 * 1024);
    }

    #[tokio::test]
    async fn anything_else_is_http1_and_a_silent_client_is_nothing() {
        for text in [&b"GET / HTTP/1.1\r\n"[..], b"PRI", b"PRI * HTTP/1.1\r\n\r\n", b"\0"] {
            assert_eq!(detected(&[text]).await, (Some(Protocol::Http1), text.to_vec()));
        }
        assert_eq!(detected(&[]).await, (None, Vec::new()));
    }
}
