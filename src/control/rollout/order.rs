//! What a configuration orders of the releases: each `kind: Canary`, resolved to the rule that it moves.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::config::release::Gate as GateOrder;
use crate::rollout::Plan;

/// One release as the configuration in force orders it.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// By what people and files call it: `metadata.name`, behind `namespace/` where that is not the default one.
    pub name: String,
    /// What is asked; its `slower_than` is still open where [`Latency::Auto`] stands.
    pub plan: Plan,
    /// What is slow.
    pub latency: Latency,
    /// The rule whose weights it moves.
    pub rule: RuleAddress,
    /// Place of the stable version among the destinations of the rule, from 0.
    pub stable: usize,
    /// That of the canary.
    pub canary: usize,
    /// The weights in the file, in the order written.
    pub declared: Vec<u64>,
    /// What starts it.
    pub start: Start,
    /// Whether the stable version answers what the canary fails to.
    pub shield: bool,
    /// Bounds on what a Prometheus says.
    pub gates: Vec<GateOrder>,
    /// Who is told.
    pub webhooks: Vec<WebhookOrder>,
}

/// A rule of a VirtualService.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleAddress {
    /// The namespace of the VirtualService in which it is written.
    pub namespace: String,
    /// Its name.
    pub virtual_service: String,
    /// The number of the rule in it, from 0.
    pub number: usize,
}

/// Beyond which time an answer is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// 1.2 times the p99 of the stable version before the release, rounded up to a bucket edge.
    Auto,
    /// Beyond this, rounded up to a bucket edge.
    Fixed(Duration),
    /// Latency is not judged.
    Off,
}

/// What starts a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A person.
    Manual,
    /// The first endpoint of the canary's subset.
    OnSubset,
}

/// Somebody who is told of what a release does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookOrder {
    /// Where to.
    pub url: String,
    /// Of what: names as [`crate::rollout::Transition::webhook`] gives them; empty means all.
    pub events: Vec<String>,
    /// The file with the key of the HMAC signature.
    pub secret: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How often it is tried again.
    pub retries: u32,
}

impl Order {
    /// The canary's percentage in the file, rounded.
    pub fn declared_percent(&self) -> u32 {
        let total: u64 = self.declared.iter().sum();
        let canary = self.declared.get(self.canary).copied().unwrap_or_default();
        let percent = (canary * 100 + total / 2).checked_div(total).unwrap_or(0);
        u32::try_from(percent).unwrap_or(100)
    }
}
