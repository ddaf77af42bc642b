//! Header values with variables (`%REQ(x-user)%`): Envoy's substitutions, read once and filled in for each message. What is
//! not there is empty.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::config::validate::variables::{self, Piece};

/// What is known of a request, besides its headers.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// Method.
    pub method: &'f str,
    /// `http` or `https`.
    pub scheme: &'f str,
    /// The authority of its target; none: what `Host` says.
    pub authority: Option<&'f str>,
    /// Path and query as sent.
    pub path: &'f str,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Where the client's connection comes from.
    pub peer: SocketAddr,
    /// The port of the listener, as rules see it.
    pub port: u16,
    /// When it began.
    pub started: SystemTime,
}

/// What is known of an answer, besides its headers.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Its status.
    pub status: u16,
    /// The endpoint that gave it; none for an answer of Serin's own.
    pub upstream: Option<&'a str>,
}

/// A value that is made anew for each message.
#[derive(Clone, Debug)]
pub(super) struct Template {
    parts: Box<[Part]>,
    written: Box<str>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Request(OfRequest),
    /// `RESP(NAME)`.
    Response(HeaderName),
    Status,
    Upstream,
}

#[derive(Clone, Debug)]
enum OfRequest {
    /// `REQ(NAME)`, or `REQ(NAME?OTHER)`.
    Field(Source, Option<Source>),
    Protocol,
    Peer,
    PeerAddress,
    Port,
    Started,
}

#[derive(Clone, Debug)]
enum Source {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
}

/// What the templates of an answer say of its request, in their order: looked up while the request is still there.
#[derive(Clone, Debug, Default)]
pub struct Kept(Vec<Vec<u8>>);

/// Where values come from while a message is changed.
#[derive(Debug)]
pub(super) enum Values<'v> {
    /// The message is a request.
    Request(Facts<'v>),
    /// The message is an answer: what was kept of its request comes one by one.
    Answer(std::slice::Iter<'v, Vec<u8>>, Answered<'v>),
}

impl Template {
    /// The template of a value as written; none for one without variables, or with one that passed no validation.
    pub(super) fn new(written: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut text = String::new();
        for piece in variables::parse(written).ok()? {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Percent => text.push('%'),
                Piece::Variable(variable) => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    parts.push(Part::new(variable.name, variable.argument)?);
                }
            }
        }
        if parts.is_empty() {
            return None;
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Some(Self { parts: parts.into(), written: written.into() })
    }

    /// As written.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// The value for a message with these headers; none if it is empty, or no value of a header.
    pub(super) fn fill(&self, headers: &HeaderMap, values: &mut Values<'_>) -> Option<HeaderValue> {
        let mut out = Vec::new();
        for part in &self.parts {
            match (part, &mut *values) {
                (Part::Text(text), _) => out.extend_from_slice(text.as_bytes()),
                (Part::Request(asked), Values::Request(facts)) => asked.write(headers, facts, &mut out),
                (Part::Request(_), Values::Answer(kept, _)) => out.extend(kept.next().into_iter().flatten()),
                (Part::Response(name), Values::Answer(..)) => out.extend_from_slice(first(headers, name)),
                (Part::Status, Values::Answer(_, answered)) => out.extend(answered.status.to_string().into_bytes()),
                (Part::Upstream, Values::Answer(_, answered)) => {
                    out.extend_from_slice(answered.upstream.unwrap_or_default().as_bytes());
                }
                (Part::Response(_) | Part::Status | Part::Upstream, Values::Request(_)) => {}
            }
        }
        if out.is_empty() { None } else { HeaderValue::from_bytes(&out).ok() }
    }

    /// Adds to what is kept of a request whatever this asks of it.
    pub(super) fn keep(&self, headers: &HeaderMap, facts: &Facts<'_>, kept: &mut Kept) {
        for part in &self.parts {
            if let Part::Request(asked) = part {
                let mut out = Vec::new();
                asked.write(headers, facts, &mut out);
                kept.0.push(out);
            }
        }
    }
}

impl Kept {
    /// One by one.
    pub(super) fn values(&self) -> std::slice::Iter<'_, Vec<u8>> {
        self.0.iter()
    }
}

impl Part {
    fn new(name: &str, argument: Option<&str>) -> Option<Self> {
        let of_request = match (name, argument) {
            ("REQ", Some(argument)) => {
                let (first, other) = match argument.split_once('?') {
                    Some((first, other)) => (first, Some(Source::new(other)?)),
                    None => (argument, None),
                };
                OfRequest::Field(Source::new(first)?, other)
            }
            ("PROTOCOL", None) => OfRequest::Protocol,
            ("DOWNSTREAM_REMOTE_ADDRESS", None) => OfRequest::Peer,
            ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", None) => OfRequest::PeerAddress,
            ("DOWNSTREAM_LOCAL_PORT", None) => OfRequest::Port,
            ("START_TIME", None) => OfRequest::Started,
            ("RESP", Some(name)) => return HeaderName::from_bytes(name.as_bytes()).ok().map(Self::Response),
            ("RESPONSE_CODE", None) => return Some(Self::Status),
            ("UPSTREAM_HOST", None) => return Some(Self::Upstream),
            _ => return None,
        };
        Some(Self::Request(of_request))
    }
}

impl Source {
    fn new(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            name => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }

    fn value<'v>(&self, headers: &'v HeaderMap, facts: &Facts<'v>) -> &'v [u8] {
        match self {
            Self::Method => facts.method.as_bytes(),
            Self::Scheme => facts.scheme.as_bytes(),
            Self::Authority => facts.authority.map_or_else(|| first(headers, &HOST), str::as_bytes),
            Self::Path => facts.path.as_bytes(),
            Self::Header(name) => first(headers, name),
        }
    }
}

impl OfRequest {
    fn write(&self, headers: &HeaderMap, facts: &Facts<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Field(first, other) => {
                let value = first.value(headers, facts);
                let other = other.as_ref().filter(|_| value.is_empty());
                out.extend_from_slice(other.map_or(value, |other| other.value(headers, facts)));
            }
            Self::Protocol => out.extend_from_slice(facts.protocol.as_bytes()),
            Self::Peer => out.extend(facts.peer.to_string().into_bytes()),
            Self::PeerAddress => out.extend(facts.peer.ip().to_string().into_bytes()),
            Self::Port => out.extend(facts.port.to_string().into_bytes()),
            Self::Started => {
                // Envoy's default form: ISO 8601 with milliseconds.
                let text = Timestamp::try_from(facts.started).map(|time| format!("{time:.3}"));
                out.extend(text.unwrap_or_default().into_bytes());
            }
        }
    }
}

/// The first value of a header; Envoy, too, takes one.
fn first<'v>(headers: &'v HeaderMap, name: &HeaderName) -> &'v [u8] {
    headers.get(name).map_or(b"", HeaderValue::as_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn facts() -> Facts<'static> {
        Facts {
            method: "GET",
            scheme: "http",
            authority: None,
            path: "/a?b",
            protocol: "HTTP/1.1",
            peer: "10.0.0.9:4321".parse().unwrap(),
            port: 80,
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn asked(written: &str) -> Option<String> {
        let headers = headers(&[("x-a", "1"), ("host", "b:80")]);
        let value = Template::new(written).unwrap().fill(&headers, &mut Values::Request(facts()));
        value.map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_a_request_says_is_filled_in() {
        for (written, wanted) in [
            ("%REQ(X-A)%", "1"),
            ("a%REQ(x-a)%b%%%REQ(x-a)%", "a1b%1"),
            ("%REQ(:METHOD)% %REQ(:path)% %REQ(:scheme)%", "GET /a?b http"),
            ("%REQ(:authority)%/%REQ(Host)%", "b:80/b:80"),
            ("%REQ(x-b?x-a)%,%REQ(x-a?:path)%", "1,1"),
            ("%PROTOCOL%", "HTTP/1.1"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.9:4321"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.9"),
            ("%DOWNSTREAM_LOCAL_PORT%", "80"),
            ("%START_TIME%", "2023-11-14T22:13:20.250Z"),
            ("-%REQ(x-none)%-", "--"),
        ] {
            assert_eq!(asked(written).as_deref(), Some(wanted), "{written}");
        }
        assert_eq!(asked("%REQ(x-none)%"), None);
        assert_eq!(asked("%RESP(x-a)%%RESPONSE_CODE%%UPSTREAM_HOST%"), None, "there is no answer yet");
    }

    #[test]
    fn the_authority_of_the_target_beats_the_host() {
        let facts = Facts { authority: Some("c"), ..facts() };
        let value = Template::new("%REQ(:AUTHORITY)%").unwrap().fill(&HeaderMap::new(), &mut Values::Request(facts));
        assert_eq!(value.unwrap(), "c");
    }

    #[test]
    fn an_answer_says_what_was_kept_of_its_request() {
        let template = Template::new("%REQ(x-a)%|%RESP(x-a)%|%PROTOCOL%|%RESPONSE_CODE%|%UPSTREAM_HOST%").unwrap();
        let mut kept = Kept::default();
        template.keep(&headers(&[("x-a", "asked")]), &facts(), &mut kept);
        let answer = |upstream| {
            let answered = Answered { status: 201, upstream };
            template.fill(&headers(&[("x-a", "answered")]), &mut Values::Answer(kept.values(), answered)).unwrap()
        };
        assert_eq!(answer(Some("10.0.0.1:80")), "asked|answered|HTTP/1.1|201|10.0.0.1:80");
        assert_eq!(answer(None), "asked|answered|HTTP/1.1|201|");
    }

    #[test]
    fn only_values_with_known_variables_are_templates() {
        for none in
            ["", "a", "50%%", "%HOSTNAME%", "%REQ%", "%REQ(a b)%", "%PROTOCOL(x)%", "%START_TIME(%s)%", "%REQ(x"]
        {
            assert!(Template::new(none).is_none(), "{none}");
        }
    }
}
