//! `exportTo`: which namespaces see a resource. Istio's rules hold, but nothing here enforces namespaces.

use std::collections::HashSet;

use super::report::{Report, conflict, no_effect, unsupported, wrong};
use crate::config::names;
use crate::config::place::Spanned;

/// Whose `exportTo` it is; the rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A ServiceEntry, which may be exported to nobody.
    ServiceEntry,
    /// A DestinationRule with a `workloadSelector`, which stays in its namespace.
    SelectingRule,
    /// Any other.
    Other,
}

/// Checks `exportTo` of a resource in a namespace.
pub(super) fn check(report: &mut Report, export_to: &[Spanned<String>], namespace: &str, owner: Owner) {
    let mut seen = HashSet::new();
    for entry in export_to {
        let name = if entry.value == "." { namespace } else { entry.as_str() };
        if !seen.insert(name) {
            report.add(conflict(entry.place, format!("`{}` is in `exportTo` twice", entry.value)));
        } else if !allowed(entry, owner) {
            report.wrong(entry.place, format!("`{}` is neither a namespace, `.` nor `*`", entry.value));
        }
    }
    if export_to.len() > 1 {
        for entry in export_to.iter().filter(|entry| matches!(entry.as_str(), "*" | "~")) {
            let message = format!("`{}` stands alone in `exportTo`, or not at all", entry.value);
            report.add(conflict(entry.place, message));
        }
    }
    if owner == Owner::SelectingRule {
        for entry in export_to.iter().filter(|entry| entry.value != "." && entry.value != namespace) {
            let message = "a rule with a `workloadSelector` cannot be exported beyond its own namespace";
            report.add(wrong(entry.place, message));
        }
    }
    effect(report, export_to, owner);
}

fn allowed(entry: &str, owner: Owner) -> bool {
    matches!(entry, "." | "*") || names::is_label(entry) || (entry == "~" && owner == Owner::ServiceEntry)
}

fn effect(report: &mut Report, export_to: &[Spanned<String>], owner: Owner) {
    match export_to {
        [] => {}
        [only] if only.value == "*" => {}
        // Elsewhere it is no value at all, which was said.
        [only] if only.value == "~" && owner != Owner::ServiceEntry => {}
        [only] if only.value == "~" => report.add(
            unsupported(
                only.place,
                "`exportTo: [\"~\"]` hides this resource from everyone, which is not enforced here",
            )
            .help("remove the resource, or export it"),
        ),
        [first, ..] => report
            .add(no_effect(first.place, "`exportTo` has no effect: the visibility of namespaces is not enforced here")),
    }
}
