//! Answers that a rule gives by itself: redirects and direct responses.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;

use super::rewrite::{Matched, path_and_query, replace};
use super::table::RequestView;
use crate::config::place::Spanned;
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

impl fmt::Display for Redirect {
    /// Its status and where it leads, `…` for what stays: `301 https://…/new`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.status.as_u16())?;
        if self.scheme.is_some() || self.authority.is_some() || !matches!(self.port, Port::Unchanged) {
            let (scheme, authority) = (self.scheme.as_deref().unwrap_or("…"), self.authority.as_deref().unwrap_or("…"));
            write!(f, "{scheme}://{authority}")?;
        }
        match self.port {
            Port::Unchanged => {}
            Port::Fixed(port) => write!(f, ":{port}")?,
            Port::Listener => f.write_str(":…")?,
        }
        match &self.path {
            Path::Unchanged => f.write_str("/…"),
            Path::Whole(path) => f.write_str(path),
            Path::Prefix(prefix) => write!(f, "{prefix}…"),
        }
    }
}

impl Redirect {
    /// None for a code that is no redirect.
    pub(super) fn new(written: &HttpRedirect) -> Option<Self> {
        let text = |field: &Option<Spanned<String>>| {
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

    /// The same request, by `https`.
    pub(super) fn to_https(status: StatusCode) -> Self {
        Self { status, scheme: Some("https".into()), authority: None, port: Port::Unchanged, path: Path::Unchanged }
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
        let (path, query) = path_and_query(request.path);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::{Request, at, text};

    fn location(redirect: &HttpRedirect, request: &Request) -> String {
        located(redirect, request, Matched::Prefix(1))
    }

    fn located(redirect: &HttpRedirect, request: &Request, matched: Matched) -> String {
        Redirect::new(redirect).unwrap().location(&request.view(), matched)
    }

    fn to_port(port: i64) -> HttpRedirect {
        HttpRedirect { port: Some(at(port)), ..HttpRedirect::default() }
    }

    fn to_scheme(scheme: &str) -> HttpRedirect {
        HttpRedirect { scheme: Some(text(scheme)), ..HttpRedirect::default() }
    }

    fn to_uri(uri: &str) -> HttpRedirect {
        HttpRedirect { uri: Some(text(uri)), authority: Some(text("n")), ..HttpRedirect::default() }
    }

    fn over_tls(mut request: Request) -> Request {
        request.scheme = "https".to_owned();
        request
    }

    #[test]
    fn what_is_not_given_is_the_requests() {
        let redirect = HttpRedirect { authority: Some(text("new.example:81")), ..HttpRedirect::default() };
        assert_eq!(location(&redirect, &Request::get("/a?b#c")), "http://new.example:81/a?b");
        assert_eq!(location(&to_scheme("https"), &Request::get("/a")), "https://b/a");
    }

    #[test]
    fn the_hosts_port_stays_unless_another_is_written_or_its_scheme_goes() {
        let request = |host: &str| Request::get("/").host(host);
        let derived = |port| HttpRedirect { derive_port: Some(at(port)), ..HttpRedirect::default() };
        for (redirect, host, wanted) in [
            (to_scheme("https"), "b:80", "https://b/"),
            (to_scheme("https"), "b:8080", "https://b:8080/"),
            (to_scheme("https"), "b:443", "https://b:443/"),
            (to_scheme("http"), "b:80", "http://b:80/"),
            (to_scheme("https"), "[::1]:80", "https://[::1]/"),
            (to_scheme("https"), "[::1]", "https://[::1]/"),
            (to_port(8083), "b:80", "http://b:8083/"),
            (to_port(8083), "[::1]", "http://[::1]:8083/"),
            (to_port(80), "b:80", "http://b:80/"),
            (to_port(80), "b:8080", "http://b:8080/"),
            (derived(DerivePort::FromRequestPort), "b:80", "http://b:80/"),
            (derived(DerivePort::FromProtocolDefault), "b:8080", "http://b:8080/"),
        ] {
            assert_eq!(location(&redirect, &request(host)), wanted, "{redirect:?} {host}");
        }
        let tls = over_tls(request("b:443"));
        assert_eq!(location(&to_scheme("http"), &tls), "http://b/");
    }

    #[test]
    fn the_port_that_a_scheme_implies_is_not_written() {
        let request = Request::get("/");
        let both = |scheme: &str, port| HttpRedirect { scheme: Some(text(scheme)), ..to_port(port) };
        assert_eq!(location(&both("https", 443), &request), "https://b/");
        assert_eq!(location(&both("https", 80), &request), "https://b:80/");
        assert_eq!(location(&to_port(443), &over_tls(request.clone())), "https://b/");
        let mut elsewhere = request;
        elsewhere.port = 8080;
        let from_request =
            HttpRedirect { derive_port: Some(at(DerivePort::FromRequestPort)), ..HttpRedirect::default() };
        assert_eq!(location(&from_request, &elsewhere), "http://b:8080/");
    }

    #[test]
    fn a_uri_replaces_the_path_and_its_own_query_wins() {
        assert_eq!(location(&to_uri("/new"), &Request::get("/a/b?q=1")), "http://n/new?q=1");
        assert_eq!(location(&to_uri("/new?x"), &Request::get("/a/b?q=1")), "http://n/new?x");
        assert_eq!(location(&to_uri("example.org"), &Request::get("/x")), "http://n/example.org");
    }

    #[test]
    fn a_prefix_is_exchanged() {
        let redirect = HttpRedirect { prefix_rewrite: Some(text("/new")), ..HttpRedirect::default() };
        let foo = Matched::Prefix("/foo".len());
        assert_eq!(located(&redirect, &Request::get("/foo/bar?q"), foo), "http://b/new/bar?q");
        assert_eq!(located(&redirect, &Request::get("/new/bar?q"), Matched::Prefix(4)), "http://b/new/bar?q");
        assert_eq!(located(&redirect, &Request::get("/a"), Matched::Prefix(1)), "http://b/newa");
    }

    #[test]
    fn only_five_codes_redirect() {
        for (code, status) in [(0, 301), (301, 301), (302, 302), (303, 303), (307, 307), (308, 308)] {
            let redirect = HttpRedirect { redirect_code: Some(at(code)), ..to_port(1) };
            assert_eq!(Redirect::new(&redirect).unwrap().status.as_u16(), status);
        }
        for code in [200, 300, 304, -1] {
            assert!(Redirect::new(&HttpRedirect { redirect_code: Some(at(code)), ..to_port(1) }).is_none());
        }
        assert_eq!(Redirect::new(&to_port(1)).unwrap().status, 301);
    }

    #[test]
    fn a_direct_response_has_its_body_and_a_content_type_for_it() {
        let written = |status, body: Option<DirectBody>| HttpDirectResponse {
            status: at(status),
            body: body.map(at),
            ..HttpDirectResponse::default()
        };
        let hello = DirectResponse::new(&written(503, Some(DirectBody::Text("hello".to_owned())))).unwrap();
        assert_eq!((hello.status.as_u16(), &hello.body[..]), (503, &b"hello"[..]));
        assert_eq!(hello.content_type.unwrap(), "text/plain");
        let bytes = DirectResponse::new(&written(200, Some(DirectBody::Bytes(vec![0, 255])))).unwrap();
        assert_eq!(&bytes.body[..], [0, 255]);
        assert!(DirectResponse::new(&written(404, None)).unwrap().content_type.is_none());
        assert!(DirectResponse::new(&written(0, None)).is_none());
        assert!(DirectResponse::new(&written(70_000, None)).is_none());
    }
}
