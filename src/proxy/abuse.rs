//! What a client of HTTP/2 may do that costs it nothing and us a lot, and that the HTTP/2 library does not count: streams that are
//! begun to be reset, and frames that carry nothing. Judges only; the connection closes itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::Closing;
use crate::upstream::connection::cause;

/// A stream that its client resets within this time was begun for nothing (Envoy's `premature_reset_min_stream_lifetime`).
const EARLY: Duration = Duration::from_secs(1);
/// With so many streams on a connection (Envoy's `premature_reset_total_stream_count`), more than half of which were reset early,
/// it is closed.
const STREAMS: u64 = 500;
/// More early resets than this in one second close it, too, if they are more than half of what was begun in it: a client of many
/// users may give up as many, and ask for far more.
const RESETS_PER_SECOND: u64 = 200;

/// A frame's header, in bytes (RFC 9113 §4.1).
const HEADER: usize = 9;
/// The preface that comes before the first frame, in bytes.
const PREFACE: usize = 24;
/// Bytes that carry nothing are forgiven up to this (nginx's number) …
const FORGIVEN: u64 = 1 << 20;
/// … and beyond it as long as no more than this many come for each byte that carries something (nginx's, too).
const RATIO: u64 = 8;
/// After so many of them, others have their turn: a connection's task may read a megabyte otherwise before it is interrupted.
const TURN: u64 = 32 * 1024;

/// The streams of one connection that their client reset before they were answered. Written by the connection's thread.
#[derive(Debug, Default)]
pub(super) struct Resets {
    begun: AtomicU64,
    early: AtomicU64,
    /// Microseconds on the connection's clock at which the second under way began, and early resets in it.
    second: AtomicU64,
    in_second: AtomicU64,
    /// Streams begun before it.
    before: AtomicU64,
}

impl Resets {
    /// A stream begins.
    pub(super) fn begun(&self) {
        add(&self.begun, 1);
    }

    /// A stream was reset after this time, at this time on the connection's clock. Whether that was one too many.
    pub(super) fn reset(&self, after: Duration, now: Duration) -> bool {
        if after >= EARLY {
            return false;
        }
        let (early, begun) = (add(&self.early, 1), self.begun.load(Ordering::Relaxed));
        let now = now.as_micros() as u64;
        if now.saturating_sub(self.second.load(Ordering::Relaxed)) >= 1_000_000 {
            self.second.store(now, Ordering::Relaxed);
            self.in_second.store(0, Ordering::Relaxed);
            self.before.store(begun, Ordering::Relaxed);
        }
        let (reset, in_second) = (add(&self.in_second, 1), begun - self.before.load(Ordering::Relaxed));
        reset > RESETS_PER_SECOND && reset * 2 > in_second || begun >= STREAMS && early * 2 > begun
    }
}

fn add(counter: &AtomicU64, amount: u64) -> u64 {
    let sum = counter.load(Ordering::Relaxed) + amount;
    counter.store(sum, Ordering::Relaxed);
    sum
}

/// Weighs the bytes that a client sends against what they carry: heads and bodies of requests, and what it takes of answers.
/// What is left (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty frames) is needed, but not in masses.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes until the next frame.
    skip: usize,
    header: [u8; HEADER],
    known: usize,
    received: u64,
    sent: u64,
    payload: u64,
    /// As many bytes that carried nothing had come at its last turn.
    rested: u64,
}

impl Meter {
    /// For a connection of which nothing was read yet.
    pub(super) fn new() -> Self {
        Self { skip: PREFACE, header: [0; HEADER], known: 0, received: 0, sent: 0, payload: 0, rested: 0 }
    }

    /// These bytes were received.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        self.received += bytes.len() as u64;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let more = (HEADER - self.known).min(bytes.len());
            self.header[self.known..self.known + more].copy_from_slice(&bytes[..more]);
            self.known += more;
            bytes = &bytes[more..];
            if self.known == HEADER {
                self.known = 0;
                let [a, b, c, kind, flags, ..] = self.header;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.payload += worth(kind, flags, self.skip);
            }
        }
    }

    /// So many bytes were sent.
    pub(super) fn wrote(&mut self, length: usize) {
        self.sent += length as u64;
    }

    /// Whether it is the turn of other connections. If so, another one of its own begins.
    pub(super) fn turn_is_over(&mut self) -> bool {
        let empty = self.received.saturating_sub(self.payload);
        let over = empty.saturating_sub(self.rested) >= TURN;
        if over {
            self.rested = empty;
        }
        over
    }

    /// Whether too many bytes came for what they carried.
    pub(super) fn is_flood(&self) -> bool {
        // What is sent in reply to an empty frame (an acknowledgement) is no longer than the frame; the rest are answers.
        let answers = self.sent.saturating_sub(self.received);
        self.received / RATIO > self.payload + answers + FORGIVEN
    }
}

/// How many bytes of a frame carry something.
fn worth(kind: u8, flags: u8, length: usize) -> u64 {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const PADDED: u8 = 8;
    let length = length as u64;
    match kind {
        // As much of it may be padding.
        DATA if flags & PADDED != 0 => length.saturating_sub(256),
        DATA | HEADERS | CONTINUATION => length,
        _ => 0,
    }
}

/// Why the HTTP/2 library ended a connection, if it was the library that did.
pub(super) fn of_library(error: &hyper::Error) -> Option<Closing> {
    let h2 = cause::<h2::Error>(error).filter(|h2| h2.is_go_away() && h2.is_library())?;
    let calm = h2.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    Some(if calm { Closing::Http2Limit } else { Closing::ProtocolError })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// The number of the reset that is one too many, when one stream begins and is reset after `life` every `pace`.
    fn reset_too_many(life: Duration, pace: Duration, answered_between: u64) -> Option<u64> {
        let resets = Resets::default();
        (1..2_000).find(|number| {
            resets.begun();
            (0..answered_between).for_each(|_| resets.begun());
            resets.reset(life, pace * u32::try_from(*number).unwrap())
        })
    }

    #[test]
    fn too_many_resets_in_a_second() {
        assert_eq!(reset_too_many(MILLISECOND, MILLISECOND, 0), Some(201));
        assert_eq!(reset_too_many(MILLISECOND, MILLISECOND * 6, 1), None, "166 a second");
    }

    /// A proxy in front of many users, say, one of whose versions hangs.
    #[test]
    fn who_asks_for_far_more_may_give_up_as_many() {
        assert_eq!(reset_too_many(MILLISECOND, MILLISECOND, 9), None);
    }

    #[test]
    fn too_large_a_part_of_all_streams() {
        assert_eq!(reset_too_many(MILLISECOND, MILLISECOND * 6, 0), Some(500), "slow, but nothing else");
        assert_eq!(reset_too_many(MILLISECOND, MILLISECOND * 6, 1), None, "as many are answered");
    }

    #[test]
    fn who_gives_up_later_has_waited() {
        assert_eq!(reset_too_many(EARLY, MILLISECOND, 0), None);
    }

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 0];
        frame.resize(HEADER + length, 0);
        frame
    }

    /// How many of these frames are too many; none: as many as one likes.
    fn frames_too_many(frame: &[u8], answer: usize, piece: usize) -> Option<usize> {
        let mut meter = Meter::new();
        meter.read(&[0; PREFACE]);
        (1..1_000_000).find(|_| {
            frame.chunks(piece).for_each(|piece| meter.read(piece));
            meter.wrote(answer);
            meter.is_flood()
        })
    }

    #[test]
    fn frames_that_carry_nothing_end_it_after_8_mib() {
        for (what, kind, length, answer) in
            [("PING", 6, 8, 17), ("SETTINGS", 4, 60, 9), ("PRIORITY", 2, 5, 0), ("WINDOW_UPDATE", 8, 4, 0)]
        {
            let one = frame(kind, 0, length);
            let enough = (FORGIVEN * RATIO) as usize / one.len();
            for piece in [one.len(), 5] {
                let found = frames_too_many(&one, answer, piece).unwrap();
                assert!(found.abs_diff(enough) <= 2, "{what}: {found} for {enough}");
            }
        }
        assert!(frames_too_many(&frame(0, 8, 256), 0, 300).is_some(), "nothing but padding");
    }

    #[test]
    fn what_carries_something_never_ends_it() {
        assert_eq!(frames_too_many(&frame(1, 4, 20), 0, 29), None, "heads");
        assert_eq!(frames_too_many(&frame(0, 0, 2), 0, 11), None, "small messages");
        assert_eq!(frames_too_many(&frame(8, 0, 4), 16 * 1024, 13), None, "a window for each piece of an answer");
    }
}
