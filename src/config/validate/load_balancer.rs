//! `loadBalancer` of a traffic policy.

use std::collections::{HashMap, HashSet};

use super::checks;
use super::report::{Report, conflict, deprecated, missing, no_effect, unsupported, wrong};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::{Place, Spanned};
use crate::config::resource::destination_rule::{
    ConsistentHash, HttpCookie, LoadBalancer, LocalityLb, LocalityShares, SimpleLb, Warmup, ZoneAwareLb,
};

/// The largest table that Envoy's Maglev takes, exclusively.
const MAGLEV_LIMIT: i64 = 5_000_011;

/// Labels of a locality, which `failover` already speaks of.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// Checks the load balancer; `ejects` says whether the policy has outlier detection.
pub(super) fn check(report: &mut Report, balancer: Option<&LoadBalancer>, ejects: bool) {
    let Some(balancer) = balancer else { return };
    match balancer.simple.as_ref().map(|simple| (simple.value, simple.place)) {
        Some((SimpleLb::Passthrough, place)) => report.add(
            unsupported(place, "`PASSTHROUGH` sends to the original destination, which a reverse proxy does not know")
                .help("use `LEAST_REQUEST`, `ROUND_ROBIN` or `RANDOM`"),
        ),
        Some((SimpleLb::LeastConn, place)) => report.add(deprecated(place, "LEAST_CONN", "LEAST_REQUEST")),
        _ => {}
    }
    if let Some(hash) = &balancer.consistent_hash {
        if let Some(simple) = &balancer.simple {
            report.add(conflict(simple.place, "a load balancer cannot have both `simple` and `consistentHash`"));
        }
        consistent_hash(report, hash);
    }
    if let Some(duration) = &balancer.warmup_duration_secs {
        checks::duration(report, duration);
        report.add(deprecated(duration.place, "warmupDurationSecs", "warmup"));
    }
    if let Some(found) = &balancer.warmup {
        warmup(report, found);
        if let Some(old) = &balancer.warmup_duration_secs {
            report.add(no_effect(old.place, "`warmupDurationSecs` has no effect beside `warmup`"));
        }
    }
    if let Some(place) = warmed(balancer) {
        let message = "a warmup has no effect here: `ROUND_ROBIN` and `LEAST_REQUEST` warm up";
        report.add(no_effect(place, message));
    }
    if let Some(locality) = &balancer.locality_lb_setting {
        if balancer.zone_aware_lb_setting.is_some() {
            let message = "a load balancer cannot have both `localityLbSetting` and `zoneAwareLbSetting`";
            report.add(conflict(locality.place, message));
        }
        locality_setting(report, locality, ejects);
        report.add(no_effect(locality.place, "`localityLbSetting` has no effect: this proxy has no locality"));
    }
    if let Some(zone) = &balancer.zone_aware_lb_setting {
        zone_setting(report, zone);
        report.add(no_effect(zone.place, "`zoneAwareLbSetting` has no effect: this proxy has no locality"));
    }
}

/// Where it says how to warm up, although it is of those that do not.
fn warmed(balancer: &LoadBalancer) -> Option<Place> {
    let simple = balancer.simple.as_ref().map(|simple| simple.value);
    let none = balancer.consistent_hash.is_some() || matches!(simple, Some(SimpleLb::Random | SimpleLb::Passthrough));
    let old = balancer.warmup_duration_secs.as_ref().map(|duration| duration.place);
    balancer.warmup.as_ref().map(|warmup| warmup.place).or(old).filter(|_| none)
}

fn consistent_hash(report: &mut Report, hash: &ConsistentHash) {
    let keys = usize::from(hash.http_header_name.is_some())
        + usize::from(hash.http_cookie.is_some())
        + usize::from(hash.use_source_ip.is_some())
        + usize::from(hash.http_query_parameter_name.is_some());
    if keys > 1 {
        report.add(conflict(hash.place, "`consistentHash` has more than one key").help("keep one of them"));
    } else if keys == 0 {
        report.add(no_effect(hash.place, "`consistentHash` has no key, so endpoints are chosen at random"));
    }
    if let Some(found) = &hash.http_cookie {
        cookie(report, found);
    }
    let ring = hash.minimum_ring_size.as_ref().filter(|size| size.value != 0);
    if let Some(size) = ring {
        checks::count(report, "minimumRingSize", Some(size));
        report.add(deprecated(size.place, "minimumRingSize", "ringHash.minimumRingSize"));
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            report.add(conflict(size.place, "`minimumRingSize` and `ringHash` or `maglev` exclude each other"));
        }
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        report.add(conflict(hash.place, "`ringHash` and `maglev` exclude each other"));
    }
    if let Some(size) = hash.ring_hash.as_ref().and_then(Option::as_ref) {
        checks::count(report, "minimumRingSize", Some(size));
    }
    if let Some(table) = &hash.maglev {
        maglev(report, table.as_ref(), hash);
    }
}

fn maglev(report: &mut Report, table: Option<&Spanned<i64>>, hash: &ConsistentHash) {
    match table.filter(|size| size.value != 0) {
        None => report.add(missing(hash.place, "`tableSize` of `maglev` is missing").help("a prime, 65537 say")),
        Some(size) if size.value >= MAGLEV_LIMIT => {
            report.wrong(size.place, format!("`tableSize` is {}, not below {MAGLEV_LIMIT}", size.value));
        }
        Some(size) if !is_prime(size.value) => {
            report.add(
                wrong(size.place, format!("`tableSize` is {}, which is no prime", size.value)).help("65537 is one"),
            );
        }
        Some(_) => {}
    }
}

fn is_prime(number: i64) -> bool {
    number >= 2 && (2..).take_while(|factor| factor * factor <= number).all(|factor| number % factor != 0)
}

fn cookie(report: &mut Report, cookie: &HttpCookie) {
    if cookie.name.is_empty() {
        report.add(missing(cookie.place, "`name` of the cookie is missing"));
    }
    if let Some(ttl) = &cookie.ttl {
        checks::duration_or_zero(report, ttl);
    }
    let mut names = HashSet::new();
    for (name, _) in &cookie.attributes {
        if name.is_empty() {
            report.wrong(name.place, "the name of a cookie attribute must not be empty");
        } else if !names.insert(name.as_str()) {
            report.add(conflict(name.place, format!("the cookie attribute `{}` is there twice", name.value)));
        }
    }
}

fn warmup(report: &mut Report, warmup: &Warmup) {
    match &warmup.duration {
        Some(duration) => checks::duration(report, duration),
        None => report.add(missing(warmup.place, "`duration` of the warmup is missing")),
    }
    if let Some(percent) = &warmup.minimum_percent {
        checks::percent(report, "minimumPercent", percent);
    }
    // At least 1, as Istio's schema has it.
    if let Some(aggression) =
        warmup.aggression.as_ref().filter(|aggression| aggression.value.is_nan() || aggression.value < 1.0)
    {
        report.wrong(aggression.place, format!("`aggression` is {}, below 1", aggression.value));
    }
}

fn locality_setting(report: &mut Report, locality: &LocalityLb, ejects: bool) {
    if let (Some(LocalityShares { from, .. }), false) = (locality.distribute.first(), locality.failover.is_empty()) {
        report.add(conflict(from.place, "`distribute` and `failover` exclude each other"));
    }
    let topology = locality.failover_priority.iter().find(|label| TOPOLOGY.contains(&label.as_str()));
    if let (Some(label), false) = (topology, locality.failover.is_empty()) {
        report.add(conflict(
            label.place,
            format!("`failover` and the topology label `{}` exclude each other", label.value),
        ));
    }
    for LocalityShares { from, to, .. } in &locality.distribute {
        for (place, weight) in to.iter().filter(|(_, weight)| !(1..=100).contains(&weight.value)) {
            report.wrong(
                weight.place,
                format!("the weight of `{}` is {}, not between 1 and 100", place.value, weight.value),
            );
        }
        let total: i64 = to.iter().map(|(_, weight)| weight.value).sum();
        if total != 100 {
            report.wrong(from.place, format!("the weights from `{}` sum to {total}, not 100", from.value));
        }
        localities(report, to.iter().map(|(to, _)| to));
    }
    localities(report, locality.distribute.iter().map(|shares| &shares.from));
    failover(report, &locality.failover);
    let fails_over = locality.failover.first().map(|(from, _)| from.place);
    if let Some(place) = fails_over.or(locality.failover_priority.first().map(|label| label.place)).filter(|_| !ejects)
    {
        report.add(Diagnostic::warning(Kind::Value, place, "failover needs `outlierDetection`"));
    }
}

fn zone_setting(report: &mut Report, zone: &ZoneAwareLb) {
    failover(report, &zone.failover);
}

fn failover(report: &mut Report, failover: &[(Spanned<String>, Spanned<String>)]) {
    for (from, to) in failover {
        if from == to {
            report.wrong(to.place, format!("`{}` cannot fail over to itself", from.value));
        }
        for region in [from, to].into_iter().filter(|region| region.contains(['/', '*'])) {
            report.wrong(region.place, format!("`{}` is no region: failover is between regions", region.value));
        }
    }
}

/// Localities (`region/zone/subzone`, `*` at the end) that do not overlap.
fn localities<'a>(report: &mut Report, list: impl Iterator<Item = &'a Spanned<String>>) {
    let mut seen: HashMap<&str, ()> = HashMap::new();
    for locality in list {
        if locality.split('/').take(3).any(str::is_empty) {
            report.wrong(locality.place, format!("a part of the locality `{}` is empty", locality.value));
            continue;
        }
        if locality.find('*').is_some_and(|at| at + 1 != locality.len()) {
            report.wrong(locality.place, format!("`{}`: a `*` may only end a locality", locality.value));
            continue;
        }
        let stem = locality.strip_suffix('*').unwrap_or(locality).trim_end_matches('/');
        if seen.keys().any(|other| within(stem, other) || within(other, stem)) {
            report.wrong(locality.place, format!("the locality `{}` overlaps an earlier one", locality.value));
        }
        seen.insert(stem, ());
    }
}

fn within(inner: &str, outer: &str) -> bool {
    outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}
