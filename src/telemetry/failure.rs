//! Why a request failed, in the words of RFC 9209 (`proxy-status`), and whose fault that is.

/// Why a client did not get a whole answer of its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// The request is not as HTTP wants it, or did not arrive.
    HttpRequestError,
    /// Requests of this method are not forwarded.
    HttpRequestDenied,
    /// No rule takes the request.
    DestinationNotFound,
    /// There is no endpoint that may be asked.
    DestinationUnavailable,
    /// The name of an endpoint has no address.
    DnsError,
    /// The endpoint does not take the connection in time.
    ConnectionTimeout,
    /// The endpoint does not take the connection.
    ConnectionRefused,
    /// The endpoint ended the connection before it answered.
    ConnectionTerminated,
    /// A limit of the destination or of this machine is reached.
    ConnectionLimitReached,
    /// No TLS with the endpoint.
    TlsProtocolError,
    /// The endpoint breaks the protocol.
    HttpProtocolError,
    /// The endpoint does not answer in time.
    HttpResponseTimeout,
    /// The endpoint began to answer and did not end.
    HttpResponseIncomplete,
    /// A mistake in Serin.
    ProxyInternalError,
    /// The destination leads back to this process.
    ProxyLoopDetected,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Whoever asked.
    Client,
    /// Serin, with its limits and its mistakes.
    Proxy,
    /// The endpoints.
    Upstream,
}

impl ProxyError {
    /// How many there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// Every error, in the order of its discriminant.
    pub(super) const ALL: [Self; 15] = [
        Self::HttpRequestError,
        Self::HttpRequestDenied,
        Self::DestinationNotFound,
        Self::DestinationUnavailable,
        Self::DnsError,
        Self::ConnectionTimeout,
        Self::ConnectionRefused,
        Self::ConnectionTerminated,
        Self::ConnectionLimitReached,
        Self::TlsProtocolError,
        Self::HttpProtocolError,
        Self::HttpResponseTimeout,
        Self::HttpResponseIncomplete,
        Self::ProxyInternalError,
        Self::ProxyLoopDetected,
    ];

    /// The token of `proxy-status` (RFC 9209 §2.3).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpRequestError => "http_request_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::DestinationNotFound => "destination_not_found",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::DnsError => "dns_error",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::HttpProtocolError => "http_protocol_error",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpResponseIncomplete => "http_response_incomplete",
            Self::ProxyInternalError => "proxy_internal_error",
            Self::ProxyLoopDetected => "proxy_loop_detected",
        }
    }

    /// Whose fault it is: each error is always the same one's.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::HttpRequestError | Self::HttpRequestDenied | Self::DestinationNotFound => Blame::Client,
            Self::ConnectionLimitReached | Self::ProxyInternalError | Self::ProxyLoopDetected => Blame::Proxy,
            _ => Blame::Upstream,
        }
    }
}

impl Blame {
    /// How many there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// Every one, in the order of its discriminant.
    pub(super) const ALL: [Self; 3] = [Self::Client, Self::Proxy, Self::Upstream];

    /// The value of the labels `blame` and `side`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Upstream => "upstream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_and_every_side_is_found_under_its_number() {
        assert!(ProxyError::ALL.iter().enumerate().all(|(index, error)| *error as usize == index));
        assert!(Blame::ALL.iter().enumerate().all(|(index, side)| *side as usize == index));
    }
}
