//! What happened: every metric Serin counts, and the text Prometheus reads.
//!
//! A configuration resolves its handles once, when it is compiled: [`Metrics::destination`] for a version,
//! [`Metrics::route`] for a version reached through one route. A request then only adds to cells that belong to its
//! own worker ([`Worker`]): no look-up, no lock, no formatting, no locked instruction. [`Metrics::render`] adds the
//! workers' cells up, on whatever thread asks.
//!
//! This module imports nothing of Serin but faults for tests; the words it exposes as label values come from the configuration, from
//! status codes and from closed enums, never from a request.

pub mod access_log;
mod connections;
mod destination;
mod dns;
mod exposition;
mod failure;
mod flag;
mod histogram;
mod identity;
mod limit;
pub mod log;
mod metrics;
mod names;
mod overload;
mod panics;
mod record;
mod reload;
mod report;
mod rollout;
mod route;
mod scale;
mod shard;
mod stalls;
#[cfg(test)]
mod tests;
mod trial;
mod wire;

pub use connections::{Closing, ConnectionMetrics, Shortage};
pub use destination::{DestinationMetrics, EndpointMetrics};
pub use dns::{DnsFailure, DnsMetrics};
pub use failure::{Blame, ProxyError};
pub use flag::{Flag, Flags};
pub use histogram::Distribution;
pub use limit::{LABEL_SETS, OTHER};
pub use metrics::{ActiveRoute, Metrics, NONE};
pub use overload::{OverloadMetrics, Shed};
pub use panics::{finish_reports, report_panics};
pub use record::{AttemptResult, Finished, MirrorResult};
pub use reload::{ReloadMetrics, ReloadResult, ReloadTrigger, SnapshotToken};
pub use report::{Codes, RouteSummary, Tally, VersionSummary};
pub use rollout::{EvidenceGauges, ROLLOUT_STATES, RolloutGauges, RolloutMetrics};
pub use route::RouteMetrics;
pub use scale::Buckets;
pub use shard::Worker;
pub use stalls::WorkerStalls;
pub use trial::{Arm, Counts, Entrant, Look, Mishap, Ticket, Trial, Wrong};
