//! F4, the bytes of a client's HTTP/1 connection: the upstream gets the requests that a strict reader finds in them, in order and
//! nothing else, wherever the bytes are cut; what cannot be framed ends the connection.

use std::net::TcpStream;

use super::grammar::{Field, LF_IN_TRAILERS, Next, Reading, Request, Response, request, response, values};
use super::stand::{FROM_UPSTREAM, Stand, read, send};

/// More finds nothing else.
const LONGEST: usize = 16 * 1024;
/// Asked behind input that ends with a message: its answer must be the next.
const LAST: &str = "/the-last-one";
/// What an intermediary removes or writes itself; values that it keeps are compared otherwise.
const OWN: [&str; 13] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "expect",
    "trailer",
    "host",
    "content-length",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-envoy-attempt-count",
];

/// What a strict reader finds in the input.
struct Read {
    requests: Vec<Request>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Behind a message.
    Clean,
    /// Within one.
    Partial,
    /// What follows is no message.
    Bad,
    /// Nobody can say: hyper takes for trailers whatever stands before CR LF CR LF, single LF among it.
    Unclear,
}

/// How many requests came through: a test wants to know that some did.
pub(crate) fn check(stand: &Stand, bytes: &[u8]) -> usize {
    if bytes.is_empty() || bytes.len() > LONGEST || b"PRI * HTTP/2.0\r\n".starts_with(&bytes[..bytes.len().min(16)]) {
        return 0;
    }
    let wanted = Read::all(bytes);
    if wanted.end == End::Unclear {
        return 0;
    }
    let whole = exchange(stand, &wanted, bytes, &[]);
    let cuts = cuts(bytes);
    let parts = exchange(stand, &wanted, bytes, &cuts);
    assert_eq!(whole, parts, "cut at {cuts:?}");
    whole.len()
}

impl Read {
    fn all(bytes: &[u8]) -> Self {
        let (mut requests, mut at) = (Vec::new(), 0);
        let end = loop {
            match request(&bytes[at..], Reading::Tolerant) {
                Next::Message(request, length) => {
                    at += length;
                    let is_last = request.is_last;
                    requests.push(request);
                    if is_last {
                        break End::Bad;
                    }
                }
                Next::Partial if are_empty_lines(&bytes[at..]) => break End::Clean,
                Next::Partial => break End::Partial,
                Next::Bad(LF_IN_TRAILERS) => break End::Unclear,
                Next::Bad(_) => break End::Bad,
            }
        };
        Self { requests, end }
    }
}

/// Whether these are whole empty lines, or nothing: what a reader may skip.
fn are_empty_lines(bytes: &[u8]) -> bool {
    let is_line_end = |byte: &u8| b"\r\n".contains(byte);
    bytes.iter().all(is_line_end) && !bytes.ends_with(b"\r") && !bytes.windows(2).any(|two| two == b"\r\r")
}

/// Where to cut: a few places that depend on nothing but the bytes.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let mut state = bytes.iter().fold(0x9e37_79b9_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    let mut cuts: Vec<usize> = (0..6)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bytes.len()
        })
        .collect();
    cuts.sort_unstable();
    cuts
}

/// Sends the input on a connection, and checks what is answered and what arrives upstream; which it gives back.
fn exchange(stand: &Stand, wanted: &Read, bytes: &[u8], cuts: &[usize]) -> Vec<Request> {
    let mut stream = stand.connect();
    send(&mut stream, bytes, cuts);
    let mut answers = Answers { stream: &mut stream, bytes: Vec::new(), all: Vec::new() };
    let open = answers.read(&wanted.requests, wanted.end == End::Bad);
    let Answers { all, bytes: rest, .. } = answers;
    let goes_on = open && wanted.end == End::Clean;
    if !goes_on {
        drop(stream);
        let arrived = stand.arrived();
        pair(wanted, &all, &arrived, open);
        return arrived;
    }
    let arrived = stand.arrived();
    pair(wanted, &all, &arrived, open);
    assert!(rest.is_empty(), "nobody asked for {}", rest.escape_ascii());
    is_in_step(&mut stream, stand);
    arrived
}

/// What comes back on a connection.
struct Answers<'s> {
    stream: &'s mut TcpStream,
    bytes: Vec<u8>,
    all: Vec<Response>,
}

impl Answers<'_> {
    /// Reads an answer for each request; if `to_the_end`, until the connection ends. Whether it is still open.
    fn read(&mut self, requests: &[Request], to_the_end: bool) -> bool {
        loop {
            let method = requests.get(self.all.len()).map_or("", |request| &request.method);
            match response(&self.bytes, method, Reading::Strict) {
                Next::Message(answer, length) => {
                    self.bytes.drain(..length);
                    let last = values(&answer.fields, "connection").contains(&&b"close"[..]);
                    assert!(!answer.until_close || last, "the length of an answer is not said: {answer:?}");
                    self.all.push(answer);
                }
                Next::Bad(why) => panic!("an answer is none ({why}): {}", self.bytes.escape_ascii()),
                Next::Partial if self.all.len() == requests.len() && !to_the_end => return true,
                Next::Partial => {
                    if !read(self.stream, &mut self.bytes) {
                        return false;
                    }
                }
            }
        }
    }
}

/// Each answer of the upstream belongs to the request at its place, which is what arrived.
fn pair(wanted: &Read, answers: &[Response], arrived: &[Request], open: bool) {
    let Read { requests, end } = wanted;
    let refused = usize::from(*end != End::Clean);
    assert!(answers.len() <= requests.len() + refused, "{} answers to {} requests", answers.len(), requests.len());
    if open {
        assert_eq!(answers.len(), requests.len());
    }
    let mut left = arrived.iter();
    for (answer, request) in answers.iter().zip(requests) {
        if values(&answer.fields, FROM_UPSTREAM).is_empty() {
            assert!(answer.status >= 400, "{answer:?} is nobody's");
            continue;
        }
        let got = left.next().expect("what is answered upstream arrived there");
        is_same(request, got);
        if request.method != "HEAD" {
            assert_eq!(answer.body, got.target.as_bytes(), "the answer to another request");
        }
    }
    assert!(answers.iter().skip(requests.len()).all(|answer| values(&answer.fields, FROM_UPSTREAM).is_empty()));
    // The end of the connection may have taken answers with it, but no order.
    let mut rest = requests.iter().skip(answers.len());
    for got in left {
        assert!(!open, "nobody was told of {got:?}");
        let request = rest.find(|request| request.method == got.method && request.body == got.body);
        is_same(request.unwrap_or_else(|| panic!("nobody sent {got:?}")), got);
    }
}

/// What arrives is what was sent, but for the fields of the connection.
fn is_same(sent: &Request, got: &Request) {
    assert_eq!((&sent.method, &sent.body), (&got.method, &got.body));
    // A fragment is no part of a target; one in absolute form is sent on by its path.
    let target = sent.target.split('#').next().unwrap_or_default();
    let in_absolute_form = !target.starts_with('/') && target != "*";
    assert!(
        target == got.target
            || in_absolute_form
                && (target.ends_with(&got.target) || matches!(&*got.target, "/" | "*") || got.target.starts_with("/?")),
        "{} became {}",
        sent.target,
        got.target
    );
    assert_eq!(end_to_end(&sent.fields, &sent.fields), end_to_end(&got.fields, &sent.fields), "{sent:?}");
    let named = named(&sent.fields);
    let stays = got.fields.iter().find(|(name, _)| named.contains(name) && !OWN.contains(&name.as_str()));
    assert_eq!(stays, None, "named by Connection");
    let lengths = values(&got.fields, "content-length");
    assert!(lengths.iter().all(|length| *length == got.body.len().to_string().as_bytes()), "{got:?}");
}

/// How the proxy names itself in `via`.
const SIGNATURE: &[u8] = b" serin-";

/// The fields that pass, by name; those that `Connection` of the request names do not.
fn end_to_end(fields: &[Field], sent: &[Field]) -> Vec<Field> {
    let named = named(sent);
    let passes = |name: &str| !OWN.contains(&name) && !named.iter().any(|other| other == name);
    let signs = |(name, value): &Field| name == "via" && value.windows(SIGNATURE.len()).any(|part| part == SIGNATURE);
    let mut fields: Vec<_> = fields.iter().filter(|one| passes(&one.0) && !signs(one)).cloned().collect();
    // Stable: values of one name keep their order.
    fields.sort_by(|(left, _), (right, _)| left.cmp(right));
    fields
}

/// What `Connection` of the request names, but for what nobody can have removed that way.
fn named(sent: &[Field]) -> Vec<String> {
    let named = values(sent, "connection").join(&b","[..]);
    let named = String::from_utf8_lossy(&named).to_ascii_lowercase();
    named.split(',').map(|name| name.trim().to_owned()).filter(|name| name != "authorization").collect()
}

/// The next answer on a connection is the one to the next request.
fn is_in_step(stream: &mut TcpStream, stand: &Stand) {
    send(stream, format!("GET {LAST} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes(), &[]);
    let mut bytes = Vec::new();
    let answer = loop {
        match response(&bytes, "GET", Reading::Strict) {
            Next::Message(answer, _) => break answer,
            Next::Bad(why) => panic!("{why}: {}", bytes.escape_ascii()),
            // It may have been about to close.
            Next::Partial if !read(stream, &mut bytes) => return assert!(bytes.is_empty(), "{}", bytes.escape_ascii()),
            Next::Partial => {}
        }
    };
    assert_eq!((answer.status, &answer.body[..]), (200, LAST.as_bytes()));
    assert_eq!(stand.arrived().iter().map(|got| &*got.target).collect::<Vec<_>>(), [LAST]);
}
