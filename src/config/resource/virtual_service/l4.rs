//! `tls` and `tcp` of a VirtualService: rules for connections whose requests nobody reads.

use super::Destination;
use crate::config::place::{Place, Spanned};
use crate::config::value::StringMap;

/// One entry of `tls`.
#[derive(Clone, Debug, Default)]
pub struct TlsRoute {
    /// `match`.
    pub matches: Vec<TlsMatch>,
    /// `route`.
    pub route: Vec<RouteDestination>,
    /// Where the rule begins.
    pub place: Place,
}

/// One entry of `tls[].match`.
#[derive(Clone, Debug, Default)]
pub struct TlsMatch {
    /// `sniHosts`.
    pub sni_hosts: Vec<Spanned<String>>,
    /// `destinationSubnets`.
    pub destination_subnets: Vec<Spanned<String>>,
    /// `port`.
    pub port: Option<Spanned<i64>>,
    /// `sourceLabels`.
    pub source_labels: StringMap,
    /// `gateways`.
    pub gateways: Vec<Spanned<String>>,
    /// `sourceNamespace`.
    pub source_namespace: Option<Spanned<String>>,
    /// Where the block begins.
    pub place: Place,
}

/// One entry of `tcp`.
#[derive(Clone, Debug, Default)]
pub struct TcpRoute {
    /// `match`.
    pub matches: Vec<TcpMatch>,
    /// `route`.
    pub route: Vec<RouteDestination>,
    /// Where the rule begins.
    pub place: Place,
}

/// One entry of `tcp[].match`.
#[derive(Clone, Debug, Default)]
pub struct TcpMatch {
    /// `destinationSubnets`.
    pub destination_subnets: Vec<Spanned<String>>,
    /// `port`.
    pub port: Option<Spanned<i64>>,
    /// `sourceSubnet`.
    pub source_subnet: Option<Spanned<String>>,
    /// `sourceLabels`.
    pub source_labels: StringMap,
    /// `gateways`.
    pub gateways: Vec<Spanned<String>>,
    /// `sourceNamespace`.
    pub source_namespace: Option<Spanned<String>>,
    /// Where the block begins.
    pub place: Place,
}

/// One destination of a `tls` or `tcp` rule.
#[derive(Clone, Debug, Default)]
pub struct RouteDestination {
    /// `destination`.
    pub destination: Option<Destination>,
    /// `weight`.
    pub weight: Option<Spanned<i64>>,
    /// Where the entry begins.
    pub place: Place,
}
