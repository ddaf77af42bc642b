//! What CORS does to answers: to those of preflights, which Serin gives itself, and to all others of the same rule.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::reply;
use crate::routing::Cors;

/// What is added to the answer of a request whose origin is allowed, whoever gives it.
#[derive(Debug)]
pub(super) struct Decoration<'r> {
    /// The policy of the rule.
    pub cors: &'r Cors,
    /// Where the request comes from.
    pub origin: HeaderValue,
}

impl Decoration<'_> {
    /// Adds it.
    pub(super) fn apply(self, answer: &mut HeaderMap) {
        self.cors.decorate(self.origin, answer);
    }
}

/// The answer to a preflight. It is Serin's own, and no failure: it carries no flag.
pub(super) fn preflight(fields: HeaderMap) -> Response<ResponseBody> {
    let mut response = reply::own(StatusCode::OK, None, Bytes::new());
    *response.headers_mut() = fields;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}
