//! One rule of `http`: what it does with a request, and that its parts fit together.

use super::report::{Report, conflict, missing, no_effect, wrong};
use super::virtual_service::Scope;
use super::{checks, cors, fault, headers, http_match, mirror, retry, weights};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::re2;
use crate::config::resource::virtual_service::{
    Delegate, DirectBody, HttpDirectResponse, HttpRedirect, HttpRewrite, HttpRoute,
};
use crate::config::value::StringMatch;

/// Status codes that a redirect can have (those that Envoy sends).
const REDIRECTS: [i64; 5] = [301, 302, 303, 307, 308];

/// A larger body is refused, as by Istio: 1 MiB.
const LARGEST_BODY: usize = 1 << 20;
/// A larger body is warned of, as by Istio: 100 KiB.
const LARGE_BODY: usize = 100 << 10;

/// Checks one rule.
pub(super) fn check(report: &mut Report, route: &HttpRoute, scope: &Scope) {
    parts(report, route, scope);
    for block in &route.matches {
        http_match::check(report, block, scope);
    }
    headers::operations(report, route.headers.as_ref());
    cors::check(report, route.cors_policy.as_ref());
    fault::check(report, route.fault.as_ref());
    mirror::check(report, route);
    if let Some(found) = &route.redirect {
        redirect(report, found, route);
    }
    if let Some(found) = &route.direct_response {
        direct_response(report, found);
    }
    if let Some(found) = &route.delegate {
        delegate(report, found);
    }
    retry::check(report, route.retries.as_ref());
    if let Some(found) = &route.rewrite {
        rewrite(report, found);
    }
    headers::one_authority(report, route.rewrite.as_ref(), route.headers.as_ref());
    weights::check(report, &route.route, scope);
    without_upstream(report, route);
    if let Some(timeout) = &route.timeout {
        checks::limit(report, timeout);
    }
}

/// The parts of a rule that are there, with their places.
fn parts(report: &mut Report, route: &HttpRoute, scope: &Scope) {
    let forward = route.route.first().map(|first| first.place);
    let redirect = route.redirect.as_ref().map(|redirect| redirect.place);
    let direct = route.direct_response.as_ref().map(|direct| direct.place);
    let fault = route.fault.as_ref().map(|fault| fault.place);
    let rewrite = route.rewrite.as_ref().map(|rewrite| rewrite.place);
    let delegate = route.delegate.as_ref().map(|delegate| delegate.place);
    let mut exclusive = |one: &str, other: &str, both: (Option<Place>, Option<Place>)| {
        if let (Some(_), Some(place)) = both {
            report.add(conflict(place, format!("a rule cannot have both `{one}` and `{other}`")));
        }
    };
    if delegate.is_some() && !scope.delegate {
        exclusive("delegate", "route", (delegate, forward));
        exclusive("delegate", "redirect", (delegate, redirect));
        exclusive("delegate", "directResponse", (delegate, direct));
        return;
    }
    for (name, place) in [("redirect", redirect), ("directResponse", direct)] {
        exclusive(name, "route", (place, forward));
        exclusive(name, "fault", (place, fault));
        exclusive(name, "rewrite", (place, rewrite));
    }
    exclusive("redirect", "directResponse", (redirect, direct));
    if let Some(place) = delegate {
        let message = "a VirtualService without `hosts` is one that others delegate to: it cannot delegate further";
        report.add(conflict(place, message));
    }
    if forward.or(redirect).or(direct).or(delegate).is_none() {
        report.add(missing(route.place, "a rule needs one of `route`, `redirect` and `directResponse`"));
    }
}

/// What speaks of the request that is forwarded, in a rule that forwards none.
fn without_upstream(report: &mut Report, route: &HttpRoute) {
    let answer = match (&route.redirect, &route.direct_response) {
        (Some(_), _) => "redirect",
        (None, Some(_)) => "directResponse",
        (None, None) => return,
    };
    let request = route.headers.as_ref().and_then(|headers| headers.request.as_ref());
    let changed = request.and_then(|request| request.set.iter().chain(&request.add).map(|(name, _)| name).next());
    let removed = request.and_then(|request| request.remove.first());
    for (name, place) in [
        ("timeout", route.timeout.as_ref().map(|timeout| timeout.place)),
        ("retries", route.retries.as_ref().map(|retries| retries.place)),
        ("mirror", route.mirror.as_ref().map(|mirror| mirror.place)),
        ("mirrors", route.mirrors.first().map(|mirror| mirror.place)),
        ("headers.request", changed.or(removed).map(|name| name.place)),
    ] {
        if let Some(place) = place {
            report.add(no_effect(place, format!("`{name}` has no effect beside `{answer}`: nothing is forwarded")));
        }
    }
}

fn redirect(report: &mut Report, redirect: &HttpRedirect, route: &HttpRoute) {
    let given = |text: &Option<Spanned<String>>| text.as_ref().is_some_and(|text| !text.is_empty());
    let has_port = redirect.port.is_some() || redirect.derive_port.is_some();
    let target = given(&redirect.uri) || given(&redirect.prefix_rewrite) || given(&redirect.authority);
    if !target && !given(&redirect.scheme) && !has_port {
        let message = "a redirect needs one of `uri`, `prefixRewrite`, `authority`, `scheme` and `port`";
        report.add(missing(redirect.place, message));
    }
    if given(&redirect.uri) && given(&redirect.prefix_rewrite) {
        report.add(conflict(redirect.place, "a redirect cannot have both `uri` and `prefixRewrite`"));
    }
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        report.add(conflict(redirect.place, "a redirect cannot have both `port` and `derivePort`"));
    }
    if let (true, Some(prefix)) = (given(&redirect.prefix_rewrite), &redirect.prefix_rewrite) {
        let exact = |found: &StringMatch| !matches!(found, StringMatch::Prefix(_) | StringMatch::Present);
        if route.matches.iter().filter_map(|block| block.uri.as_ref()).any(|uri| exact(&uri.value)) {
            let message = "`prefixRewrite` needs a match on a prefix of the path, and this rule has another";
            report.add(wrong(prefix.place, message).help("match with `uri.prefix`, or redirect with `uri`"));
        }
    }
    if let Some(code) =
        redirect.redirect_code.as_ref().filter(|code| code.value != 0 && !REDIRECTS.contains(&code.value))
    {
        report.add(
            wrong(code.place, format!("{} is no redirect that can be sent", code.value))
                .help("use 301, 302, 303, 307 or 308"),
        );
    }
    if let Some(scheme) = redirect.scheme.as_ref().filter(|scheme| !matches!(scheme.as_str(), "" | "http" | "https")) {
        report.wrong(scheme.place, format!("the scheme `{}` is neither `http` nor `https`", scheme.value));
    }
    if let Some(port) = &redirect.port {
        checks::port(report, port);
    }
    checks::printable(report, "uri", redirect.uri.as_ref());
    checks::printable(report, "prefixRewrite", redirect.prefix_rewrite.as_ref());
    checks::printable(report, "authority", redirect.authority.as_ref());
}

fn direct_response(report: &mut Report, direct: &HttpDirectResponse) {
    // 600 passes in Istio although its message says 599; so it does here.
    if !(200..=600).contains(&direct.status.value) {
        let place = if direct.status.place.line == 0 { direct.place } else { direct.status.place };
        report.wrong(place, format!("the status {} is not between 200 and 599", direct.status.value));
    }
    let Some(body) = &direct.body else { return };
    let size = match &body.value {
        DirectBody::Text(text) => text.len(),
        DirectBody::Bytes(bytes) => bytes.len(),
    };
    if size > LARGEST_BODY {
        report.wrong(body.place, format!("the body has {size} bytes, more than {LARGEST_BODY}"));
    } else if size > LARGE_BODY {
        report.add(Diagnostic::warning(Kind::Value, body.place, format!("the body is large: {size} bytes")));
    }
}

fn delegate(report: &mut Report, delegate: &Delegate) {
    if delegate.name.is_empty() {
        report.add(missing(delegate.place, "`name` of the delegate is missing"));
    }
    if let Some(namespace) = delegate.namespace.as_ref().filter(|name| !name.is_empty() && !names::is_label(name)) {
        report.wrong(namespace.place, format!("`{}` is no namespace", namespace.value));
    }
}

fn rewrite(report: &mut Report, rewrite: &HttpRewrite) {
    let uri = rewrite.uri.as_ref().filter(|uri| !uri.is_empty());
    let authority = rewrite.authority.as_ref().filter(|authority| !authority.is_empty());
    match (uri, &rewrite.uri_regex_rewrite) {
        (Some(_), Some(regex)) => {
            report.add(conflict(regex.place, "a rewrite cannot have both `uri` and `uriRegexRewrite`"));
        }
        (None, None) if authority.is_none() => {
            report.add(missing(rewrite.place, "a rewrite needs one of `uri`, `uriRegexRewrite` and `authority`"));
        }
        _ => {}
    }
    if let Some(uri) = uri.filter(|uri| !uri.starts_with('/')) {
        report.add(no_slash(uri));
    }
    checks::printable(report, "uri", uri);
    checks::printable(report, "authority", authority);
    let Some(regex) = &rewrite.uri_regex_rewrite else { return };
    if regex.pattern.is_empty() || regex.rewrite.is_empty() {
        report.add(missing(regex.place, "`uriRegexRewrite` needs both `match` and `rewrite`, neither of them empty"));
        return;
    }
    let text = Spanned::new(regex.pattern.as_str(), regex.pattern.place);
    let compiled = re2::search(&regex.pattern).map(|_| ());
    checks::regex(report, "match", &text, compiled.as_ref().copied().map_err(String::as_str));
    checks::printable(report, "rewrite", Some(&regex.rewrite));
}

fn no_slash(uri: &Spanned<String>) -> Diagnostic {
    let message = format!("`{}` does not begin with `/`, and takes the place of what does", uri.value);
    Diagnostic { kind: Kind::Value, ..no_effect(uri.place, message) }.help(format!("write `/{}`", uri.value))
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, each_passes, each_rule_fails, rule, warnings};

    const HOSTS: &str = "  hosts: [a]\n  http:\n  - ";

    fn specs(rules: &[&str]) -> Vec<String> {
        rules.iter().map(|rule| format!("{HOSTS}{rule}")).collect()
    }

    fn fails(cases: &[(&str, &str)]) {
        let specs = specs(&cases.iter().map(|(rule, _)| *rule).collect::<Vec<_>>());
        let cases: Vec<_> = specs.iter().map(String::as_str).zip(cases.iter().map(|(_, wanted)| *wanted)).collect();
        each_fails("VirtualService", &cases);
    }

    fn passes(rules: &[&str]) {
        let specs = specs(rules);
        each_passes("VirtualService", &specs.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn a_rule_does_one_thing() {
        fails(&[
            ("{}", "needs one of `route`"),
            ("{redirect: {uri: /x}, route: [{destination: {host: b}}]}", "both `redirect` and `route`"),
            ("{redirect: {uri: /x}, rewrite: {uri: /y}}", "both `redirect` and `rewrite`"),
            ("{redirect: {uri: /x}, directResponse: {status: 200}}", "both `redirect` and `directResponse`"),
            ("{directResponse: {status: 200}, fault: {abort: {httpStatus: 500}}}", "both `directResponse` and `fault`"),
            ("{delegate: {name: d}, route: [{destination: {host: b}}]}", "both `delegate` and `route`"),
        ]);
        passes(&["{directResponse: {status: 503}, headers: {response: {set: {a: b}}}}", "{delegate: {name: d}}"]);
    }

    #[test]
    fn redirects_say_where_and_with_a_code_that_can_be_sent() {
        fails(&[
            ("{redirect: {redirectCode: 302}}", "a redirect needs one of"),
            ("{redirect: {uri: /x, redirectCode: 304}}", "304 is no redirect"),
            ("{redirect: {uri: /x, scheme: ftp}}", "neither `http` nor `https`"),
            ("{redirect: {uri: /x, port: 70000}}", "is not between 1 and 65535"),
            ("{redirect: {uri: /x, prefixRewrite: /y}}", "both `uri` and `prefixRewrite`"),
            ("{redirect: {uri: \"/x y\"}}", "must not hold blanks"),
            ("{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /y}}", "needs a match on a prefix"),
        ]);
        passes(&[
            "{redirect: {scheme: https}}",
            "{redirect: {uri: /x, authority: '', redirectCode: 308}}",
            "{match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /y}}",
            "{redirect: {derivePort: FROM_REQUEST_PORT}}",
        ]);
    }

    #[test]
    fn direct_responses_have_a_final_status_and_a_small_body() {
        fails(&[
            ("{directResponse: {status: 199}}", "between 200 and 599"),
            ("{directResponse: {}}", "between 200 and 599"),
        ]);
        let body =
            |size: usize| format!("{HOSTS}{{directResponse: {{status: 200, body: {{string: {}}}}}}}", "x".repeat(size));
        assert!(warnings("VirtualService", &body(100 << 10)).is_empty());
        assert_eq!(warnings("VirtualService", &body((100 << 10) + 1)).len(), 1);
        each_fails("VirtualService", &[(&body((1 << 20) + 1), "more than 1048576")]);
    }

    #[test]
    fn what_speaks_of_forwarding_is_said_to_do_nothing_where_nothing_is_forwarded() {
        let more = "timeout: 1s, retries: {}, headers: {request: {remove: [a]}, response: {set: {b: c}}}";
        let found = warnings("VirtualService", &format!("{HOSTS}{{redirect: {{uri: /x}}, {more}}}"));
        assert_eq!(found.len(), 3, "{found:?}");
        let found = warnings("VirtualService", &format!("{HOSTS}{{route: [{{destination: {{host: b}}}}], {more}}}"));
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn rewrites_change_the_path_in_one_way() {
        each_rule_fails(&[
            ("    rewrite: {}", "a rewrite needs one of"),
            ("    rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}", "both `uri` and `uriRegexRewrite`"),
            ("    rewrite: {uriRegexRewrite: {match: a}}", "needs both `match` and `rewrite`"),
            ("    rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}", "is no regex"),
            ("    rewrite: {authority: a}\n    headers: {request: {set: {Host: b}}}", "the host is set twice"),
            ("    timeout: 0s", "at least 1ms"),
            ("    timeout: 1.0001s", "whole number of milliseconds"),
        ]);
        assert!(rule("    rewrite: {uri: /a, authority: b.c}\n    timeout: 1.5s").is_empty());
    }
}
