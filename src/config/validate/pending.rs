//! Valid fields whose behaviour is not built yet: the one list of them. Each is refused, so that none is silently ignored.
//! To put a field in force, delete its line.

use super::report::{Report, unsupported};
use crate::config::place::Place;
use crate::config::resource::Resources;
use crate::config::resource::destination_rule::TrafficPolicy;
use crate::config::resource::gateway::Gateway;

/// A field by its name, and where it stands if it is there and asks for anything.
type Pending<T> = (&'static str, fn(&T) -> Option<Place>);

/// What of a policy of a host or a subset, besides its blocks.
const POLICY: &[Pending<TrafficPolicy>] = &[
    ("`tunnel`", |policy| policy.tunnel.as_ref().map(|tunnel| tunnel.place)),
    ("`proxyProtocol`", |policy| policy.proxy_protocol.as_ref().map(|version| version.place)),
];

/// What of a Gateway.
const GATEWAY: &[Pending<Gateway>] = &[("a server on a Unix socket", |gateway| {
    let mut binds = gateway.servers.iter().filter_map(|server| server.bind.as_ref());
    binds.find(|bind| bind.starts_with("unix://")).map(|bind| bind.place)
})];

fn refuse<T>(report: &mut Report, list: &[Pending<T>], value: &T) {
    for (name, find) in list {
        if let Some(place) = find(value) {
            report.add(unsupported(place, format!("{name} is not supported yet")));
        }
    }
}

/// Refuses every field of the list above.
pub(super) fn check(report: &mut Report, resources: &Resources) {
    for resource in &resources.destination_rules {
        let subsets = resource.spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        for policy in resource.spec.traffic_policy.iter().chain(subsets) {
            refuse(report, POLICY, policy);
        }
    }
    for gateway in &resources.gateways {
        refuse(report, GATEWAY, &gateway.spec);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::diagnostic::Kind;
    use crate::config::validate::testing::{alone, findings, resource};

    #[test]
    fn what_is_pending_is_refused_and_hides_no_error() {
        let spec =
            "  hosts: [a]\n  http:\n  - route: [{destination: {host: b}}]\n    retries: {attempts: -1}\n    fault: {}";
        let found = findings(&resource("VirtualService", spec), &alone());
        let kinds: Vec<_> = found.iter().map(|one| one.kind).collect();
        assert!(kinds.contains(&Kind::Value) && kinds.contains(&Kind::Field), "{found:?}");
        assert!(
            found
                .iter()
                .filter(|one| one.kind == Kind::Unsupported)
                .all(|one| one.message.ends_with("not supported yet"))
        );
    }

    #[test]
    fn what_switches_a_feature_off_is_not_refused() {
        let rule = "  hosts: [a]\n  http:\n  - route: [{destination: {host: b}}]\n    retries: {attempts: 0}";
        assert!(findings(&resource("VirtualService", rule), &alone()).is_empty());
        let policy = "  host: a\n  trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {connectTimeout: 1s, \
                      maxConnections: 0}, http: {maxRequestsPerConnection: 1, h2UpgradePolicy: DEFAULT}}, tls: {mode: DISABLE}}";
        assert!(findings(&resource("DestinationRule", policy), &alone()).is_empty());
    }
}
