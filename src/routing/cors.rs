//! `corsPolicy`, made ready: which origins, and the header values that are the same in every answer. Envoy's rules: the method
//! and the headers that a preflight asks for are not checked, the browser does that with the answer.

use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use regex::bytes::Regex;

use crate::config::place::Spanned;
use crate::config::resource::virtual_service::{CorsPolicy, UnmatchedPreflights};
use crate::config::value::StringMatch;

/// The CORS policy of a rule.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Box<[Origin]>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    /// Whether the application gets preflights of other origins.
    forward_unmatched: bool,
}

#[derive(Clone, Debug)]
enum Origin {
    Any,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Box<Regex>),
}

/// What a request means for CORS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsVerdict {
    /// Nothing: it goes on and its answer is not touched.
    Unconcerned,
    /// It goes on; its answer gets the headers for this origin.
    Allowed(HeaderValue),
    /// It is answered at once, 200, with these headers and no body.
    Preflight(HeaderMap),
}

impl Cors {
    /// Compiles a policy. An origin that is no regular expression allows nobody.
    pub(super) fn new(written: &CorsPolicy) -> Self {
        let origins: Vec<Origin> = if written.allow_origins.is_empty() {
            written.allow_origin.iter().map(|origin| exact(origin)).collect()
        } else {
            written.allow_origins.iter().flatten().filter_map(|origin| Origin::new(origin)).collect()
        };
        let max_age = written.max_age.as_ref().map(|age| HeaderValue::from(age.value.as_secs()));
        let forward_unmatched = written.unmatched_preflights.as_ref().map(|choice| choice.value);
        Self {
            origins: origins.into(),
            methods: list(&written.allow_methods),
            headers: list(&written.allow_headers),
            exposed: list(&written.expose_headers),
            max_age,
            credentials: written.allow_credentials.as_ref().is_some_and(|allow| allow.value),
            forward_unmatched: forward_unmatched != Some(UnmatchedPreflights::Ignore),
        }
    }

    /// What a request means.
    pub fn judge(&self, method: &Method, headers: &HeaderMap) -> CorsVerdict {
        let Some(origin) = headers.get(header::ORIGIN).filter(|origin| !origin.is_empty()) else {
            return CorsVerdict::Unconcerned;
        };
        let asks = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|asked| !asked.is_empty());
        let preflight = *method == Method::OPTIONS && asks;
        match (preflight, self.allows(origin.as_bytes())) {
            (true, true) => CorsVerdict::Preflight(self.preflight(origin)),
            (true, false) if !self.forward_unmatched => CorsVerdict::Preflight(HeaderMap::new()),
            (false, true) => CorsVerdict::Allowed(origin.clone()),
            (_, false) => CorsVerdict::Unconcerned,
        }
    }

    /// Adds to the answer what a request of this origin may know.
    pub fn decorate(&self, origin: HeaderValue, answer: &mut HeaderMap) {
        self.allow(origin, answer);
        if let Some(exposed) = &self.exposed {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    fn preflight(&self, origin: &HeaderValue) -> HeaderMap {
        let mut answer = HeaderMap::new();
        self.allow(origin.clone(), &mut answer);
        let fields = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (header::ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ];
        for (name, value) in fields {
            answer.extend(value.clone().map(|value| (name, value)));
        }
        answer
    }

    fn allow(&self, origin: HeaderValue, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|allowed| match allowed {
            Origin::Any => true,
            Origin::Exact(text) => **text == *origin,
            Origin::Prefix(text) => origin.starts_with(text),
            Origin::Regex(regex) => regex.is_match(origin),
        })
    }
}

impl Origin {
    fn new(written: &StringMatch) -> Option<Self> {
        Some(match written {
            StringMatch::Exact(text) => exact(text),
            StringMatch::Prefix(text) if text == "*" => Self::Any,
            StringMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            StringMatch::Regex(pattern) => Self::Regex(Box::new(pattern.regex.as_ref().ok()?.clone())),
            StringMatch::Present => Self::Any,
        })
    }
}

/// Envoy allows every origin where a policy would allow the origin `*`.
fn exact(text: &str) -> Origin {
    if text == "*" { Origin::Any } else { Origin::Exact(text.as_bytes().into()) }
}

/// A list as one value; none if it is empty.
fn list(items: &[Spanned<String>]) -> Option<HeaderValue> {
    let joined = items.iter().map(|item| item.as_str()).collect::<Vec<_>>().join(",");
    HeaderValue::from_str(&joined).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::routing::testing::{at, exact, prefix, regex, text};

    fn policy(origins: Vec<StringMatch>) -> CorsPolicy {
        CorsPolicy {
            allow_origins: origins.into_iter().map(|origin| Some(at(origin))).collect(),
            allow_methods: vec![text("GET"), text("POST")],
            allow_headers: vec![text("x-a"), text("x-b")],
            expose_headers: vec![text("x-seen")],
            max_age: Some(at(Duration::from_secs(86_400))),
            ..CorsPolicy::default()
        }
    }

    fn judged(policy: &CorsPolicy, method: &Method, fields: &[(&'static str, &'static str)]) -> CorsVerdict {
        let field = |&(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value));
        Cors::new(policy).judge(method, &fields.iter().map(field).collect())
    }

    fn allowed(policy: &CorsPolicy, origin: &'static str) -> bool {
        judged(policy, &Method::GET, &[("origin", origin)]) == CorsVerdict::Allowed(HeaderValue::from_static(origin))
    }

    const PREFLIGHT: [(&str, &str); 2] = [("origin", "https://a.com"), ("access-control-request-method", "PUT")];

    #[test]
    fn origins_match_exactly_by_prefix_or_as_a_whole() {
        let some = policy(vec![exact("https://a.com"), prefix("https://b."), regex("https://.*\\.c\\.com")]);
        for (origin, wanted) in [
            ("https://a.com", true),
            ("https://a.com:80", false),
            ("https://b.org", true),
            ("https://x.c.com", true),
            ("https://x.c.com.evil.org", false),
            ("null", false),
        ] {
            assert_eq!(allowed(&some, origin), wanted, "{origin}");
        }
        assert!(!allowed(&CorsPolicy::default(), "https://a.com"));
    }

    #[test]
    fn the_deprecated_list_is_exact_and_a_star_is_everybody() {
        let old = |origin| CorsPolicy { allow_origin: vec![text(origin)], ..CorsPolicy::default() };
        assert!(allowed(&old("https://a.com"), "https://a.com"));
        assert!(!allowed(&old("https://a.com"), "https://b.com"));
        assert!(allowed(&old("*"), "https://b.com"));
        assert!(allowed(&policy(vec![exact("*")]), "null"));
    }

    #[test]
    fn a_preflight_is_answered_with_what_is_allowed() {
        let mut some = policy(vec![exact("https://a.com")]);
        let CorsVerdict::Preflight(answer) = judged(&some, &Method::OPTIONS, &PREFLIGHT) else { panic!() };
        assert_eq!(answer.len(), 4);
        assert_eq!(answer["access-control-allow-origin"], "https://a.com");
        assert_eq!(answer["access-control-allow-methods"], "GET,POST");
        assert_eq!(answer["access-control-allow-headers"], "x-a,x-b");
        assert_eq!(answer["access-control-max-age"], "86400");
        some.allow_credentials = Some(at(true));
        let CorsVerdict::Preflight(answer) = judged(&some, &Method::OPTIONS, &PREFLIGHT) else { panic!() };
        assert_eq!(answer["access-control-allow-credentials"], "true");
    }

    #[test]
    fn a_preflight_of_another_origin_is_the_applications_unless_ignored() {
        let mut other = policy(vec![exact("https://b.com")]);
        assert_eq!(judged(&other, &Method::OPTIONS, &PREFLIGHT), CorsVerdict::Unconcerned);
        other.unmatched_preflights = Some(at(UnmatchedPreflights::Forward));
        assert_eq!(judged(&other, &Method::OPTIONS, &PREFLIGHT), CorsVerdict::Unconcerned);
        other.unmatched_preflights = Some(at(UnmatchedPreflights::Ignore));
        assert_eq!(judged(&other, &Method::OPTIONS, &PREFLIGHT), CorsVerdict::Preflight(HeaderMap::new()));
        assert_eq!(judged(&other, &Method::GET, &PREFLIGHT), CorsVerdict::Unconcerned);
    }

    #[test]
    fn without_a_requested_method_options_is_a_request_like_others() {
        let some = policy(vec![exact("https://a.com")]);
        assert!(matches!(judged(&some, &Method::OPTIONS, &PREFLIGHT[..1]), CorsVerdict::Allowed(_)));
        assert_eq!(judged(&some, &Method::OPTIONS, &PREFLIGHT[1..]), CorsVerdict::Unconcerned);
    }

    #[test]
    fn an_actual_answer_says_who_may_see_what() {
        let some = CorsPolicy { allow_credentials: Some(at(true)), ..policy(vec![exact("https://a.com")]) };
        let mut answer = HeaderMap::new();
        answer.insert("access-control-allow-origin", HeaderValue::from_static("the application's"));
        Cors::new(&some).decorate(HeaderValue::from_static("https://a.com"), &mut answer);
        assert_eq!(answer.len(), 3);
        assert_eq!(answer["access-control-allow-origin"], "https://a.com");
        assert_eq!(answer["access-control-expose-headers"], "x-seen");
    }
}
