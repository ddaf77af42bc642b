//! A client of HTTP/2 that sends what frames it likes: no library between the test and the socket.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::client::HOST;
use super::wire::Wire;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Frames(Wire);

impl Frames {
    /// Connects, and says with SETTINGS what `settings` says (identifiers and values).
    pub(crate) fn connect(proxy: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Wire::new(TcpStream::connect(proxy).unwrap());
        let payload: Vec<u8> = settings.iter().flat_map(|(id, value)| setting(*id, *value)).collect();
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        Self(wire)
    }

    /// The stream below.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.stream()
    }

    /// Sends what is meant to be frames, as long as the other side takes them.
    pub(crate) fn send(&mut self, frames: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.try_send(frames)
    }

    /// The next frame; an error at the end.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        let header = self.0.exactly(9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & (u32::MAX >> 1);
        let payload = self.0.exactly(length as usize)?;
        Ok(Frame { kind: header[3], flags: header[4], stream, payload })
    }

    /// The next frame that fits; an error if the connection ends before.
    pub(crate) fn until(&mut self, fits: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.next()?;
            if fits(&frame) {
                return Ok(frame);
            }
        }
    }

    /// The next frame of a stream.
    pub(crate) fn next_of(&mut self, stream: u32) -> Frame {
        self.until(|frame| frame.stream == stream).unwrap()
    }

    /// Waits until all that was sent so far was read.
    pub(crate) fn settle(&mut self, number: u64) -> io::Result<()> {
        let payload = number.to_be_bytes();
        self.send(frame(PING, 0, 0, &payload))?;
        self.until(|frame| frame.kind == PING && frame.flags == ACK && frame.payload == payload).map(drop)
    }

    /// Reads until the connection ends. Whether it said GOAWAY before.
    pub(crate) fn rest(&mut self) -> bool {
        let mut said = false;
        loop {
            match self.next() {
                Ok(frame) => said |= frame.kind == GOAWAY,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the connection does not end"),
                Err(_) => return said,
            }
        }
    }
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// One setting.
pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// The fields of a request, without the dynamic table (RFC 7541).
pub(crate) fn fields(method: &str, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    // The names of the static table: 2 :method, 4 :path, 1 :authority; 0x86 is `:scheme: http`.
    [literal(2, method), vec![0x86], literal(4, path), literal(1, HOST)].concat()
}

/// A request; with END_STREAM among the flags, one without a body.
pub(crate) fn head(stream: u32, method: &str, path: &str, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &fields(method, path))
}
