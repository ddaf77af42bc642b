//! The destinations of a route and their weights. Serin wants weights that sum to 100, unless they are meant as shares.

use super::report::{Report, missing, wrong};
use super::virtual_service::{Scope, WEIGHTS};
use super::{checks, headers};
use crate::config::diagnostic::Diagnostic;
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::resource::virtual_service::{Destination, HttpRouteDestination};

/// What the weights of one route sum to.
const WHOLE: i64 = 100;

/// Checks the destinations of an HTTP route.
pub(super) fn check(report: &mut Report, route: &[HttpRouteDestination], scope: &Scope) {
    for entry in route {
        match &entry.destination {
            Some(found) => destination(report, found),
            None => report.add(missing(entry.place, "`destination` is missing")),
        }
        headers::operations(report, entry.headers.as_deref());
    }
    let weights: Vec<_> = route.iter().map(|entry| (entry.weight.as_ref(), entry.place)).collect();
    if single_weights(report, &weights) {
        sum(report, &weights, scope.relative);
    }
}

/// One place to send to.
pub(super) fn destination(report: &mut Report, destination: &Destination) {
    if destination.host.value == "*" {
        report.wrong(destination.host.place, "`*` is no destination: name one host");
    } else if destination.host.is_empty() {
        report.add(missing(destination.place, "`host` of the destination is missing"));
    } else if checks::is_ip(&destination.host) {
        report.add(
            wrong(
                destination.host.place,
                format!("`{}` is an address: a destination is a host name", destination.host.value),
            )
            .help("declare a ServiceEntry with this endpoint, and send to its host"),
        );
    } else {
        checks::host(report, &destination.host);
    }
    if let Some(subset) = destination.subset.as_ref().filter(|subset| !subset.is_empty()) {
        subset_name(report, subset);
    }
    if let Some(port) = &destination.port {
        checks::port(report, port);
    }
}

/// The name of a subset.
pub(super) fn subset_name(report: &mut Report, name: &Spanned<String>) {
    if !names::is_label(name) {
        report.wrong(
            name.place,
            format!("`{}` is no subset name: letters, digits and inner dashes, at most 63", name.value),
        );
    }
}

type Weight<'a> = (Option<&'a Spanned<i64>>, Place);

/// Whether each weight is one by itself.
pub(super) fn single_weights(report: &mut Report, weights: &[Weight<'_>]) -> bool {
    let mut fine = true;
    for weight in weights.iter().filter_map(|(weight, _)| *weight) {
        if weight.value < 0 {
            report.wrong(weight.place, format!("the weight {} is negative", weight.value));
            fine = false;
        } else if weight.value > i64::from(i32::MAX) {
            report.wrong(weight.place, format!("the weight {} is larger than {}", weight.value, i32::MAX));
            fine = false;
        }
    }
    fine
}

/// What all weights of a route together must be.
pub(super) fn sum(report: &mut Report, weights: &[Weight<'_>], relative: bool) {
    let total: i64 = weights.iter().filter_map(|(weight, _)| *weight).map(|weight| weight.value).sum();
    let written = weights.iter().filter(|(weight, _)| weight.is_some()).count();
    let alone = weights.len() == 1;
    // The caret goes to the last weight: the other half of the edit is mostly there.
    let place = match weights.iter().rev().find_map(|(weight, _)| *weight) {
        Some(weight) => weight.place,
        None => weights.first().map_or_else(Place::default, |(_, place)| *place),
    };
    let found = match (alone, relative) {
        (true, true) => None,
        (true, false) => (written == 1 && total != WHOLE).then(|| single(place, total)),
        (false, _) if weights.is_empty() => None,
        (false, true) if total == 0 => {
            Some(wrong(place, "the weights of this route sum to 0: nothing would be sent anywhere"))
        }
        (false, true) if total > i64::from(u32::MAX) => {
            Some(wrong(place, format!("the weights of this route sum to {total}, more than {}", u32::MAX)))
        }
        (false, true) => None,
        (false, false) => (total != WHOLE).then(|| several(place, weights, total)),
    };
    if let Some(found) = found {
        report.add(found);
    }
}

fn single(place: Place, total: i64) -> Diagnostic {
    wrong(place, format!("the weights of this route sum to {total}, not {WHOLE}"))
        .help("it has one destination, which takes everything: leave `weight` out, or add the other destination")
}

fn several(place: Place, weights: &[Weight<'_>], total: i64) -> Diagnostic {
    let terms: Vec<_> = weights.iter().map(|(weight, _)| weight.map_or(0, |weight| weight.value).to_string()).collect();
    let message = match terms.len() {
        0..=8 => format!("the weights of this route sum to {total}, not {WHOLE} ({})", terms.join(" + ")),
        _ => format!("the weights of this route sum to {total}, not {WHOLE}"),
    };
    let change = match WHOLE - total {
        lack if lack > 0 => format!("add {lack}"),
        excess => format!("take {} away", -excess),
    };
    let shares = format!(
        "to have them taken as shares of their sum, annotate `{WEIGHTS}: relative`, or pass `--relative-weights`"
    );
    wrong(place, message).help(if total == 0 {
        format!("{change}; {shares}")
    } else {
        format!("{change}, or, {shares}")
    })
}

#[cfg(test)]
mod tests {
    use crate::config::settings::Settings;
    use crate::config::validate::testing::{alone, each_rule_fails, errors, findings};

    fn route(weights: &[Option<i64>]) -> String {
        let entry = |(index, weight): (usize, &Option<i64>)| {
            let weight = weight.map_or(String::new(), |weight| format!(", weight: {weight}"));
            format!("{{destination: {{host: h{index}}}{weight}}}")
        };
        let entries: Vec<_> = weights.iter().enumerate().map(entry).collect();
        format!("  hosts: [a]\n  http:\n  - route: [{}]", entries.join(", "))
    }

    fn strict(weights: &[Option<i64>]) -> Vec<String> {
        errors("VirtualService", &route(weights))
    }

    #[test]
    fn weights_sum_to_100() {
        for fine in [&[Some(90), Some(10)][..], &[Some(100), None], &[Some(0), Some(100)], &[None], &[Some(100)]] {
            assert_eq!(strict(fine), Vec::<String>::new(), "{fine:?}");
        }
        assert_eq!(strict(&[Some(60), Some(60)]), ["the weights of this route sum to 120, not 100 (60 + 60)"]);
        for wrong in [&[Some(90), Some(9)][..], &[None, None], &[Some(90)], &[Some(0)], &[Some(33), Some(33), Some(33)]]
        {
            assert_eq!(strict(wrong).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn the_help_says_what_to_do() {
        let yaml = crate::config::validate::testing::resource("VirtualService", &route(&[Some(60), Some(60)]));
        let found = findings(&yaml, &alone());
        let help = found[0].help.as_deref().unwrap();
        assert!(help.contains("take 20 away") && help.contains("--relative-weights"), "{help}");
        assert_eq!((found[0].place.line, found[0].place.column), (8, 86));
    }

    #[test]
    fn relative_weights_are_shares_of_any_sum() {
        let relative = Settings { relative_weights: true, ..alone() };
        let errors = |weights: &[Option<i64>]| {
            let yaml = crate::config::validate::testing::resource("VirtualService", &route(weights));
            findings(&yaml, &relative).len()
        };
        for fine in [&[Some(1), Some(2)][..], &[Some(37)], &[Some(0)], &[Some(999), Some(1)]] {
            assert_eq!(errors(fine), 0, "{fine:?}");
        }
        for wrong in [&[None, None][..], &[Some(0), Some(0)], &[Some(i64::from(i32::MAX)); 3], &[Some(-1), Some(101)]] {
            assert_eq!(errors(wrong), 1, "{wrong:?}");
        }
    }

    #[test]
    fn the_annotation_makes_weights_relative() {
        let yaml = crate::config::validate::testing::resource("VirtualService", &route(&[Some(1), Some(2)]));
        let annotated = |value: &str| {
            let metadata = format!("name: x\n  annotations:\n    serin.dev/weights: {value}");
            findings(&yaml.replace("name: x", &metadata), &alone()).len()
        };
        assert_eq!(annotated("relative"), 0);
        assert_eq!(annotated("absolute"), 2);
    }

    #[test]
    fn a_destination_is_a_host_with_a_subset_and_a_port() {
        let to = |destination: &str| format!("    mirror: {destination}");
        let cases = [
            ("{host: '*'}", "`*` is no destination"),
            ("{host: 10.0.0.1}", "is an address"),
            ("{host: 'b:8080'}", "is no host name"),
            ("{}", "`host` of the destination is missing"),
            ("{host: b, subset: a_b}", "is no subset name"),
            ("{host: b, port: {number: 0}}", "is not between 1 and 65535"),
            ("{host: b, port: {number: 65536}}", "is not between 1 and 65535"),
        ];
        let cases: Vec<_> = cases.iter().map(|(destination, wanted)| (to(destination), *wanted)).collect();
        each_rule_fails(&cases.iter().map(|(fields, wanted)| (fields.as_str(), *wanted)).collect::<Vec<_>>());
    }
}
