//! Writing a head and a short body with one plain send. The kernel's vectored write costs more than copying a few hundred
//! bytes, and most messages are that short.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn every_byte_arrives_in_order_whatever_the_sizes() {
        for sizes in [[3, 5], [1, SHORT], [SHORT, SHORT], [0, 7], [9, 0]] {
            let (mut client, mut server) = tokio::io::duplex(1 << 20);
            let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, &size)| vec![n as u8 + 1; size]).collect();
            let mut left: &mut [IoSlice<'_>] = &mut sent.iter().map(|piece| IoSlice::new(piece)).collect::<Vec<_>>();
            while left.iter().any(|piece| !piece.is_empty()) {
                let written = poll_fn(|cx| poll_write_gathered(&mut client, cx, left)).await.unwrap();
                IoSlice::advance_slices(&mut left, written);
            }
            client.shutdown().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, sent.concat(), "{sizes:?}");
        }
    }
}
