//! Values that several resources share.

use std::time::Duration;

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

/// A duration as an operator would write it: `2h`, `1m30s`, `1.5s`, `350ms`.
pub fn written(duration: Duration) -> String {
    let (seconds, rest) = (duration.as_secs(), duration.subsec_nanos());
    if rest != 0 || seconds == 0 {
        return if duration.is_zero() { "0s".to_owned() } else { format!("{duration:?}") };
    }
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for (milliseconds, text) in
            [(0, "0s"), (350, "350ms"), (1_500, "1.5s"), (60_000, "1m"), (90_000, "1m30s"), (7_205_000, "2h5s")]
        {
            assert_eq!(written(Duration::from_millis(milliseconds)), text);
        }
    }
}
