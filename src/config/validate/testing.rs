//! What the tests of the rules share: YAML in, findings out as lines of text.

use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::load::{Read, Source, load};
use crate::config::settings::Settings;

/// What is found in a file, with all that its resources say of each other.
pub(super) fn findings(yaml: &str, settings: &Settings) -> Vec<Diagnostic> {
    let source = Source { path: "test.yaml".into(), text: yaml.into() };
    load(Read { sources: vec![source], ..Read::default() }, settings).diagnostics
}

/// Settings for a resource that is judged by itself.
pub(super) fn alone() -> Settings {
    Settings { references: false, ..Settings::default() }
}

fn lines(found: &[Diagnostic]) -> Vec<String> {
    let severity = |one: &Diagnostic| if one.severity == Severity::Error { "error" } else { "warning" };
    found.iter().map(|one| format!("{} {}: {}", severity(one), one.place.line, one.message)).collect()
}

/// Errors of a kind of resource with this `spec` (indented by two), by itself.
pub(super) fn errors(kind: &str, spec: &str) -> Vec<String> {
    only(kind, spec, Severity::Error)
}

/// Warnings of a kind of resource with this `spec`, by itself.
pub(super) fn warnings(kind: &str, spec: &str) -> Vec<String> {
    only(kind, spec, Severity::Warning)
}

fn only(kind: &str, spec: &str, severity: Severity) -> Vec<String> {
    let yaml = resource(kind, spec);
    let found: Vec<_> = findings(&yaml, &alone()).into_iter().filter(|one| one.severity == severity).collect();
    found.into_iter().map(|one| one.message).collect()
}

/// A resource of a kind with this `spec`.
pub(super) fn resource(kind: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata:\n  name: x\nspec:\n{spec}\n")
}

/// Everything found in a file, with places.
pub(super) fn report(yaml: &str, settings: &Settings) -> Vec<String> {
    lines(&findings(yaml, settings))
}

/// A VirtualService with one rule that has these fields (indented by four) besides its route.
pub(super) fn rule(fields: &str) -> Vec<String> {
    errors("VirtualService", &format!("  hosts: [a]\n  http:\n  - route: [{{destination: {{host: b}}}}]\n{fields}"))
}

/// The errors of each of these rules, none of them fine.
pub(super) fn each_rule_fails(cases: &[(&str, &str)]) {
    for (fields, wanted) in cases {
        let found = rule(fields);
        assert!(found.iter().any(|message| message.contains(wanted)), "{fields}\nwanted {wanted:?}, found {found:#?}");
    }
}

/// The same for whole specifications of a kind.
pub(super) fn each_fails(kind: &str, cases: &[(&str, &str)]) {
    for (spec, wanted) in cases {
        let found = errors(kind, spec);
        assert!(found.iter().any(|message| message.contains(wanted)), "{spec}\nwanted {wanted:?}, found {found:#?}");
    }
}

/// None of these specifications has an error.
pub(super) fn each_passes(kind: &str, specs: &[&str]) {
    for spec in specs {
        assert_eq!(errors(kind, spec), Vec::<String>::new(), "{spec}");
    }
}
