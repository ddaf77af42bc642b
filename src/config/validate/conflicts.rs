//! Resources that contradict each other.

use foldhash::HashMap;

use super::report::{Report, conflict};
use super::virtual_service;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Place;
use crate::config::resource::{Metadata, Resource, Resources};
use crate::config::traffic::seniority;

/// Looks for resources that are there twice, hosts that have two VirtualServices, and services of two protocols.
pub(super) fn check(report: &mut Report, resources: &Resources) {
    twice(report, "VirtualService", &resources.virtual_services);
    twice(report, "DestinationRule", &resources.destination_rules);
    twice(report, "ServiceEntry", &resources.service_entries);
    twice(report, "WorkloadEntry", &resources.workload_entries);
    twice(report, "Gateway", &resources.gateways);
    twice(report, "Canary", &resources.canaries);
    mesh_hosts(report, resources);
    protocols(report, resources);
}

/// `namespace/name`, as resources are called.
pub(super) fn full_name(metadata: &Metadata) -> String {
    format!("{}/{}", metadata.namespace.value, metadata.name.value)
}

fn twice<S>(report: &mut Report, kind: &str, resources: &[Resource<S>]) {
    let mut seen: HashMap<(&str, &str), Place> = HashMap::default();
    for resource in resources.iter().filter(|resource| !resource.metadata.name.is_empty()) {
        let key = (resource.metadata.namespace.as_str(), resource.metadata.name.as_str());
        if let Some(earlier) = seen.insert(key, resource.place) {
            let message = format!("the {kind} `{}` is there twice", full_name(&resource.metadata));
            let help = "give them different names, or remove one of them";
            report.add(conflict(resource.metadata.name.place, message).help(help).contradicting(earlier));
        }
    }
}

/// The oldest VirtualService of a host would have it alone, so that the others were dead.
fn mesh_hosts(report: &mut Report, resources: &Resources) {
    let mut order: Vec<_> =
        resources.virtual_services.iter().filter(|resource| virtual_service::serves_mesh(&resource.spec)).collect();
    order.sort_by(|a, b| seniority(&a.metadata).cmp(&seniority(&b.metadata)));
    let mut owner: HashMap<String, usize> = HashMap::default();
    for (index, resource) in order.iter().enumerate() {
        for host in &resource.spec.hosts {
            let first = *owner.entry(names::canonical(host).into_owned()).or_insert(index);
            let other = full_name(&order[first].metadata);
            // Two of one name are reported as such.
            if first != index && other != full_name(&resource.metadata) {
                let message = format!("the host `{}` belongs to the VirtualService `{other}`, too", host.value);
                report.add(
                    conflict(host.place, message)
                        .help("put all rules of a host into one VirtualService")
                        .contradicting(order[first].place)
                        .code("IST0109"),
                );
            }
        }
    }
}

fn protocols(report: &mut Report, resources: &Resources) {
    let mut seen: HashMap<(String, i64), (String, String)> = HashMap::default();
    for resource in &resources.service_entries {
        for host in &resource.spec.hosts {
            for port in resource.spec.ports.iter().flatten() {
                let protocol = port.protocol.as_ref().map(|protocol| protocol.to_ascii_uppercase()).unwrap_or_default();
                let key = (names::canonical(host).into_owned(), port.number.value);
                let own = (protocol, full_name(&resource.metadata));
                let (first, entry) = seen.entry(key).or_insert_with(|| own.clone());
                if *first != own.0 {
                    let place = port.protocol.as_ref().map_or(port.place, |protocol| protocol.place);
                    let message = format!(
                        "port {} of `{}` is {} here and {} in the ServiceEntry `{entry}`",
                        port.number.value,
                        host.value,
                        said(&own.0),
                        said(first)
                    );
                    report.add(Diagnostic::warning(Kind::Conflict, place, message).code("IST0177"));
                }
            }
        }
    }
}

fn said(protocol: &str) -> &str {
    if protocol.is_empty() { "of no protocol" } else { protocol }
}

#[cfg(test)]
mod tests {
    use crate::config::settings::Settings;
    use crate::config::validate::testing::report;

    fn of(parts: &[&str]) -> Vec<String> {
        report(&parts.join("\n---\n"), &Settings::default())
    }

    fn service(metadata: &str, hosts: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{{metadata}}}\nspec:\n  hosts: {hosts}\n  http: \
             [{{redirect: {{uri: /x}}}}]"
        )
    }

    #[test]
    fn a_host_has_one_virtual_service_and_the_oldest_keeps_it() {
        let old = service("name: z, creationTimestamp: \"2024-01-01T00:00:00Z\"", "[a.com]");
        let young = service("name: a, creationTimestamp: \"2025-01-01T00:00:00Z\"", "[A.com., b.com]");
        assert_eq!(of(&[&young, &old]), ["error 5: the host `A.com.` belongs to the VirtualService `default/z`, too"]);
        assert_eq!(of(&[&service("name: a", "['*.com']"), &service("name: b", "[a.com]")]), Vec::<String>::new());
    }

    #[test]
    fn a_name_is_there_once() {
        let found = of(&[&service("name: a", "[a.com]"), &service("name: a", "[b.com]")]);
        assert_eq!(found, ["error 10: the VirtualService `default/a` is there twice"]);
        assert_eq!(
            of(&[&service("name: a", "[a.com]"), &service("name: a, namespace: b", "[b.com]")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn services_agree_on_their_protocol() {
        let entry = |name: &str, protocol: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  hosts: [a.com]\n  \
                 ports: [{{number: 80, name: p, protocol: {protocol}}}]\n  resolution: DNS"
            )
        };
        assert_eq!(of(&[&entry("a", "HTTP"), &entry("b", "http")]), Vec::<String>::new());
        assert_eq!(
            of(&[&entry("a", "HTTP"), &entry("b", "HTTPS")]),
            ["warning 14: port 80 of `a.com` is HTTPS here and HTTP in the ServiceEntry `default/a`"]
        );
    }
}
