//! `kind: ServiceEntry` and `kind: WorkloadEntry`: where the endpoints of a host are.

use crate::config::place::{Place, Spanned};
use crate::config::value::StringMap;

/// `spec` of a ServiceEntry.
#[derive(Clone, Debug, Default)]
pub struct ServiceEntry {
    /// Names of the service.
    pub hosts: Vec<Spanned<String>>,
    /// `addresses`: virtual IPs.
    pub addresses: Vec<Spanned<String>>,
    /// `ports`; a null entry is `None`.
    pub ports: Vec<Option<ServicePort>>,
    /// `location`.
    pub location: Option<Spanned<Location>>,
    /// `resolution`; absent is `NONE`.
    pub resolution: Option<Spanned<Resolution>>,
    /// `endpoints`.
    pub endpoints: Vec<WorkloadEntry>,
    /// `workloadSelector.labels`.
    pub workload_selector: Option<Spanned<StringMap>>,
    /// `exportTo`.
    pub export_to: Vec<Spanned<String>>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<Spanned<String>>,
    /// Where `spec` stands.
    pub place: Place,
}

/// One entry of `ports`.
#[derive(Clone, Debug, Default)]
pub struct ServicePort {
    /// `number`; 0 when absent.
    pub number: Spanned<i64>,
    /// `protocol`; absent or empty means that it is to be sniffed.
    pub protocol: Option<Spanned<String>>,
    /// `name`; empty when absent.
    pub name: Spanned<String>,
    /// `targetPort`.
    pub target_port: Option<Spanned<i64>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// `MESH_EXTERNAL`.
    MeshExternal,
    /// `MESH_INTERNAL`.
    MeshInternal,
}

/// `resolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// `NONE`.
    None,
    /// `STATIC`.
    Static,
    /// `DNS`.
    Dns,
    /// `DNS_ROUND_ROBIN`.
    DnsRoundRobin,
    /// `DYNAMIC_DNS`.
    DynamicDns,
}

/// `spec` of a WorkloadEntry, which is also one entry of `endpoints`.
#[derive(Clone, Debug, Default)]
pub struct WorkloadEntry {
    /// `address`; empty when absent.
    pub address: Spanned<String>,
    /// `ports`: by name of the service port.
    pub ports: Vec<(Spanned<String>, Spanned<i64>)>,
    /// `labels`.
    pub labels: StringMap,
    /// `network`.
    pub network: Option<Spanned<String>>,
    /// `locality`.
    pub locality: Option<Spanned<String>>,
    /// `weight`; absent or 0 is 1.
    pub weight: Option<Spanned<i64>>,
    /// `serviceAccount`.
    pub service_account: Option<Spanned<String>>,
    /// Where the entry begins.
    pub place: Place,
}
