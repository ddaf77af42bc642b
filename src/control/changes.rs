//! What changed between two configurations, in the few words that a log line has room for: the weights.

use std::collections::BTreeMap;

use crate::config::resource::Resources;
use crate::config::resource::virtual_service::HttpRouteDestination;

/// How many rules a line names.
const NAMED: usize = 4;

/// The weights of each rule that splits, as text: `reviews/http[0]` has `v1=90 v2=10`.
pub(super) type Weights = BTreeMap<String, String>;

/// The weights that a configuration sets.
pub(super) fn weights(resources: &Resources) -> Weights {
    let mut weights = Weights::new();
    for service in &resources.virtual_services {
        let name = &service.metadata.name.value;
        for (index, rule) in service.spec.http.iter().enumerate().filter(|(_, rule)| rule.route.len() > 1) {
            let rule_name = rule.name.as_ref().map_or_else(|| format!("http[{index}]"), |name| name.value.clone());
            let split: Vec<String> = rule.route.iter().map(share).collect();
            weights.insert(format!("{name}/{rule_name}"), split.join(" "));
        }
    }
    weights
}

fn share(entry: &HttpRouteDestination) -> String {
    let weight = entry.weight.as_ref().map_or(0, |weight| weight.value);
    let name = entry.destination.as_ref().map_or("", |destination| {
        destination.subset.as_ref().map_or(destination.host.value.as_str(), |subset| subset.value.as_str())
    });
    format!("{name}={weight}")
}

/// What is different in the weights of rules that both have, or in which rules split; empty if nothing is.
pub(super) fn between(before: &Weights, after: &Weights) -> String {
    let moved = after.iter().filter_map(|(rule, now)| match before.get(rule) {
        Some(then) if then == now => None,
        Some(then) => Some(format!("{rule}: {then} -> {now}")),
        None => Some(format!("{rule}: {now} (new)")),
    });
    let gone = before.keys().filter(|rule| !after.contains_key(*rule)).map(|rule| format!("{rule}: (gone)"));
    let mut all = moved.chain(gone);
    let mut named: Vec<String> = all.by_ref().take(NAMED).collect();
    let more = all.count();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rules: &[(&str, &str)]) -> Weights {
        rules.iter().map(|(rule, split)| ((*rule).to_owned(), (*split).to_owned())).collect()
    }

    #[test]
    fn a_moved_weight_is_named_with_both_sides() {
        let before = set(&[("a/http[0]", "v1=90 v2=10"), ("b/http[0]", "v1=50 v2=50"), ("c/old", "v1=1 v2=99")]);
        let after = set(&[("a/http[0]", "v1=70 v2=30"), ("b/http[0]", "v1=50 v2=50"), ("d/new", "x=1 y=99")]);
        let text = between(&before, &after);
        assert_eq!(text, "a/http[0]: v1=90 v2=10 -> v1=70 v2=30; d/new: x=1 y=99 (new); c/old: (gone)");
        assert_eq!(between(&after, &after), "");
    }

    #[test]
    fn a_line_stays_short() {
        let many: Weights = (0..100).map(|n| (format!("r{n:03}"), "v1=1 v2=99".to_owned())).collect();
        assert!(between(&Weights::new(), &many).ends_with("; and 96 more"));
    }
}
