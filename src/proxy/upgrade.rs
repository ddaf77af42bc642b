//! Requests that turn their connection into something else (WebSocket): offered to the endpoint only if the client asked for
//! it, and once both sides agree, bytes are passed on until one of them ends. Reloads do not touch a tunnel.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::Instant;

use super::connection::until_expired;
use super::record::Record;
use super::watch::ConnectionState;
use crate::upstream::Lease;

/// What a client asked its connection to become.
#[derive(Debug)]
pub(super) struct Wish {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Wish {
    /// The wish of a request, taken out of it. HTTP/1.0 and HTTP/2 cannot have one; h2c is a matter between neighbours.
    pub(super) fn take(parts: &mut Parts) -> Option<Self> {
        if parts.version != Version::HTTP_11 || parts.method == Method::CONNECT {
            return None;
        }
        let client = parts.extensions.remove::<OnUpgrade>()?;
        let protocol = parts.headers.get(header::UPGRADE)?.clone();
        let named = parts.headers.get_all(header::CONNECTION).iter().any(names_upgrade);
        (named && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then_some(Self { protocol, client })
    }

    /// Offers it to the endpoint.
    pub(super) fn offer(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// The endpoint agreed: tells the client so, and passes bytes on from now until one side ends or nothing moves.
    pub(super) fn grant(self, headers: &mut HeaderMap, endpoint: OnUpgrade, tunnel: Tunnel) {
        self.offer(headers);
        tokio::spawn(async move {
            let (Ok(client), Ok(endpoint)) = tokio::join!(self.client, endpoint) else { return };
            tunnel.state.tunnels();
            let (mut client, mut endpoint) = (TokioIo::new(client), TokioIo::new(endpoint));
            // However it ends, both sides are closed when they are dropped.
            let _ = until_expired(&tunnel.state, copy_bidirectional(&mut client, &mut endpoint)).await;
            tunnel.record.finish(Instant::now());
            drop(tunnel.lease);
        });
    }
}

/// What is held while a tunnel is open.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// The client's connection.
    pub state: Arc<ConnectionState>,
    /// The request that opened it.
    pub record: Record,
    /// Its claim on the endpoint.
    pub lease: Lease,
}

fn names_upgrade(value: &HeaderValue) -> bool {
    value.as_bytes().split(|&byte| byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrade_is_named_in_any_case_and_place() {
        for (value, named) in [("Upgrade", true), ("keep-alive, UPGRADE ", true), ("upgrades", false), ("", false)] {
            assert_eq!(names_upgrade(&HeaderValue::from_static(value)), named, "{value}");
        }
    }

    #[test]
    fn without_hyper_offering_it_there_is_no_wish() {
        let request = http::Request::builder().header("connection", "upgrade").header("upgrade", "websocket").body(());
        assert!(Wish::take(&mut request.unwrap().into_parts().0).is_none());
    }
}
