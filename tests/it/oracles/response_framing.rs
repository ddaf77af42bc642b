//! F5, the bytes of an upstream's answer: what the client gets as whole is whole, byte for byte; what is broken off or no HTTP never
//! looks complete; and what follows an answer reaches nobody.

use super::grammar::{Next, Reading, Response, response, values};
use super::stand::{FROM_UPSTREAM, SCRIPTED, Script, Stand, read, send};

/// More finds nothing else.
const LONGEST: usize = 16 * 1024;
/// Asked on the same connection afterwards.
const NEXT: &str = "/the-next-one";

/// How many answers came through: a test wants to know that some did.
pub(crate) fn check(stand: &Stand, bytes: &[u8]) -> usize {
    if bytes.len() > LONGEST {
        return 0;
    }
    let mut passed = 0;
    for method in ["GET", "HEAD"] {
        let script = match response(bytes, method, Reading::Tolerant) {
            Next::Message(script, _) => Some(script),
            Next::Partial | Next::Bad(_) => None,
        };
        passed += usize::from(asked(stand, method, bytes, script.as_ref(), false));
        // Only where the body has an end of its own: anything else is waited for.
        if script.as_ref().is_some_and(|script| !script.until_close) {
            asked(stand, method, bytes, script.as_ref(), true);
        }
    }
    passed
}

/// Asks for the script, then for something else. Whether the script came through.
fn asked(stand: &Stand, method: &str, bytes: &[u8], script: Option<&Response>, stays: bool) -> bool {
    stand.plays(Script { bytes: bytes.to_vec(), stays });
    let mut stream = stand.connect();
    send(&mut stream, format!("{method} {SCRIPTED} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes(), &[]);
    let mut got = Vec::new();
    let first = answer(&mut stream, &mut got, method);
    let own = first.as_ref().is_some_and(|first| !values(&first.fields, "x-serin-flag").is_empty());
    let is_whole = first.is_some() && !own;
    match (&first, script) {
        (Some(first), _) if own => assert!(matches!(first.status, 502 | 503), "{first:?}"),
        (Some(first), Some(script)) => {
            assert_eq!(first.status, script.status);
            assert!(first.body == script.body, "{} became {}", script.body.escape_ascii(), first.body.escape_ascii());
        }
        (Some(first), None) => panic!("looks complete: {first:?}"),
        (None, _) => {}
    }
    if let Some(first) = first
        && !values(&first.fields, "connection").contains(&&b"close"[..])
    {
        assert!(got.is_empty(), "more than one answer: {}", got.escape_ascii());
        send(&mut stream, format!("GET {NEXT} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes(), &[]);
        if let Some(next) = answer(&mut stream, &mut got, "GET") {
            assert_eq!((next.status, &next.body[..]), (200, NEXT.as_bytes()));
            assert_eq!(values(&next.fields, FROM_UPSTREAM).len(), 1, "{next:?}");
        }
    }
    stand.arrived();
    is_whole
}

/// The next answer, if it is complete.
fn answer(stream: &mut std::net::TcpStream, bytes: &mut Vec<u8>, method: &str) -> Option<Response> {
    let mut open = true;
    loop {
        match response(bytes, method, Reading::Strict) {
            Next::Message(answer, _) if answer.until_close && open => {}
            Next::Message(answer, length) => {
                bytes.drain(..length);
                return Some(answer);
            }
            Next::Bad(why) => panic!("the client gets what is no answer ({why}): {}", bytes.escape_ascii()),
            Next::Partial if !open => return None,
            Next::Partial => {}
        }
        open = read(stream, bytes);
    }
}
