//! Rules that delegate, the VirtualServices that they name, and whether what those say can be reached.

use foldhash::{HashMap, HashSet};

use super::report::{Report, conflict, dead, no_effect, unknown};
use crate::config::delegates::{Delegates, merge};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::virtual_service::Delegate;
use crate::config::resource::{Resource, Resources, VirtualService};

/// VirtualServices among which the one that was meant is sought.
const MOST_NAMES: usize = 100;

/// Namespace and name, and whether it has no hosts.
type Known<'a> = HashMap<(&'a str, &'a str), bool>;

/// Checks every rule that delegates, and every VirtualService that only others can use.
pub(super) fn check(report: &mut Report, resources: &Resources) {
    let known: Known<'_> = resources
        .virtual_services
        .iter()
        .map(|resource| {
            let key = (resource.metadata.namespace.as_str(), resource.metadata.name.as_str());
            (key, resource.spec.hosts.is_empty())
        })
        .collect();
    let delegates = Delegates::new(resources);
    let mut named = HashSet::default();
    for resource in &resources.virtual_services {
        for route in &resource.spec.http {
            let Some(delegate) = &route.delegate else { continue };
            let namespace = delegate.namespace.as_ref().filter(|namespace| !namespace.is_empty());
            let namespace = namespace.unwrap_or(&resource.metadata.namespace).as_str();
            named.insert((namespace, delegate.name.as_str()));
            exists(report, delegate, namespace, &known);
            let Some(target) = delegates.of(resource, route).filter(|_| !resource.spec.hosts.is_empty()) else {
                continue;
            };
            for own in target.spec.http.iter().filter(|own| own.delegate.is_none() && merge(route, own, None).is_none())
            {
                let message = format!(
                    "this rule is never reached from `{}`: its matches do not lie within those of the rule that delegates",
                    resource.metadata.name.value
                );
                let help = "begin its path with the one that is matched there; a regex lies within nothing";
                report.add(dead(own.place, message).help(help).code("IST0130"));
            }
        }
    }
    unused(report, resources, &named);
}

fn exists(report: &mut Report, delegate: &Delegate, namespace: &str, known: &Known<'_>) {
    let name = &delegate.name;
    match known.get(&(namespace, name.as_str())) {
        Some(true) => {}
        Some(false) => report.add(conflict(
            name.place,
            format!("the VirtualService `{namespace}/{}` has `hosts`: nothing can be delegated to it", name.value),
        )),
        None if name.is_empty() => {}
        None => report.add(missing(name, namespace, known)),
    }
}

fn missing(name: &Spanned<String>, namespace: &str, known: &Known<'_>) -> crate::config::diagnostic::Diagnostic {
    let message = format!("no VirtualService is called `{namespace}/{}`, to which this rule delegates", name.value);
    let found = unknown(name.place, message).code("IST0101");
    let elsewhere = known.iter().filter(|((_, own), without_hosts)| **without_hosts && *own == name.as_str());
    if let Some((other, _)) = elsewhere.map(|(key, _)| *key).min() {
        return found.help(format!("there is one in another namespace: write `namespace: {other}`"));
    }
    let delegates = known.iter().filter(|(_, without_hosts)| **without_hosts).take(MOST_NAMES);
    match names::nearest(name, delegates.map(|((_, name), _)| *name)) {
        Some(meant) => found.help(format!("did you mean `{meant}`?")),
        None => found.help("declare it, without `hosts`, or write its rules here"),
    }
}

/// Somebody forgot its hosts, or to delegate to it.
fn unused(report: &mut Report, resources: &Resources, named: &HashSet<(&str, &str)>) {
    let without_hosts = |resource: &&Resource<VirtualService>| resource.spec.hosts.is_empty();
    for resource in resources.virtual_services.iter().filter(without_hosts) {
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

#[cfg(test)]
mod tests {
    use crate::config::settings::Settings;
    use crate::config::validate::testing::report;

    fn of(parts: &[&str]) -> Vec<String> {
        report(&parts.join("\n---\n"), &Settings::default())
    }

    fn service(name: &str, hosts: &str, rule: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n{hosts}  http:\n  - {rule}"
        )
    }

    const ACTION: &str = "redirect: {uri: /x}";

    #[test]
    fn a_delegate_is_there_and_has_no_hosts() {
        let root = service("s", "  hosts: [a]\n", "delegate: {name: shop}");
        let delegate = |name: &str, hosts: &str| service(name, hosts, ACTION);
        assert_eq!(of(&[&root, &delegate("shop", "")]), Vec::<String>::new());
        assert_eq!(of(&[&root]), ["error 7: no VirtualService is called `default/shop`, to which this rule delegates"]);
        assert!(of(&[&root, &delegate("shop", "  hosts: [b]\n")])[0].contains("has `hosts`"));
        assert!(of(&[&delegate("shop", "")])[0].contains("it is never used"));
        let guessed = of(&[&root, &delegate("shops", "")]);
        assert_eq!(guessed.len(), 2, "{guessed:?}");
    }

    #[test]
    fn a_rule_of_a_delegate_that_no_request_reaches_is_pointed_out() {
        let root = service("s", "  hosts: [a]\n", "{match: [{uri: {prefix: /a}}], delegate: {name: d}}");
        let delegate = |uri: &str| service("d", "", &format!("{{match: [{{uri: {uri}}}], {ACTION}}}"));
        let found = of(&[&root, &delegate("{prefix: /b}")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("warning 14: this rule is never reached from `s`"), "{found:?}");
        assert_eq!(of(&[&root, &delegate("{prefix: /a/b}")]), Vec::<String>::new());
    }
}
