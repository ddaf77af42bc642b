//! Outlier detection against the endpoints that there are: a policy that can never eject one is said to be that.

use std::collections::BTreeMap;

use super::report::{Report, no_effect};
use crate::config::place::Place;
use crate::config::resource::Resources;
use crate::config::resource::service_entry::Resolution;
use crate::config::services::{Address, Selection, Service, Services};
use crate::config::settings::Settings;
use crate::config::traffic::Traffic;

/// Istio's default of `maxEjectionPercent`.
const MAX_EJECTION_PERCENT: i64 = 10;

/// Where a policy stands and what it allows.
type Policy = (Place, i64);

/// Warns of policies whose `maxEjectionPercent` of some pool is less than one endpoint.
pub(super) fn check(report: &mut Report, resources: &Resources, settings: &Settings) {
    let (services, traffic) = (Services::new(resources, settings), Traffic::new(resources));
    let mut found: BTreeMap<Policy, Vec<(String, usize)>> = BTreeMap::new();
    for rule in &resources.destination_rules {
        let namespace = rule.metadata.namespace.as_str();
        let Some(service) = services.find(&rule.spec.host, namespace) else { continue };
        let mut subsets: Vec<Option<&str>> =
            traffic.subsets(&service.host, namespace).map(|subset| Some(subset.name.as_str())).collect();
        if subsets.is_empty() {
            subsets.push(None);
        }
        let ports = service.ports.iter().map(|port| Some(port.number));
        let ports: Vec<Option<u16>> = if service.ports.is_empty() { vec![None] } else { ports.collect() };
        for subset in subsets {
            let selection = subset.map(|name| traffic.selection(&service.host, namespace, name));
            let Some(size) = size(service, selection) else { continue };
            for port in &ports {
                let policy = traffic.policy(&service.host, namespace, *port, subset);
                let Some(outlier) = policy.outlier_detection else { continue };
                let percent = outlier.max_ejection_percent.filter(|percent| percent.value > 0);
                let percent = percent.map_or(MAX_EJECTION_PERCENT, |percent| percent.value);
                if size > 0 && percent * (size as i64) < 100 {
                    let place = outlier.max_ejection_percent.map_or(outlier.place, |percent| percent.place);
                    let name =
                        subset.map_or_else(|| service.host.clone(), |subset| format!("{} {subset}", service.host));
                    let pools = found.entry((place, percent)).or_default();
                    if !pools.iter().any(|(known, _)| *known == name) {
                        pools.push((name, size));
                    }
                }
            }
        }
    }
    for ((place, percent), pools) in found {
        let named: Vec<String> = pools
            .iter()
            .map(|(name, size)| format!("`{name}` ({size} endpoint{})", if *size == 1 { "" } else { "s" }))
            .collect();
        let enough = pools.iter().map(|(_, size)| 100_usize.div_ceil(*size)).max().unwrap_or(100);
        let message = format!(
            "`outlierDetection` can never eject an endpoint of {}: `maxEjectionPercent` is {percent}, less than one of them",
            named.join(" or ")
        );
        report.add(no_effect(place, message).help(format!("`maxEjectionPercent: {enough}` allows one")));
    }
}

/// How many endpoints a pool has; none where name servers decide.
fn size(service: &Service, subset: Option<Selection<'_>>) -> Option<usize> {
    let endpoints = service.endpoints_for(None, subset);
    let named = |address: &Address| matches!(address, Address::Name(name) if name != "localhost");
    let unknown =
        service.resolution != Resolution::DnsRoundRobin && endpoints.iter().any(|(address, ..)| named(address));
    (!unknown).then_some(endpoints.len())
}
