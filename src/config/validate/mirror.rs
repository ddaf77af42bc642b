//! `mirror` and `mirrors` of an HTTP rule.

use super::checks;
use super::report::{Report, conflict, deprecated, missing, no_effect};
use super::weights;
use crate::config::resource::virtual_service::HttpRoute;

/// Checks what a rule copies and where to.
pub(super) fn check(report: &mut Report, route: &HttpRoute) {
    if let Some(percent) = &route.mirror_percent {
        checks::whole_percent(report, "mirrorPercent", Some(percent));
        report.add(deprecated(percent.place, "mirrorPercent", "mirrorPercentage"));
    }
    if let Some(percentage) = &route.mirror_percentage {
        checks::percent(report, "mirrorPercentage", percentage);
    }
    if let Some(destination) = &route.mirror {
        weights::destination(report, destination);
        if let Some(first) = route.mirrors.first() {
            report.add(conflict(first.place, "a rule cannot have both `mirror` and `mirrors`"));
        }
    } else {
        let percent = route.mirror_percentage.as_ref().map(|percentage| percentage.place);
        if let Some(place) = percent.or(route.mirror_percent.as_ref().map(|percent| percent.place)) {
            report.add(no_effect(place, "a mirror percentage has no effect without `mirror`"));
        }
    }
    for mirror in &route.mirrors {
        match &mirror.destination {
            Some(destination) => weights::destination(report, destination),
            None => report.add(missing(mirror.place, "`destination` of the mirror is missing")),
        }
        if let Some(percentage) = &mirror.percentage {
            checks::percent(report, "percentage", percentage);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_rule_fails, rule, warnings};

    #[test]
    fn mirrors_name_a_destination_and_a_share() {
        each_rule_fails(&[
            ("    mirror: {host: c}\n    mirrorPercentage: {value: 101}", "not between 0 and 100"),
            ("    mirror: {host: c}\n    mirrorPercent: 101", "not between 0 and 100"),
            ("    mirror: {host: c}\n    mirrors: [{destination: {host: d}}]", "both `mirror` and `mirrors`"),
            ("    mirrors: [{percentage: {value: 1}}]", "`destination` of the mirror is missing"),
            ("    mirrors: [{destination: {host: d}, percentage: {value: -1}}]", "not between 0 and 100"),
        ]);
        assert!(rule("    mirror: {host: c}\n    mirrorPercentage: {}").is_empty());
    }

    #[test]
    fn a_share_of_nothing_is_said_to_do_nothing() {
        let spec = "  hosts: [a]\n  http:\n  - route: [{destination: {host: b}}]\n    mirrorPercentage: {value: 10}";
        assert_eq!(warnings("VirtualService", spec), ["a mirror percentage has no effect without `mirror`"]);
    }
}
