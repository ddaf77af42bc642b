//! Everything that can keep a request from an upstream's answer, and what the client is told: status, flag, one line.
//! The only place where errors of lower modules become statuses (Envoy's, which Istio users know).

use std::io;

use http::StatusCode;

use crate::telemetry::{Blame, Flag, ProxyError, Shed};
use crate::upstream::connection::{cause, was_refused};
use crate::upstream::{ConnectError, NoHealthyUpstream, Overloaded, Unavailable, Unresolved, UploadError};

/// Why a request has no answer from upstream. The text is for the client: no addresses, no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request breaks HTTP's own rules.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The request target is longer than we take.
    #[error("the request target is too long")]
    TargetTooLong,
    /// More fields than we take.
    #[error("the request has too many fields")]
    TooManyFields,
    /// A transfer coding other than chunked.
    #[error("the transfer coding of the request is not known")]
    UnknownCoding,
    /// A method that a gateway does not forward (CONNECT, TRACE).
    #[error("this method is not forwarded")]
    MethodRefused,
    /// A tunnel (extended CONNECT, RFC 8441) of a kind that is not known, or where none is offered.
    #[error("no such tunnel is offered here")]
    NoTunnel,
    /// No VirtualService answers this host.
    #[error("no route for this host")]
    NoHost,
    /// The host has rules, and none matches.
    #[error("no route matches this request")]
    NoRule,
    /// The request has been here twice before: its destination leads back to this process.
    #[error("the destination of this request leads back to the proxy")]
    Loop,
    /// The destination has no endpoint.
    #[error("no healthy endpoint")]
    NoHealthyUpstream(#[from] NoHealthyUpstream),
    /// The destination's name was never resolved.
    #[error("the name of the destination does not resolve")]
    Unresolved(#[from] Unresolved),
    /// The destination has as much to do as its limits allow.
    #[error("too many requests or connections at once")]
    Overloaded(#[from] Overloaded),
    /// It was turned away at the door.
    #[error("{}", at_the_door(*.0))]
    Full(Shed),
    /// No connection to the endpoint.
    #[error("cannot connect to the endpoint")]
    Connect(ConnectError),
    /// The endpoint closed the connection before it answered.
    #[error("the endpoint closed the connection before it answered")]
    Closed,
    /// The endpoint reset the connection before it answered.
    #[error("the endpoint reset the connection before it answered")]
    Reset,
    /// The endpoint's answer is no valid HTTP.
    #[error("the endpoint broke the protocol")]
    Protocol,
    /// The route's timeout is over.
    #[error("upstream request timeout")]
    Timeout,
    /// Nothing moved for too long.
    #[error("nothing was received for too long")]
    Stalled,
    /// The client stopped sending its body.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// The client's body broke the protocol.
    #[error("the request body is incomplete")]
    BodyBroken,
    /// The client's connection ended before its body did.
    #[error("the client went away")]
    ClientGone,
    /// A mistake in Serin.
    #[error("internal error")]
    Internal,
}

impl Failure {
    /// What an error of an exchange with an endpoint means.
    pub fn from_exchange(error: &hyper::Error) -> Self {
        if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
            return Self::Protocol;
        }
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        // The request's body comes from the client, and so do its errors.
        let of_body = error.is_user() || error.is_body_write_aborted();
        match io_kind(error) {
            Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) if of_body => Self::ClientGone,
            _ if matches!(cause(error), Some(UploadError::Internal)) => Self::Internal,
            _ if of_body => Self::BodyBroken,
            Some(ConnectionReset) => Self::Reset,
            // The kernel has given the endpoint up: its machine is gone.
            Some(TimedOut) => Self::Timeout,
            _ if was_refused(error) => Self::Reset,
            _ => Self::Closed,
        }
    }

    /// The status of the reply.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BodyBroken | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownCoding | Self::NoTunnel => StatusCode::NOT_IMPLEMENTED,
            Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoHost | Self::NoRule => StatusCode::NOT_FOUND,
            Self::NoHealthyUpstream(_)
            | Self::Unresolved(_)
            | Self::Overloaded(_)
            | Self::Full(_)
            | Self::Connect(_)
            | Self::Closed
            | Self::Reset => StatusCode::SERVICE_UNAVAILABLE,
            Self::Protocol | Self::Loop => StatusCode::BAD_GATEWAY,
            Self::Timeout | Self::Stalled => StatusCode::GATEWAY_TIMEOUT,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Envoy's letters for it.
    pub fn flag(&self) -> Flag {
        match self {
            Self::BadRequest(_)
            | Self::TargetTooLong
            | Self::TooManyFields
            | Self::UnknownCoding
            | Self::MethodRefused
            | Self::NoTunnel
            | Self::BodyBroken => Flag::DPE,
            Self::ClientGone => Flag::DC,
            Self::NoHost | Self::NoRule => Flag::NR,
            Self::Loop => Flag::NC,
            Self::NoHealthyUpstream(_) | Self::Unresolved(_) => Flag::UH,
            // Serin's own want of ports or descriptors is not the endpoint's failure.
            Self::Overloaded(_) | Self::Full(_) | Self::Connect(ConnectError::Exhausted(_)) => Flag::UO,
            Self::Connect(_) => Flag::UF,
            Self::Closed => Flag::UC,
            Self::Reset => Flag::UR,
            Self::Protocol => Flag::UPE,
            Self::Timeout => Flag::UT,
            Self::Stalled | Self::BodyTimeout => Flag::SI,
            Self::Internal => Flag::IE,
        }
    }

    /// What it is in the words of RFC 9209.
    pub fn error(&self) -> ProxyError {
        match self {
            Self::BadRequest(_)
            | Self::TargetTooLong
            | Self::TooManyFields
            | Self::UnknownCoding
            | Self::BodyBroken
            | Self::ClientGone
            | Self::BodyTimeout => ProxyError::HttpRequestError,
            Self::MethodRefused | Self::NoTunnel => ProxyError::HttpRequestDenied,
            Self::NoHost | Self::NoRule => ProxyError::DestinationNotFound,
            Self::Loop => ProxyError::ProxyLoopDetected,
            Self::NoHealthyUpstream(_) => ProxyError::DestinationUnavailable,
            Self::Connect(ConnectError::Timeout(_)) => ProxyError::ConnectionTimeout,
            Self::Unresolved(_) | Self::Connect(ConnectError::Unresolved) => ProxyError::DnsError,
            Self::Overloaded(_) | Self::Full(_) | Self::Connect(ConnectError::Exhausted(_)) => {
                ProxyError::ConnectionLimitReached
            }
            Self::Connect(ConnectError::Tls(_)) => ProxyError::TlsProtocolError,
            Self::Connect(_) => ProxyError::ConnectionRefused,
            Self::Closed | Self::Reset => ProxyError::ConnectionTerminated,
            Self::Protocol => ProxyError::HttpProtocolError,
            Self::Timeout | Self::Stalled => ProxyError::HttpResponseTimeout,
            Self::Internal => ProxyError::ProxyInternalError,
        }
    }

    /// The gRPC status (its numbers) that a gRPC client gets instead of an HTTP status.
    pub fn grpc_status(&self) -> u8 {
        match self.status() {
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => 4,
            StatusCode::NOT_FOUND => 12,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => 14,
            _ => 13,
        }
    }

    /// Whether a limit of ours kept the request from its destination: it says nothing about that one, and is over soon.
    pub fn is_overload(&self) -> bool {
        self.flag() == Flag::UO
    }

    /// Whether it speaks against the endpoint that the request was sent to.
    pub fn blames_endpoint(&self) -> bool {
        self.error().blame() == Blame::Upstream
    }

    /// Whether the connection to the client can serve nothing after this.
    pub fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::TargetTooLong
                | Self::UnknownCoding
                | Self::MethodRefused
                | Self::BodyTimeout
                | Self::BodyBroken
                | Self::ClientGone
                | Self::Stalled
                | Self::Internal
        )
    }
}

fn at_the_door(why: Shed) -> &'static str {
    match why {
        Shed::Requests => "too many requests at once",
        Shed::Delay => "too many requests for now",
        Shed::Memory => "short of memory",
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::NoHealthyUpstream(none) => Self::NoHealthyUpstream(none),
            Unavailable::Unresolved(unresolved) => Self::Unresolved(unresolved),
            Unavailable::Overloaded(overloaded) => Self::Overloaded(overloaded),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Overloaded(overloaded) => Self::Overloaded(overloaded),
            error => Self::Connect(error),
        }
    }
}

/// The operating system's error at the bottom of a chain, if there is one.
fn io_kind(error: &hyper::Error) -> Option<io::ErrorKind> {
    cause(error).map(io::Error::kind)
}
