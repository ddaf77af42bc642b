//! What an http rule does besides choosing a destination: redirect, rewrite, retries, faults, CORS, headers, mirrors.

use crate::config::diagnostic::Kind;
use crate::config::place::Spanned;
use crate::config::resource::virtual_service::{
    CorsPolicy, DerivePort, DirectBody, FaultAbort, FaultDelay, HeaderOperations, Headers, HttpDirectResponse,
    HttpFault, HttpMirror, HttpRedirect, HttpRetry, HttpRewrite, RegexRewrite, UnmatchedPreflights,
};
use crate::config::value::Percent;
use crate::config::yaml::Data;

use super::object::{At, Object};
use super::out::Out;
use super::pattern::{STRING_MATCH, string_match};
use super::scalar::shown;
use super::shape::{Shape, many, one, value};
use super::virtual_service::{DESTINATION, destination};

pub(super) static REDIRECT: Shape = Shape::new(
    "`redirect`",
    &[
        value("uri"),
        value("prefixRewrite"),
        value("authority"),
        value("port"),
        value("derivePort"),
        value("scheme"),
        value("redirectCode"),
    ],
);

pub(super) static DIRECT_RESPONSE: Shape = Shape::new("`directResponse`", &[value("status"), one("body", &BODY)]);

static BODY: Shape = Shape::new("`body`", &[value("string"), value("bytes")]);

pub(super) static REWRITE: Shape =
    Shape::new("`rewrite`", &[value("uri"), value("authority"), one("uriRegexRewrite", &REGEX_REWRITE)]);

static REGEX_REWRITE: Shape = Shape::new("`uriRegexRewrite`", &[value("match"), value("rewrite")]);

pub(super) static RETRIES: Shape = Shape::new(
    "`retries`",
    &[
        value("attempts"),
        value("perTryTimeout"),
        value("retryOn"),
        value("retryRemoteLocalities"),
        value("retryIgnorePreviousHosts"),
        value("backoff"),
    ],
);

pub(super) static FAULT: Shape = Shape::new("`fault`", &[one("delay", &DELAY), one("abort", &ABORT)]);

static DELAY: Shape = Shape::new(
    "`delay`",
    &[value("fixedDelay"), value("exponentialDelay"), value("percent"), one("percentage", &PERCENT)],
);

static ABORT: Shape = Shape::new(
    "`abort`",
    &[value("httpStatus"), value("grpcStatus"), value("http2Error"), one("percentage", &PERCENT)],
);

pub(super) static PERCENT: Shape = Shape::new("a percentage", &[value("value")]);

pub(super) static MIRROR: Shape =
    Shape::new("an entry of `mirrors`", &[one("destination", &DESTINATION), one("percentage", &PERCENT)]);

pub(super) static CORS: Shape = Shape::new(
    "`corsPolicy`",
    &[
        value("allowOrigin"),
        many("allowOrigins", &STRING_MATCH),
        value("allowMethods"),
        value("allowHeaders"),
        value("exposeHeaders"),
        value("maxAge"),
        value("allowCredentials"),
        value("unmatchedPreflights"),
    ],
);

pub(super) static HEADERS: Shape =
    Shape::new("`headers`", &[one("request", &OPERATIONS), one("response", &OPERATIONS)]);

static OPERATIONS: Shape = Shape::new("header operations", &[value("set"), value("add"), value("remove")]);

pub(super) fn redirect(at: At<'_>, out: &mut Out) -> HttpRedirect {
    let object = Object::open(at, &REDIRECT, out);
    object.only_one_of(&["port", "derivePort"], out);
    let derive_port = [
        ("FROM_PROTOCOL_DEFAULT", DerivePort::FromProtocolDefault),
        ("FROM_REQUEST_PORT", DerivePort::FromRequestPort),
    ];
    HttpRedirect {
        uri: object.string("uri", out),
        prefix_rewrite: object.string("prefixRewrite", out),
        authority: object.string("authority", out),
        port: object.uint32("port", out),
        derive_port: object.choice("derivePort", &derive_port, out),
        scheme: object.string("scheme", out),
        redirect_code: object.uint32("redirectCode", out),
        place: object.place(),
    }
}

pub(super) fn direct_response(at: At<'_>, out: &mut Out) -> HttpDirectResponse {
    let object = Object::open(at, &DIRECT_RESPONSE, out);
    HttpDirectResponse {
        status: object.uint32("status", out).unwrap_or_else(|| Spanned::new(0, object.place())),
        body: object.one("body", out, body),
        place: object.place(),
    }
}

fn body(at: At<'_>, out: &mut Out) -> Spanned<DirectBody> {
    let object = Object::open(at, &BODY, out);
    object.only_one_of(&["string", "bytes"], out);
    if let Some(text) = object.string("string", out) {
        return Spanned::new(DirectBody::Text(text.value), text.place);
    }
    let Some(encoded) = object.string("bytes", out) else {
        return Spanned::new(DirectBody::Text(String::new()), object.place());
    };
    let bytes = base64(&encoded).unwrap_or_else(|| {
        out.error(Kind::Value, encoded.place, "`bytes` must be base64", Some("use `string` for text".to_owned()));
        Vec::new()
    });
    Spanned::new(DirectBody::Bytes(bytes), encoded.place)
}

/// Base64 of either alphabet, with or without padding, as protobuf's JSON has it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

pub(super) fn rewrite(at: At<'_>, out: &mut Out) -> HttpRewrite {
    let object = Object::open(at, &REWRITE, out);
    HttpRewrite {
        uri: object.string("uri", out),
        authority: object.string("authority", out),
        uri_regex_rewrite: object.one("uriRegexRewrite", out, regex_rewrite),
        place: object.place(),
    }
}

fn regex_rewrite(at: At<'_>, out: &mut Out) -> RegexRewrite {
    let object = Object::open(at, &REGEX_REWRITE, out);
    RegexRewrite { pattern: object.text("match", out), rewrite: object.text("rewrite", out), place: object.place() }
}

pub(super) fn retries(at: At<'_>, out: &mut Out) -> HttpRetry {
    let object = Object::open(at, &RETRIES, out);
    HttpRetry {
        attempts: object.int32("attempts", out),
        per_try_timeout: object.duration("perTryTimeout", out),
        retry_on: object.string("retryOn", out),
        retry_remote_localities: object.boolean("retryRemoteLocalities", out),
        retry_ignore_previous_hosts: object.boolean("retryIgnorePreviousHosts", out),
        backoff: object.duration("backoff", out),
        place: object.place(),
    }
}

pub(super) fn fault(at: At<'_>, out: &mut Out) -> HttpFault {
    let object = Object::open(at, &FAULT, out);
    HttpFault { delay: object.one("delay", out, delay), abort: object.one("abort", out, abort), place: object.place() }
}

fn delay(at: At<'_>, out: &mut Out) -> FaultDelay {
    let object = Object::open(at, &DELAY, out);
    object.only_one_of(&["fixedDelay", "exponentialDelay"], out);
    FaultDelay {
        fixed_delay: object.duration("fixedDelay", out),
        exponential_delay: object.duration("exponentialDelay", out),
        percent: object.int32("percent", out),
        percentage: object.one("percentage", out, percent),
        place: object.place(),
    }
}

fn abort(at: At<'_>, out: &mut Out) -> FaultAbort {
    let object = Object::open(at, &ABORT, out);
    object.only_one_of(&["httpStatus", "grpcStatus", "http2Error"], out);
    FaultAbort {
        http_status: object.int32("httpStatus", out),
        grpc_status: object.string("grpcStatus", out),
        http2_error: object.string("http2Error", out),
        percentage: object.one("percentage", out, percent),
        place: object.place(),
    }
}

/// `{value: 50}`; `{}` is 0.
pub(super) fn percent(at: At<'_>, out: &mut Out) -> Percent {
    let bare = match &at.node.data {
        Data::Scalar { text, .. } => text.trim_end_matches('%').parse::<f64>().ok().filter(|number| number.is_finite()),
        _ => None,
    };
    if let Some(number) = bare {
        let message = format!("`{}` must be an object, not {}", at.name, shown(at.node));
        let help = format!("write `{}: {{value: {number}}}`", at.name);
        out.error(Kind::Value, at.node.place, message, Some(help));
        return Spanned::new(number, at.node.place);
    }
    let object = Object::open(at, &PERCENT, out);
    object.double("value", out).unwrap_or_else(|| Spanned::new(0.0, object.place()))
}

pub(super) fn mirror(at: At<'_>, out: &mut Out) -> HttpMirror {
    let object = Object::open(at, &MIRROR, out);
    HttpMirror {
        destination: object.one("destination", out, destination),
        percentage: object.one("percentage", out, percent),
        place: object.place(),
    }
}

pub(super) fn cors(at: At<'_>, out: &mut Out) -> CorsPolicy {
    let object = Object::open(at, &CORS, out);
    let preflights = [
        ("UNSPECIFIED", UnmatchedPreflights::Unspecified),
        ("FORWARD", UnmatchedPreflights::Forward),
        ("IGNORE", UnmatchedPreflights::Ignore),
    ];
    CorsPolicy {
        allow_origin: object.strings("allowOrigin", out),
        allow_origins: object.many_or_null("allowOrigins", out, string_match),
        allow_methods: object.strings("allowMethods", out),
        allow_headers: object.strings("allowHeaders", out),
        expose_headers: object.strings("exposeHeaders", out),
        max_age: object.duration("maxAge", out),
        allow_credentials: object.boolean("allowCredentials", out),
        unmatched_preflights: object.choice("unmatchedPreflights", &preflights, out),
        place: object.place(),
    }
}

pub(super) fn headers(at: At<'_>, out: &mut Out) -> Headers {
    let object = Object::open(at, &HEADERS, out);
    Headers { request: object.one("request", out, operations), response: object.one("response", out, operations) }
}

fn operations(at: At<'_>, out: &mut Out) -> HeaderOperations {
    let object = Object::open(at, &OPERATIONS, out);
    HeaderOperations {
        set: object.string_map("set", out),
        add: object.string_map("add", out),
        remove: object.strings("remove", out),
    }
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_both_alphabets() {
        for (text, bytes) in
            [("", ""), ("aGk=", "hi"), ("aGk", "hi"), ("aGkh", "hi!"), ("Pz8_", "???"), ("Pz8/", "???")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for text in ["a", "a===", "a b=", "ä"] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
