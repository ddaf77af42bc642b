//! Header fields that an intermediary has to remove, add or check (RFC 9110 §7.6, RFC 9112 §3.2). Fields of the operator's
//! configuration are applied elsewhere.

use std::sync::LazyLock;

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Version};
use hyper::ext::Protocol;

use super::connection::MAX_FIELDS;
use super::failure::Failure;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Fields that concern one connection only.
const HOP_BY_HOP: [&str; 7] =
    ["keep-alive", "connection", "proxy-connection", "te", "transfer-encoding", "upgrade", "expect"];

/// The longest request target that is taken, in bytes; hyper's own limit is 65 534.
const MAX_TARGET: usize = 16 * 1024;

/// The authority that a request names, as sent: of its target, else of `Host`. Refuses what is no authority.
pub(super) fn authority(parts: &Parts) -> Result<&str, Failure> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Failure::BadRequest("more than one Host")),
    };
    if let Some(authority) = parts.uri.authority() {
        if host.is_none() && parts.version == Version::HTTP_11 {
            return Err(Failure::BadRequest("no Host"));
        }
        return check_authority(authority.as_str());
    }
    match host {
        Some(host) => check_authority(host.to_str().map_err(|_| Failure::BadRequest("invalid Host"))?),
        None if parts.version == Version::HTTP_10 => Ok(""),
        None => Err(Failure::BadRequest("no Host")),
    }
}

fn check_authority(text: &str) -> Result<&str, Failure> {
    let invalid = Err(Failure::BadRequest("invalid Host"));
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) => {
                (address, port)
            }
            _ => return invalid,
        },
        None => match text.find(':') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        },
    };
    let port_fits = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.is_empty() || digits.parse::<u16>().is_ok_and(|_| all_digits(digits)));
    if name.is_empty() || !port_fits || !name.bytes().all(is_host_byte) {
        return invalid;
    }
    Ok(text)
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// RFC 3986 `reg-name` but for the comma, which would be a list; and the colons of an address that was in brackets.
fn is_host_byte(byte: u8) -> bool {
    HOST_BYTES[byte as usize]
}

static HOST_BYTES: [bool; 256] = {
    let (mut allowed, mut byte) = ([false; 256], 0);
    while byte < 128 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let (others, mut at) = (b"-._~%!$&'()*+;=:", 0);
    while at < others.len() {
        allowed[others[at] as usize] = true;
        at += 1;
    }
    allowed
};

/// Refuses requests that are not to be forwarded at all.
pub(super) fn check_target(parts: &Parts) -> Result<(), Failure> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        let asks_for_protocol = parts.extensions.get::<Protocol>().is_some();
        return Err(if asks_for_protocol { Failure::NoTunnel } else { Failure::MethodRefused });
    }
    if !is_chunked_at_most(&parts.headers) {
        return Err(Failure::UnknownCoding);
    }
    // On HTTP/1 there are never more.
    if parts.headers.len() > MAX_FIELDS && fields_but_for_crumbs(&parts.headers) > MAX_FIELDS {
        return Err(Failure::TooManyFields);
    }
    match parts.uri.path_and_query() {
        Some(target) if target.as_str().len() > MAX_TARGET => Err(Failure::TargetTooLong),
        Some(target) if !target.as_str().is_ascii() => Err(Failure::BadRequest("the request target is not ASCII")),
        Some(target) if target.as_str() == "*" && parts.method != Method::OPTIONS => {
            Err(Failure::BadRequest("`*` is a target of OPTIONS only"))
        }
        Some(_) => Ok(()),
        None => Err(Failure::BadRequest("the request target has no path")),
    }
}

/// Whether a request may go one step further, and counts it. OPTIONS may say how many proxies it passes (RFC 9110 §7.6.2).
pub(super) fn goes_on(parts: &mut Parts) -> bool {
    if parts.method != Method::OPTIONS {
        return true;
    }
    let Some(most) = parts.headers.get_mut(header::MAX_FORWARDS) else { return true };
    let number = most.to_str().ok().filter(|text| all_digits(text)).and_then(|text| text.parse::<u64>().ok());
    match number.map(|number| number.checked_sub(1)) {
        None => true,
        Some(None) => false,
        Some(Some(left)) => {
            *most = HeaderValue::from(left);
            true
        }
    }
}

/// How many fields there are, all pieces of a cookie as one (RFC 9113 §8.2.3).
fn fields_but_for_crumbs(headers: &HeaderMap) -> usize {
    headers.len() - headers.get_all(header::COOKIE).iter().count().saturating_sub(1)
}

/// Whether the body is chunked, once, or has no transfer coding at all: other codings are not known here.
fn is_chunked_at_most(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Makes an answer's framing unambiguous: chunked wins over a length (RFC 9112 §6.3). False: its coding is not known.
pub(super) fn settle_framing(headers: &mut HeaderMap) -> bool {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
        return is_chunked_at_most(headers);
    }
    true
}

/// Whether an answer without a body (to HEAD, 304) says nothing but a number for the length that it would have: hyper looks at the length
/// of those alone that have one, and a client may read on where this one is malformed (RFC 9112 §6.3).
pub(super) fn has_sound_length(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONTENT_LENGTH).iter().map(|value| value.to_str().unwrap_or_default());
    let mut lengths = values.flat_map(|value| value.split(',')).map(|text| {
        let text = text.trim();
        text.parse::<u64>().ok().filter(|_| all_digits(text))
    });
    match lengths.next() {
        None => true,
        Some(first) => first.is_some() && lengths.all(|length| length == first),
    }
}

/// Removes the fields that concern one connection only: those named by `Connection`, and the well-known ones. `Expect` is
/// among them here: the server side of hyper answers it by itself. Gives back `Keep-Alive`.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    // One look at each name is cheaper than a look-up of each that might be there; most messages have one of them at most.
    let mut present = [false; HOP_BY_HOP.len()];
    for name in headers.keys() {
        if let Some(known) = HOP_BY_HOP.iter().position(|hop| *hop == name.as_str()) {
            present[known] = true;
        }
    }
    let mut kept_alive = None;
    for (name, _) in HOP_BY_HOP.into_iter().zip(present).filter(|(_, present)| *present) {
        if name == "connection" && !is_plain_connection(headers) {
            remove_named(headers);
        }
        let removed = headers.remove(name);
        if name == "keep-alive" {
            kept_alive = removed;
        }
    }
    kept_alive
}

/// Whether `Connection` says nothing but whether the connection stays: the usual case, in which it names no other field.
fn is_plain_connection(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
    let plain = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
    values.next().is_some_and(plain) && values.next().is_none()
}

/// Removes what `Connection` names.
fn remove_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.get_all(header::CONNECTION).iter().flat_map(named_by).collect();
    for name in named {
        headers.remove(name);
    }
}

/// The fields that one `Connection` value names, but for those that nobody may strip from a message that way.
fn named_by(value: &HeaderValue) -> Vec<HeaderName> {
    let Ok(text) = value.to_str() else { return Vec::new() };
    text.split(',')
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION].contains(name))
        .collect()
}

/// Puts the crumbs that HTTP/2 may send a cookie in together again (RFC 9113 §8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if let Entry::Occupied(mut cookie) = headers.entry(header::COOKIE)
        && cookie.iter().nth(1).is_some()
    {
        let crumbs = cookie.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
        if let Ok(whole) = HeaderValue::from_bytes(&crumbs) {
            cookie.insert(whole);
        }
    }
}

/// Says who the request came from. `peer` is the client's address; an existing list is continued.
pub(super) fn add_forwarded(headers: &mut HeaderMap, peer: &HeaderValue, scheme: &'static str) {
    match headers.entry(&FORWARDED_FOR) {
        Entry::Vacant(vacant) => {
            vacant.insert(peer.clone());
        }
        Entry::Occupied(mut known) => {
            let mut list = known.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
            list.extend_from_slice(b", ");
            list.extend_from_slice(peer.as_bytes());
            if let Ok(list) = HeaderValue::from_bytes(&list) {
                known.insert(list);
            }
        }
    }
    if let Entry::Vacant(vacant) = headers.entry(&FORWARDED_PROTO) {
        vacant.insert(HeaderValue::from_static(scheme));
    }
}

/// How often a request may have been here before. Once can be meant: a service that sends on what it got.
const MOST_VISITS: usize = 1;

/// This process in `Via` (RFC 9110 §7.6.3): a name of its own, so that a chain of proxies is not taken for a loop.
struct Pseudonym {
    name: String,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

static PSEUDONYM: LazyLock<Pseudonym> = LazyLock::new(|| {
    let name = format!("serin-{:08x}", rand::random::<u32>());
    // Static, once: all workers together would count the holders of a shared one.
    let value = |version: &str| HeaderValue::from_static(format!("{version} {name}").leak());
    Pseudonym { http10: value("1.0"), http11: value("1.1"), http2: value("2"), name }
});

/// Says that the request came through here. False, and nothing is said: it has been here too often.
pub(super) fn add_via(headers: &mut HeaderMap, version: Version) -> bool {
    let Pseudonym { name, http10, http11, http2 } = &*PSEUDONYM;
    let own = match version {
        Version::HTTP_10 => http10,
        Version::HTTP_2 => http2,
        _ => http11,
    };
    match headers.entry(header::VIA) {
        Entry::Vacant(vacant) => {
            vacant.insert(own.clone());
        }
        Entry::Occupied(mut known) => {
            let visits = |value: &HeaderValue| value.to_str().unwrap_or_default().matches(name.as_str()).count();
            if known.iter().map(visits).sum::<usize>() > MOST_VISITS {
                return false;
            }
            known.append(own.clone());
        }
    }
    true
}

/// The target in origin form: path and query alone, as RFC 9112 §3.2.1 wants it towards a server.
pub(super) fn origin_form(uri: &Uri, rewritten: Option<PathAndQuery>) -> Uri {
    match rewritten.or_else(|| uri.path_and_query().cloned()) {
        Some(target) => Uri::from(target),
        None => Uri::from_static("/"),
    }
}

/// Sets `Host` to what goes upstream, where it is not already there.
pub(super) fn set_host(headers: &mut HeaderMap, uri: &Uri, replaced: Option<&HeaderValue>) {
    if let Some(host) = replaced {
        headers.insert(header::HOST, host.clone());
    } else if let Some(authority) = uri.authority()
        && let Ok(host) = HeaderValue::from_str(without_user(authority))
    {
        headers.insert(header::HOST, host);
    } else if !headers.contains_key(header::HOST) {
        // HTTP/1.0 may name none, HTTP/1.1 has to (RFC 9112 §3.2).
        headers.insert(header::HOST, HeaderValue::from_static(""));
    }
}

fn without_user(authority: &Authority) -> &str {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, hosts: &[&str], version: Version) -> Parts {
        let mut request = http::Request::builder().uri(uri).version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |&(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn exactly_one_valid_host_is_wanted() {
        for good in ["a", "a.b:80", "A-1.example.com", "[::1]", "[::1]:8080", "127.0.0.1:1", "a:"] {
            assert_eq!(authority(&parts("/", &[good], Version::HTTP_11)).unwrap(), good);
        }
        for bad in ["", "a b", "a/b", "u@a", "a,b", "a:b", "a:99999", "a:+1", "[::1", "[::1]x", "::1", "a:80:81", "[g]"]
        {
            assert!(authority(&parts("/", &[bad], Version::HTTP_11)).is_err(), "{bad}");
        }
        assert!(authority(&parts("/", &["a", "a"], Version::HTTP_11)).is_err());
        assert!(authority(&parts("/", &[], Version::HTTP_11)).is_err());
        assert_eq!(authority(&parts("/", &[], Version::HTTP_10)).unwrap(), "");
        assert_eq!(authority(&parts("http://b/x", &["a"], Version::HTTP_11)).unwrap(), "b");
        assert!(authority(&parts("http://u@b/x", &["a"], Version::HTTP_11)).is_err());
        assert!(authority(&parts("http://b/x", &[], Version::HTTP_11)).is_err());
        assert_eq!(authority(&parts("http://b/x", &[], Version::HTTP_2)).unwrap(), "b");
    }

    #[test]
    fn options_goes_as_far_as_it_says() {
        let goes_on = |method: Method, most: &'static str| {
            let request = http::Request::builder().method(method).header("max-forwards", most).body(());
            let mut parts = request.unwrap().into_parts().0;
            goes_on(&mut parts).then(|| parts.headers["max-forwards"].to_str().unwrap().to_owned())
        };
        for (most, left) in
            [("7", Some("6")), ("1", Some("0")), ("0", None), ("00", None), ("", Some("")), ("-1", Some("-1"))]
        {
            assert_eq!(goes_on(Method::OPTIONS, most).as_deref(), left, "{most}");
        }
        assert_eq!(goes_on(Method::GET, "0").as_deref(), Some("0"), "it means something to TRACE and OPTIONS alone");
        assert!(super::goes_on(&mut parts("/", &["a"], Version::HTTP_11)));
    }

    #[test]
    fn what_concerns_one_connection_is_removed_and_nothing_else() {
        let mut map = headers(&[
            ("connection", "close, X-Gone,host, Keep-Alive"),
            ("connection", "x-also, content-length"),
            ("x-gone", "1"),
            ("x-also", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "close"),
            ("expect", "100-continue"),
            ("x-stays", "1"),
        ]);
        assert_eq!(remove_hop_by_hop(&mut map).unwrap(), "timeout=5");
        assert_eq!(map, headers(&[("host", "a"), ("content-length", "3"), ("x-stays", "1")]));
    }

    #[test]
    fn the_client_is_appended_to_the_list_it_brought() {
        let peer = HeaderValue::from_static("127.0.0.9");
        let mut map =
            headers(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"), ("x-forwarded-proto", "https")]);
        add_forwarded(&mut map, &peer, "http");
        assert_eq!(map, headers(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 127.0.0.9"), ("x-forwarded-proto", "https")]));
        let mut empty = HeaderMap::new();
        add_forwarded(&mut empty, &peer, "http");
        assert_eq!(empty, headers(&[("x-forwarded-for", "127.0.0.9"), ("x-forwarded-proto", "http")]));
    }

    #[test]
    fn cookie_crumbs_become_one_cookie() {
        let mut map = headers(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut map);
        assert_eq!(map, headers(&[("cookie", "a=1; b=2; c=3"), ("x", "1")]));
        let mut whole = headers(&[("cookie", "a=1; b=2")]);
        join_cookies(&mut whole);
        assert_eq!(whole, headers(&[("cookie", "a=1; b=2")]));
    }

    #[test]
    fn upstream_sees_the_path_and_the_host_of_an_absolute_target() {
        let uri: Uri = "http://b:81/x?y".parse().unwrap();
        assert_eq!(origin_form(&uri, None), "/x?y");
        assert_eq!(origin_form(&uri, Some(PathAndQuery::from_static("/z"))), "/z");
        let mut map = headers(&[("host", "a")]);
        set_host(&mut map, &uri, None);
        assert_eq!(map["host"], "b:81");
        set_host(&mut map, &uri, Some(&HeaderValue::from_static("c")));
        assert_eq!(map["host"], "c");
        let mut none = HeaderMap::new();
        set_host(&mut none, &Uri::from_static("/"), None);
        assert_eq!(none["host"], "");
    }

    #[test]
    fn an_answer_has_one_framing() {
        let mut both = headers(&[("transfer-encoding", "Chunked"), ("content-length", "3")]);
        assert!(settle_framing(&mut both));
        assert_eq!(both, headers(&[("transfer-encoding", "Chunked")]));
        assert!(settle_framing(&mut headers(&[("content-length", "3")])));
        for bad in [
            &[("transfer-encoding", "gzip, chunked")][..],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert!(!settle_framing(&mut headers(bad)), "{bad:?}");
        }
    }

    #[test]
    fn a_length_is_a_number_once_or_again() {
        for good in [&[][..], &[("content-length", "0")], &[("content-length", "12"), ("content-length", "12, 12")]] {
            assert!(has_sound_length(&headers(good)), "{good:?}");
        }
        for bad in ["", "+1", "1 2", "1, 2", "1,", "0x1", "99999999999999999999"] {
            assert!(!has_sound_length(&headers(&[("content-length", bad)])), "{bad}");
        }
        assert!(!has_sound_length(&headers(&[("content-length", "1"), ("content-length", "2")])));
    }

    #[test]
    fn some_targets_are_refused() {
        let refuse = |method: Method, uri: &str| {
            let mut parts = parts(uri, &["a"], Version::HTTP_11);
            parts.method = method;
            check_target(&parts).err().map(|failure| failure.status().as_u16())
        };
        assert_eq!(refuse(Method::TRACE, "/"), Some(405));
        assert_eq!(refuse(Method::CONNECT, "a:80"), Some(405));
        assert_eq!(refuse(Method::GET, "*"), Some(400));
        assert_eq!(refuse(Method::OPTIONS, "*"), None);
        assert_eq!(refuse(Method::GET, "/\u{e9}"), Some(400));
        assert_eq!(refuse(Method::GET, &format!("/{}", "a".repeat(MAX_TARGET))), Some(414));
        assert_eq!(refuse(Method::GET, &format!("/{}", "a".repeat(MAX_TARGET - 1))), None);
    }
}
