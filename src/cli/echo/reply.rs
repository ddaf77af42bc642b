//! What an echo answers: the JSON that describes a request, or bytes by the number. Does no input or output.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use serde_json::{Map, Value, json};

use crate::cli::values::parse_duration;

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// What was received.
    Description,
    /// The same, under another status.
    Status(StatusCode),
    /// The same, later.
    Delay(Duration),
    /// A body of this length.
    Bytes(u64),
}

impl Wish {
    /// The wish of a path; none: it begins like one of those that mean something, but cannot be understood.
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut segments = path.trim_start_matches('/').splitn(2, '/');
        match (segments.next(), segments.next()) {
            (Some("status"), Some(code)) => {
                code.parse().ok().filter(|code: &StatusCode| code.as_u16() >= 200).map(Self::Status)
            }
            (Some("delay"), Some(duration)) => {
                // httpbin, whose tasks this upstream serves, too, counts in seconds.
                let seconds = || duration.parse().ok().map(|seconds: u32| Duration::from_secs(seconds.into()));
                parse_duration(duration).ok().or_else(seconds).map(Self::Delay)
            }
            (Some("bytes"), Some(count)) => count.parse().ok().map(Self::Bytes),
            _ => Some(Self::Description),
        }
    }
}

/// Who answers and what was received, as one line of JSON. Several values of one header are joined with `, `.
pub(super) fn describe(name: &str, request: &Parts, body_bytes: u64) -> Bytes {
    let mut headers = Map::new();
    for (header, value) in &request.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match headers.get_mut(header.as_str()) {
            Some(Value::String(values)) => *values = format!("{values}, {value}"),
            _ => drop(headers.insert(header.to_string(), value.into())),
        }
    }
    let host = request.uri.authority().map(ToString::to_string);
    let host = host.or_else(|| {
        request.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
    });
    let path = request.uri.path_and_query().map_or_else(|| request.uri.to_string(), ToString::to_string);
    let description = json!({
        "name": name,
        "method": request.method.as_str(),
        "path": path,
        "host": host,
        "version": format!("{:?}", request.version),
        "headers": headers,
        "body_bytes": body_bytes,
    });
    format!("{description}\n").into()
}

/// What the bytes of `/bytes/N` are made of, so that a byte lost in the middle shows.
const PATTERN: &[u8; 16] = b"0123456789abcdef";
const CHUNK: usize = 64 * 1024;
static CHUNK_BYTES: [u8; CHUNK] = chunk();

const fn chunk() -> [u8; CHUNK] {
    let mut bytes = [0; CHUNK];
    let mut at = 0;
    while at < CHUNK {
        bytes[at] = PATTERN[at % PATTERN.len()];
        at += 1;
    }
    bytes
}

/// A body whose length is known before it begins.
#[derive(Debug)]
pub(super) enum Answer {
    /// These bytes, or what is left of them.
    Whole(Bytes),
    /// So many bytes of a pattern that repeats.
    Pattern(u64),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) => std::mem::take(bytes),
            Self::Pattern(left) => {
                let length = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
                *left -= length as u64;
                Bytes::from_static(&CHUNK_BYTES[..length])
            }
        };
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Pattern(left) => *left,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn paths_that_mean_something() {
        assert_eq!(Wish::of("/status/503"), Some(Wish::Status(StatusCode::SERVICE_UNAVAILABLE)));
        assert_eq!(Wish::of("/delay/250ms"), Some(Wish::Delay(Duration::from_millis(250))));
        assert_eq!(Wish::of("/delay/5"), Some(Wish::Delay(Duration::from_secs(5))));
        assert_eq!(Wish::of("/bytes/0"), Some(Wish::Bytes(0)));
        for plain in ["/", "", "*", "/status", "/statuses/503", "/api/status/503"] {
            assert_eq!(Wish::of(plain), Some(Wish::Description), "{plain}");
        }
        for bad in [
            "/status/",
            "/status/99",
            "/status/101",
            "/status/503/x",
            "/delay/-5",
            "/delay/5/x",
            "/bytes/-1",
            "/bytes/99999999999999999999",
        ] {
            assert_eq!(Wish::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_description_holds_what_was_received() {
        let request = Request::get("/a?b=c")
            .header("host", "shop")
            .header("x-a", "1")
            .header("x-a", "2")
            .header("x-b", b"\xff".as_slice());
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let description: Value = serde_json::from_slice(&describe("v2", &parts, 7)).unwrap();
        let wanted = json!({
            "name": "v2", "method": "GET", "path": "/a?b=c", "host": "shop", "version": "HTTP/1.1",
            "headers": {"host": "shop", "x-a": "1, 2", "x-b": "\u{fffd}"}, "body_bytes": 7,
        });
        assert_eq!(description, wanted);
    }

    #[tokio::test]
    async fn a_pattern_is_as_long_as_it_says_and_repeats_across_chunks() {
        for length in [0, 1, 17, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let body = Answer::Pattern(length as u64);
            assert_eq!(body.size_hint().exact(), Some(length as u64));
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len(), length);
            assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == PATTERN[at % 16]), "{length}");
        }
    }
}
