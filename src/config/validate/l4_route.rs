//! `tls` and `tcp` rules. They are not served, but what is wrong with them is still said.

use std::collections::HashMap;

use super::report::{Report, missing};
use super::{checks, virtual_service, weights};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::resource::virtual_service::{
    RouteDestination, TcpMatch, TcpRoute, TlsMatch, TlsRoute, VirtualService,
};

/// Checks one entry of `tls`.
pub(super) fn tls(report: &mut Report, route: &TlsRoute, spec: &VirtualService) {
    if route.matches.is_empty() {
        report.add(missing(route.place, "a TLS rule needs a `match`"));
    }
    for block in &route.matches {
        tls_match(report, block, spec);
    }
    destinations(report, &route.route, route.place, "TLS");
}

fn tls_match(report: &mut Report, block: &TlsMatch, spec: &VirtualService) {
    if block.sni_hosts.is_empty() {
        report.add(missing(block.place, "a TLS match needs `sniHosts`"));
    }
    for host in &block.sni_hosts {
        sni_host(report, host, spec);
    }
    attributes(report, &block.destination_subnets, block.port.as_ref(), &block.gateways);
    checks::labels(report, &block.source_labels);
}

fn sni_host(report: &mut Report, host: &Spanned<String>, spec: &VirtualService) {
    let made_by_istio = host.starts_with("outbound_.") && !virtual_service::serves_mesh(spec);
    if let Err(reason) = names::check_wildcard_domain(host)
        && !made_by_istio
    {
        if checks::is_ip(host) {
            let message = format!("`{}` is an address: clients send names as SNI", host.value);
            report.add(Diagnostic::warning(Kind::Value, host.place, message));
        } else {
            report.add(checks::bad_host(host, &reason));
        }
        return;
    }
    if !spec.hosts.iter().any(|wide| names::covers(wide, host)) {
        report
            .wrong(host.place, format!("the SNI host `{}` is none of the `hosts` of this VirtualService", host.value));
    }
}

/// Checks one entry of `tcp`.
pub(super) fn tcp(report: &mut Report, route: &TcpRoute) {
    for block in &route.matches {
        attributes(report, &block.destination_subnets, block.port.as_ref(), &block.gateways);
        checks::labels(report, &block.source_labels);
    }
    destinations(report, &route.route, route.place, "TCP");
}

fn attributes(
    report: &mut Report,
    subnets: &[Spanned<String>],
    port: Option<&Spanned<i64>>,
    gateways: &[Spanned<String>],
) {
    for subnet in subnets {
        checks::subnet(report, subnet);
    }
    if let Some(port) = port.filter(|port| port.value != 0) {
        checks::port(report, port);
    }
    for gateway in gateways {
        virtual_service::gateway_name(report, gateway);
    }
}

fn destinations(report: &mut Report, route: &[RouteDestination], place: Place, kind: &str) {
    if route.is_empty() {
        report.add(missing(place, format!("a {kind} rule needs a `route`")));
    }
    for entry in route {
        match &entry.destination {
            Some(destination) => weights::destination(report, destination),
            None => report.add(missing(entry.place, "`destination` is missing")),
        }
    }
    let all: Vec<_> = route.iter().map(|entry| (entry.weight.as_ref(), entry.place)).collect();
    if weights::single_weights(report, &all) {
        weights::sum(report, &all, true);
    }
}

/// Rules that come after one with the same conditions, or after one with none.
pub(super) fn unreachable(report: &mut Report, spec: &VirtualService) {
    let tls = spec.tls.iter().map(|route| (route.place, route.matches.iter().map(tls_key).collect()));
    shadowed(report, tls);
    let tcp = spec.tcp.iter().map(|route| (route.place, route.matches.iter().map(tcp_key).collect()));
    shadowed(report, tcp);
}

fn tls_key(block: &TlsMatch) -> (Place, String) {
    let key = (&block.sni_hosts, &block.destination_subnets, &block.port, &block.source_labels, &block.gateways);
    (block.place, format!("{key:?}{:?}", block.source_namespace))
}

fn tcp_key(block: &TcpMatch) -> (Place, String) {
    let key = (&block.destination_subnets, &block.port, &block.source_subnet, &block.source_labels, &block.gateways);
    (block.place, format!("{key:?}{:?}", block.source_namespace))
}

fn shadowed(report: &mut Report, routes: impl Iterator<Item = (Place, Vec<(Place, String)>)>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut catch_all = None;
    for (index, (place, blocks)) in routes.enumerate() {
        if let Some(earlier) = catch_all {
            let message = format!("rule {index} is never reached: rule {earlier} takes everything");
            report.add(super::report::dead(place, message).code("IST0130"));
        }
        if blocks.is_empty() {
            catch_all = catch_all.or(Some(index));
            continue;
        }
        let all = blocks.len();
        let mut used = 0;
        for (place, key) in blocks {
            if let Some(earlier) = seen.get(&key) {
                used += 1;
                let message = format!("this match never matters: rule {earlier} has the same");
                report.add(super::report::dead(place, message).code("IST0131"));
            } else {
                seen.insert(key, index);
            }
        }
        if used == all {
            let message = format!("rule {index} is never reached: earlier rules take all of its matches");
            report.add(super::report::dead(place, message).code("IST0130"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, warnings};

    #[test]
    fn rules_that_are_not_served_are_still_checked() {
        let cases = [
            ("tcp: [{}]", "a TCP rule needs a `route`"),
            ("tcp: [{match: [{destinationSubnets: [x]}], route: [{destination: {host: b}}]}]", "neither an IP address"),
            ("tls: [{route: [{destination: {host: b}}]}]", "a TLS rule needs a `match`"),
            ("tls: [{match: [{}], route: [{destination: {host: b}}]}]", "needs `sniHosts`"),
            ("tls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: b}}]}]", "none of the `hosts`"),
            ("tcp: [{route: [{destination: {host: b}}, {destination: {host: c}}]}]", "sum to 0"),
        ];
        let specs: Vec<_> =
            cases.iter().map(|(rules, wanted)| (format!("  hosts: ['*.a.com']\n  {rules}"), *wanted)).collect();
        each_fails("VirtualService", &specs.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect::<Vec<_>>());
    }

    #[test]
    fn rules_with_the_same_conditions_are_dead() {
        let rule = "{match: [{port: 1}], route: [{destination: {host: b}}]}";
        let found = warnings("VirtualService", &format!("  hosts: [a]\n  tcp: [{rule}, {rule}]"));
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
