//! What the pieces of a body cost while they wait for a slow reader. hyper hands on what it read without copying it: a piece holds
//! on to the whole buffer that it was read into, however short it is, and hyper makes that as large as what comes at once, up to
//! 64 KiB. Many short pieces that wait would hold a megabyte.
//!
//! To read less at once, so that pieces are short themselves, costs more than it saves: bodies of a megabyte took a third more of
//! the processor with pieces of 32 KiB.

use bytes::Bytes;

/// From this length on, in bytes, a piece is a good part of what it holds.
const LONG: usize = 16 * 1024;

/// The same bytes in memory of their own, if the piece holds much more. For one that is not the last and may have to wait; a copy
/// costs less than a microsecond.
pub fn fitted(piece: Bytes) -> Bytes {
    if piece.len() < LONG { Bytes::copy_from_slice(&piece) } else { piece }
}

#[cfg(test)]
mod tests {
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
}
