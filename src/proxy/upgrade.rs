//! Requests that turn their connection into something else (WebSocket): offered to the endpoint only if the client asked for
//! it, and once both sides agree, bytes are passed on until one of them ends. Reloads do not touch a tunnel.
//!
//! On HTTP/2 a client asks for a WebSocket on one stream (RFC 8441). To the endpoint it is offered as on HTTP/1.1, so that rules
//! match it like any other, and no endpoint has to know of it.

use std::sync::Arc;

use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::connection::until_expired;
use super::io::ClientIo;
use super::record::Record;
use super::state::ConnectionState;
use super::worker::Worker;
use crate::upstream::Lease;

/// What a client asked its connection, or its stream, to become.
#[derive(Debug)]
pub(super) struct Wish {
    protocol: HeaderValue,
    client: OnUpgrade,
    /// For a stream: what the endpoint has to say to the key that it was given.
    accept: Option<Box<str>>,
}

/// What a stream of HTTP/2 that wants to be a WebSocket has to be told of the endpoint's answer.
#[derive(Clone, Debug)]
struct Accept(String);

/// Turns the wish of a stream of HTTP/2 for a WebSocket into the request of HTTP/1.1 that means the same (RFC 8441 §5).
pub(super) fn translate(parts: &mut Parts) {
    let protocol = |parts: &Parts| parts.extensions.get::<Protocol>().is_some_and(|one| one.as_str() == "websocket");
    if parts.method != Method::CONNECT || !protocol(parts) {
        return;
    }
    // It belongs to CONNECT: an endpoint that speaks HTTP/2 would get it with GET.
    parts.extensions.remove::<Protocol>();
    // Clients of HTTP/2 send none: it only tells that the server understands.
    let key = BASE64.encode(&rand::random::<[u8; 16]>());
    parts.method = Method::GET;
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).expect("base64 is ASCII"));
    parts.extensions.insert(Accept(derive_accept_key(key.as_bytes())));
}

impl Wish {
    /// The wish of a request, taken out of it; boxed, because it is rare. HTTP/1.0 cannot have one; h2c is a matter between neighbours.
    pub(super) fn take(parts: &mut Parts) -> Option<Box<Self>> {
        if parts.version == Version::HTTP_10 || parts.method == Method::CONNECT {
            return None;
        }
        let client = parts.extensions.remove::<OnUpgrade>()?;
        let accept = parts.extensions.remove::<Accept>().map(|Accept(accept)| accept.into());
        let protocol = parts.headers.get(header::UPGRADE)?.clone();
        let named = accept.is_some() || parts.headers.get_all(header::CONNECTION).iter().any(names_upgrade);
        let wish = Self { protocol, client, accept };
        (named && !wish.protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| Box::new(wish))
    }

    /// Offers it to the endpoint.
    pub(super) fn offer(&self, request: &mut Parts) {
        self.name(&mut request.headers);
        request.version = Version::HTTP_11;
    }

    fn name(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// Whether it is one of a stream, which is one of many on its connection.
    pub(super) fn is_of_stream(&self) -> bool {
        self.accept.is_some()
    }

    /// Whether the client may see the endpoint's answer. Any success would tell a stream that it is a tunnel.
    pub(super) fn allows<B>(&self, answer: &Response<B>) -> bool {
        match &self.accept {
            None => true,
            Some(accept) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let said = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
                said.is_some_and(|said| said.as_bytes() == accept.as_bytes())
            }
            Some(_) => !answer.status().is_success(),
        }
    }

    /// The endpoint agreed: tells the client so, and passes bytes on from now until one side ends or nothing moves.
    pub(super) fn grant(self, answer: &mut Response<()>, endpoint: OnUpgrade, tunnel: Tunnel) {
        if self.accept.is_some() {
            *answer.status_mut() = StatusCode::OK;
            answer.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
            tokio::spawn(tunnel.on_stream(self.client, endpoint));
        } else {
            self.name(answer.headers_mut());
            tokio::spawn(tunnel.on_connection(self.client, endpoint));
        }
    }
}

/// What is held while a tunnel is open.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// Who serves it.
    pub worker: Arc<Worker>,
    /// The client's connection.
    pub state: Arc<ConnectionState>,
    /// The request that opened it.
    pub record: Record,
    /// Its claim on the endpoint.
    pub lease: Lease,
}

impl Tunnel {
    async fn on_connection(self, client: OnUpgrade, endpoint: OnUpgrade) {
        let (Ok(client), Ok(endpoint)) = tokio::join!(client, endpoint) else { return };
        let state = Arc::clone(&self.state);
        state.tunnels();
        self.pass_bytes(&state, TokioIo::new(client), TokioIo::new(endpoint)).await;
    }

    /// Its limits of time are those of a connection that has become a tunnel, and it is watched like one: other streams of its
    /// connection say nothing about it.
    async fn on_stream(self, client: OnUpgrade, endpoint: OnUpgrade) {
        let (Ok(client), Ok(endpoint)) = tokio::join!(client, endpoint) else { return };
        let state = Arc::new(ConnectionState::accepted());
        state.tunnels();
        self.worker.watch().add_stream(&state);
        let client = ClientIo::new(TokioIo::new(client), Arc::clone(&state));
        self.pass_bytes(&state, client, TokioIo::new(endpoint)).await;
    }

    async fn pass_bytes<C, E>(self, state: &ConnectionState, mut client: C, mut endpoint: E)
    where
        C: AsyncRead + AsyncWrite + Unpin,
        E: AsyncRead + AsyncWrite + Unpin,
    {
        // However it ends, both sides are closed when they are dropped.
        let _ = until_expired(state, copy_bidirectional(&mut client, &mut endpoint)).await;
        self.record.finish(Instant::now());
        drop(self.lease);
    }
}

fn names_upgrade(value: &HeaderValue) -> bool {
    value.as_bytes().split(|&byte| byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(method: Method, protocol: Option<&'static str>) -> Parts {
        let mut request = Request::builder().method(method).uri("https://a.test/chat").version(Version::HTTP_2);
        if let Some(protocol) = protocol {
            request = request.extension(Protocol::from_static(protocol));
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn upgrade_is_named_in_any_case_and_place() {
        for (value, named) in [("Upgrade", true), ("keep-alive, UPGRADE ", true), ("upgrades", false), ("", false)] {
            assert_eq!(names_upgrade(&HeaderValue::from_static(value)), named, "{value}");
        }
    }

    #[test]
    fn without_hyper_offering_it_there_is_no_wish() {
        let request = Request::builder().header("connection", "upgrade").header("upgrade", "websocket").body(());
        assert!(Wish::take(&mut request.unwrap().into_parts().0).is_none());
    }

    #[test]
    fn a_stream_that_wants_a_websocket_asks_as_a_connection_would() {
        let mut keys = Vec::new();
        for _ in 0..2 {
            let mut parts = asked(Method::CONNECT, Some("websocket"));
            translate(&mut parts);
            assert!(parts.extensions.get::<Protocol>().is_none());
            assert_eq!(
                (&parts.method, parts.uri.path(), parts.headers["upgrade"].as_bytes()),
                (&Method::GET, "/chat", &b"websocket"[..])
            );
            let key = parts.headers["sec-websocket-key"].to_str().unwrap().to_owned();
            assert_eq!(BASE64.decode(key.as_bytes()).unwrap().len(), 16);
            keys.push(key);
        }
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn nothing_else_is_translated() {
        for (method, protocol) in [
            (Method::CONNECT, None),
            (Method::CONNECT, Some("connect-udp")),
            (Method::CONNECT, Some("WebSocket")),
            (Method::GET, Some("websocket")),
            (Method::GET, None),
        ] {
            let mut parts = asked(method.clone(), protocol);
            translate(&mut parts);
            assert_eq!((&parts.method, parts.headers.len()), (&method, 0), "{protocol:?}");
            assert_eq!(parts.extensions.get::<Protocol>().is_some(), protocol.is_some());
        }
    }
}
