//! Names and values of headers: in match conditions, in operations on requests and responses, and in CORS.

use super::report::{Report, conflict, no_effect, unsupported, wrong};
use super::variables::{self, Piece, Variable};
use crate::config::diagnostic::Diagnostic;
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::resource::virtual_service::{HeaderOperations, Headers, HttpRewrite};

/// Headers of HTTP/2 that a condition may name.
const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];

/// Where a claim of a JWT is looked up, in place of a header.
const CLAIMS: &str = "@request.auth.claims";

/// Whether text is a header name: a token of RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a name looks at a claim of a JWT.
pub(super) fn is_claim(name: &str) -> bool {
    name.strip_prefix(CLAIMS).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// The name of a header in a match condition.
pub(super) fn condition_name(report: &mut Report, name: &Spanned<String>) {
    if name.is_empty() {
        report.wrong(name.place, "a header name must not be empty");
    } else if !is_token(name) && !PSEUDO.contains(&name.as_str()) && !is_claim(name) {
        report.wrong(name.place, format!("`{}` is no header name", name.value));
    }
}

/// A header name in `corsPolicy`; `*` stands for all.
pub(super) fn cors_name(report: &mut Report, name: &Spanned<String>) {
    if name.is_empty() {
        report.wrong(name.place, "a header name must not be empty");
    } else if !is_token(name) {
        report.wrong(name.place, format!("`{}` is no header name", name.value));
    }
}

/// The operations of a route or of a destination.
pub(super) fn operations(report: &mut Report, headers: Option<&Headers>) {
    let Some(headers) = headers else { return };
    if let Some(request) = &headers.request {
        block(report, request, false);
    }
    if let Some(response) = &headers.response {
        block(report, response, true);
    }
}

fn block(report: &mut Report, operations: &HeaderOperations, response: bool) {
    for (name, value) in operations.set.iter().chain(&operations.add) {
        operation_name(report, name, !response);
        operation_value(report, name, value, response);
    }
    for name in &operations.remove {
        operation_name(report, name, false);
    }
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

fn operation_name(report: &mut Report, name: &Spanned<String>, may_be_host: bool) {
    if name.is_empty() {
        report.wrong(name.place, "a header name must not be empty");
    } else if is_host(name) {
        if !may_be_host {
            report.add(
                wrong(name.place, format!("`{}` cannot be removed, nor changed in a response", name.value))
                    .help("`set` it under `headers.request`, or use `rewrite.authority`"),
            );
        }
    } else if name.starts_with(':') {
        report.wrong(name.place, format!("`{}`: a header that begins with `:` cannot be changed", name.value));
    } else if !is_token(name) {
        report.wrong(name.place, format!("`{}` is no header name", name.value));
    } else if names::frames_a_body(name) {
        let message = format!("`{}` says where a body ends: it is never changed", name.value);
        report.add(no_effect(name.place, message));
    }
}

fn operation_value(report: &mut Report, name: &str, value: &Spanned<String>, response: bool) {
    if value.is_empty() {
        report.add(
            no_effect(value.place, "an empty value changes nothing, as in Envoy")
                .help("to drop the header, use `remove`"),
        );
    }
    if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        report.wrong(value.place, "a header value must not hold control characters");
    }
    match variables::parse(value) {
        Err(reason) => report.add(wrong(value.place, reason).help("write `%%` for a percent sign")),
        Ok(pieces) => {
            for piece in pieces {
                if let Piece::Variable(variable) = piece
                    && (is_host(name) || !variable.is_known(response))
                {
                    report.add(substitution(value.place, &variable, is_host(name)));
                }
            }
        }
    }
}

fn substitution(place: Place, variable: &Variable<'_>, in_host: bool) -> Diagnostic {
    let place_of = if in_host { " in a host" } else { "" };
    unsupported(place, format!("the substitution `%{}%` is not supported{place_of}", variable.text))
        .help("write `%%` for a percent sign that is to be sent")
}

/// The host of a request is set in one place of a route at most.
pub(super) fn one_authority(report: &mut Report, rewrite: Option<&HttpRewrite>, headers: Option<&Headers>) {
    let rewritten = rewrite.and_then(|rewrite| rewrite.authority.as_ref()).filter(|authority| !authority.is_empty());
    let request = headers.and_then(|headers| headers.request.as_ref());
    let set = request.into_iter().flat_map(|request| request.set.iter().chain(&request.add));
    let values = set.filter(|(name, value)| is_host(name) && !value.is_empty()).map(|(_, value)| value);
    let mut all = rewritten.into_iter().chain(values);
    let Some(first) = all.next() else { return };
    for again in all {
        let message = format!("the host is set twice: to `{}` and to `{}`", first.value, again.value);
        report.add(conflict(again.place, message).help("keep one of `rewrite.authority` and `headers.request`"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_rule_fails, rule, warnings};

    #[test]
    fn names_and_values_can_be_sent() {
        let cases = [
            ("request: {set: {'': a}}", "must not be empty"),
            ("request: {remove: ['']}", "must not be empty"),
            ("request: {remove: [Host]}", "cannot be removed"),
            ("response: {set: {host: a}}", "cannot be removed"),
            ("response: {add: {':status': a}}", "begins with `:`"),
            ("request: {set: {'a b': c}}", "is no header name"),
            ("request: {set: {a: \"b\\r\\nc: d\"}}", "control characters"),
            ("request: {set: {a: 50%}}", "a `%` stands alone"),
            ("request: {set: {a: '%HOSTNAME%'}}", "the substitution `%HOSTNAME%` is not supported"),
            ("request: {set: {a: '%RESPONSE_CODE%'}}", "the substitution `%RESPONSE_CODE%` is not supported"),
            ("request: {set: {Host: '%REQ(x)%'}}", "the substitution `%REQ(x)%` is not supported in a host"),
        ];
        let cases: Vec<_> =
            cases.iter().map(|(fields, wanted)| (format!("    headers: {{{fields}}}"), *wanted)).collect();
        each_rule_fails(&cases.iter().map(|(fields, wanted)| (fields.as_str(), *wanted)).collect::<Vec<_>>());
        assert!(rule("    headers: {request: {set: {':authority': a.b, c: \"50%%\\t\"}, remove: [d]}}").is_empty());
        let filled =
            "    headers: {request: {set: {a: '%REQ(b)%'}}, response: {add: {c: '%RESP(d)%-%RESPONSE_CODE%'}}}";
        assert_eq!(rule(filled), Vec::<String>::new());
    }

    #[test]
    fn an_empty_value_is_said_to_do_nothing() {
        let spec =
            "  hosts: [a]\n  http:\n  - route: [{destination: {host: b}}]\n    headers: {request: {set: {a: ''}}}";
        assert_eq!(warnings("VirtualService", spec), ["an empty value changes nothing, as in Envoy"]);
    }

    #[test]
    fn what_frames_a_body_is_said_to_stay() {
        for operation in ["set: {Content-Length: '5'}", "add: {transfer-encoding: chunked}", "remove: [content-length]"]
        {
            let spec = format!(
                "  hosts: [a]\n  http:\n  - route: [{{destination: {{host: b}}}}]\n    headers: {{response: {{{operation}}}}}"
            );
            let said = warnings("VirtualService", &spec);
            assert!(said.len() == 1 && said[0].ends_with("says where a body ends: it is never changed"), "{said:?}");
        }
    }
}
