//! VirtualServices and the Gateways that they name, and Gateways that serve the same host on the same port.

use foldhash::HashMap;

use super::conflicts::full_name;
use super::report::{Report, conflict, unknown};
use super::virtual_service::MESH;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::gateways::{self, Protocol, ServedHost, named};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::gateway::Gateway;
use crate::config::resource::virtual_service::VirtualService;
use crate::config::resource::{Resource, Resources};

/// Gateways among which the one that was meant is sought.
const MOST_NAMES: usize = 100;

type Gateways<'a> = HashMap<(&'a str, &'a str), &'a Resource<Gateway>>;

/// Checks names and hosts of gateways.
pub(super) fn check(report: &mut Report, resources: &Resources) {
    let gateways: Gateways<'_> = resources
        .gateways
        .iter()
        .map(|resource| ((resource.metadata.namespace.as_str(), resource.metadata.name.as_str()), resource))
        .collect();
    for resource in &resources.virtual_services {
        bound(report, resource, &gateways);
    }
    same_host(report, resources);
    same_port(report, resources);
}

fn bound(report: &mut Report, resource: &Resource<VirtualService>, gateways: &Gateways<'_>) {
    let namespace = resource.metadata.namespace.as_str();
    let listed = resource.spec.gateways.iter().flatten();
    let in_blocks = resource.spec.http.iter().flat_map(|route| &route.matches).flat_map(|block| &block.gateways);
    for written in listed.chain(in_blocks).filter(|written| written.value != MESH) {
        match gateways.get(&named(written, namespace)) {
            Some(gateway) => hosts_served(report, resource, gateway, written),
            None => report.add(no_gateway(written, gateways)),
        }
    }
}

fn no_gateway(written: &Spanned<String>, gateways: &Gateways<'_>) -> Diagnostic {
    let found = unknown(written.place, format!("no Gateway is called `{}`", written.value)).code("IST0101");
    let (_, bare) = written.split_once('/').unwrap_or(("", written));
    if let Some((namespace, name)) = gateways.keys().filter(|(_, name)| *name == bare).min() {
        return found.help(format!("there is one in another namespace: write `{namespace}/{name}`"));
    }
    let names: Vec<_> =
        gateways.keys().take(MOST_NAMES).map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    let short = gateways.keys().take(MOST_NAMES).map(|(_, name)| *name);
    match names::nearest(written, names.iter().map(String::as_str).chain(short)) {
        Some(meant) => found.help(format!("did you mean `{meant}`?")),
        None => found.help("declare it, or list `mesh` here to be served on the `--listen` addresses"),
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
        let mut served = gateway.spec.servers.iter().flat_map(|server| &server.hosts);
        served.any(|served| ServedHost::new(served, &gateway.metadata.namespace).serves(host, own).is_some())
    };
    for host in resource.spec.hosts.iter().filter(|host| !serves(host)) {
        let message = format!("no server of the Gateway `{}` has the host `{}`", written.value, host.value);
        report.add(Diagnostic::warning(Kind::Reference, host.place, message).code("IST0132"));
    }
}

/// One socket speaks either plain HTTP or TLS.
fn same_port(report: &mut Report, resources: &Resources) {
    for listener in gateways::gateways(resources) {
        let first = &listener.servers[0];
        for other in listener.servers.iter().filter(|other| other.protocol != first.protocol) {
            let speaks = |protocol| if protocol == Protocol::Https { "HTTPS" } else { "plain HTTP" };
            let message = format!(
                "port {} cannot speak {}: the Gateway `{}/{}` has it speak {}",
                listener.port,
                speaks(other.protocol),
                first.namespace,
                first.gateway,
                speaks(first.protocol),
            );
            report.add(conflict(other.place, message).help("choose another port for one of them"));
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
                let other = full_name(&resources.gateways[first].metadata);
                // Two of one name are reported as such.
                if first != index && other != full_name(&resource.metadata) {
                    let message = format!("the Gateway `{other}` serves `{}` on port {port}, too", host.value);
                    let found = Diagnostic::warning(Kind::Conflict, host.place, message).code("IST0145");
                    report.add(found.contradicting(resources.gateways[first].place));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::settings::Settings;
    use crate::config::validate::testing::report;

    fn of(parts: &[&str]) -> Vec<String> {
        report(&parts.join("\n---\n"), &Settings::default())
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
    fn a_port_speaks_one_of_http_and_https() {
        let secure = gateway("b", "y.com").replace(
            "protocol: HTTP}",
            "protocol: HTTPS}\n    tls: {mode: SIMPLE, serverCertificate: missing, privateKey: missing}",
        );
        let found = of(&[&gateway("a", "x.com"), &secure]);
        let message = "error 14: port 80 cannot speak HTTPS: the Gateway `default/a` has it speak plain HTTP";
        assert!(found.contains(&message.to_owned()), "{found:?}");
        assert_eq!(of(&[&gateway("a", "x.com"), &gateway("b", "y.com")]), Vec::<String>::new());
    }
}
