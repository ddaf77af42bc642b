//! `kind: ServiceEntry`. Its endpoints: `workload_entry`.

use std::collections::HashSet;

use super::checks;
use super::protocol::{Family, family, unknown_protocol};
use super::report::{Report, conflict, missing, no_effect, unsupported, wrong};
use super::visibility::{self, Owner};
use super::workload_entry::{named_endpoints, static_endpoint};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::resource::Resource;
use crate::config::resource::service_entry::{Resolution, ServiceEntry, ServicePort};

fn family_of(port: &ServicePort) -> Family {
    port.protocol.as_ref().map_or(Family::Unset, |protocol| family(protocol))
}

/// Checks one ServiceEntry by itself.
pub(super) fn check(report: &mut Report, resource: &Resource<ServiceEntry>) {
    let spec = &resource.spec;
    let resolution = spec.resolution.as_ref().map_or(Resolution::None, |resolution| resolution.value);
    selector(report, spec, resolution);
    hosts(report, spec, resolution);
    addresses(report, spec, resolution);
    ports(report, spec, resolution);
    match resolution {
        Resolution::None => none(report, spec),
        Resolution::Static => {
            for endpoint in &spec.endpoints {
                static_endpoint(report, endpoint, spec);
            }
            if spec.endpoints.is_empty() && spec.workload_selector.is_none() {
                report.add(
                    Diagnostic::warning(
                        Kind::Value,
                        spec.place,
                        "a STATIC ServiceEntry without `endpoints` serves nothing",
                    )
                    .help("add `endpoints: [{address: 10.0.0.1}]`"),
                );
            }
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            named_endpoints(report, spec, resolution);
            hosts_with_addresses(report, spec);
        }
        Resolution::DynamicDns => dynamic(report, spec),
    }
    several_hosts(report, spec, resolution);
    visibility::check(report, &spec.export_to, &resource.metadata.namespace, Owner::ServiceEntry);
    mesh_only(report, spec);
}

fn selector(report: &mut Report, spec: &ServiceEntry, resolution: Resolution) {
    let Some(selector) = &spec.workload_selector else { return };
    checks::selector(report, selector);
    if selector.is_empty() {
        report.add(no_effect(selector.place, "an empty `workloadSelector` selects nothing").help("add `labels`"));
    }
    if let Some(first) = spec.endpoints.first() {
        report.add(conflict(first.place, "`workloadSelector` and `endpoints` exclude each other"));
    }
    if resolution != Resolution::Static {
        let message = "a `workloadSelector` is meant for `resolution: STATIC`";
        report.add(Diagnostic::warning(Kind::Value, selector.place, message));
    }
}

fn hosts(report: &mut Report, spec: &ServiceEntry, resolution: Resolution) {
    if spec.hosts.is_empty() {
        report.add(missing(spec.place, "a ServiceEntry needs at least one host"));
    }
    let resolved = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin) && spec.endpoints.is_empty();
    for host in &spec.hosts {
        if host.value == "*" {
            report.wrong(host.place, "`*` is no host of a service");
        } else if let Err(reason) = names::check_wildcard_domain(host) {
            report.add(checks::bad_host(host, &reason));
        } else if resolved && names::is_wildcard(host) && !host.starts_with("*.") {
            report.add(wrong(host.place, format!("`{}` cannot be resolved", host.value)).help("add `endpoints`"));
        } else if resolved && names::is_wildcard(host) && spec.workload_selector.is_none() {
            report.add(
                wrong(host.place, format!("`{}` cannot be resolved: a wildcard is no name", host.value))
                    .help("add `endpoints`, or name the hosts"),
            );
        } else if names::is_wildcard(host) && !host.starts_with("*.") {
            report.add(Diagnostic::warning(
                Kind::Value,
                host.place,
                format!("`{}`: a wildcard is a whole part of a name: `*.example.com`", host.value),
            ));
        }
    }
}

fn addresses(report: &mut Report, spec: &ServiceEntry, resolution: Resolution) {
    for address in &spec.addresses {
        checks::subnet(report, address);
        if address.contains('/') && !matches!(resolution, Resolution::None | Resolution::Static) {
            report
                .wrong(address.place, format!("`{}`: CIDR blocks need `resolution: STATIC` or `NONE`", address.value));
        }
    }
}

fn ports(report: &mut Report, spec: &ServiceEntry, resolution: Resolution) {
    let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
    if spec.ports.is_empty() {
        report.add(
            Diagnostic::warning(Kind::Value, spec.place, "a ServiceEntry without `ports` cannot be reached by port")
                .help("add `ports: [{number: 80, name: http, protocol: HTTP}]`"),
        );
    }
    for entry in &spec.ports {
        let Some(port) = entry else {
            report.wrong(spec.place, "an entry of `ports` is null");
            continue;
        };
        let place = |of: Place| if of.line == 0 { port.place } else { of };
        if port.name.is_empty() {
            report.add(missing(port.place, "`name` of the port is missing"));
        } else {
            checks::port_name(report, &port.name);
        }
        if !names.insert(port.name.as_str()) && !port.name.is_empty() {
            report.add(conflict(place(port.name.place), format!("the port name `{}` is there twice", port.name.value)));
        }
        if !numbers.insert(port.number.value) {
            report.add(conflict(place(port.number.place), format!("the port {} is there twice", port.number.value)));
        }
        checks::port(report, &Spanned::new(port.number.value, place(port.number.place)));
        if let Some(target) = port.target_port.as_ref().filter(|target| target.value != 0) {
            checks::port(report, target);
            if resolution == Resolution::None {
                report.add(no_effect(target.place, "`targetPort` has no effect with `resolution: NONE`"));
            }
        }
        protocol(report, port, spec);
    }
}

fn protocol(report: &mut Report, port: &ServicePort, spec: &ServiceEntry) {
    let warn = |message: String| Diagnostic::warning(Kind::Value, port.place, message);
    match (family_of(port), &port.protocol) {
        (Family::Unknown, Some(protocol)) => report.add(unknown_protocol(protocol)),
        (Family::Unset, _) if spec.addresses.is_empty() => {
            report.add(
                warn(format!("the port `{}` has no protocol, and is taken as HTTP", port.name.value))
                    .help("write `protocol: HTTP`"),
            );
        }
        (Family::Other, Some(protocol)) => {
            report.add(no_effect(
                protocol.place,
                format!(
                    "the port `{}` has no effect: this proxy forwards HTTP, not {}",
                    port.name.value, protocol.value
                ),
            ));
        }
        _ => {}
    }
}

fn none(report: &mut Report, spec: &ServiceEntry) {
    report.add(match spec.endpoints.first() {
        Some(first) => {
            conflict(first.place, "a ServiceEntry with `resolution: NONE`, the default, cannot have `endpoints`")
                .help("write `resolution: STATIC`")
        }
        None => {
            let (what, place) = match &spec.resolution {
                Some(written) => ("`resolution: NONE`", written.place),
                None => ("without `resolution`, which is NONE then, a ServiceEntry", spec.place),
            };
            let message = format!("{what} sends to the original destination, which a reverse proxy does not know");
            let resolved = !spec.hosts.iter().any(|host| names::is_wildcard(host));
            unsupported(place, message).help(match resolved {
                true => "write `resolution: DNS`, or `resolution: STATIC` with `endpoints`",
                false => "write `resolution: STATIC` or `DNS` with `endpoints`: a wildcard cannot be resolved",
            })
        }
    });
}

fn dynamic(report: &mut Report, spec: &ServiceEntry) {
    let place = spec.resolution.as_ref().map_or(spec.place, |resolution| resolution.place);
    if let Some(first) = spec.endpoints.first() {
        report.add(conflict(first.place, "a ServiceEntry with `resolution: DYNAMIC_DNS` cannot have `endpoints`"));
    }
    if let Some(first) = spec.addresses.first() {
        report.add(conflict(first.place, "a ServiceEntry with `resolution: DYNAMIC_DNS` cannot have `addresses`"));
    }
    if !spec.hosts.iter().any(|host| names::is_wildcard(host)) {
        report.wrong(place, "`resolution: DYNAMIC_DNS` needs a wildcard among the hosts");
    }
    report.add(
        unsupported(place, "`resolution: DYNAMIC_DNS` sends wherever the client says, which this proxy does not do")
            .help("name the hosts, and write `resolution: DNS`"),
    );
}

/// A connection to a shared address says nothing of the host it is for.
fn hosts_with_addresses(report: &mut Report, spec: &ServiceEntry) {
    let udp = |port: &ServicePort| port.protocol.as_ref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("UDP"));
    let layer4 = |port: &ServicePort| matches!(family_of(port), Family::Tls | Family::Other) && !udp(port);
    if !spec.addresses.is_empty() && spec.hosts.len() > 1 && spec.ports.iter().flatten().any(layer4) {
        let message = "several hosts with `addresses` and a TCP port cannot be told apart";
        report.add(Diagnostic::warning(Kind::Value, spec.hosts[1].place, message));
    }
}

/// TCP has nothing by which to tell hosts apart.
fn several_hosts(report: &mut Report, spec: &ServiceEntry, resolution: Resolution) {
    if resolution == Resolution::None || spec.hosts.len() < 2 {
        return;
    }
    let opaque = |port: &&ServicePort| !matches!(family_of(port), Family::Http | Family::Tls);
    if let Some(port) = spec.ports.iter().flatten().find(opaque) {
        let place = port.protocol.as_ref().map_or(port.place, |protocol| protocol.place);
        report.add(
            wrong(place, "several hosts need ports of HTTP or TLS: nothing else tells them apart")
                .help("write `protocol: HTTP`, or one ServiceEntry for each host"),
        );
    }
}

/// Fields that mean something to a mesh only.
fn mesh_only(report: &mut Report, spec: &ServiceEntry) {
    let fields = [
        ("location", spec.location.as_ref().map(|location| location.place)),
        ("addresses", spec.addresses.first().map(|address| address.place)),
        ("subjectAltNames", spec.subject_alt_names.first().map(|name| name.place)),
    ];
    for (name, place) in fields.into_iter().filter_map(|(name, place)| Some((name, place?))) {
        report.add(no_effect(place, format!("`{name}` has no effect: it describes the service to a mesh")));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, each_passes, warnings};

    const PORTS: &str = "  ports: [{number: 80, name: http, protocol: HTTP}]";

    fn entry(fields: &str) -> String {
        let ports = if fields.contains("ports: [{number") || fields.contains("ports: [null") { "" } else { PORTS };
        let hosts = if fields.contains("hosts:") { "" } else { "\n  hosts: [a.com]" };
        format!("{ports}{hosts}\n  {fields}")
    }

    fn fails(cases: &[(&str, &str)]) {
        let specs: Vec<_> = cases.iter().map(|(fields, wanted)| (entry(fields), *wanted)).collect();
        each_fails("ServiceEntry", &specs.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect::<Vec<_>>());
    }

    #[test]
    fn hosts_ports_and_addresses() {
        fails(&[
            ("hosts: []\n  resolution: DNS", "at least one host"),
            ("hosts: ['*']\n  resolution: STATIC", "is no host of a service"),
            ("hosts: ['-']\n  resolution: STATIC", "is no host name"),
            ("hosts: ['*.a.com']\n  resolution: DNS", "a wildcard is no name"),
            (
                "resolution: STATIC\n  ports: [{number: 80, name: a}, {number: 80, name: b}]",
                "the port 80 is there twice",
            ),
            (
                "resolution: STATIC\n  ports: [{number: 80, name: a}, {number: 81, name: a}]",
                "the port name `a` is there twice",
            ),
            ("resolution: STATIC\n  ports: [{number: 80}]", "`name` of the port is missing"),
            ("resolution: STATIC\n  ports: [{number: 80, name: a_b}]", "is no port name"),
            ("resolution: STATIC\n  ports: [{number: 80, name: a, protocol: QUIC}]", "is no protocol"),
            ("resolution: STATIC\n  ports: [{number: 80, name: a, targetPort: 70000}]", "is not between 1 and 65535"),
            ("resolution: DNS\n  addresses: [10.0.0.0/8]", "CIDR blocks need"),
            ("resolution: STATIC\n  addresses: [10.0.0.0/33]", "neither an IP address nor a CIDR block"),
            (
                "hosts: [a.b, c.d]\n  resolution: STATIC\n  ports: [{number: 80, name: a, protocol: TCP}]",
                "nothing else tells them apart",
            ),
        ]);
    }

    #[test]
    fn each_resolution_has_its_endpoints() {
        fails(&[
            ("endpoints: [{address: 10.0.0.1}]", "`resolution: NONE`, the default, cannot have `endpoints`"),
            ("resolution: NONE", "original destination"),
            ("resolution: DYNAMIC_DNS", "needs a wildcard"),
            ("resolution: STATIC\n  endpoints: [{address: v1.internal}]", "is no IP address"),
            ("resolution: STATIC\n  endpoints: [{}]", "`address` is missing"),
            ("resolution: STATIC\n  endpoints: [{address: 'unix://./a'}]", "no absolute path"),
            ("resolution: STATIC\n  endpoints: [{address: 'unix:///a', ports: {http: 80}}]", "has no `ports`"),
            ("resolution: STATIC\n  endpoints: [{address: 10.0.0.1, ports: {htpp: 80}}]", "no port of the name `htpp`"),
            ("resolution: DNS\n  endpoints: [{address: 'unix:///a'}]", "neither an IP address nor a DNS name"),
            ("resolution: DNS_ROUND_ROBIN\n  endpoints: [{address: a.b}, {address: c.d}]", "one endpoint at most"),
            (
                "resolution: STATIC\n  workloadSelector: {labels: {a: b}}\n  endpoints: [{address: 10.0.0.1}]",
                "exclude each other",
            ),
        ]);
        let fine = [
            "resolution: STATIC\n  endpoints: [{address: 10.0.0.1, ports: {http: 8080}}, {address: '::1'}]",
            "resolution: STATIC\n  endpoints: [{address: localhost}]",
            "resolution: DNS",
            "resolution: DNS\n  endpoints: [{address: b.c}, {address: 10.0.0.1}]",
            "hosts: ['*.a.com']\n  resolution: STATIC\n  endpoints: [{address: 10.0.0.1}]",
        ];
        each_passes("ServiceEntry", &fine.map(entry).each_ref().map(String::as_str));
    }

    #[test]
    fn what_only_a_mesh_understands_is_said_to_do_nothing() {
        let found = warnings(
            "ServiceEntry",
            &entry(
                "resolution: STATIC\n  location: MESH_INTERNAL\n  exportTo: ['.']\n  endpoints: [{address: localhost, network: n}]",
            ),
        );
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().any(|message| message.contains("Istio would refuse the name `localhost`")));
    }

    #[test]
    fn visibility_is_checked_and_not_enforced() {
        fails(&[
            ("resolution: DNS\n  exportTo: ['*', a]", "stands alone"),
            ("resolution: DNS\n  exportTo: [a, a]", "twice"),
            ("resolution: DNS\n  exportTo: ['.', default]", "twice"),
            ("resolution: DNS\n  exportTo: [a_]", "neither a namespace"),
            ("resolution: DNS\n  exportTo: ['~']", "hides this resource"),
        ]);
        each_passes("ServiceEntry", &[&entry("resolution: DNS\n  exportTo: ['*']")]);
    }
}
