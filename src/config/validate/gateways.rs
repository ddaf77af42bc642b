//! VirtualServices and the Gateways that they name, and Gateways that serve the same host on the same port.

use foldhash::{HashMap, HashSet};

use super::conflicts::full_name;
use super::report::{Report, conflict, no_effect, unknown};
use super::virtual_service::MESH;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::gateway::Gateway;
use crate::config::resource::virtual_service::VirtualService;
use crate::config::resource::{Resource, Resources};

/// Gateways among which the one that was meant is sought.
const MOST_NAMES: usize = 100;

type Gateways<'a> = HashMap<(&'a str, &'a str), &'a Resource<Gateway>>;

/// Checks names and hosts of gateways, and the delegates of rules.
pub(super) fn check(report: &mut Report, resources: &Resources) {
    let gateways: Gateways<'_> = resources
        .gateways
        .iter()
        .map(|resource| ((resource.metadata.namespace.as_str(), resource.metadata.name.as_str()), resource))
        .collect();
    for resource in &resources.virtual_services {
        bound(report, resource, &gateways);
    }
    delegates(report, resources);
    same_host(report, resources);
}

/// Namespace and name of the gateway that a VirtualService of a namespace means.
fn resolve<'a>(written: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    if let Some((namespace, name)) = written.split_once('/') {
        return (namespace, name);
    }
    match written.split_once('.') {
        Some((name, rest)) => (rest.split('.').next().unwrap_or(rest), name),
        None => (namespace, written),
    }
}

fn bound(report: &mut Report, resource: &Resource<VirtualService>, gateways: &Gateways<'_>) {
    let namespace = resource.metadata.namespace.as_str();
    let listed = resource.spec.gateways.iter().flatten();
    let in_blocks = resource.spec.http.iter().flat_map(|route| &route.matches).flat_map(|block| &block.gateways);
    for written in listed.chain(in_blocks).filter(|written| written.value != MESH) {
        match gateways.get(&resolve(written, namespace)) {
            Some(gateway) => hosts_served(report, resource, gateway, written),
            None => report.add(no_gateway(written, gateways)),
        }
    }
}

fn no_gateway(written: &Spanned<String>, gateways: &Gateways<'_>) -> Diagnostic {
    let found = unknown(written.place, format!("no Gateway is called `{}`", written.value)).code("IST0101");
    let names: Vec<_> =
        gateways.keys().take(MOST_NAMES).map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    let short = gateways.keys().take(MOST_NAMES).map(|(_, name)| *name);
    match names::nearest(written, names.iter().map(String::as_str).chain(short)) {
        Some(meant) => found.help(format!("did you mean `{meant}`?")),
        None => found,
    }
}

fn hosts_served(
    report: &mut Report,
    resource: &Resource<VirtualService>,
    gateway: &Resource<Gateway>,
    written: &Spanned<String>,
) {
    let own = resource.metadata.namespace.as_str();
    let serves = |host: &str| {
        gateway.spec.servers.iter().flat_map(|server| &server.hosts).any(|served| {
            let (namespace, name) = served.split_once('/').unwrap_or(("*", served));
            let here = match namespace {
                "*" => true,
                "." => gateway.metadata.namespace.value == own,
                other => other == own,
            };
            here && names::overlap(name, host)
        })
    };
    for host in resource.spec.hosts.iter().filter(|host| !serves(host)) {
        let message = format!("no server of the Gateway `{}` has the host `{}`", written.value, host.value);
        report.add(Diagnostic::warning(Kind::Reference, host.place, message).code("IST0132"));
    }
}

fn delegates(report: &mut Report, resources: &Resources) {
    let known: HashMap<(&str, &str), bool> = resources
        .virtual_services
        .iter()
        .map(|resource| {
            let key = (resource.metadata.namespace.as_str(), resource.metadata.name.as_str());
            (key, resource.spec.hosts.is_empty())
        })
        .collect();
    let mut named = HashSet::default();
    for resource in &resources.virtual_services {
        for delegate in resource.spec.http.iter().filter_map(|route| route.delegate.as_ref()) {
            let namespace = delegate.namespace.as_ref().filter(|namespace| !namespace.is_empty());
            let namespace = namespace.unwrap_or(&resource.metadata.namespace).as_str();
            let name = &delegate.name;
            named.insert((namespace, name.as_str()));
            match known.get(&(namespace, name.as_str())) {
                Some(true) => {}
                Some(false) => report.add(conflict(
                    name.place,
                    format!(
                        "the VirtualService `{namespace}/{}` has `hosts`: nothing can be delegated to it",
                        name.value
                    ),
                )),
                None if name.is_empty() => {}
                None => report.add(
                    unknown(name.place, format!("no VirtualService is called `{namespace}/{}`", name.value))
                        .code("IST0101"),
                ),
            }
        }
    }
    unused(report, resources, &named);
}

/// Somebody forgot its hosts, or to delegate to it.
fn unused(report: &mut Report, resources: &Resources, named: &HashSet<(&str, &str)>) {
    for resource in resources.virtual_services.iter().filter(|resource| resource.spec.hosts.is_empty()) {
        if !named.contains(&(resource.metadata.namespace.as_str(), resource.metadata.name.as_str())) {
            report.add(
                no_effect(
                    resource.spec.place,
                    "this VirtualService has no `hosts`, and none delegates to it: it is never used",
                )
                .help("add `hosts: [NAME]`"),
            );
        }
    }
}

/// Two Gateways with one host on one port are served together, and an `httpsRedirect` of one holds for both: a warning.
fn same_host(report: &mut Report, resources: &Resources) {
    let mut seen: HashMap<(i64, &str, &str, String), usize> = HashMap::default();
    for (index, resource) in resources.gateways.iter().enumerate() {
        for server in &resource.spec.servers {
            let port = server.port.as_ref().map_or(0, |port| port.number.value);
            let bind = server.bind.as_ref().map_or("", |bind| bind.as_str());
            for host in &server.hosts {
                let (namespace, name) = host.split_once('/').unwrap_or(("*", host));
                let key = (port, bind, namespace, names::canonical(name).into_owned());
                let first = *seen.entry(key).or_insert(index);
                if first != index {
                    let other = full_name(&resources.gateways[first].metadata);
                    let message = format!("the Gateway `{other}` serves `{}` on port {port}, too", host.value);
                    report.add(Diagnostic::warning(Kind::Conflict, host.place, message).code("IST0145"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::report;
    use crate::config::settings::Settings;

    fn of(parts: &[&str]) -> Vec<String> {
        let found = report(&parts.join("\n---\n"), &Settings::default());
        found.into_iter().filter(|line| !line.ends_with("not supported yet")).collect()
    }

    fn gateway(name: &str, host: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  servers:\n  - port: {{number: \
             80, name: http, protocol: HTTP}}\n    hosts: ['{host}']"
        )
    }

    fn service(hosts: &str, gateways: &str, action: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: s}}\nspec:\n  hosts: {hosts}\n  gateways: \
             {gateways}\n  http: [{{{action}}}]"
        )
    }

    const ACTION: &str = "redirect: {uri: /x}";

    #[test]
    fn a_gateway_is_found_and_serves_the_host() {
        let bound = |hosts: &str, gateways: &str| of(&[&service(hosts, gateways, ACTION), &gateway("edge", "*.a.com")]);
        assert_eq!(bound("[b.a.com]", "[edge]"), Vec::<String>::new());
        assert_eq!(bound("['*.com']", "[default/edge, mesh]"), Vec::<String>::new());
        assert_eq!(bound("[a.com]", "[edge]"), ["warning 5: no server of the Gateway `edge` has the host `a.com`"]);
        assert_eq!(bound("[b.a.com]", "[egde]"), ["error 6: no Gateway is called `egde`"]);
        assert_eq!(bound("[b.a.com]", "[other/edge]"), ["error 6: no Gateway is called `other/edge`"]);
    }

    #[test]
    fn a_server_may_be_for_one_namespace_only() {
        let found = of(&[&service("[b.a.com]", "[edge]", ACTION), &gateway("edge", "other/*.a.com")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(of(&[&service("[b.a.com]", "[edge]", ACTION), &gateway("edge", "./*.a.com")]), Vec::<String>::new());
    }

    #[test]
    fn two_gateways_on_one_port_with_one_host_are_pointed_out() {
        let found = of(&[&gateway("a", "x.com"), &gateway("b", "X.com")]);
        assert_eq!(found, ["warning 15: the Gateway `default/a` serves `X.com` on port 80, too"]);
        assert_eq!(of(&[&gateway("a", "n1/x.com"), &gateway("b", "n2/x.com")]), Vec::<String>::new());
    }

    #[test]
    fn a_delegate_is_there_and_has_no_hosts() {
        let root = service("[a]", "[mesh]", "delegate: {name: d}");
        let delegate = |hosts: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: d}}\nspec:\n{hosts}  http: [{{{ACTION}}}]"
            )
        };
        assert_eq!(of(&[&root, &delegate("")]), Vec::<String>::new());
        assert_eq!(of(&[&root]), ["error 7: no VirtualService is called `default/d`"]);
        assert!(of(&[&root, &delegate("  hosts: [b]\n")])[0].contains("has `hosts`"));
        assert!(of(&[&delegate("")])[0].contains("it is never used"));
    }
}
