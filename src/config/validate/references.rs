//! What destinations and DestinationRules name, against what is declared: hosts, subsets, ports, endpoints.

use foldhash::{HashMap, HashSet};

use super::remedies::{Lacking, empty_subset, list};
use super::report::{Report, no_effect, unknown};
use super::served::Ports;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::destination_rule::{DestinationRule, Subset};
use crate::config::resource::virtual_service::{Destination, HttpRoute};
use crate::config::resource::{Resource, Resources};
use crate::config::services::{DEFAULT_PORT, Selection, Service, Services};
use crate::config::settings::Settings;
use crate::config::traffic::Traffic;

/// What is declared, and what of it was asked for.
struct Declared<'a> {
    services: &'a Services,
    traffic: &'a Traffic<'a>,
    ports: Ports<'a>,
    /// DestinationRules that a destination uses, by address.
    used_rules: HashSet<*const Resource<DestinationRule>>,
    /// Subsets without endpoints that were reported where requests are sent to them.
    reported: HashSet<*const Subset>,
    /// What hosts that nobody declares were probably meant to be.
    guesses: HashMap<String, Option<String>>,
    /// How many more names may be compared to guess.
    comparisons: usize,
}

/// Subsets of one host among which the one that was meant is sought.
const MOST_SUBSETS: usize = 100;

/// Names compared to guess what was meant, in one run: guessing stays cheap however much is wrong.
const COMPARISONS: usize = 500_000;

/// A destination, and whether any request is sent there.
struct Target<'d> {
    destination: &'d Destination,
    used: bool,
}

/// Checks what all resources say of each other's hosts.
pub(super) fn check(report: &mut Report, resources: &Resources, settings: &Settings) {
    let services = Services::new(resources, settings);
    let traffic = Traffic::new(resources);
    let mut declared = Declared {
        services: &services,
        traffic: &traffic,
        ports: Ports::new(resources, settings),
        used_rules: HashSet::default(),
        reported: HashSet::default(),
        guesses: HashMap::default(),
        comparisons: COMPARISONS,
    };
    for resource in &resources.virtual_services {
        let namespace = &resource.metadata.namespace;
        for route in &resource.spec.http {
            let listeners = declared.ports.of(resource, route);
            for target in targets(route) {
                declared.check_target(report, &target, namespace, &listeners);
            }
        }
    }
    for resource in &resources.destination_rules {
        declared.check_rule(report, resource);
    }
    for resource in &resources.service_entries {
        let Some(selector) = resource.spec.workload_selector.as_ref().filter(|selector| !selector.is_empty()) else {
            continue;
        };
        let host = resource.spec.hosts.first().map_or("", |host| host.as_str());
        let found = declared.services.find(host, &resource.metadata.namespace);
        if found.is_some_and(|service| service.endpoints.is_empty()) {
            report.add(
                no_effect(selector.place, "no WorkloadEntry of this namespace has these labels")
                    .help("declare a WorkloadEntry with them, or list `endpoints`"),
            );
        }
    }
}

fn targets(route: &HttpRoute) -> impl Iterator<Item = Target<'_>> {
    let alone = route.route.len() == 1;
    let weighted = route.route.iter().filter_map(move |entry| {
        let used = alone || entry.weight.as_ref().is_some_and(|weight| weight.value > 0);
        Some(Target { destination: entry.destination.as_ref()?, used })
    });
    let mirrors = route.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref()).chain(route.mirror.as_deref());
    weighted.chain(mirrors.map(|destination| Target { destination, used: true }))
}

impl Declared<'_> {
    fn check_target(&mut self, report: &mut Report, target: &Target<'_>, namespace: &str, listeners: &[u16]) {
        let Target { destination, used } = target;
        let host = &destination.host;
        if names::check_wildcard_domain(host).is_err() || host.value == "*" {
            return;
        }
        self.used_rules.extend(self.traffic.rules(host, namespace).iter().map(|rule| std::ptr::from_ref(*rule)));
        let services = self.services;
        let service = services.find(host, namespace);
        match destination.subset.as_ref().filter(|subset| !subset.is_empty()) {
            Some(subset) => match self.traffic.subset(host, namespace, subset) {
                None if service.is_some_and(|service| service.has_endpoint(Some(Selection::new(subset, None)))) => {}
                None => report.add(self.unknown_subset(host, namespace, subset)),
                Some(found) => {
                    let selection = Selection::new(subset, Some(found));
                    let filled = service.is_some_and(|service| service.has_endpoint(Some(selection)));
                    if !filled && *used {
                        self.empty_subset(report, destination, namespace, found);
                    }
                }
            },
            None if service.is_none() => self.undeclared(report, destination),
            None => {}
        }
        if let Some(service) = service {
            check_port(report, destination, service, listeners);
        }
    }

    fn empty_subset(&mut self, report: &mut Report, destination: &Destination, namespace: &str, found: &Subset) {
        let Some(written) = &destination.subset else { return };
        let all: Vec<_> = self.traffic.subsets(&destination.host, namespace).collect();
        let others = all.iter().any(|other| self.reported.contains(&std::ptr::from_ref(*other)));
        if self.reported.insert(std::ptr::from_ref(found)) {
            let service = self.services.find(&destination.host, namespace);
            let lacking = match Lacking::of(service) {
                Lacking::Service if others => Lacking::Endpoint,
                lacking => lacking,
            };
            report.add(empty_subset(&destination.host, (written, found), &lacking, &all));
        }
    }

    fn unknown_subset(&self, host: &Spanned<String>, namespace: &str, subset: &Spanned<String>) -> Diagnostic {
        let message = format!("no DestinationRule declares the subset `{}` of `{}`", subset.value, host.value);
        let found = unknown(subset.place, message).code("IST0101");
        let known = self.traffic.subsets(host, namespace).take(MOST_SUBSETS).map(|subset| subset.name.as_str());
        let known: Vec<_> = known.collect();
        match names::nearest(subset, known.iter().copied()) {
            Some(meant) => found.help(format!("did you mean `{meant}`?")),
            None if known.is_empty() => found.help(format!(
                "declare it in a DestinationRule of `{host}`: `subsets: [{{name: {subset}, labels: {{version: {subset}}}}}]`, \
                 or give it an endpoint: `--endpoint {host}/{subset}=127.0.0.1:8081`",
                host = host.value,
                subset = subset.value,
            )),
            None => found.help(format!("there are {}", list(known.into_iter()))),
        }
    }

    /// A host that no resource declares is a name to resolve, unless it looks like a slip of the pen. Said once a host.
    fn undeclared(&mut self, report: &mut Report, destination: &Destination) {
        let host = &destination.host;
        let message = format!("no ServiceEntry declares the host `{}`", host.value);
        let first = !self.guesses.contains_key(host.as_str());
        if let Some(meant) = self.guess(host) {
            report.add(
                unknown(host.place, format!("{message}; without Kubernetes there is no other registry"))
                    .help(format!("did you mean `{meant}`?"))
                    .code("IST0101"),
            );
        } else if names::is_wildcard(host) {
            report.add(unknown(host.place, format!("{message}, and a wildcard cannot be resolved")).code("IST0101"));
        } else if destination.port.is_none() && first {
            let found = Diagnostic::warning(
                Kind::Reference,
                host.place,
                format!("{message}: its addresses come from DNS, and its port is {DEFAULT_PORT}"),
            );
            let help = format!(
                "declare a ServiceEntry, name the port with `port: {{number: {DEFAULT_PORT}}}`, \
                 or run with `--endpoint {}=127.0.0.1:8081`",
                host.value
            );
            report.add(found.help(help).code("IST0101"));
        }
    }

    /// The declared host that one was almost certainly meant to be.
    fn guess(&mut self, host: &str) -> Option<String> {
        if let Some(known) = self.guesses.get(host) {
            return known.clone();
        }
        let candidates = self.services.iter().take(self.comparisons).map(|service| service.host.as_str());
        let meant = names::misspelt(&names::canonical(host), candidates).map(str::to_owned);
        self.comparisons = self.comparisons.saturating_sub(self.services.iter().count());
        self.guesses.insert(host.to_owned(), meant.clone());
        meant
    }

    fn check_rule(&mut self, report: &mut Report, resource: &Resource<DestinationRule>) {
        let (host, namespace) = (&resource.spec.host, &resource.metadata.namespace);
        if host.is_empty() || names::is_wildcard(host) {
            return;
        }
        let services = self.services;
        let Some(service) = services.find(host, namespace) else {
            if !self.used_rules.contains(&std::ptr::from_ref(resource)) {
                let message = format!("no service and no destination is called `{}`", host.value);
                let found = Diagnostic::warning(Kind::Reference, host.place, message).code("IST0174");
                report.add(match self.guess(host) {
                    Some(meant) => found.help(format!("did you mean `{meant}`?")),
                    None => found,
                });
            }
            return;
        };
        for subset in &resource.spec.subsets {
            let taken = service.has_endpoint(Some(Selection::new(&subset.name, Some(subset))));
            if !taken && !self.reported.contains(&std::ptr::from_ref(subset)) {
                let message = format!("no endpoint of `{}` is in the subset `{}`", host.value, subset.name.value);
                report.add(Diagnostic::warning(Kind::Reference, subset.name.place, message).code("IST0173"));
            }
        }
    }
}

fn check_port(report: &mut Report, destination: &Destination, service: &Service, listeners: &[u16]) {
    let ports = || {
        let numbers: Vec<_> = service.ports.iter().map(|port| port.number.to_string()).collect();
        list(numbers.iter().map(String::as_str))
    };
    if service.ports.is_empty() {
        return;
    }
    match destination.port.as_ref().filter(|port| (1..=65535).contains(&port.value)) {
        Some(port) => {
            let declared = service.ports.iter().any(|own| i64::from(own.number) == port.value);
            if !declared {
                let message = format!("`{}` has no port {}", destination.host.value, port.value);
                report.add(unknown(port.place, message).help(format!("it has {}", ports())).code("IST0101"));
            }
        }
        None if destination.port.is_some() => {}
        None => {
            let decides = |listener: &&u16| service.choose_port(None, Some(**listener)).is_some();
            if let Some(listener) = listeners.iter().find(|listener| !decides(listener)) {
                let message = format!(
                    "`{}` has several ports, and none of them is that of the listener, {listener}",
                    destination.host.value
                );
                // On a listener whose port does decide, the destination is good: only the other one has nowhere to go.
                let found = match listeners.iter().any(|listener| decides(&listener)) {
                    true => Diagnostic::warning(Kind::Reference, destination.host.place, message),
                    false => unknown(destination.host.place, message),
                };
                let help = format!("say which with `port: {{number: …}}`: it has {}", ports());
                report.add(found.help(help).code("IST0112"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::ExtraEndpoint;
    use crate::config::validate::testing::{findings, report};

    const RULE: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec:\n  host: product\n  \
                        subsets:\n  - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n";
    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec:\n  hosts: [product]\n  \
                         ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints:\n  - \
                         {address: 127.0.0.1, labels: {version: v1}}\n  - {address: 127.0.0.2, labels: {version: v2}}\n";

    fn service(destinations: &[&str]) -> String {
        let weight = 100 / destinations.len();
        let entries: Vec<_> =
            destinations.iter().map(|entry| format!("    - {{destination: {entry}, weight: {weight}}}")).collect();
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: s}}\nspec:\n  hosts: [shop]\n  http:\n  \
             - route:\n{}\n",
            entries.join("\n")
        )
    }

    fn of(parts: &[&str]) -> Vec<String> {
        report(&parts.join("---\n"), &Settings::default())
    }

    fn extra(host: &str, subset: Option<&str>) -> ExtraEndpoint {
        let subset = subset.map(str::to_owned);
        ExtraEndpoint { host: host.to_owned(), subset, address: "127.0.0.1".to_owned(), port: 8081 }
    }

    #[test]
    fn what_fits_together_is_fine() {
        let both = service(&["{host: product, subset: v1}", "{host: product, subset: v2}"]);
        assert_eq!(of(&[&both, RULE, ENTRY]), Vec::<String>::new());
        let long = service(&["{host: Product.default.svc.cluster.local, subset: v1, port: {number: 80}}"]);
        assert_eq!(of(&[&long, RULE, ENTRY]), Vec::<String>::new());
    }

    #[test]
    fn a_subset_that_no_rule_declares_is_an_error_with_a_guess() {
        let found =
            findings(&[&service(&["{host: product, subset: v3}"]), RULE, ENTRY].join("---\n"), &Settings::default());
        assert_eq!(found[0].message, "no DestinationRule declares the subset `v3` of `product`");
        assert_eq!((found[0].code, found[0].help.as_deref()), (Some("IST0101"), Some("there are `v1`, `v2`")));
        let rule = RULE.replace("name: v2", "name: canary");
        let found = findings(
            &[&service(&["{host: product, subset: canry}"]), &rule, ENTRY].join("---\n"),
            &Settings::default(),
        );
        assert_eq!(found[0].help.as_deref(), Some("did you mean `canary`?"));
    }

    #[test]
    fn a_subset_without_endpoints_is_an_error_that_prints_what_would_fix_it() {
        let yaml = [&service(&["{host: product, subset: v2}"]), RULE].join("---\n");
        let found = findings(&yaml, &Settings::default());
        let [error] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((error.place.line, error.is_error()), (8, true));
        assert_eq!(error.message, "the subset `v2` of `product` has no endpoints");
        let help = error.help.as_deref().unwrap();
        let (lines, flag) = help.rsplit_once('\n').unwrap();
        assert_eq!(flag, "or run with `--endpoint product/v2=127.0.0.1:8082`");
        let printed = lines.split_once('\n').unwrap().1;
        assert_eq!(report(&format!("{yaml}---\n{printed}\n"), &Settings::default()), Vec::<String>::new(), "{printed}");
        let flags = Settings { endpoints: vec![extra("product", Some("v2"))], ..Settings::default() };
        let left = report(&yaml, &flags);
        assert_eq!(left, ["warning 16: no endpoint of `product` is in the subset `v1`"]);
    }

    #[test]
    fn the_lines_name_the_port_that_is_there_and_are_printed_once() {
        let help = |parts: &[&str]| {
            let found = findings(&parts.join("---\n"), &Settings::default());
            found.into_iter().filter_map(|one| one.help).collect::<Vec<_>>()
        };
        let both = service(&["{host: product, subset: v1}", "{host: product, subset: v2}"]);
        let helps = help(&[&both, RULE]);
        assert!(helps[0].contains("kind: ServiceEntry") && !helps[1].contains("kind: ServiceEntry"), "{helps:?}");
        let web = ENTRY.replace("name: http", "name: web").replace("version: v2", "version: v3");
        assert!(help(&[&both, RULE, &web])[0].contains("ports: {web: 8082}, labels: {version: v2}"));
    }

    #[test]
    fn a_subset_to_which_nothing_is_sent_may_be_empty() {
        let split = service(&["{host: product, subset: v1}", "{host: product, subset: v2}"]);
        let split = split
            .replace("subset: v1}, weight: 50", "subset: v1}, weight: 100")
            .replace("v2}, weight: 50", "v2}, weight: 0");
        let entry = ENTRY.replace("version: v2", "version: v9");
        assert_eq!(of(&[&split, RULE, &entry]), ["warning 18: no endpoint of `product` is in the subset `v2`"]);
    }

    #[test]
    fn a_flag_alone_declares_a_subset() {
        let settings = Settings { endpoints: vec![extra("product", Some("v1"))], ..Settings::default() };
        assert_eq!(report(&service(&["{host: product, subset: v1}"]), &settings), Vec::<String>::new());
        assert_eq!(report(&service(&["{host: product, subset: v2}"]), &settings).len(), 1);
        let all = Settings { endpoints: vec![extra("product", None)], ..Settings::default() };
        assert_eq!(report(&service(&["{host: product, subset: v2}"]), &all), Vec::<String>::new());
    }

    #[test]
    fn a_host_that_nothing_declares_is_a_name_or_a_slip_of_the_pen() {
        let to = |destination: &str| of(&[&service(&[destination]), RULE, ENTRY]);
        assert!(to("{host: prodcut}")[0].starts_with("error 8: no ServiceEntry declares the host `prodcut`"));
        assert!(to("{host: '*.example.org'}")[0].starts_with("error 8: "));
        assert!(to("{host: ratings}")[0].starts_with("warning 8: no ServiceEntry declares the host `ratings`"));
        assert_eq!(to("{host: ratings, port: {number: 9080}}"), Vec::<String>::new());
        let twice = of(&[&service(&["{host: ratings}", "{host: ratings}"])]);
        assert_eq!(twice.len(), 1, "{twice:?}");
    }

    #[test]
    fn the_port_must_be_there_and_be_decided() {
        let two = ENTRY.replace("protocol: HTTP}]", "protocol: HTTP}, {number: 8080, name: alt, protocol: HTTP}]");
        let on = |destination: &str, entry: &str, port: u16| {
            let settings = Settings { mesh_ports: vec![port], ..Settings::default() };
            report(&[&service(&[destination]), RULE, entry].join("---\n"), &settings)
        };
        assert_eq!(on("{host: product, port: {number: 81}}", ENTRY, 80), ["error 8: `product` has no port 81"]);
        assert_eq!(on("{host: product}", ENTRY, 9999), Vec::<String>::new());
        assert_eq!(on("{host: product}", &two, 8080), Vec::<String>::new());
        assert_eq!(
            on("{host: product}", &two, 9999),
            ["error 8: `product` has several ports, and none of them is that of the listener, 9999"]
        );
    }

    #[test]
    fn rules_and_selectors_for_nothing_are_pointed_out() {
        let lost = RULE.replace("host: product", "host: prodct");
        let found = findings(&[&service(&["{host: product}"]), &lost, ENTRY].join("---\n"), &Settings::default());
        assert_eq!((found[0].code, found[0].help.as_deref()), (Some("IST0174"), Some("did you mean `product`?")));
        let selector =
            ENTRY.split("  endpoints:").next().unwrap().to_owned() + "  workloadSelector: {labels: {app: product}}\n";
        let found = of(&[&service(&["{host: product}"]), &selector]);
        assert_eq!(found, ["warning 17: no WorkloadEntry of this namespace has these labels"]);
    }

    #[test]
    fn without_references_none_of_this_is_said() {
        let alone = Settings { references: false, ..Settings::default() };
        assert_eq!(report(&service(&["{host: nowhere, subset: v1}"]), &alone), Vec::<String>::new());
    }
}
