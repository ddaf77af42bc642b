//! The conditions of one match block, read once and asked for every request. Istio's semantics as Envoy carries them out.

use std::borrow::Cow;

use http::header::{COOKIE, HOST, HeaderName};
use regex::bytes::Regex;

use super::rewrite::Matched;
use super::table::RequestView;
use crate::config::resource::virtual_service::HttpMatch;
use crate::config::value::StringMatch;

/// All conditions of one match block. Small, because a virtual host's matchers are read one after the other.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    path: PathTest,
    /// Everything but the path; most blocks have none.
    conditions: Option<Box<Conditions>>,
}

#[derive(Clone, Debug)]
enum PathTest {
    /// No condition: Istio's implicit prefix `/`, which `OPTIONS *` does not have.
    Any,
    /// The regular expression `.*`.
    Everything,
    Exact(Box<str>),
    Prefix(Box<str>),
    ExactIgnoringCase(Box<str>),
    PrefixIgnoringCase(Box<str>),
    Regex(Box<Regex>),
    /// A block that cannot match: it was not valid.
    Never,
}

#[derive(Clone, Debug, Default)]
struct Conditions {
    headers: Vec<HeaderCondition>,
    query: Vec<(Box<str>, Test)>,
}

#[derive(Clone, Debug)]
struct HeaderCondition {
    source: Source,
    test: Test,
    /// From `withoutHeaders`: holds if the test fails. A missing header is then tested as an empty one.
    negated: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
    /// A pseudo header that no request has.
    Missing,
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Box<Regex>),
}

impl Matcher {
    /// A matcher for one block; none is the rule without blocks.
    pub(super) fn new(block: Option<&HttpMatch>) -> Self {
        let Some(block) = block else { return Self { path: PathTest::Any, conditions: None } };
        let ignore_case = block.ignore_uri_case.is_some_and(|flag| flag.value);
        let path = PathTest::new(block.uri.as_ref().map(|uri| &uri.value), ignore_case);
        match Conditions::new(block) {
            Some(conditions) if conditions.is_empty() => Self { path, conditions: None },
            Some(conditions) => Self { path, conditions: Some(Box::new(conditions)) },
            None => Self { path: PathTest::Never, conditions: None },
        }
    }

    /// Whether every condition holds. `path` is the request's path without query and fragment.
    #[inline]
    pub(super) fn matches(&self, path: &str, request: &RequestView<'_>) -> bool {
        self.path.matches(path) && self.conditions.as_ref().is_none_or(|conditions| conditions.hold(request))
    }

    /// Whether it matches every request by Istio's definition: rules after it are dead.
    pub(super) fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            PathTest::Any | PathTest::Everything => true,
            PathTest::Prefix(prefix) | PathTest::PrefixIgnoringCase(prefix) => &**prefix == "/",
            _ => false,
        };
        any_path && self.conditions.is_none()
    }

    /// The part of the path that a rewrite replaces.
    pub(super) fn matched(&self) -> Matched {
        match &self.path {
            PathTest::Any => Matched::Prefix(1),
            PathTest::Prefix(prefix) | PathTest::PrefixIgnoringCase(prefix) => Matched::Prefix(prefix.len()),
            _ => Matched::Whole,
        }
    }
}

impl PathTest {
    fn new(uri: Option<&StringMatch>, ignore_case: bool) -> Self {
        match uri {
            None | Some(StringMatch::Present) => Self::Any,
            Some(StringMatch::Exact(text)) if ignore_case => Self::ExactIgnoringCase(text.as_str().into()),
            Some(StringMatch::Exact(text)) => Self::Exact(text.as_str().into()),
            Some(StringMatch::Prefix(text)) if ignore_case => Self::PrefixIgnoringCase(text.as_str().into()),
            Some(StringMatch::Prefix(text)) => Self::Prefix(text.as_str().into()),
            Some(StringMatch::Regex(pattern)) if pattern.text == ".*" => Self::Everything,
            Some(StringMatch::Regex(pattern)) => match &pattern.regex {
                Ok(regex) => Self::Regex(Box::new(regex.clone())),
                Err(_) => Self::Never,
            },
        }
    }

    #[inline]
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => path.starts_with('/'),
            Self::Everything => true,
            Self::Exact(text) => path == &**text,
            Self::Prefix(text) => path.starts_with(&**text),
            Self::ExactIgnoringCase(text) => path.eq_ignore_ascii_case(text),
            Self::PrefixIgnoringCase(text) => {
                path.as_bytes().get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
            }
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
            Self::Never => false,
        }
    }
}

impl Conditions {
    /// None if one of them can never hold.
    fn new(block: &HttpMatch) -> Option<Self> {
        let mut conditions = Self::default();
        let fixed =
            [(Source::Method, &block.method), (Source::Authority, &block.authority), (Source::Scheme, &block.scheme)];
        for (source, wanted) in fixed {
            if let Some(wanted) = wanted {
                conditions.headers.push(HeaderCondition { source, test: Test::new(Some(wanted))?, negated: false });
            }
        }
        for (list, negated) in [(&block.headers, false), (&block.without_headers, true)] {
            for (name, wanted) in list {
                let test = Test::new(wanted.as_deref())?;
                conditions.headers.push(HeaderCondition { source: Source::new(name)?, test, negated });
            }
        }
        for (name, wanted) in &block.query_params {
            conditions.query.push((name.as_str().into(), Test::new(wanted.as_deref())?));
        }
        Some(conditions)
    }

    fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty()
    }

    fn hold(&self, request: &RequestView<'_>) -> bool {
        self.headers.iter().all(|condition| condition.holds(request))
            && self.query.iter().all(|(name, test)| {
                first_query_value(request.path, name).is_some_and(|value| test.passes(value.as_bytes()))
            })
    }
}

impl HeaderCondition {
    fn holds(&self, request: &RequestView<'_>) -> bool {
        let value = self.source.value(request);
        match (&self.test, self.negated) {
            (Test::Present, negated) => value.is_some() != negated,
            (test, false) => value.is_some_and(|value| test.passes(&value)),
            (test, true) => !test.passes(&value.unwrap_or_default()),
        }
    }
}

impl Source {
    /// None for a name that cannot be a header's (`@request.auth.claims`).
    fn new(name: &str) -> Option<Self> {
        Some(match name {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":authority" => Self::Authority,
            ":path" => Self::Path,
            _ if name.starts_with(':') => Self::Missing,
            _ => match HeaderName::from_bytes(name.as_bytes()).ok()? {
                // HTTP/2 has no Host; Envoy reads either as the authority.
                HOST => Self::Authority,
                name => Self::Header(name),
            },
        })
    }

    fn value<'r>(&self, request: &RequestView<'r>) -> Option<Cow<'r, [u8]>> {
        let text = match self {
            Self::Method => request.method,
            Self::Scheme => request.scheme,
            Self::Authority => request.authority,
            Self::Path => request.path,
            Self::Header(name) => return joined(request.headers, name),
            Self::Missing => return None,
        };
        Some(Cow::Borrowed(text.as_bytes()))
    }
}

impl Test {
    /// None for a regular expression that is none.
    fn new(wanted: Option<&StringMatch>) -> Option<Self> {
        Some(match wanted {
            None | Some(StringMatch::Present) => Self::Present,
            Some(StringMatch::Exact(text)) => Self::Exact(text.as_str().into()),
            Some(StringMatch::Prefix(text)) => Self::Prefix(text.as_str().into()),
            // No regular expression, but Istio has always read it as "is there".
            Some(StringMatch::Regex(pattern)) if pattern.text == "*" => Self::Present,
            Some(StringMatch::Regex(pattern)) => Self::Regex(Box::new(pattern.regex.as_ref().ok()?.clone())),
        })
    }

    fn passes(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// All values of a header as one, as a recipient may read them (RFC 9110 §5.3); cookies by their own separator (RFC 9113
/// §8.2.3), because HTTP/2 clients send them in crumbs.
fn joined<'r>(headers: &'r http::HeaderMap, name: &HeaderName) -> Option<Cow<'r, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let separator: &[u8] = if name == COOKIE { b"; " } else { b"," };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(separator);
        all.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(all))
}

/// The undecoded value of the first parameter of this name; empty for `?name` and `?name=`.
fn first_query_value<'r>(path_and_query: &'r str, name: &str) -> Option<&'r str> {
    let whole = path_and_query.split('#').next().unwrap_or_default();
    let (_, query) = whole.split_once('?')?;
    query.split('&').find_map(|parameter| match parameter.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (parameter == name).then_some(""),
    })
}
