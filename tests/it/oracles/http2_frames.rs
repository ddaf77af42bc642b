//! F9, the frames of an HTTP/2 client: the connection goes on or ends as the protocol says, no request goes upstream that the client did
//! not finish, nothing stays under way, and other connections do not notice.

use std::net::{Shutdown, TcpStream};

use super::grammar::{Next, Reading, Request, response};
use super::stand::{Stand, read, send};

/// More finds nothing else.
const LONGEST: usize = 16 * 1024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No settings of the client's own.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const LAST_PING: [u8; 8] = *b"the last";
const OTHER: &[u8] = b"GET /another-connection HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

struct Frame<'b> {
    kind: u8,
    flags: u8,
    payload: &'b [u8],
}

/// How many requests came through: a test wants to know that some did. The input is what follows the preface and the settings.
pub(crate) fn check(stand: &Stand, bytes: &[u8]) -> usize {
    if bytes.len() > LONGEST {
        return 0;
    }
    let (frames, rest) = frames(bytes);
    let mut stream = stand.connect();
    send(&mut stream, &[PREFACE, SETTINGS, bytes].concat(), &[]);
    if rest.is_empty() {
        send(&mut stream, &[&[0, 0, 8, PING, 0, 0, 0, 0, 0], &LAST_PING[..]].concat(), &[]);
        ends(&mut stream);
    }
    // Behind the end of the connection nothing more is begun.
    let _ = stream.shutdown(Shutdown::Write);
    while read(&mut stream, &mut Vec::new()) {}
    let arrived = is_healthy(stand);
    let finished = frames.iter().filter(|frame| matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0);
    assert!(arrived.len() <= finished.count(), "more requests than streams that were finished: {arrived:?}");
    let sent: usize = frames.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).sum();
    let body: usize = arrived.iter().map(|request| request.body.len()).sum();
    assert!(body <= sent, "{body} bytes of {sent}: {arrived:?}");
    arrived.len()
}

/// The whole frames, and the bytes of one that is not.
fn frames(mut bytes: &[u8]) -> (Vec<Frame<'_>>, &[u8]) {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = bytes {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some((payload, after)) = rest.split_at_checked(length) else { break };
        frames.push(Frame { kind: *kind, flags: *flags, payload });
        bytes = after;
    }
    (frames, bytes)
}

/// The proxy answers the last ping, or says why it will not and closes, or closes.
fn ends(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    loop {
        let (frames, rest) = frames(&bytes);
        let answered =
            frames.iter().any(|frame| frame.kind == PING && frame.flags & ACK != 0 && frame.payload == LAST_PING);
        let told = frames.iter().any(|frame| frame.kind == GOAWAY);
        let whole = rest.is_empty();
        // Behind a GOAWAY the connection must end, or go on with the streams it has until it answers.
        if answered {
            return;
        }
        if !read(stream, &mut bytes) {
            assert!(whole || told, "it ends within a frame: {}", bytes.escape_ascii());
            return;
        }
    }
}

/// Another connection is served. What else has arrived.
fn is_healthy(stand: &Stand) -> Vec<Request> {
    let mut stream = stand.connect();
    send(&mut stream, OTHER, &[]);
    let mut bytes = Vec::new();
    while read(&mut stream, &mut bytes) {}
    let Next::Message(answer, _) = response(&bytes, "GET", Reading::Strict) else { panic!("{}", bytes.escape_ascii()) };
    assert_eq!((answer.status, &answer.body[..]), (200, &b"/another-connection"[..]));
    let (other, arrived): (Vec<_>, _) =
        stand.arrived().into_iter().partition(|request| request.target == "/another-connection");
    assert_eq!(other.len(), 1);
    arrived
}
