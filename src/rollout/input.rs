//! What a release is told: bad events, counters, gates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// Which of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Arm {
    /// The version that serves now.
    Stable,
    /// The version that is released.
    Canary,
}

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Test {
    /// A 5xx, connect failure, reset or timeout of the first attempt.
    Error,
    /// The first attempt got older than τ before its response headers came.
    Slow,
}

/// One bad event of one counted request: routed by the coin (no header match, no mirrored copy), its first attempt.
///
/// To be handed in by routing time, as [`super::Watermark`] releases them. Those routed in a warm-up may come: they are left out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bad {
    /// When its request was routed, as running time of the release.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// The version that the coin chose.
    pub arm: Arm,
    /// What was bad about it. A request that is both slow and failed is two events.
    pub test: Test,
    /// The canary's share, 0 to 1, in force when it was routed.
    pub share: f64,
    /// The hashed key of a sticky route, where the coin belongs to the key; none elsewhere.
    pub key: Option<u64>,
}

/// Counters of one version that only grow: since the process began, or any other moment that stays the same between two
/// restarts of the process. The machine subtracts what does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Counted requests (see [`Bad`]) that were routed to this version, finished or not.
    pub routed: u64,
    /// Those that have ended, well or not.
    pub finished: u64,
    /// Times from the request sent to its response headers, by bucket of [`super::Plan::latency_edges`] and one more
    /// for the longer ones. Not cumulative over the buckets. Requests without headers are in none.
    pub latency: Vec<u64>,
}

/// The counters of both versions, read at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Of the stable version.
    pub stable: Count,
    /// Of the canary.
    pub canary: Count,
}

/// What a Prometheus gate said last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// One of [`super::Analysis::gates`].
    pub name: String,
    /// Whether the release may go on.
    pub state: GateState,
    /// The value that the query gave.
    pub value: Option<f64>,
    /// For people: the bound, or why there is no value.
    pub detail: String,
}

/// Whether a gate lets the release go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GateState {
    /// The value is inside its bound.
    Inside,
    /// It is outside: the release holds.
    Outside,
    /// There is no fresh value: the release holds.
    Unreachable,
}

/// Two bucket edges between which a quantile lies: above `above`, at most `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower edge.
    #[serde(with = "seconds")]
    pub above: Duration,
    /// Upper edge; none: beyond the last.
    #[serde(with = "seconds::option")]
    pub up_to: Option<Duration>,
}
