//! `kind: DestinationRule`: its host and its subsets. Its policies: `traffic_policy`.

use std::collections::HashSet;

use super::report::{Report, conflict, missing, no_effect};
use super::visibility::{self, Owner};
use super::{checks, traffic_policy, weights};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::resource::Resource;
use crate::config::resource::destination_rule::{DestinationRule, Subset};

/// Checks one DestinationRule by itself.
pub(super) fn check(report: &mut Report, resource: &Resource<DestinationRule>) {
    let spec = &resource.spec;
    if spec.host.is_empty() {
        report.add(missing(spec.place, "`host` is missing"));
    } else {
        checks::host(report, &spec.host);
    }
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy::check(report, policy);
    }
    subsets(report, &spec.subsets);
    let owner = if spec.workload_selector.is_some() { Owner::SelectingRule } else { Owner::Other };
    visibility::check(report, &spec.export_to, &resource.metadata.namespace, owner);
    if let Some(selector) = &spec.workload_selector {
        checks::selector(report, selector);
        let message = "`workloadSelector` has no effect: the rule holds for every client";
        report.add(no_effect(selector.place, message));
    }
}

fn subsets(report: &mut Report, subsets: &[Subset]) {
    let mut names = HashSet::new();
    for subset in subsets {
        if subset.name.is_empty() {
            report.add(missing(subset.place, "`name` of the subset is missing"));
        } else {
            weights::subset_name(report, &subset.name);
        }
        if !names.insert(subset.name.as_str()) {
            report.add(conflict(subset.name.place, format!("the subset `{}` is there twice", subset.name.value)));
        }
        checks::labels(report, &subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy::check(report, policy);
        }
    }
    equal_labels(report, subsets);
}

/// Two subsets of the same endpoints: legal, and a canary that splits nothing.
fn equal_labels(report: &mut Report, subsets: &[Subset]) {
    let mut seen = std::collections::HashMap::new();
    for subset in subsets {
        let mut labels: Vec<_> = subset.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        labels.sort_unstable();
        // Two of one name are reported as such.
        if let Some(earlier) = seen.insert(labels, &subset.name).filter(|earlier| earlier.value != subset.name.value) {
            let message =
                format!("the subsets `{}` and `{}` have the same endpoints", earlier.value, subset.name.value);
            report
                .add(Diagnostic::warning(Kind::Value, subset.name.place, message).help("give them different `labels`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, each_passes, warnings};

    #[test]
    fn hosts_and_subsets_have_names() {
        each_fails(
            "DestinationRule",
            &[
                ("  subsets: []", "`host` is missing"),
                ("  host: a_b", "is no host name"),
                ("  host: a\n  subsets: [{labels: {v: a}}]", "`name` of the subset is missing"),
                ("  host: a\n  subsets: [{name: v_1}]", "is no subset name"),
                ("  host: a\n  subsets: [{name: v1}, {name: v1}]", "the subset `v1` is there twice"),
                ("  host: a\n  subsets: [{name: v1, labels: {'@': a}}]", "label key `@`"),
                ("  host: a\n  workloadSelector: {matchLabels: {app: '*'}}", "cannot have wildcards"),
            ],
        );
        each_passes(
            "DestinationRule",
            &["  host: '*'", "  host: '*.a.com'\n  subsets: [{name: V1}, {name: v2, labels: {v: '2'}}]"],
        );
    }

    #[test]
    fn subsets_of_the_same_endpoints_are_pointed_out() {
        let found = warnings(
            "DestinationRule",
            "  host: a\n  subsets: [{name: v1, labels: {a: b, c: d}}, {name: v2, labels: {c: d, a: b}}]",
        );
        assert_eq!(found, ["the subsets `v1` and `v2` have the same endpoints"]);
    }
}
