//! HTTP/1.1 as RFC 9112 writes it down, read by hand and strictly: where messages begin and end, and what is none.

use std::ops::Range;

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<M> {
    /// A whole message, and how many bytes it has.
    Message(M, usize),
    /// The beginning of one, or nothing.
    Partial,
    /// No message, whatever follows.
    Bad(&'static str),
}

/// What a reader puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Nothing.
    Strict,
    /// What RFC 9112 lets a recipient take: a single LF for a line end of a head, empty lines before a message (§2.2), and a length
    /// besides the chunked coding, which counts (§6.3).
    Tolerant,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Vec<u8>,
    /// It may be served, but the connection has to end with it: a coding and a length (RFC 9112 §6.1).
    pub(crate) is_last: bool,
}

/// A final response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Vec<u8>,
    /// The end of the connection is the end of the body.
    pub(crate) until_close: bool,
}

/// A line of the trailers that does not end in CR LF, or holds a CR.
pub(crate) const LF_IN_TRAILERS: &str = "a line end in the trailers";

/// A name in lower case, and the value without the space around it.
pub(crate) type Field = (String, Vec<u8>);

type Parsed<T> = Result<T, Stop>;

/// Why there is no message.
enum Stop {
    Partial,
    Bad(&'static str),
}

impl<M> From<Parsed<(M, usize)>> for Next<M> {
    fn from(parsed: Parsed<(M, usize)>) -> Self {
        match parsed {
            Ok((message, length)) => Self::Message(message, length),
            Err(Stop::Partial) => Self::Partial,
            Err(Stop::Bad(why)) => Self::Bad(why),
        }
    }
}

/// The values of a field.
pub(crate) fn values<'f>(fields: &'f [Field], name: &str) -> Vec<&'f [u8]> {
    fields.iter().filter(|(known, _)| known == name).map(|(_, value)| &value[..]).collect()
}

/// The first request.
pub(crate) fn request(bytes: &[u8], reading: Reading) -> Next<Request> {
    parse_request(bytes, reading).into()
}

/// The first response that is final, to a request of this method. Bytes are all that came before the connection's end only if
/// the body is not until then.
pub(crate) fn response(bytes: &[u8], method: &str, reading: Reading) -> Next<Response> {
    parse_response(bytes, method, reading).into()
}

fn parse_request(bytes: &[u8], reading: Reading) -> Parsed<(Request, usize)> {
    let mut reader = Reader { bytes, at: 0, reading };
    let head = reader.head()?;
    let (first, fields) = head.split_first().expect("a head has a first line");
    let line = std::str::from_utf8(&bytes[first.clone()]).map_err(|_| Stop::Bad("the request line is not ASCII"))?;
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(Stop::Bad("the request line has not three parts"));
    };
    if !is_token(method.as_bytes()) || target.is_empty() || !target.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err(Stop::Bad("the method or the target"));
    }
    let newer = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(Stop::Bad("the version")),
    };
    let fields = fields.iter().map(|line| field(&bytes[line.clone()])).collect::<Parsed<Vec<_>>>()?;
    let framing = framing(&fields, reading)?;
    let is_last = matches!(framing, Framing::Chunked) && !values(&fields, "content-length").is_empty();
    let body = match framing {
        Framing::Chunked if !newer => return Err(Stop::Bad("chunked in HTTP/1.0")),
        Framing::Chunked => reader.chunks()?,
        Framing::Length(length) => reader.take(length)?,
        Framing::Neither => Vec::new(),
    };
    let request = Request { method: method.to_owned(), target: target.to_owned(), fields, body, is_last };
    Ok((request, reader.at))
}

fn parse_response(bytes: &[u8], method: &str, reading: Reading) -> Parsed<(Response, usize)> {
    let mut reader = Reader { bytes, at: 0, reading };
    loop {
        let head = reader.head()?;
        let (first, fields) = head.split_first().expect("a head has a first line");
        let status = status(&bytes[first.clone()])?;
        let fields = fields.iter().map(|line| field(&bytes[line.clone()])).collect::<Parsed<Vec<_>>>()?;
        match status {
            101 => return Err(Stop::Bad("another protocol")),
            100..=199 => continue,
            _ => {}
        }
        let framing = framing(&fields, reading)?;
        let none = method == "HEAD" || matches!(status, 204 | 304);
        let (body, until_close) = match framing {
            _ if none => (Vec::new(), false),
            Framing::Chunked => (reader.chunks()?, false),
            Framing::Length(length) => (reader.take(length)?, false),
            Framing::Neither => (reader.take(bytes.len() - reader.at)?, true),
        };
        return Ok((Response { status, fields, body, until_close }, reader.at));
    }
}

fn status(line: &[u8]) -> Parsed<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "));
    let rest = rest.ok_or(Stop::Bad("the version"))?;
    let (digits, reason) = rest.split_at_checked(3).ok_or(Stop::Bad("the status"))?;
    let fits =
        digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0' && reason.first().is_none_or(|byte| *byte == b' ');
    if !fits || !reason.iter().all(|byte| is_text(*byte)) {
        return Err(Stop::Bad("the status line"));
    }
    Ok(digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

fn field(line: &[u8]) -> Parsed<Field> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Bad("a field without a colon"))?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if !is_token(name) || !value.iter().all(|byte| is_text(*byte)) {
        return Err(Stop::Bad("a field's name or value"));
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

enum Framing {
    Chunked,
    Length(usize),
    Neither,
}

fn framing(fields: &[Field], reading: Reading) -> Parsed<Framing> {
    let (codings, lengths) = (values(fields, "transfer-encoding"), values(fields, "content-length"));
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(Framing::Neither),
        ([_, ..], [_, ..]) if reading == Reading::Strict => Err(Stop::Bad("a coding and a length")),
        ([coding], _) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], lengths) => {
            let number = |text: &[u8]| {
                let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
                number.filter(|_| digits).and_then(|number| usize::try_from(number).ok())
            };
            let all: Option<Vec<_>> = lengths
                .iter()
                .flat_map(|line| line.split(|byte| *byte == b','))
                .map(|one| number(one.trim_ascii()))
                .collect();
            match all {
                Some(all) if all.iter().all(|one| *one == all[0]) => Ok(Framing::Length(all[0])),
                _ => Err(Stop::Bad("the length")),
            }
        }
        _ => Err(Stop::Bad("the coding")),
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    reading: Reading,
}

impl Reader<'_> {
    /// The lines of a head, without their ends. Nothing is judged before the head is there as a whole.
    fn head(&mut self) -> Parsed<Vec<Range<usize>>> {
        let (mut lines, mut wrong) = (Vec::new(), None);
        loop {
            let rest = &self.bytes[self.at..];
            let length = rest.iter().position(|byte| *byte == b'\n').ok_or(Stop::Partial)?;
            let line = &rest[..length];
            let text = line.strip_suffix(b"\r");
            if text.is_none() && self.reading == Reading::Strict {
                wrong = Some("a bare LF");
            }
            let text = text.unwrap_or(line);
            if text.contains(&b'\r') {
                wrong = Some("a bare CR");
            }
            let range = self.at..self.at + text.len();
            self.at += length + 1;
            match (text.is_empty(), lines.is_empty()) {
                (true, true) if self.reading == Reading::Tolerant => {}
                (true, true) => return Err(Stop::Bad("an empty line")),
                (true, false) => break,
                (false, _) => lines.push(range),
            }
        }
        wrong.map_or(Ok(lines), |wrong| Err(Stop::Bad(wrong)))
    }

    fn take(&mut self, length: usize) -> Parsed<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(Stop::Partial)?;
        self.at += length;
        Ok(taken.to_vec())
    }

    /// A line of the chunked coding: CR LF only.
    fn line(&mut self) -> Parsed<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(Stop::Partial)?;
        let line = rest[..length].strip_suffix(b"\r").ok_or(Stop::Bad("a bare LF in the chunked coding"))?;
        if line.contains(&b'\r') {
            return Err(Stop::Bad("a bare CR in the chunked coding"));
        }
        self.at += length + 1;
        Ok(line.to_vec())
    }

    fn chunks(&mut self) -> Parsed<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let (size, extension) = line.split_at(line.iter().position(|byte| *byte == b';').unwrap_or(line.len()));
            let digits = size.trim_ascii_end();
            if digits.is_empty()
                || !digits.iter().all(u8::is_ascii_hexdigit)
                || !extension.iter().all(|byte| is_text(*byte))
            {
                return Err(Stop::Bad("the size of a chunk"));
            }
            let digits = String::from_utf8_lossy(digits).into_owned();
            let size = usize::from_str_radix(&digits, 16).map_err(|_| Stop::Bad("the size of a chunk"))?;
            if size == 0 {
                break;
            }
            body.extend(self.take(size)?);
            match self.bytes[self.at..] {
                [b'\r', b'\n', ..] => self.at += 2,
                [] | [b'\r'] => return Err(Stop::Partial),
                _ => return Err(Stop::Bad("the end of a chunk")),
            }
        }
        loop {
            let line = self.line().map_err(|stop| match stop {
                Stop::Bad(_) => Stop::Bad(LF_IN_TRAILERS),
                Stop::Partial => Stop::Partial,
            })?;
            if line.is_empty() {
                return Ok(body);
            }
            field(&line)?;
        }
    }
}
