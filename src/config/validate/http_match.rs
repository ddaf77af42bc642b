//! One block of `match` of an HTTP rule.

use super::report::{Report, no_effect, unsupported, wrong};
use super::virtual_service::{self, Scope};
use super::{checks, headers};
use crate::config::names;
use crate::config::resource::virtual_service::HttpMatch;
use crate::config::value::StringMatch;

/// Why a block that selects client workloads is refused.
const NO_CLIENTS: &str = "selects client workloads; this proxy has none, the block can never match";
/// What to do about it. A rule whose only block is removed would take everything.
const WITHOUT_CLIENTS: &str =
    "remove the block, and the rule with it if it has no other; if all clients are meant, remove the condition";

/// Checks one block.
pub(super) fn check(report: &mut Report, block: &HttpMatch, scope: &Scope) {
    if let Some(uri) = &block.uri {
        checks::regex_match(report, "uri", uri);
        if let (StringMatch::Regex(_), Some(ignore)) = (&uri.value, &block.ignore_uri_case)
            && ignore.value
        {
            report.add(
                no_effect(ignore.place, "`ignoreUriCase` has no effect on a regex").help("begin the regex with `(?i)`"),
            );
        }
    }
    for (name, value) in [("scheme", &block.scheme), ("method", &block.method), ("authority", &block.authority)] {
        if let Some(value) = value {
            checks::string_match(report, name, value);
        }
    }
    conditions(report, block, scope);
    if let Some(port) = block.port.as_ref().filter(|port| port.value != 0) {
        checks::port(report, port);
    }
    for gateway in &block.gateways {
        virtual_service::gateway_name(report, gateway);
    }
    clients(report, block);
}

fn conditions(report: &mut Report, block: &HttpMatch, scope: &Scope) {
    for (name, value) in &block.headers {
        headers::condition_name(report, name);
        virtual_service::claim(report, name, scope);
        match value {
            Some(value) => checks::string_match(report, name, value),
            None => report.add(
                wrong(name.place, format!("the condition on header `{}` is null", name.value))
                    .help("to require only that the header is there, write `{}`"),
            ),
        }
    }
    for (name, value) in &block.without_headers {
        headers::condition_name(report, name);
        virtual_service::claim(report, name, scope);
        // `regex: "*"` is no regex, but an old way to say "is there" that Istio still takes in this place.
        match value {
            Some(value) if !matches!(&value.value, StringMatch::Regex(regex) if regex.text == "*") => {
                checks::string_match(report, name, value);
            }
            _ => {}
        }
    }
    for (name, value) in &block.query_params {
        if let Some(value) = value {
            checks::string_match(report, name, value);
        }
    }
}

fn clients(report: &mut Report, block: &HttpMatch) {
    if let Some((first, _)) = block.source_labels.first() {
        checks::labels(report, &block.source_labels);
        report.add(unsupported(first.place, format!("`sourceLabels` {NO_CLIENTS}")).help(WITHOUT_CLIENTS));
    }
    if let Some(namespace) = block.source_namespace.as_ref().filter(|namespace| !namespace.is_empty()) {
        if !names::is_label(namespace) {
            report.wrong(namespace.place, format!("`{}` is no namespace", namespace.value));
        }
        report.add(unsupported(namespace.place, format!("`sourceNamespace` {NO_CLIENTS}")).help(WITHOUT_CLIENTS));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_rule_fails, findings, rule};

    fn block(fields: &str) -> String {
        format!("    match: [{fields}]")
    }

    #[test]
    fn conditions_compare_with_something() {
        let cases = [
            ("{method: {prefix: ''}}", "the prefix of `method` must not be empty"),
            ("{uri: {regex: ''}}", "the regex of `uri` must not be empty"),
            ("{uri: {regex: '/(a'}}", "is no regex"),
            ("{headers: {a: {regex: '*'}}}", "is no regex"),
            ("{headers: {a: null}}", "is null"),
            ("{headers: {'a b': {}}}", "is no header name"),
            ("{headers: {':foo': {}}}", "is no header name"),
            ("{queryParams: {a: {regex: ''}}}", "must not be empty"),
            ("{port: 65536}", "is not between 1 and 65535"),
            ("{gateways: ['*/a']}", "is no namespace"),
            ("{sourceNamespace: a.b}", "`a.b` is no namespace"),
            ("{sourceLabels: {app: a}}", "the block can never match"),
            ("{headers: {'@request.auth.claims.sub': {exact: a}}}", "at a gateway only"),
        ];
        let cases: Vec<_> = cases.iter().map(|(fields, wanted)| (block(fields), *wanted)).collect();
        each_rule_fails(&cases.iter().map(|(fields, wanted)| (fields.as_str(), *wanted)).collect::<Vec<_>>());
        let long = block(&format!("{{uri: {{regex: {}}}}}", "a".repeat(1025)));
        each_rule_fails(&[(&long, "more than 1024")]);
    }

    #[test]
    fn what_istio_takes_is_taken() {
        for fine in [
            "{}",
            "{uri: {prefix: ''}}",
            "{uri: {}}",
            "{headers: {a: {}, ':path': {prefix: /}, 'funky!$#_': {exact: ''}}}",
            "{withoutHeaders: {a: {regex: '*'}, b: null, c: {}}}",
            "{queryParams: {a: {}, b: {exact: ''}}}",
        ] {
            assert_eq!(rule(&block(fine)), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn a_claim_at_a_gateway_is_only_unsupported() {
        let spec = "  hosts: [a.b]\n  gateways: [g]\n  http:\n  - match: [{headers: {'@request.auth.claims.sub': {exact: a}}}]\n    \
                    redirect: {uri: /x}";
        let found = findings(
            &crate::config::validate::testing::resource("VirtualService", spec),
            &crate::config::validate::testing::alone(),
        );
        let kinds: Vec<_> = found.iter().filter(|one| one.is_error()).map(|one| one.kind).collect();
        assert!(kinds.iter().all(|kind| *kind == crate::config::diagnostic::Kind::Unsupported), "{found:?}");
    }
}
