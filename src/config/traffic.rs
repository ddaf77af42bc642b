//! The DestinationRules of a host, merged as Istio merges them: which subsets it has, and which policy is in force for a port
//! and a subset. It looks up; it does not judge.

use foldhash::HashMap;

use super::names;
use super::place::Spanned;
use super::resource::destination_rule::{
    ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, PortTrafficPolicy, RetryBudget, Subset, TrafficPolicy,
    Tunnel,
};
use super::resource::{DestinationRule, Metadata, Resource, Resources};
use super::services::Selection;

/// Every DestinationRule, found by the host of a destination.
#[derive(Debug, Default)]
pub struct Traffic<'a> {
    /// By host, in lower case; a short name is here too as `name.namespace.svc.cluster.local`.
    exact: HashMap<String, Vec<&'a Resource<DestinationRule>>>,
    /// By what follows the `*`.
    wildcard: HashMap<String, Vec<&'a Resource<DestinationRule>>>,
}

/// The policy in force for one host, port and subset. A block that is absent has its defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<'a> {
    /// `loadBalancer`.
    pub load_balancer: Option<&'a LoadBalancer>,
    /// `connectionPool`.
    pub connection_pool: Option<&'a ConnectionPool>,
    /// `outlierDetection`.
    pub outlier_detection: Option<&'a OutlierDetection>,
    /// `tls`.
    pub tls: Option<&'a ClientTls>,
    /// `tunnel`.
    pub tunnel: Option<&'a Tunnel>,
    /// `proxyProtocol`: its version.
    pub proxy_protocol: Option<&'a Spanned<String>>,
    /// `retryBudget`.
    pub retry_budget: Option<&'a RetryBudget>,
}

/// The order of resources for one host: those without a date, then the oldest first; then by name and namespace.
pub fn seniority(metadata: &Metadata) -> impl Ord + '_ {
    (metadata.created, metadata.name.as_str(), metadata.namespace.as_str())
}

impl<'a> Traffic<'a> {
    /// The rules of these resources. Takes time in proportion to their number.
    pub fn new(resources: &'a Resources) -> Self {
        let mut traffic = Self::default();
        for rule in &resources.destination_rules {
            let host = names::canonical(&rule.spec.host);
            if let Some(suffix) = host.strip_prefix('*') {
                traffic.wildcard.entry(suffix.to_owned()).or_default().push(rule);
                continue;
            }
            if let Some(long) = names::expand(&host, &rule.metadata.namespace) {
                traffic.exact.entry(long).or_default().push(rule);
            }
            traffic.exact.entry(host.into_owned()).or_default().push(rule);
        }
        for rules in traffic.exact.values_mut().chain(traffic.wildcard.values_mut()) {
            rules.sort_by(|a, b| seniority(&a.metadata).cmp(&seniority(&b.metadata)));
        }
        traffic
    }

    /// The rules for the host of a destination in a namespace, the oldest first: those of its very name, else those of the
    /// longest wildcard that covers it.
    pub fn rules(&self, host: &str, namespace: &str) -> &[&'a Resource<DestinationRule>] {
        let host = names::canonical(host);
        if let Some(rules) = self.exact.get(host.as_ref()) {
            return rules;
        }
        let expanded = names::expand(&host, namespace);
        if let Some(rules) = expanded.as_ref().and_then(|long| self.exact.get(long)) {
            return rules;
        }
        // `*.a.com` asks for itself, too: a destination may name a wildcard service.
        let own = host.strip_prefix('*').and_then(|suffix| self.wildcard.get(suffix));
        let covering = || {
            let host = expanded.as_deref().unwrap_or(&host);
            let suffixes = host.char_indices().skip(1).map(|(at, _)| &host[at..]).chain([""]);
            suffixes.filter_map(|suffix| self.wildcard.get(suffix)).next()
        };
        own.or_else(covering).map_or(&[], Vec::as_slice)
    }

    /// A subset of a host; if several rules define it, the oldest does.
    pub fn subset(&self, host: &str, namespace: &str, name: &str) -> Option<&'a Subset> {
        self.subsets(host, namespace).find(|subset| subset.name.value == name)
    }

    /// The subsets of a host, first definitions first.
    pub fn subsets(&self, host: &str, namespace: &str) -> impl Iterator<Item = &'a Subset> + use<'_, 'a> {
        self.rules(host, namespace).iter().flat_map(|rule| &rule.spec.subsets)
    }

    /// A subset as a destination asks for it, with the labels that its endpoints carry.
    pub fn selection<'n>(&'n self, host: &str, namespace: &str, name: &'n str) -> Selection<'n> {
        Selection::new(name, self.subset(host, namespace, name))
    }

    /// The policy for a service port (none: no port entry applies) and a subset, block by block: the subset's port entry
    /// replaces the four blocks it can hold, else each block of the subset replaces that of the host, whose own port entry
    /// replaces all of its blocks.
    pub fn policy(&self, host: &str, namespace: &str, port: Option<u16>, subset: Option<&str>) -> Policy<'a> {
        let rules = self.rules(host, namespace);
        let top = rules.iter().find_map(|rule| rule.spec.traffic_policy.as_ref());
        let mut policy = top.map_or_else(Policy::default, |top| match port_entry(top, port) {
            Some(entry) => Policy::of_port(entry),
            None => Policy::of(top),
        });
        let own = subset.and_then(|name| self.subset(host, namespace, name)?.traffic_policy.as_ref());
        if let Some(own) = own {
            policy.refine(own, port);
        }
        policy
    }
}

fn port_entry(policy: &TrafficPolicy, port: Option<u16>) -> Option<&PortTrafficPolicy> {
    let wanted = i64::from(port?);
    policy
        .port_level_settings
        .iter()
        .flatten()
        .find(|entry| entry.port.as_ref().is_some_and(|port| port.value == wanted))
}

impl<'a> Policy<'a> {
    fn of(policy: &'a TrafficPolicy) -> Self {
        Self {
            load_balancer: policy.load_balancer.as_ref(),
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
            tunnel: policy.tunnel.as_ref(),
            proxy_protocol: policy.proxy_protocol.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
        }
    }

    fn of_port(entry: &'a PortTrafficPolicy) -> Self {
        Self {
            load_balancer: entry.load_balancer.as_ref(),
            connection_pool: entry.connection_pool.as_ref(),
            outlier_detection: entry.outlier_detection.as_ref(),
            tls: entry.tls.as_ref(),
            ..Self::default()
        }
    }

    fn refine(&mut self, subset: &'a TrafficPolicy, port: Option<u16>) {
        let host = *self;
        let own = Self::of(subset);
        *self = match port_entry(subset, port) {
            Some(entry) => Self::of_port(entry),
            None => Self {
                load_balancer: own.load_balancer.or(host.load_balancer),
                connection_pool: own.connection_pool.or(host.connection_pool),
                outlier_detection: own.outlier_detection.or(host.outlier_detection),
                tls: own.tls.or(host.tls),
                ..Self::default()
            },
        };
        self.tunnel = own.tunnel.or(host.tunnel);
        self.proxy_protocol = own.proxy_protocol.or(host.proxy_protocol);
        self.retry_budget = own.retry_budget.or(host.retry_budget);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::config::place::Place;
    use crate::config::resource::destination_rule::SimpleLb;
    use crate::config::testing::{at, text};

    fn balancer(simple: SimpleLb) -> Option<LoadBalancer> {
        Some(LoadBalancer { simple: Some(at(simple)), ..Default::default() })
    }

    fn subset(name: &str, traffic_policy: Option<TrafficPolicy>) -> Subset {
        Subset { name: text(name), traffic_policy: traffic_policy.map(Box::new), ..Default::default() }
    }

    fn rule(name: &str, host: &str, spec: DestinationRule) -> Resource<DestinationRule> {
        Resource {
            metadata: Metadata { name: text(name), namespace: text("shop"), ..Default::default() },
            spec: DestinationRule { host: text(host), ..spec },
            place: Place::default(),
        }
    }

    fn resources(destination_rules: Vec<Resource<DestinationRule>>) -> Resources {
        Resources { destination_rules, ..Default::default() }
    }

    fn names_of(traffic: &Traffic<'_>, host: &str, namespace: &str) -> Vec<String> {
        traffic.rules(host, namespace).iter().map(|rule| rule.metadata.name.value.clone()).collect()
    }

    #[test]
    fn the_most_specific_host_applies() {
        let hosts = ["a.b.com", "*.b.com", "*.com", "*", "reviews"];
        let all = resources(hosts.iter().map(|host| rule(host, host, DestinationRule::default())).collect());
        let traffic = Traffic::new(&all);
        for (host, namespace, wanted) in [
            ("A.b.com.", "x", "a.b.com"),
            ("c.b.com", "x", "*.b.com"),
            ("b.com", "x", "*.com"),
            ("*.b.com", "x", "*.b.com"),
            ("ratings", "x", "*"),
            ("reviews", "x", "reviews"),
            ("reviews.shop.svc.cluster.local", "x", "reviews"),
            ("reviews.other.svc.cluster.local", "x", "*"),
        ] {
            assert_eq!(names_of(&traffic, host, namespace), [wanted], "{host}");
        }
    }

    #[test]
    fn a_short_host_is_covered_by_the_wildcard_of_its_namespace() {
        let all = resources(vec![rule("cluster", "*.shop.svc.cluster.local", DestinationRule::default())]);
        let traffic = Traffic::new(&all);
        assert_eq!(names_of(&traffic, "reviews", "shop"), ["cluster"]);
        assert!(traffic.rules("reviews", "other").is_empty());
    }

    #[test]
    fn several_rules_add_subsets_and_the_oldest_decides() {
        let with = |name: &str, simple, subsets: &[&str], age| {
            let mut rule = rule(
                name,
                "reviews",
                DestinationRule {
                    traffic_policy: Some(
                        TrafficPolicy { load_balancer: balancer(simple), ..Default::default() }.into(),
                    ),
                    subsets: subsets.iter().map(|name| subset(name, None)).collect(),
                    ..Default::default()
                },
            );
            rule.metadata.created = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(age));
            rule
        };
        let all = resources(vec![
            with("a", SimpleLb::Random, &["v1", "v2"], 2),
            with("b", SimpleLb::RoundRobin, &["v2", "v3"], 1),
        ]);
        let traffic = Traffic::new(&all);
        let subsets: Vec<_> = traffic.subsets("reviews", "shop").map(|subset| subset.name.value.as_str()).collect();
        assert_eq!(subsets, ["v2", "v3", "v1", "v2"]);
        let policy = traffic.policy("reviews", "shop", None, None);
        assert_eq!(policy.load_balancer.unwrap().simple.unwrap().value, SimpleLb::RoundRobin);
    }

    #[test]
    fn policies_merge_block_by_block() {
        let port = |number, simple| {
            Some(PortTrafficPolicy {
                port: Some(Spanned::new(number, Place::default())),
                load_balancer: balancer(simple),
                ..Default::default()
            })
        };
        let pool = || Some(ConnectionPool::default());
        let top = TrafficPolicy {
            load_balancer: balancer(SimpleLb::Random),
            connection_pool: pool(),
            retry_budget: Some(RetryBudget::default()),
            port_level_settings: vec![None, port(90, SimpleLb::LeastConn)],
            ..Default::default()
        };
        let own = TrafficPolicy {
            load_balancer: balancer(SimpleLb::RoundRobin),
            port_level_settings: vec![port(91, SimpleLb::LeastRequest)],
            ..Default::default()
        };
        let spec = DestinationRule {
            traffic_policy: Some(top.into()),
            subsets: vec![subset("plain", None), subset("own", Some(own))],
            ..Default::default()
        };
        let all = resources(vec![rule("r", "reviews", spec)]);
        let traffic = Traffic::new(&all);
        for (number, name, simple, pool, budget) in [
            (Some(80), None, SimpleLb::Random, true, true),
            (Some(90), None, SimpleLb::LeastConn, false, false),
            (Some(80), Some("plain"), SimpleLb::Random, true, true),
            (Some(80), Some("own"), SimpleLb::RoundRobin, true, true),
            (Some(90), Some("own"), SimpleLb::RoundRobin, false, false),
            (Some(91), Some("own"), SimpleLb::LeastRequest, false, true),
            (None, Some("own"), SimpleLb::RoundRobin, true, true),
        ] {
            let policy = traffic.policy("reviews", "shop", number, name);
            let found = (
                policy.load_balancer.unwrap().simple.unwrap().value,
                policy.connection_pool.is_some(),
                policy.retry_budget.is_some(),
            );
            assert_eq!(found, (simple, pool, budget), "{number:?} {name:?}");
        }
    }
}
