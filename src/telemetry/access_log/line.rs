//! What is said of one request. Plain values; what came from a client is escaped, so that no line can be forged.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::Method;

use super::Format;

/// One finished request.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// When its head was complete.
    pub time: Option<SystemTime>,
    /// First request byte in to last response byte out.
    pub duration: Duration,
    /// Request sent to response headers, of the attempt that was answered last.
    pub upstream: Option<Duration>,
    /// The client's method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host or `:authority` as sent.
    pub host: Box<str>,
    /// Path and query as sent.
    pub path: Box<str>,
    /// `HTTP/1.1`, say.
    pub protocol: &'static str,
    /// What the client got; 499 when it went away.
    pub status: u16,
    /// Envoy's letters, with commas between; empty if there is nothing unusual.
    pub flags: String,
    /// The metrics' label `app`; empty for a request that matched no rule.
    pub app: Box<str>,
    /// The metrics' label `version`.
    pub version: Box<str>,
    /// The `version` that was drawn, where another one answered in its place (`shield`).
    pub drawn: Option<Box<str>>,
    /// The metrics' label `route`.
    pub route: Box<str>,
    /// The endpoint that was tried last.
    pub endpoint: Option<Box<str>>,
    /// Attempts at an endpoint.
    pub attempts: u32,
    /// The share (0–1) with which the version was drawn; none where nothing was drawn.
    pub share: Option<f64>,
    /// Whether the first attempt failed: what a release is judged by. None if there was none.
    pub first_failed: Option<bool>,
    /// Whether that stands, or that attempt may still be made again for nothing. Not written.
    pub settled: bool,
    /// Body bytes the client sent.
    pub bytes_in: u64,
    /// Body bytes the client was sent.
    pub bytes_out: u64,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// `x-request-id`.
    pub request_id: Option<Box<str>>,
    /// The trace of `traceparent`.
    pub trace_id: Option<Box<str>>,
    /// `user-agent`.
    pub user_agent: Option<Box<str>>,
    /// The configuration that it met.
    pub generation: u64,
}

/// A value of a field.
enum Value<'l> {
    Text(&'l str),
    /// Needs no escaping.
    Plain(String),
    None,
}

impl Line {
    /// Appends the line, with its end.
    pub(super) fn write(&self, format: Format, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(512);
        for (position, (name, value)) in self.fields().into_iter().enumerate() {
            match format {
                Format::Json => {
                    text.push(if position == 0 { '{' } else { ',' });
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\"{name}\":");
                    match value {
                        Value::Text(value) => text.push_str(&serde_json::Value::from(value).to_string()),
                        Value::Plain(value) => text.push_str(&value),
                        Value::None => text.push_str("null"),
                    }
                }
                Format::Text => {
                    let _ = write!(text, "{}{name}=", if position == 0 { "" } else { " " });
                    match value {
                        Value::Text(value) => push_word(&mut text, value),
                        Value::Plain(value) => text.push_str(&value),
                        Value::None => text.push('-'),
                    }
                }
            }
        }
        text.push_str(if format == Format::Json { "}\n" } else { "\n" });
        out.extend_from_slice(text.as_bytes());
    }

    fn fields(&self) -> [(&'static str, Value<'_>); 25] {
        let time = self.time.and_then(|time| jiff::Timestamp::try_from(time).ok());
        let millis = |time: Duration| Value::Plain(format!("{:.3}", time.as_secs_f64() * 1000.0));
        [
            ("time", time.map_or(Value::None, |time| Value::Plain(format!("\"{time:.3}\"")))),
            ("duration_ms", millis(self.duration)),
            ("upstream_ms", self.upstream.map_or(Value::None, millis)),
            ("method", Value::Text(self.method.as_str())),
            ("scheme", Value::Text(self.scheme)),
            ("host", Value::Text(&self.host)),
            ("path", Value::Text(&self.path)),
            ("protocol", Value::Text(self.protocol)),
            ("status", Value::Plain(self.status.to_string())),
            ("flag", if_any(&self.flags)),
            ("app", if_any(&self.app)),
            ("version", if_any(&self.version)),
            ("drawn", known(self.drawn.as_deref())),
            ("route", if_any(&self.route)),
            ("endpoint", known(self.endpoint.as_deref())),
            ("attempts", Value::Plain(self.attempts.to_string())),
            ("share", self.share.map_or(Value::None, |share| Value::Plain(share.to_string()))),
            ("first_failed", self.first_failed.map_or(Value::None, |failed| Value::Plain(failed.to_string()))),
            ("bytes_in", Value::Plain(self.bytes_in.to_string())),
            ("bytes_out", Value::Plain(self.bytes_out.to_string())),
            ("peer", self.peer.map_or(Value::None, |peer| Value::Plain(format!("\"{peer}\"")))),
            ("request_id", known(self.request_id.as_deref())),
            ("trace_id", known(self.trace_id.as_deref())),
            ("user_agent", known(self.user_agent.as_deref())),
            ("generation", Value::Plain(self.generation.to_string())),
        ]
    }
}

fn known(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::None, Value::Text)
}

fn if_any(text: &str) -> Value<'_> {
    known(Some(text).filter(|text| !text.is_empty()))
}

/// A word as it is; in quotes and escaped where it could be taken for something else.
fn push_word(text: &mut String, word: &str) {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if !word.is_empty() && word != "-" && word.bytes().all(plain) {
        text.push_str(word);
    } else {
        text.push('"');
        word.chars().for_each(|one| text.extend(one.escape_default()));
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &Line, format: Format) -> String {
        let mut out = Vec::new();
        line.write(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn line() -> Line {
        Line {
            time: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)),
            duration: Duration::from_micros(1_234),
            scheme: "http",
            host: "a".into(),
            path: "/x?a=\"1\"\u{7}\n".into(),
            protocol: "HTTP/1.1",
            status: 503,
            flags: "UF,URX".into(),
            app: "a".into(),
            version: "v2".into(),
            route: "a/0".into(),
            share: Some(0.1),
            peer: Some("127.0.0.1:9".parse().unwrap()),
            generation: 3,
            ..Line::default()
        }
    }

    #[test]
    fn json_is_json_with_every_field() {
        let text = written(&line(), Format::Json);
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["time"], "1970-01-01T00:00:01.500Z");
        assert_eq!((&json["duration_ms"], &json["status"], &json["share"]), (&1.234.into(), &503.into(), &0.1.into()));
        assert_eq!((json["path"].as_str(), json["flag"].as_str()), (Some("/x?a=\"1\"\u{7}\n"), Some("UF,URX")));
        assert!(json["endpoint"].is_null() && json["upstream_ms"].is_null());
        assert_eq!(json.as_object().unwrap().len(), 25);
    }

    #[test]
    fn text_is_one_line_whatever_a_client_sends() {
        let text = written(&line(), Format::Text);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(
            text.starts_with("time=\"1970-01-01T00:00:01.500Z\" duration_ms=1.234 upstream_ms=- method=GET"),
            "{text}"
        );
        assert!(text.contains(r#"path="/x?a=\"1\"\u{7}\n""#), "{text}");
        assert!(text.contains(" flag=UF,URX ") && text.contains(" endpoint=- "), "{text}");
    }
}
