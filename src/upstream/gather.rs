//! Writing a head and a short body with one plain send. The kernel's vectored write costs more than copying a few hundred
//! bytes, and most messages are that short.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Pieces that are longer together are handed to the kernel as they are, in bytes.
const SHORT: usize = 4096;

thread_local! {
    static TOGETHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes pieces, copied together where that is cheaper.
pub fn poll_write_gathered<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match pieces {
        [] => Pin::new(stream).poll_write(cx, &[]),
        [piece] => Pin::new(stream).poll_write(cx, piece),
        _ if pieces.iter().map(|piece| piece.len()).sum::<usize>() <= SHORT => TOGETHER.with_borrow_mut(|together| {
            together.clear();
            pieces.iter().for_each(|piece| together.extend_from_slice(piece));
            Pin::new(stream).poll_write(cx, together)
        }),
        _ => Pin::new(stream).poll_write_vectored(cx, pieces),
    }
}

/// A stream whose vectored writes are gathered.
#[derive(Debug)]
pub struct Gather<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_gathered(&mut self.0, cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn every_byte_arrives_in_order_whatever_the_sizes() {
        for sizes in [[3, 5], [1, SHORT], [SHORT, SHORT], [0, 7], [9, 0]] {
            let (client, mut server) = tokio::io::duplex(1 << 20);
            let mut client = Gather(client);
            let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, &size)| vec![n as u8 + 1; size]).collect();
            let mut left: &mut [IoSlice<'_>] = &mut sent.iter().map(|piece| IoSlice::new(piece)).collect::<Vec<_>>();
            while left.iter().any(|piece| !piece.is_empty()) {
                let written = client.write_vectored(left).await.unwrap();
                IoSlice::advance_slices(&mut left, written);
            }
            client.shutdown().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, sent.concat(), "{sizes:?}");
        }
    }
}
