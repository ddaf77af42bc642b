//! Answers that a rule gives by itself: redirects and direct responses.

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;

use super::rewrite::{Matched, replace, split};
use super::table::RequestView;
use crate::config::resource::virtual_service::{DerivePort, DirectBody, HttpDirectResponse, HttpRedirect};

/// `directResponse`.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    /// Status of the answer.
    pub status: StatusCode,
    /// Its whole body.
    pub body: Bytes,
    /// For an answer to which the rule's own header operations gave no content type; none for an empty body.
    pub content_type: Option<HeaderValue>,
}

/// `redirect`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// Status of the answer: 301 unless the rule says otherwise.
    pub status: StatusCode,
    scheme: Option<Box<str>>,
    authority: Option<Box<str>>,
    port: Port,
    path: Path,
}

#[derive(Clone, Copy, Debug)]
enum Port {
    Unchanged,
    Fixed(u16),
    /// The port of the listener, as rules see it.
    Listener,
}

#[derive(Clone, Debug)]
enum Path {
    Unchanged,
    Whole(Box<str>),
    Prefix(Box<str>),
}

impl DirectResponse {
    /// None for a status that is none.
    pub(super) fn new(written: &HttpDirectResponse) -> Option<Self> {
        let status = u16::try_from(written.status.value).ok().and_then(|code| StatusCode::from_u16(code).ok())?;
        let body = match written.body.as_ref().map(|body| &body.value) {
            None => Bytes::new(),
            Some(DirectBody::Text(text)) => Bytes::copy_from_slice(text.as_bytes()),
            Some(DirectBody::Bytes(bytes)) => Bytes::copy_from_slice(bytes),
        };
        Some(Self::with_body(status, body))
    }

    /// What a rule answers that should not have passed validation.
    pub(super) fn invalid() -> Self {
        Self::with_body(StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(b"invalid rule\n"))
    }

    fn with_body(status: StatusCode, body: Bytes) -> Self {
        let content_type = (!body.is_empty()).then(|| HeaderValue::from_static("text/plain"));
        Self { status, body, content_type }
    }
}

impl Redirect {
    /// None for a code that is no redirect.
    pub(super) fn new(written: &HttpRedirect) -> Option<Self> {
        let text = |field: &Option<crate::config::place::Spanned<String>>| {
            field.as_ref().filter(|text| !text.is_empty()).map(|text| Box::from(text.as_str()))
        };
        let status = match written.redirect_code.map_or(0, |code| code.value) {
            0 | 301 => StatusCode::MOVED_PERMANENTLY,
            302 => StatusCode::FOUND,
            303 => StatusCode::SEE_OTHER,
            307 => StatusCode::TEMPORARY_REDIRECT,
            308 => StatusCode::PERMANENT_REDIRECT,
            _ => return None,
        };
        let port = match (written.port, written.derive_port.map(|derive| derive.value)) {
            (Some(port), _) => u16::try_from(port.value).map_or(Port::Unchanged, Port::Fixed),
            (None, Some(DerivePort::FromRequestPort)) => Port::Listener,
            (None, Some(DerivePort::FromProtocolDefault) | None) => Port::Unchanged,
        };
        let path = match (text(&written.uri), text(&written.prefix_rewrite)) {
            (Some(uri), _) => Path::Whole(uri),
            (None, Some(prefix)) => Path::Prefix(prefix),
            (None, None) => Path::Unchanged,
        };
        Some(Self { status, scheme: text(&written.scheme), authority: text(&written.authority), port, path })
    }

    /// The `Location` for a request; `matched` is what the route's block matched of its path.
    pub fn location(&self, request: &RequestView<'_>, matched: Matched) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let port = self.new_port(scheme, request.port);
        let authority = match &self.authority {
            Some(authority) if port.is_some() => without_port(authority),
            Some(authority) => authority,
            None => kept_authority(request, scheme, port.is_some()),
        };
        let mut location = [scheme, "://", authority].concat();
        if let Some(port) = port {
            location.push(':');
            location.push_str(&port.to_string());
        }
        self.push_path(&mut location, request, matched);
        location
    }

    /// The port to write: none if it is not changed, or is the scheme's own.
    fn new_port(&self, scheme: &str, listener: u16) -> Option<u16> {
        let port = match self.port {
            Port::Unchanged => return None,
            Port::Fixed(port) => port,
            Port::Listener => listener,
        };
        (Some(port) != default_port(scheme)).then_some(port)
    }

    fn push_path(&self, location: &mut String, request: &RequestView<'_>, matched: Matched) {
        let (path, query) = split(request.path);
        let start = location.len();
        match &self.path {
            Path::Whole(new) => {
                location.push_str(new);
                if !new.contains('?') {
                    location.push_str(query);
                }
            }
            Path::Prefix(new) => match replace(path, query, matched, new) {
                Some(replaced) => location.push_str(&replaced),
                None => location.extend([path, query]),
            },
            Path::Unchanged => location.extend([path, query]),
        }
        if !location[start..].starts_with('/') {
            location.insert(start, '/');
        }
    }
}

/// The request's authority. Its port goes if another one is written, or if it is the default of a scheme that changes.
fn kept_authority<'r>(request: &RequestView<'r>, scheme: &str, new_port: bool) -> &'r str {
    let host = without_port(request.authority);
    let port = request.authority[host.len()..].strip_prefix(':').and_then(|port| port.parse().ok());
    let stale = scheme != request.scheme && port.is_some() && port == default_port(request.scheme);
    if new_port || stale { host } else { request.authority }
}

/// An authority without its port; an IPv6 address keeps its brackets.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
