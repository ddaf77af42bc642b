//! What the pieces of a body cost while they wait for a slow reader. hyper hands on what it read without copying it: a piece holds
//! on to the whole buffer that it was read into, however short it is, and hyper makes that as large as what comes at once, up to
//! 64 KiB. With a piece in each place between two sockets that would be more than a stream may cost (256 KiB).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Read at once, in bytes: a little less than 32 KiB, because a full buffer would make hyper's next one larger.
const MOST: u64 = 32 * 1024 - 1;
/// From this length on, in bytes, a piece is about half of what it holds, or more.
const LONG: usize = 16 * 1024;

/// Reads a piece.
pub fn poll_read_piece<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    Pin::new(&mut stream.take(MOST)).poll_read(cx, buffer)
}

/// The same bytes in memory of their own, if the piece holds much more. For one that is not the last and may have to wait; a copy
/// costs less than a microsecond.
pub fn fitted(piece: Bytes) -> Bytes {
    if piece.len() < LONG { Bytes::copy_from_slice(&piece) } else { piece }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::BytesMut;

    use super::*;

    #[test]
    fn a_short_piece_lets_go_of_the_buffer_that_it_was_read_into_and_a_long_one_is_not_copied() {
        for (length, is_copied) in [(1, true), (LONG - 1, true), (LONG, false)] {
            let mut buffer = BytesMut::zeroed(2 * LONG);
            let piece = buffer.split_to(length).freeze();
            let (at, fitted) = (piece.as_ptr(), fitted(piece.clone()));
            assert_eq!((&fitted, fitted.as_ptr() != at), (&piece, is_copied), "{length}");
        }
    }

    #[tokio::test]
    async fn a_piece_never_fills_32_kib_and_nothing_is_lost_between_two() {
        let all: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let (mut stream, mut read) = (&all[..], Vec::new());
        let mut memory = vec![0; 64 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut memory);
            poll_fn(|cx| poll_read_piece(&mut stream, cx, &mut buffer)).await.unwrap();
            match buffer.filled() {
                [] => break,
                piece => assert!(piece.len() < 32 * 1024),
            }
            read.extend_from_slice(buffer.filled());
        }
        assert!(read == all);
    }
}
