//! Who may ask: every request passes here before any resource sees it.
//!
//! The admin port has no password. What keeps strangers out is where it listens; what keeps web pages in the
//! operator's own browser out is checked here: a page that rebinds its name to this address is betrayed by `Host`, a
//! page that posts across origins by `Origin`, `Sec-Fetch-Site` and the content type. No answer ever carries a CORS
//! header, so no preflight is ever granted.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;

use super::reply::Refusal;

/// The largest body a request may have.
const BODY_LIMIT: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The peer of the connection that a request came in on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The hosts that a request may name.
#[derive(Debug)]
pub(super) struct Hosts {
    listen: IpAddr,
    names: Vec<String>,
}

impl Hosts {
    pub(super) fn new(listen: SocketAddr, names: &[String]) -> Self {
        Self { listen: listen.ip().to_canonical(), names: names.to_vec() }
    }

    /// A name can be rebound by whoever owns it, an address cannot: where every address of the machine is listened on,
    /// any address is fine.
    fn allow(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback() || address == self.listen || self.listen.is_unspecified();
        }
        host.eq_ignore_ascii_case("localhost") || self.names.iter().any(|name| host.eq_ignore_ascii_case(name))
    }

    /// The host that the request names, if it names one that is allowed and only that.
    fn check(&self, request: &Request) -> Result<Authority, Refusal> {
        let refuse = || {
            let message = "the header host must name the address listened on, or localhost";
            Refusal::new(StatusCode::FORBIDDEN, "host_not_allowed", message)
        };
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(refuse()) };
        let host = authority(host).filter(|host| self.allow(host)).ok_or_else(refuse)?;
        let target = request.uri().authority();
        if target.is_some_and(|target| !target.as_str().eq_ignore_ascii_case(host.as_str())) {
            return Err(refuse());
        }
        Ok(host)
    }
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    let authority = Authority::from_str(value.to_str().ok()?).ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

/// The middleware.
pub(super) async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&hosts, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The request with its body read, or why it may not go on.
async fn admit(hosts: &Hosts, request: Request) -> Result<Request, Refusal> {
    let host = hosts.check(&request)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        check_writer(&request)?;
        check_origin(request.headers(), &host)?;
    }
    let (parts, body) = request.into_parts();
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is over 1 MiB");
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await;
    let read =
        read.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not arrive"))?;
    let body = read.map_err(|error| {
        if error.into_inner().is::<LengthLimitError>() {
            return too_large();
        }
        Refusal::new(StatusCode::BAD_REQUEST, "body_broken", "the body could not be read")
    })?;
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Only this machine may change anything.
fn check_writer(request: &Request) -> Result<(), Refusal> {
    let peer = request.extensions().get::<Peer>();
    if peer.is_some_and(|Peer(peer)| peer.ip().to_canonical().is_loopback()) {
        return Ok(());
    }
    let message = "changes are taken from this machine only (127.0.0.1 or ::1)";
    Err(Refusal::new(StatusCode::FORBIDDEN, "peer_not_allowed", message))
}

/// No page of another origin may change anything.
fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Refusal> {
    let refuse = |message| Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message);
    let own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_str()))
    };
    if !headers.get_all(header::ORIGIN).iter().all(own) {
        return Err(refuse("the header origin must be absent or this server's"));
    }
    let near = |site: &HeaderValue| ["same-origin", "none"].iter().any(|near| site == near);
    if !headers.get_all(SEC_FETCH_SITE).iter().all(near) {
        return Err(refuse("the header sec-fetch-site must be absent, none or same-origin"));
    }
    let json = |kind: &HeaderValue| {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    };
    if !headers.get_all(header::CONTENT_TYPE).iter().all(json) {
        let message = "the header content-type must be absent or application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type_not_allowed", message));
    }
    Ok(())
}
