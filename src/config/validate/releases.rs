//! What Canaries name, against what is declared: VirtualServices, rules, subsets; and that a rule has one Canary.

use std::collections::HashMap;

use super::canary::names_service;
use super::conflicts::full_name;
use super::remedies::list;
use super::report::{Report, conflict, unknown};
use crate::config::diagnostic::Diagnostic;
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::release::{Found, Lost, Routes};
use crate::config::resource::{Canary, Metadata, Resource, Resources};
use crate::config::traffic::Traffic;

/// Checks what all Canaries name.
pub(super) fn check(report: &mut Report, resources: &Resources) {
    if resources.canaries.is_empty() {
        return;
    }
    let (routes, traffic) = (Routes::new(resources), Traffic::new(resources));
    let mut taken: HashMap<(Place, usize), &Metadata> = HashMap::new();
    for resource in resources.canaries.iter().filter(|resource| names_service(&resource.spec.virtual_service)) {
        let found = match routes.find(resource) {
            Ok(found) => found,
            Err(lost) => {
                report.add(no_rule(resource, &lost, &routes));
                continue;
            }
        };
        destinations(report, &resource.spec, &found, &traffic);
        let other = *taken.entry((found.owner.place, found.number)).or_insert(&resource.metadata);
        // A Canary that is there twice is told of already.
        if full_name(other) != full_name(&resource.metadata) {
            let message =
                format!("the route `{}` is already released by the Canary `{}`", found.label, full_name(other));
            let help = "a route has one Canary: remove one of them, or name another `route`";
            report.add(conflict(place_of_route(&resource.spec), message).help(help));
        }
    }
}

/// Where a Canary says which rule it is about.
fn place_of_route(spec: &Canary) -> Place {
    spec.route.as_ref().map_or(spec.virtual_service.place, |route| route.place)
}

/// Why there is no rule, and which may be meant.
fn no_rule(resource: &Resource<Canary>, lost: &Lost<'_>, routes: &Routes<'_>) -> Diagnostic {
    let spec = &resource.spec;
    let service = &spec.virtual_service;
    match lost {
        Lost::Service => no_service(service, &resource.metadata.namespace, routes),
        Lost::Route(rules) => {
            let route = spec.route.as_ref().map_or("", |route| route.as_str());
            let message = format!("the VirtualService `{}` has no route `{route}`", service.value);
            let found = unknown(place_of_route(spec), message);
            let known: Vec<_> = rules.iter().map(|rule| rule.label.as_str()).collect();
            suggest(found, route, &known)
        }
        Lost::Several(rules) if spec.route.is_some() => {
            let message = format!("several routes of `{}` are called so", service.value);
            let known: Vec<_> = rules.iter().map(Found::unique_name).collect();
            let known = list(known.iter().map(String::as_str));
            unknown(place_of_route(spec), message).help(format!("call it by its index: there are {known}"))
        }
        Lost::Several(rules) => {
            let message = format!("the VirtualService `{}` has several weighted routes", service.value);
            let known = list(rules.iter().map(|rule| rule.label.as_str()));
            unknown(service.place, message).help(format!("say which with `route`: there are {known}"))
        }
        Lost::Unweighted(first) => {
            let message = format!("the VirtualService `{}` has no route with several destinations", service.value);
            let found = unknown(service.place, message);
            match first.as_ref().and_then(|rule| rule.rule.route.first()?.destination.as_ref()) {
                Some(destination) if !spec.canary.is_empty() => {
                    found.help(addition(&destination.host, &spec.canary, "one of its routes"))
                }
                _ => found,
            }
        }
    }
}

fn no_service(service: &Spanned<String>, own: &str, routes: &Routes<'_>) -> Diagnostic {
    let found = unknown(service.place, format!("there is no VirtualService `{}`", service.value));
    let (namespace, name) = service.split_once('/').unwrap_or((own, service));
    let known = routes.names(namespace);
    if let Some(elsewhere) = routes.namespaces(name).first() {
        return found.help(format!("did you mean `{elsewhere}/{name}`?"));
    }
    match names::nearest(name, known.iter().copied()) {
        Some(meant) if namespace == own => found.help(format!("did you mean `{meant}`?")),
        Some(meant) => found.help(format!("did you mean `{namespace}/{meant}`?")),
        None if known.is_empty() => found.help(format!("there is none in the namespace `{namespace}`")),
        None => found.help(format!("there are {}", list(known.into_iter()))),
    }
}

fn suggest(found: Diagnostic, written: &str, known: &[&str]) -> Diagnostic {
    match names::nearest(written, known.iter().copied()) {
        Some(meant) => found.help(format!("did you mean `{meant}`?")),
        None if known.is_empty() => found,
        None => found.help(format!("there are {}", list(known.iter().copied()))),
    }
}

fn addition(host: &str, subset: &str, to: &str) -> String {
    format!("add to {to}: `- {{destination: {{host: {host}, subset: {subset}}}, weight: 0}}`")
}

/// A release moves weights between two destinations, and there must be no third.
fn destinations(report: &mut Report, spec: &Canary, found: &Found<'_>, traffic: &Traffic<'_>) {
    let mut both = Vec::new();
    for subset in [&spec.stable, &spec.canary].into_iter().filter(|subset| !subset.is_empty()) {
        match found.positions(subset)[..] {
            [position] => both.push(position),
            [] => report.add(no_destination(subset, spec, found, traffic)),
            _ => {
                let message =
                    format!("the route `{}` has several destinations of the subset `{}`", found.label, subset.value);
                report.add(conflict(subset.place, message).help("merge them: a release moves one weight"));
            }
        }
    }
    let others: Vec<_> = (0..found.rule.route.len()).filter(|index| !both.contains(index)).collect();
    if both.len() == 2 && !others.is_empty() {
        let name = |index: &usize| {
            let destination = found.rule.route[*index].destination.as_ref();
            found.subset(*index).or(destination.map(|destination| destination.host.as_str())).unwrap_or_default()
        };
        let message = format!(
            "the route `{}` sends to {} besides `{}` and `{}`",
            found.label,
            list(others.iter().map(name)),
            spec.stable.value,
            spec.canary.value
        );
        let help = "a release moves weights between two destinations: leave the others out of this route";
        report.add(conflict(place_of_route(spec), message).help(help));
    }
}

fn no_destination(subset: &Spanned<String>, spec: &Canary, found: &Found<'_>, traffic: &Traffic<'_>) -> Diagnostic {
    let route = &found.rule.route;
    let message = format!("the route `{}` has no destination of the subset `{}`", found.label, subset.value);
    let diagnostic = unknown(subset.place, message);
    let Some(host) = route.iter().find_map(|entry| Some(&entry.destination.as_ref()?.host)) else {
        return diagnostic.help("it sends nothing anywhere: name another `route`");
    };
    let named = [spec.stable.as_str(), spec.canary.as_str()];
    let sent: Vec<_> = (0..route.len()).filter_map(|index| found.subset(index)).collect();
    let free = sent.iter().copied().filter(|sent| !named.contains(sent));
    if let Some(meant) = names::nearest(subset, free) {
        return diagnostic.help(format!("did you mean `{meant}`?"));
    }
    if traffic.subset(host, &found.owner.metadata.namespace, subset).is_some() {
        return diagnostic.help(addition(host, subset, "it"));
    }
    match sent.is_empty() {
        true => diagnostic.help(format!("it has no subsets: declare them in a DestinationRule of `{}`", host.value)),
        false => diagnostic.help(format!("it has {}", list(sent.into_iter()))),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::settings::Settings;
    use crate::config::validate::testing::{alone, report};

    const SERVICE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - route:
    - {destination: {host: shop, port: {number: 80}}, weight: 50}
    - {destination: {host: shop, port: {number: 81}}, weight: 50}
";

    fn canary(fields: &str) -> String {
        format!(
            "---\napiVersion: serin.dev/v1alpha1\nkind: Canary\nmetadata: {{name: c}}\nspec: {{stable: v1, canary: v2, {fields}}}\n"
        )
    }

    #[test]
    fn a_canary_by_itself_names_what_it_likes() {
        let text = canary("virtualService: shop, steps: [10]");
        assert_eq!(report(&text, &alone()), [""; 0]);
        assert_eq!(report(&text, &Settings::default()), ["error 5: there is no VirtualService `shop`"]);
    }

    #[test]
    fn a_service_that_was_not_understood_is_not_blamed_on_the_canary() {
        let broken = SERVICE.replace("  http:", "  htpp:") + &canary("virtualService: shop, steps: [10, 5]");
        let found = report(&broken, &Settings::default());
        assert_eq!(
            found,
            [
                "error 6: unknown field `htpp` in the `spec` of a VirtualService",
                "error 14: the steps do not rise: 5 % comes after 10 %"
            ]
        );
    }

    #[test]
    fn a_route_without_subsets_has_nothing_to_release() {
        let found = report(&(SERVICE.to_owned() + &canary("virtualService: shop, steps: [10]")), &Settings::default());
        assert_eq!(
            found,
            [
                "error 14: the route `shop/0` has no destination of the subset `v1`",
                "error 14: the route `shop/0` has no destination of the subset `v2`"
            ]
        );
    }

    #[test]
    fn a_subset_that_is_there_twice_has_no_weight_of_its_own() {
        let twice = SERVICE.replace("port: {number: 80}", "subset: v1").replace("port: {number: 81}", "subset: v1");
        let found = report(&(twice + &canary("virtualService: shop, steps: [10]")), &Settings::default());
        let wanted = "error 14: the route `shop/0` has several destinations of the subset `v1`";
        assert!(found.contains(&wanted.to_owned()), "{found:?}");
    }

    #[test]
    fn routes_of_one_name_are_told_apart_by_their_index() {
        let rule = |path: &str| format!("  - {{name: r, match: [{{uri: {{exact: {path}}}}}], redirect: {{uri: /}}}}\n");
        let twice = SERVICE.replace("  - route", &format!("{}{}  - route", rule("/x"), rule("/y")));
        let found = report(&(twice + &canary("virtualService: shop, route: r, steps: [10]")), &Settings::default());
        assert_eq!(found, ["error 16: several routes of `shop` are called so"]);
    }
}
