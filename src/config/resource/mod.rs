//! The resources as the operator wrote them: types that mirror the YAML one to one. No rule is applied here.

pub mod canary;
pub mod destination_rule;
pub mod gateway;
pub mod service_entry;
pub mod virtual_service;

use std::time::SystemTime;

use super::place::{Place, Spanned};
use super::value::StringMap;

pub use canary::Canary;
pub use destination_rule::DestinationRule;
pub use gateway::Gateway;
pub use service_entry::{ServiceEntry, WorkloadEntry};
pub use virtual_service::VirtualService;

/// A resource with its envelope.
#[derive(Clone, Debug)]
pub struct Resource<S> {
    /// `metadata`.
    pub metadata: Metadata,
    /// `spec`.
    pub spec: S,
    /// Where the document begins.
    pub place: Place,
}

/// The part of `metadata` that means something here.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Name; empty when absent.
    pub name: Spanned<String>,
    /// Namespace; `default` when absent.
    pub namespace: Spanned<String>,
    /// `creationTimestamp`, which orders resources for one host.
    pub created: Option<SystemTime>,
    /// Labels.
    pub labels: StringMap,
    /// Annotations, among them Serin's own `serin.dev/…`.
    pub annotations: StringMap,
}

impl Metadata {
    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&Spanned<String>> {
        self.annotations.iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
    }
}

/// Everything that was loaded together, in the order of the sources.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// `kind: VirtualService`.
    pub virtual_services: Vec<Resource<VirtualService>>,
    /// `kind: DestinationRule`.
    pub destination_rules: Vec<Resource<DestinationRule>>,
    /// `kind: ServiceEntry`.
    pub service_entries: Vec<Resource<ServiceEntry>>,
    /// `kind: WorkloadEntry`.
    pub workload_entries: Vec<Resource<WorkloadEntry>>,
    /// `kind: Gateway` of networking.istio.io.
    pub gateways: Vec<Resource<Gateway>>,
    /// `kind: Canary` of serin.dev. Completed: [`releases`](crate::config::release::releases).
    pub canaries: Vec<Resource<Canary>>,
}

impl Resources {
    /// The VirtualServices that answer for hosts; the others are those that these delegate to.
    pub fn with_hosts(&self) -> impl Iterator<Item = &Resource<VirtualService>> {
        self.virtual_services.iter().filter(|resource| !resource.spec.hosts.is_empty())
    }
}
