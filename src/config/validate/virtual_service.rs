//! `kind: VirtualService`: its hosts, its gateways, and that it has rules. The rules themselves: `http_route`, `l4_route`.

use std::collections::HashMap;

use super::report::{Report, conflict, missing, no_effect, unsupported, wrong};
use super::visibility::{self, Owner};
use super::{checks, headers, http_route, l4_route, reachability};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::Resource;
use crate::config::resource::virtual_service::VirtualService;

/// The gateway that stands for every listener without a Gateway resource.
pub(super) const MESH: &str = "mesh";

/// The annotation that makes weights shares of their sum.
pub(super) const WEIGHTS: &str = "serin.dev/weights";

/// What of a VirtualService its rules must know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// It has no hosts: another VirtualService delegates to it.
    pub(super) delegate: bool,
    /// It is bound to gateways only.
    pub(super) gateway_only: bool,
    /// Weights are shares of their sum.
    pub(super) relative: bool,
}

impl Scope {
    fn new(resource: &Resource<VirtualService>, relative: bool) -> Self {
        let annotated = resource.metadata.annotation(WEIGHTS).is_some_and(|value| value.value == "relative");
        Self {
            delegate: resource.spec.hosts.is_empty(),
            gateway_only: !serves_mesh(&resource.spec),
            relative: relative || annotated,
        }
    }
}

/// Whether it is served on the listeners that have no Gateway resource.
pub(super) fn serves_mesh(spec: &VirtualService) -> bool {
    spec.gateways.as_ref().is_none_or(|gateways| gateways.is_empty() || gateways.iter().any(|name| name.value == MESH))
}

/// Checks one VirtualService by itself.
pub(super) fn check(report: &mut Report, resource: &Resource<VirtualService>, relative: bool) {
    let spec = &resource.spec;
    let scope = Scope::new(resource, relative);
    if scope.delegate {
        delegate(report, spec);
    }
    for gateway in spec.gateways.iter().flatten() {
        gateway_name(report, gateway);
    }
    hosts(report, spec, &scope);
    if spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty() {
        report.add(missing(spec.place, "a VirtualService needs `http` rules"));
    }
    for route in &spec.http {
        http_route::check(report, route, &scope);
    }
    l4(report, spec);
    visibility::check(report, &spec.export_to, &resource.metadata.namespace, Owner::Other);
    reachability::check(report, &spec.http);
}

fn delegate(report: &mut Report, spec: &VirtualService) {
    let without = "a VirtualService without `hosts` is one that others delegate to:";
    if let Some(first) = spec.gateways.iter().flatten().next() {
        report.add(conflict(first.place, format!("{without} it cannot have `gateways`")));
    }
    let l4 = spec
        .tls
        .first()
        .map(|tls| ("tls", tls.place))
        .into_iter()
        .chain(spec.tcp.first().map(|tcp| ("tcp", tcp.place)));
    for (field, place) in l4 {
        report.add(conflict(place, format!("{without} it cannot have `{field}` rules")));
    }
}

/// The name of a gateway: `name` or `namespace/name`.
pub(super) fn gateway_name(report: &mut Report, gateway: &Spanned<String>) {
    let Some((namespace, name)) = gateway.split_once('/') else {
        if let Err(reason) = names::check_domain(gateway) {
            report.wrong(gateway.place, format!("`{}` is no gateway name: {reason}", gateway.value));
        } else if let Some((name, rest)) = gateway.split_once('.') {
            let namespace = rest.split('.').next().unwrap_or(rest);
            report.add(
                Diagnostic::warning(
                    Kind::Value,
                    gateway.place,
                    format!("`{}` is an old form of gateway name", gateway.value),
                )
                .help(format!("write `{namespace}/{name}`")),
            );
        }
        return;
    };
    for (part, what) in [(namespace, "namespace"), (name, "gateway name")] {
        if !names::is_label(part) {
            report.wrong(gateway.place, format!("`{part}` in `{}` is no {what}", gateway.value));
        }
    }
}

fn hosts(report: &mut Report, spec: &VirtualService, scope: &Scope) {
    let mut all_valid = true;
    for host in &spec.hosts {
        let valid = match names::check_wildcard_domain(host) {
            Err(_) if checks::is_ip(host) => true,
            Err(_) if scope.gateway_only && is_sni_name(spec, host) => true,
            Err(reason) => {
                report.add(checks::bad_host(host, &reason));
                false
            }
            Ok(()) if !scope.gateway_only && host.value == "*" => {
                report.add(
                    wrong(
                        host.place,
                        "the host `*` needs a gateway: this VirtualService is served on the mesh listeners",
                    )
                    .help("name the hosts, or list a Gateway under `gateways`"),
                );
                false
            }
            Ok(()) => true,
        };
        all_valid &= valid;
    }
    if all_valid {
        duplicates(report, &spec.hosts);
    }
}

/// Names that Istio makes itself for services behind SNI gateways.
fn is_sni_name(spec: &VirtualService, host: &str) -> bool {
    host.starts_with("outbound_.")
        && spec.tls.iter().flat_map(|tls| &tls.matches).any(|block| !block.sni_hosts.is_empty())
}

/// Hosts of one VirtualService have no name in common: of two that do, the wider one is a wildcard that ends the other,
/// or both are equal. Looking every ending up keeps this linear.
fn duplicates(report: &mut Report, hosts: &[Spanned<String>]) {
    let canonical: Vec<_> = hosts.iter().map(|host| names::canonical(host)).collect();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (index, host) in canonical.iter().enumerate() {
        if let Some(earlier) = first.get(host.as_ref()) {
            report.add(twice(&hosts[*earlier], &hosts[index]));
        } else {
            first.insert(host, index);
        }
    }
    let wildcards: HashMap<&str, usize> =
        first.iter().filter_map(|(host, index)| Some((host.strip_prefix('*')?, *index))).collect();
    if wildcards.is_empty() {
        return;
    }
    for (host, index) in first {
        let name = host.strip_prefix('*').unwrap_or(host);
        let endings = name.char_indices().map(|(at, _)| &name[at..]).chain([""]);
        let wider = endings.filter_map(|ending| wildcards.get(ending)).find(|wider| **wider != index);
        if let Some(wider) = wider {
            report.add(twice(&hosts[*wider.min(&index)], &hosts[*wider.max(&index)]));
        }
    }
}

fn twice(earlier: &Spanned<String>, later: &Spanned<String>) -> Diagnostic {
    let message = if names::canonical(earlier) == names::canonical(later) {
        format!("the host `{}` is listed twice", later.value)
    } else {
        format!("the hosts `{}` and `{}` have names in common", earlier.value, later.value)
    };
    conflict(later.place, message)
        .help("hosts of one VirtualService must not overlap; use two VirtualServices, or one host")
}

/// TLS and TCP rules are checked as Istio checks them, and then not served.
fn l4(report: &mut Report, spec: &VirtualService) {
    for route in &spec.tls {
        l4_route::tls(report, route, spec);
    }
    for route in &spec.tcp {
        l4_route::tcp(report, route);
    }
    l4_route::unreachable(report, spec);
    let first = spec.tls.first().map(|tls| ("tls", tls.place)).or(spec.tcp.first().map(|tcp| ("tcp", tcp.place)));
    let Some((field, place)) = first else { return };
    if spec.http.is_empty() {
        report.add(
            unsupported(place, format!("`{field}` rules are not supported: this proxy routes HTTP requests only"))
                .help(match field {
                    "tls" => "use `http` rules: a Gateway server of HTTPS with certificates ends TLS here",
                    _ => "use `http` rules",
                }),
        );
    } else {
        report.add(no_effect(place, format!("`{field}` rules have no effect: this proxy routes HTTP requests only")));
    }
}

/// Whether a condition on a JWT claim stands where a gateway could have checked the JWT.
pub(super) fn claim(report: &mut Report, name: &Spanned<String>, scope: &Scope) {
    if !headers::is_claim(name) {
        return;
    }
    if !scope.gateway_only {
        report.wrong(name.place, format!("`{}`: claims of a JWT can be matched at a gateway only", name.value));
    }
    report.add(unsupported(
        name.place,
        format!("`{}` needs JWT authentication, which this proxy does not do", name.value),
    ));
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, each_passes, warnings};

    const RULES: &str = "  http: [{redirect: {uri: /x}}]";

    fn with_rules(cases: &[(&str, &str)]) {
        let specs: Vec<_> = cases.iter().map(|(head, wanted)| (format!("  {head}\n{RULES}"), *wanted)).collect();
        each_fails("VirtualService", &specs.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect::<Vec<_>>());
    }

    #[test]
    fn hosts_are_names_that_do_not_overlap() {
        with_rules(&[
            ("hosts: ['*']", "the host `*` needs a gateway"),
            ("hosts: ['*']\n  gateways: [g, mesh]", "the host `*` needs a gateway"),
            ("hosts: ['a.b:80']", "is no host name"),
            ("hosts: ['a.*.b']", "is no host name"),
            ("hosts: [a.com, A.com.]", "is listed twice"),
            ("hosts: ['*.foo.bar', '*.bar']", "have names in common"),
            ("hosts: [b.a.com, '*.a.com']", "have names in common"),
            ("hosts: ['*', a.com]\n  gateways: [g]", "have names in common"),
        ]);
        let fine = ["['*.a.com', a.com]", "['*-foo.com']", "[A.b.]", "[10.0.0.1]", "['fe80::1']"];
        let specs = fine.map(|hosts| format!("  hosts: {hosts}\n{RULES}"));
        each_passes("VirtualService", &specs.each_ref().map(String::as_str));
        each_passes("VirtualService", &[&format!("  hosts: ['*']\n  gateways: [g]\n{RULES}")]);
    }

    #[test]
    fn many_hosts_take_little_time() {
        let hosts: Vec<_> = (0..20_000).map(|index| format!("h{index}.example.com")).collect();
        each_passes("VirtualService", &[&format!("  hosts:\n  - {}\n{RULES}", hosts.join("\n  - "))]);
    }

    #[test]
    fn a_virtual_service_without_hosts_is_a_delegate() {
        each_fails(
            "VirtualService",
            &[
                ("  gateways: [g]\n  http: [{redirect: {uri: /x}}]", "cannot have `gateways`"),
                ("  http: [{delegate: {name: d}}]", "cannot delegate further"),
                ("  tcp: [{route: [{destination: {host: b}}]}]", "cannot have `tcp` rules"),
            ],
        );
        each_passes("VirtualService", &[RULES]);
    }

    #[test]
    fn gateways_have_names() {
        with_rules(&[
            ("hosts: [a]\n  gateways: ['*/g']", "is no namespace"),
            ("hosts: [a]\n  gateways: ['n/']", "is no gateway name"),
            ("hosts: [a]\n  gateways: ['g_']", "is no gateway name"),
        ]);
        let old = warnings("VirtualService", &format!("  hosts: [a.b]\n  gateways: [gateway.example.com]\n{RULES}"));
        assert_eq!(old, ["`gateway.example.com` is an old form of gateway name"]);
    }

    #[test]
    fn rules_below_http_are_refused_or_said_to_do_nothing() {
        let tcp = "  tcp: [{route: [{destination: {host: b}}]}]";
        each_fails(
            "VirtualService",
            &[("  hosts: [a]", "needs `http` rules"), (&format!("  hosts: [a]\n{tcp}"), "not supported")],
        );
        let both = format!("  hosts: [a]\n{RULES}\n{tcp}");
        each_passes("VirtualService", &[&both]);
        assert_eq!(warnings("VirtualService", &both).len(), 1);
    }
}
