//! Protocols of ports, of services and of Gateways.

use super::report::wrong;
use crate::config::diagnostic::Diagnostic;
use crate::config::names;
use crate::config::place::Spanned;

/// Protocols that Istio knows, in upper case.
const PROTOCOLS: [&str; 14] = [
    "HTTP",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "GRPC-WEB-TEXT",
    "HTTP_PROXY",
    "HTTPS",
    "TLS",
    "TCP",
    "UDP",
    "MONGO",
    "REDIS",
    "MYSQL",
    "HBONE",
];

/// What kind of traffic a protocol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Requests that can be read.
    Http,
    /// Encrypted for somebody else.
    Tls,
    /// Anything else that Istio knows.
    Other,
    /// To be found out from the traffic.
    Unset,
    /// Unknown.
    Unknown,
}

/// The family of a protocol, whatever the case in which it is written.
pub(super) fn family(protocol: &str) -> Family {
    match protocol.to_ascii_uppercase().as_str() {
        "" => Family::Unset,
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "GRPC-WEB-TEXT" | "HTTP_PROXY" => Family::Http,
        "HTTPS" | "TLS" => Family::Tls,
        known if PROTOCOLS.contains(&known) => Family::Other,
        _ => Family::Unknown,
    }
}

/// What to say of a protocol that Istio does not know.
pub(super) fn unknown_protocol(protocol: &Spanned<String>) -> Diagnostic {
    let found = wrong(protocol.place, format!("`{}` is no protocol", protocol.value));
    match names::nearest(&protocol.to_ascii_uppercase(), PROTOCOLS) {
        Some(meant) => found.help(format!("did you mean `{meant}`?")),
        None => found.help("HTTP, HTTP2 or GRPC"),
    }
}
