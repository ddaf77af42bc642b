//! Rules of `http` that no request can reach because another VirtualService of the same host comes first. Behind a Gateway the
//! rules of all VirtualServices of a host follow each other, the oldest VirtualService's first, and those that take everything
//! stand at the end. What a VirtualService does to itself is said elsewhere.

use std::collections::BTreeMap;

use super::conflicts::full_name;
use super::covering::Seen;
use super::reachability::name;
use super::report::{Report, dead};
use crate::config::binding::{Bound, Claim, Way, claims, is_catch_all, obstacle};
use crate::config::delegates::{Delegates, RuleInForce};
use crate::config::gateways::{GatewayServer, gateways};
use crate::config::place::Place;
use crate::config::resource::Resources;
use crate::config::resource::virtual_service::HttpMatch;

const TAKES_ALL: &str = "let only one VirtualService of a host have a rule that takes everything";
const SAME: &str = "remove one of the two";
const WIDER: &str = "put both into one VirtualService, the more specific match first";

type Order<'g> = Vec<(usize, Way<'g>)>;
type Rules<'a> = BTreeMap<usize, Vec<RuleInForce<'a>>>;

/// Warns of rules and blocks that are dead on every port and host where they are served.
pub(super) fn check(report: &mut Report, resources: &Resources) {
    let gateways = gateways(resources);
    if gateways.is_empty() {
        return;
    }
    let services = Bound::all(resources);
    let mut by_port: BTreeMap<u16, Vec<&GatewayServer<'_>>> = BTreeMap::new();
    for listener in &gateways {
        by_port.entry(listener.port).or_default().extend(&listener.servers);
    }
    let orders: Vec<_> = by_port.iter().map(|(port, servers)| (*port, distinct(claims(servers, &services)))).collect();
    let delegates = Delegates::new(resources);
    let mut rules = Rules::new();
    for order in orders.iter().flat_map(|(_, orders)| orders) {
        let is_shared = order.iter().any(|(number, _)| *number != order[0].0);
        for (number, _) in order.iter().filter(|_| is_shared) {
            rules.entry(*number).or_insert_with(|| delegates.rules(services[*number].resource));
        }
    }
    let mut verdicts = Verdicts::default();
    for (port, orders) in &orders {
        for order in orders.iter().filter(|order| order.iter().any(|(number, _)| rules.contains_key(number))) {
            verdicts.judge(&services, &rules, order, *port);
        }
    }
    verdicts.say(report);
}

/// The orders of VirtualServices that hosts have, each once.
fn distinct<'g>(claims: Vec<Claim<'g>>) -> Vec<Order<'g>> {
    let mut orders: Vec<_> = claims.into_iter().map(|claim| claim.services).collect();
    orders.sort_unstable();
    orders.dedup();
    orders
}

/// What was found of the rules so far, by their places.
#[derive(Default)]
struct Verdicts(BTreeMap<Place, Verdict>);

/// What becomes of a rule.
struct Verdict {
    name: String,
    /// By their places; of a rule without blocks, its own.
    blocks: BTreeMap<Place, Fate>,
}

/// What becomes of a block.
enum Fate {
    Reached,
    /// What takes its requests, and whether it says the same.
    Dead {
        by: String,
        exactly: bool,
    },
}

/// A block that can match on a listener.
struct Here<'r> {
    service: usize,
    rule: &'r RuleInForce<'r>,
    place: Place,
    /// Without the conditions that hold here anyway.
    block: HttpMatch,
}

impl Verdicts {
    /// Judges the rules of one host.
    fn judge(&mut self, services: &[Bound<'_>], rules: &Rules<'_>, order: &Order<'_>, port: u16) {
        let blocks: Vec<Vec<Here<'_>>> = order
            .iter()
            .map(|(number, way)| match rules.get(number) {
                Some(rules) => here(rules, *number, &services[*number], *way, port),
                None => Vec::new(),
            })
            .collect();
        let all: Vec<&Here<'_>> = blocks.iter().flatten().collect();
        let (mut seen, mut takes_all, mut first) = (Seen::default(), None, 0);
        for group in &blocks {
            for one in group {
                let earlier = match takes_all.filter(|_| is_catch_all(Some(&one.block))) {
                    Some(earlier) => Some((earlier, false)),
                    None => seen.covering(&one.block).map(|found| (found.rule, found.exactly)),
                };
                let earlier = earlier.map(|(number, exactly)| (all[number], exactly));
                let is_alone = services[one.service].mesh;
                let dead = earlier.filter(|(earlier, _)| !is_alone && earlier.service != one.service);
                self.add(one, dead.map(|(earlier, exactly)| (called(earlier), exactly)));
            }
            for (one, number) in group.iter().zip(first..) {
                match is_catch_all(Some(&one.block)) {
                    true => takes_all = takes_all.or(Some(number)),
                    false => seen.add(&one.block, number),
                }
            }
            first += group.len();
        }
    }

    /// A block that is reached anywhere is not dead.
    fn add(&mut self, one: &Here<'_>, dead: Option<(String, bool)>) {
        let rule = &one.rule.rule;
        let new = || Verdict { name: name(rule, one.rule.number), blocks: BTreeMap::new() };
        let blocks = &mut self.0.entry(rule.place).or_insert_with(new).blocks;
        match dead {
            None => drop(blocks.insert(one.place, Fate::Reached)),
            Some((by, exactly)) => drop(blocks.entry(one.place).or_insert(Fate::Dead { by, exactly })),
        }
    }

    fn say(self, report: &mut Report) {
        for (place, Verdict { name, blocks }) in self.0 {
            if blocks.len() > 1 && blocks.values().all(|fate| matches!(fate, Fate::Dead { .. })) {
                let message = format!("{name} is never reached: other VirtualServices take all of its matches");
                report.add(dead(place, message).code("IST0130"));
            }
            for (block, fate) in blocks {
                let Fate::Dead { by, exactly } = fate else { continue };
                let takes_all = block == place;
                let (message, help) = match (takes_all, exactly) {
                    (true, _) => (format!("{name} is never reached: {by} takes everything"), TAKES_ALL),
                    (_, true) => (format!("this match never matters: {by} already takes the same requests"), SAME),
                    (_, false) => (format!("this match never matters: {by} already takes all of its requests"), WIDER),
                };
                let code = if takes_all { "IST0130" } else { "IST0131" };
                report.add(dead(block, message).help(help).code(code));
            }
        }
    }
}

/// The blocks of a VirtualService that can match on a listener, up to the first that takes everything.
fn here<'r>(rules: &'r [RuleInForce<'r>], service: usize, bound: &Bound<'_>, way: Way<'_>, port: u16) -> Vec<Here<'r>> {
    let namespace = &bound.resource.metadata.namespace;
    let mut found = Vec::new();
    for rule in rules {
        let written = &rule.rule;
        if written.matches.is_empty() {
            found.push(Here { service, rule, place: written.place, block: HttpMatch::default() });
            return found;
        }
        for block in written.matches.iter().filter(|block| obstacle(block, port, way, namespace).is_none()) {
            let block = HttpMatch { port: None, gateways: Vec::new(), ..block.clone() };
            let is_last = is_catch_all(Some(&block));
            found.push(Here { service, rule, place: block.place, block });
            if is_last {
                return found;
            }
        }
    }
    found
}

/// What the rule of a block is called by others.
fn called(block: &Here<'_>) -> String {
    let owner = &block.rule.owner.metadata;
    format!("{} of the VirtualService `{}`", name(&block.rule.rule, block.rule.number), full_name(owner))
}

#[cfg(test)]
mod tests {
    use crate::config::settings::Settings;
    use crate::config::validate::testing::report;

    const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - {port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 81, name: b, protocol: HTTP}, hosts: ['*']}
---
";

    const HOSTS: &str = "hosts: [a.x], gateways: [edge]";

    fn service(name: &str, spec: &str, rules: &[&str]) -> String {
        let rules: Vec<_> = rules.iter().map(|rule| format!("{{{rule}redirect: {{uri: /x}}}}")).collect();
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{{spec}, http: [{}]}}\n---\n",
            rules.join(", ")
        )
    }

    fn of(yaml: &[String]) -> Vec<String> {
        let all = report(&format!("{GATEWAY}{}", yaml.concat()), &Settings::default());
        all.into_iter().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect()
    }

    /// What is said of two VirtualServices with these rules on one host. The file has the younger one first.
    fn found(first: &[&str], second: &[&str]) -> Vec<String> {
        of(&[service("b", HOSTS, second), service("a", HOSTS, first)])
    }

    const A: &str = "match: [{uri: {prefix: /a}}], ";
    const AB: &str = "match: [{uri: {prefix: /a/b}}], ";

    #[test]
    fn a_wider_block_of_the_older_one_takes_the_requests() {
        let rule = "rule 0 of the VirtualService `default/a` already takes";
        assert_eq!(found(&[A], &[AB]), [format!("this match never matters: {rule} all of its requests")]);
        assert_eq!(found(&[A], &[A]), [format!("this match never matters: {rule} the same requests")]);
        assert_eq!(found(&[AB], &[A]), Vec::<String>::new());
        let two = "name: two, match: [{uri: {exact: /a}}, {uri: {prefix: /a/c}}], ";
        let said = found(&[A], &[two]);
        assert_eq!(said[0], "rule `two` is never reached: other VirtualServices take all of its matches");
        assert_eq!(said.len(), 3);
    }

    #[test]
    fn what_takes_everything_stands_at_the_end_and_is_the_oldest() {
        assert_eq!(found(&["name: all, "], &[A]), Vec::<String>::new());
        assert_eq!(
            found(&["name: all, "], &[A, ""]),
            ["rule 1 is never reached: rule `all` of the VirtualService `default/a` takes everything"]
        );
        let odd = "match: [{uri: {regex: '/.*'}}], ";
        assert_eq!(found(&[odd], &[A, ""]).len(), 2, "Istio does not know this one as a rule for everything");
    }

    #[test]
    fn a_rule_that_is_reached_anywhere_is_not_dead() {
        let with = |hosts: &str| of(&[service("a", HOSTS, &[A]), service("b", hosts, &[AB])]);
        assert_eq!(with(HOSTS).len(), 1);
        for elsewhere in [
            "hosts: [a.x, b.x], gateways: [edge]",
            "hosts: [a.x], gateways: [edge, mesh]",
            "hosts: ['*.x'], gateways: [edge]",
        ] {
            assert_eq!(with(elsewhere), Vec::<String>::new(), "{elsewhere}");
        }
    }

    #[test]
    fn conditions_on_the_listener_hold_there_and_nowhere_else() {
        let on = |port: u16| format!("match: [{{uri: {{prefix: /a}}, port: {port}}}], ");
        assert_eq!(found(&[&on(80)], &[&on(80)]).len(), 1);
        assert_eq!(found(&[&on(80)], &[&on(81)]), Vec::<String>::new());
        assert_eq!(found(&[&on(80)], &[AB]), Vec::<String>::new(), "it is reached on 81");
        assert_eq!(found(&[&on(80), &on(81)], &[AB]).len(), 1);
    }

    #[test]
    fn rules_of_delegates_are_judged_where_they_are_in_force() {
        let delegate = service("d", "hosts: []", &["match: [{uri: {prefix: /a/b/c}}], "]).replace("hosts: [], ", "");
        let root = service("b", HOSTS, &[])
            .replace("http: []", "http: [{match: [{uri: {prefix: /a/b}}], delegate: {name: d}}]");
        let said = of(&[service("a", HOSTS, &[A]), root.clone(), delegate.clone()]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(
            of(&[service("a", HOSTS, &["match: [{uri: {prefix: /c}}], "]), root, delegate]),
            Vec::<String>::new()
        );
    }
}
