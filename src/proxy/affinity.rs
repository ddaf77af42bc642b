//! What of a request chooses the endpoint inside its destination, where the policy says so. It never chooses the version.

use std::num::NonZeroU64;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;

use crate::upstream::ClusterPolicy;
use crate::upstream::hash::{CookieKey, HashKey, hash};

/// The key of a request. Boxed where it carries a cookie: few do.
#[derive(Debug)]
pub(super) struct Affinity {
    /// Equal for requests that belong together.
    pub key: NonZeroU64,
    /// What the client is to be given, because it lacked it.
    pub cookie: Option<Box<HeaderValue>>,
}

impl Affinity {
    /// The key that a request has under a policy: none where the endpoint is chosen in another way, or the request lacks what
    /// it would be chosen by. `draw` gives a random number, for the value of a new cookie.
    pub(super) fn find(
        policy: &ClusterPolicy,
        request: &Parts,
        client: &HeaderValue,
        draw: impl FnOnce() -> u64,
    ) -> Option<Self> {
        match policy.hash_key.as_ref()? {
            HashKey::Header(name) => {
                let values: Vec<&[u8]> = request.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                (!values.is_empty()).then(|| Self::of(&values.join(&b","[..]), None))
            }
            HashKey::SourceIp => Some(Self::of(client.as_bytes(), None)),
            HashKey::Query(name) => {
                query_value(request.uri.query()?, name).map(|value| Self::of(value.as_bytes(), None))
            }
            HashKey::Cookie(cookie) => match cookie_value(&request.headers, &cookie.name) {
                Some(value) => Some(Self::of(value.as_bytes(), None)),
                None => Self::with_new_cookie(cookie, draw),
            },
        }
    }

    fn with_new_cookie(cookie: &CookieKey, draw: impl FnOnce() -> u64) -> Option<Self> {
        let ttl = cookie.ttl?;
        let value = format!("{:016x}", draw());
        let mut text = format!("{}={value}", cookie.name);
        if !ttl.is_zero() {
            text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
        }
        if let Some(path) = &cookie.path {
            text.push_str(&format!("; Path={path}"));
        }
        for (name, value) in &cookie.attributes {
            text.push_str(&if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") });
        }
        text.push_str("; HttpOnly");
        let cookie = HeaderValue::from_str(&text).ok().map(Box::new);
        Some(Self::of(value.as_bytes(), cookie))
    }

    fn of(value: &[u8], cookie: Option<Box<HeaderValue>>) -> Self {
        // It is kept with every request, and so in as few bytes as possible.
        Self { key: NonZeroU64::new(hash(value)).unwrap_or(NonZeroU64::MIN), cookie }
    }
}

/// Gives the client the cookie that it lacked.
pub(super) fn remember(cookie: Option<Box<HeaderValue>>, answer: &mut HeaderMap) {
    if let Some(cookie) = cookie {
        answer.append(header::SET_COOKIE, *cookie);
    }
}

/// The first value of a parameter, as it was sent.
fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(own, _)| *own == name)
        .map(|(_, v)| v)
}

fn cookie_value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let crumbs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = crumbs.flat_map(|crumb| crumb.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(by: HashKey, target: &str, fields: &[(&'static str, &str)]) -> Option<u64> {
        find(by, target, fields).map(|affinity| affinity.key.get())
    }

    fn find(by: HashKey, target: &str, fields: &[(&'static str, &str)]) -> Option<Affinity> {
        let policy = ClusterPolicy { hash_key: Some(by), ..ClusterPolicy::default() };
        let mut request = http::Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        Affinity::find(&policy, &parts, &HeaderValue::from_static("10.1.2.3"), || 7)
    }

    fn cookie(ttl: Option<Duration>) -> HashKey {
        let attributes = vec![("SameSite".to_owned(), "Lax".to_owned()), ("Secure".to_owned(), String::new())];
        HashKey::Cookie(CookieKey { name: "user".to_owned(), ttl, path: Some("/shop".to_owned()), attributes })
    }

    #[test]
    fn a_header_a_parameter_and_an_address_are_keys() {
        let header = || HashKey::Header(http::HeaderName::from_static("x-user"));
        assert_eq!(key(header(), "/", &[("x-user", "a")]), Some(hash(b"a")));
        assert_eq!(key(header(), "/", &[("x-user", "a"), ("x-user", "b")]), Some(hash(b"a,b")));
        assert_eq!(key(header(), "/", &[]), None);
        let query = || HashKey::Query("user".to_owned());
        assert_eq!(key(query(), "/?x=1&user=a%20&user=b", &[]), Some(hash(b"a%20")));
        assert_eq!(key(query(), "/?User=a&users=b", &[]), None);
        assert_eq!(key(query(), "/?user", &[]), Some(hash(b"")));
        assert_eq!(key(query(), "/", &[]), None);
        assert_eq!(key(HashKey::SourceIp, "/", &[]), Some(hash(b"10.1.2.3")));
    }

    #[test]
    fn a_cookie_is_a_key_wherever_it_stands() {
        for fields in [
            &[("cookie", "user=a")][..],
            &[("cookie", "b=c;user=\"a\" ; d=e")],
            &[("cookie", "x=y"), ("cookie", "user=a")],
        ] {
            assert_eq!(key(cookie(None), "/", fields), Some(hash(b"a")), "{fields:?}");
        }
        assert_eq!(key(cookie(None), "/", &[("cookie", "users=a")]), None);
    }

    #[test]
    fn a_missing_cookie_with_a_ttl_is_given_out_and_chooses_already() {
        let affinity = find(cookie(Some(Duration::from_secs(90))), "/", &[]).unwrap();
        let key = affinity.key.get();
        let mut answer = HeaderMap::new();
        remember(affinity.cookie, &mut answer);
        let given = "user=0000000000000007; Max-Age=90; Path=/shop; SameSite=Lax; Secure; HttpOnly";
        assert_eq!(answer[header::SET_COOKIE], given);
        assert_eq!(key, hash(b"0000000000000007"));
        let mut answer = HeaderMap::new();
        remember(find(cookie(Some(Duration::ZERO)), "/", &[]).unwrap().cookie, &mut answer);
        assert!(!answer[header::SET_COOKIE].to_str().unwrap().contains("Max-Age"), "until the browser is closed");
        let mut answer = HeaderMap::new();
        remember(find(cookie(Some(Duration::ZERO)), "/", &[("cookie", "user=a")]).unwrap().cookie, &mut answer);
        assert!(answer.is_empty());
    }
}
