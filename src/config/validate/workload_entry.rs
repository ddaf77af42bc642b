//! `kind: WorkloadEntry`, and the endpoints of a ServiceEntry, which are written the same way.

use std::collections::HashSet;

use super::checks;
use super::report::{Report, conflict, missing, no_effect, wrong};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::Resource;
use crate::config::resource::service_entry::{Resolution, ServiceEntry, WorkloadEntry};

/// Checks one WorkloadEntry by itself. Whether it is for STATIC or for DNS is not known here.
pub(super) fn check(report: &mut Report, resource: &Resource<WorkloadEntry>) {
    let entry = &resource.spec;
    let address = &entry.address;
    address_given(report, entry);
    if let Some(path) = address.strip_prefix("unix://") {
        unix(report, entry, path);
    } else if !address.is_empty() {
        ip_or_name(report, address);
    }
    endpoint_rest(report, entry, None);
}

pub(super) fn static_endpoint(report: &mut Report, endpoint: &WorkloadEntry, spec: &ServiceEntry) {
    let address = &endpoint.address;
    address_given(report, endpoint);
    if let Some(path) = address.strip_prefix("unix://") {
        unix(report, endpoint, path);
        if spec.ports.len() != 1 {
            report.wrong(address.place, "a Unix socket needs a service with exactly one port");
        }
    } else if address.value == "localhost" {
        report.add(
            Diagnostic::warning(
                Kind::Value,
                address.place,
                "Istio would refuse the name `localhost` in a STATIC ServiceEntry",
            )
            .help("write `127.0.0.1`, if this file is for Istio, too"),
        );
    } else if !address.is_empty() && !checks::is_ip(address) {
        report.add(
            wrong(address.place, format!("`{}` is no IP address, which `resolution: STATIC` asks for", address.value))
                .help("write `resolution: DNS` to have names resolved"),
        );
    }
    endpoint_rest(report, endpoint, Some(spec));
}

pub(super) fn named_endpoints(report: &mut Report, spec: &ServiceEntry, resolution: Resolution) {
    if let (Resolution::DnsRoundRobin, Some(second)) = (resolution, spec.endpoints.get(1)) {
        report
            .add(conflict(second.place, "a ServiceEntry with `resolution: DNS_ROUND_ROBIN` has one endpoint at most"));
    }
    for endpoint in &spec.endpoints {
        let address = &endpoint.address;
        if address.is_empty() {
            report.add(missing(endpoint.place, "`address` of the endpoint is missing"));
        } else {
            ip_or_name(report, address);
        }
        endpoint_rest(report, endpoint, Some(spec));
    }
}

fn ip_or_name(report: &mut Report, address: &Spanned<String>) {
    if !checks::is_ip(address)
        && let Err(reason) = names::check_domain(address)
    {
        report.wrong(address.place, format!("`{}` is neither an IP address nor a DNS name: {reason}", address.value));
    }
}

fn address_given(report: &mut Report, entry: &WorkloadEntry) {
    if !entry.address.is_empty() {
        return;
    }
    let network = entry.network.as_ref().filter(|network| !network.is_empty());
    report.add(match network {
        Some(network) => no_effect(
            network.place,
            format!("an endpoint without `address`, in network `{}`, is never used here", network.value),
        ),
        None => missing(entry.place, "`address` is missing"),
    });
}

fn unix(report: &mut Report, entry: &WorkloadEntry, path: &str) {
    checks::unix_path(report, &entry.address, path);
    if let Some((name, _)) = entry.ports.first() {
        report.add(conflict(name.place, "an endpoint on a Unix socket has no `ports`"));
    }
}

fn endpoint_rest(report: &mut Report, entry: &WorkloadEntry, service: Option<&ServiceEntry>) {
    let declared: Option<HashSet<&str>> =
        service.map(|spec| spec.ports.iter().flatten().map(|port| port.name.as_str()).collect());
    for (name, port) in &entry.ports {
        let valid = checks::port_name(report, name);
        if let Some(declared) = declared.as_ref().filter(|declared| valid && !declared.contains(name.as_str())) {
            let found = wrong(name.place, format!("the service has no port of the name `{}`", name.value));
            report.add(match names::nearest(name, declared.iter().copied()) {
                Some(meant) => found.help(format!("did you mean `{meant}`?")),
                None => found,
            });
        }
        checks::port(report, port);
    }
    checks::labels(report, &entry.labels);
    checks::count(report, "weight", entry.weight.as_ref());
    for (name, value) in
        [("network", &entry.network), ("serviceAccount", &entry.service_account), ("locality", &entry.locality)]
    {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            report.add(no_effect(value.place, format!("`{name}` of an endpoint has no effect here")));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, each_passes};

    #[test]
    fn workload_entries_stand_by_themselves() {
        each_fails(
            "WorkloadEntry",
            &[
                ("  labels: {a: b}", "`address` is missing"),
                ("  address: 'a.b:9443'", "neither an IP address nor a DNS name"),
                ("  address: 10.0.0.1\n  ports: {'@': 80}", "is no port name"),
                ("  address: 10.0.0.1\n  ports: {http: 0}", "is not between 1 and 65535"),
                ("  address: 'unix://@a'\n  ports: {http: 80}", "has no `ports`"),
            ],
        );
        each_passes(
            "WorkloadEntry",
            &["  address: a.b", "  address: 10.0.0.1\n  labels: {a: b}", "  address: 'unix://@a'", "  network: n"],
        );
    }
}
