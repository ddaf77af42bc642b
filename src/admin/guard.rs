//! Who may ask: every request passes here before any resource sees it.
//!
//! What keeps strangers out is where the port listens, the permissions of a Unix socket, or a token; what keeps web pages in the operator's own browser out
//! is checked here: a page that rebinds its name to this address is betrayed by `Host`, a page that posts across origins
//! by `Origin`, `Sec-Fetch-Site` and the content type. No answer ever carries a CORS header, so no preflight is ever
//! granted. Without a token, only the machine itself may change anything.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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

use super::Shared;
use super::listener::Address;
use super::reply::Refusal;
use super::token::Lock;

/// The largest body a request may have.
const BODY_LIMIT: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The peer of the connection that a request came in on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// At an address of the network.
    Network(SocketAddr),
    /// Whoever may open the Unix socket.
    Unix,
}

impl Peer {
    /// Its address; none: it has none, and what keeps strangers out are the permissions of a file.
    fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Network(peer) => Some(peer.ip()),
            Self::Unix => None,
        }
    }
}

/// What a request has to pass.
pub(super) struct Gate {
    hosts: Hosts,
    lock: Option<Lock>,
}

impl Gate {
    /// For requests that come in at `listen`, under the names and with the token that are said there.
    pub(super) fn new(listen: &Address, state: &Shared) -> Self {
        let listen = match listen {
            Address::Network(listen) => Some(listen.ip().to_canonical()),
            Address::Unix(_) => None,
        };
        let hosts = Hosts { listen, names: state.hosts.clone() };
        let lock = state.token.clone().map(Lock::new);
        Self { hosts, lock }
    }
}

/// The hosts that a request may name.
#[derive(Debug)]
struct Hosts {
    /// The address listened on; none: a Unix socket.
    listen: Option<IpAddr>,
    names: Vec<String>,
}

impl Hosts {
    /// A name can be rebound by whoever owns it, an address cannot: where every address of the machine is listened on,
    /// any address is fine. A Unix socket is reached by its path, and clients make a name up; but a port may lead there (`ssh -L`), and
    /// what a browser takes for a name of the net has a dot.
    fn allow(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            let Some(listen) = self.listen else { return true };
            return address.is_loopback() || address == listen || listen.is_unspecified();
        }
        if self.listen.is_none() && !host.contains('.') {
            return true;
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
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&gate, request).await {
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
async fn admit(gate: &Gate, request: Request) -> Result<Request, Refusal> {
    let host = gate.hosts.check(&request)?;
    let peer = request.extensions().get::<Peer>().map_or(Some(Ipv6Addr::UNSPECIFIED.into()), |peer| peer.ip());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads {
        check_origin(request.headers(), &host)?;
    }
    match &gate.lock {
        Some(_) if reads && is_probe(request.uri().path()) => {}
        Some(lock) => lock.check(request.headers(), peer)?,
        None if reads => {}
        None => check_writer(peer)?,
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

/// Load balancers and orchestrators ask these, and many of them cannot say a token. They tell one bit that whoever reaches the
/// port could learn from the listeners, too.
fn is_probe(path: &str) -> bool {
    matches!(path, "/ready" | "/live")
}

/// Without a token, only this machine may change anything.
fn check_writer(peer: Option<IpAddr>) -> Result<(), Refusal> {
    if peer.is_none_or(|peer| peer.to_canonical().is_loopback()) {
        return Ok(());
    }
    let message = "changes are taken from this machine only (127.0.0.1 or ::1), unless there is a token";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_token_only_this_machine_may_write() {
        for near in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(check_writer(Some(near.parse().unwrap())).is_ok(), "{near}");
        }
        assert!(check_writer(Peer::Unix.ip()).is_ok());
        for far in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::", "0.0.0.0"] {
            assert!(check_writer(Some(far.parse().unwrap())).is_err(), "{far}");
        }
    }
}
