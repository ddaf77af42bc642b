//! `corsPolicy` of an HTTP rule.

use super::report::{Report, deprecated, wrong};
use super::{checks, headers};
use crate::config::names;
use crate::config::resource::virtual_service::CorsPolicy;
use crate::config::value::StringMatch;

/// The methods that `allowMethods` may list; `*` stands for all.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// Checks the CORS policy of a rule.
pub(super) fn check(report: &mut Report, policy: Option<&CorsPolicy>) {
    let Some(policy) = policy else { return };
    if let Some(first) = policy.allow_origin.first() {
        report.add(deprecated(first.place, "allowOrigin", "allowOrigins"));
    }
    for origin in &policy.allow_origins {
        let Some(origin) = origin else {
            report.wrong(policy.place, "an entry of `allowOrigins` is null");
            continue;
        };
        let empty = match &origin.value {
            StringMatch::Exact(text) | StringMatch::Prefix(text) => text.is_empty(),
            StringMatch::Regex(pattern) => pattern.text.is_empty(),
            StringMatch::Present => true,
        };
        if empty {
            report.add(
                wrong(origin.place, "an origin must not be empty").help("to allow every origin, write `regex: .*`"),
            );
        } else {
            checks::regex_match(report, "allowOrigins", origin);
        }
    }
    for method in policy.allow_methods.iter().filter(|method| !METHODS.contains(&method.as_str())) {
        let found = wrong(method.place, format!("`{}` is no HTTP method", method.value));
        let upper = method.to_ascii_uppercase();
        let meant = METHODS.iter().find(|known| **known == upper).copied().or_else(|| names::nearest(&upper, METHODS));
        report.add(match meant {
            Some(meant) => found.help(format!("did you mean `{meant}`?")),
            None => found,
        });
    }
    for name in policy.allow_headers.iter().chain(&policy.expose_headers) {
        headers::cors_name(report, name);
    }
    if let Some(age) = &policy.max_age {
        checks::duration(report, age);
        if age.subsec_nanos() != 0 {
            report.wrong(age.place, "`maxAge` must be a whole number of seconds");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_rule_fails, rule};

    #[test]
    fn origins_methods_headers_and_ages() {
        each_rule_fails(&[
            ("    corsPolicy: {allowOrigins: [{}]}", "an origin must not be empty"),
            ("    corsPolicy: {allowOrigins: [{regex: '('}]}", "is no regex"),
            ("    corsPolicy: {allowMethods: [get]}", "`get` is no HTTP method"),
            ("    corsPolicy: {allowHeaders: ['a b']}", "is no header name"),
            ("    corsPolicy: {maxAge: 1500ms}", "whole number of seconds"),
            ("    corsPolicy: {maxAge: 0s}", "at least 1ms"),
        ]);
        assert!(
            rule(
                "    corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: ['*'], exposeHeaders: ['*'], maxAge: 24h}"
            )
            .is_empty()
        );
    }
}
