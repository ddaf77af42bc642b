//! What destinations and DestinationRules name, against what is declared: hosts, subsets, ports, endpoints.

use foldhash::{HashMap, HashSet};

use super::remedies::{empty_subset, list};
use super::report::{Report, no_effect, unknown};
use super::virtual_service;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::destination_rule::{DestinationRule, Subset};
use crate::config::resource::virtual_service::{Destination, HttpRoute, VirtualService};
use crate::config::resource::{Resource, Resources};
use crate::config::services::{DEFAULT_PORT, Selection, Service, Services};
use crate::config::settings::Settings;
use crate::config::traffic::Traffic;

/// What is declared, and what of it was asked for.
struct Declared<'a> {
    services: &'a Services,
    traffic: &'a Traffic<'a>,
    mesh_ports: &'a [u16],
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
        mesh_ports: &settings.mesh_ports,
        used_rules: HashSet::default(),
        reported: HashSet::default(),
        guesses: HashMap::default(),
        comparisons: COMPARISONS,
    };
    for resource in &resources.virtual_services {
        let namespace = &resource.metadata.namespace;
        for route in &resource.spec.http {
            let listeners = declared.listeners(&resource.spec, route);
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
    let mirrors = route.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref()).chain(&route.mirror);
    weighted.chain(mirrors.map(|destination| Target { destination, used: true }))
}

impl Declared<'_> {
    /// The listener ports on which a rule is served.
    fn listeners(&self, spec: &VirtualService, route: &HttpRoute) -> Vec<u16> {
        let ports: Vec<_> =
            route.matches.iter().filter_map(|block| u16::try_from(block.port.as_ref()?.value).ok()).collect();
        if !ports.is_empty() && ports.len() == route.matches.len() {
            ports
        } else if virtual_service::serves_mesh(spec) {
            self.mesh_ports.to_vec()
        } else {
            Vec::new()
        }
    }

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
                    if !filled && *used && self.reported.insert(std::ptr::from_ref(found)) {
                        let all: Vec<_> = self.traffic.subsets(host, namespace).collect();
                        report.add(empty_subset(host, (subset, found), service, &all));
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
            let undecided = listeners.iter().find(|listener| service.choose_port(None, Some(**listener)).is_none());
            if let Some(listener) = undecided {
                let message = format!(
                    "`{}` has several ports, and none of them is that of the listener, {listener}",
                    destination.host.value
                );
                report.add(
                    unknown(destination.host.place, message)
                        .help(format!("say which with `port: {{number: …}}`: it has {}", ports()))
                        .code("IST0112"),
                );
            }
        }
    }
}
