//! One block of `match` of an HTTP rule.

use super::report::{Report, no_effect, unsupported, wrong};
use super::virtual_service::{self, Scope};
use super::{checks, headers};
use crate::config::names;
use crate::config::resource::virtual_service::HttpMatch;
use crate::config::value::StringMatch;

/// Why a block that selects client workloads is refused.
const NO_CLIENTS: &str = "selects client workloads; this proxy has none, the block can never match";

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
        report.add(unsupported(first.place, format!("`sourceLabels` {NO_CLIENTS}")).help("remove the block"));
    }
    if let Some(namespace) = block.source_namespace.as_ref().filter(|namespace| !namespace.is_empty()) {
        if !names::is_label(namespace) {
            report.wrong(namespace.place, format!("`{}` is no namespace", namespace.value));
        }
        report.add(unsupported(namespace.place, format!("`sourceNamespace` {NO_CLIENTS}")).help("remove the block"));
    }
}
