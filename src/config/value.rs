//! Values that several resources share.

use regex::bytes::Regex;

use super::place::Spanned;

/// Istio's `StringMatch`: one way to look at a string.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// Equal, byte for byte.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// Matches as a whole.
    Regex(Pattern),
    /// `{}`: is there, whatever it is.
    Present,
}

/// An RE2 pattern as written, and the program made from it.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As the operator wrote it.
    pub text: String,
    /// Anchored at both ends (Istio's regexes match the whole string), with ASCII classes as in RE2; or why it is no regex.
    pub regex: Result<Regex, String>,
}

/// A percentage, 0 to 100: Istio's `Percent { value: double }`.
pub type Percent = Spanned<f64>;

/// Names and values in the order in which they were written.
pub type StringMap = Vec<(Spanned<String>, Spanned<String>)>;

/// The names of gRPC's status codes, each at its number.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
