//! Choosing an endpoint by a key of the request, so that equal keys meet the same endpoint: Envoy's ring and Maglev tables.
//! Pure. Equal sets of endpoints give equal tables in every process.

use std::time::Duration;

/// What of a request is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The values of a header.
    Header(http::HeaderName),
    /// A cookie.
    Cookie(CookieKey),
    /// The address of the client.
    SourceIp,
    /// The first value of a query parameter.
    Query(String),
}

/// A cookie as a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieKey {
    /// Its name.
    pub name: String,
    /// Given: a request without it gets one, which lasts this long; 0 is until the browser is closed.
    pub ttl: Option<Duration>,
    /// `Path` of a cookie given out.
    pub path: Option<String>,
    /// More attributes of it, as they are written.
    pub attributes: Vec<(String, String)>,
}
