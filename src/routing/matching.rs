//! The conditions of one match block, read once and asked for every request. Istio's semantics as Envoy carries them out.

use std::borrow::Cow;

use http::header::{COOKIE, HOST, HeaderName};
use regex::bytes::Regex;

use super::rewrite::Matched;
use super::table::RequestView;
use crate::config::resource::virtual_service::HttpMatch;
use crate::config::value::StringMatch;

/// The match blocks of one virtual host, in the order in which they are tried. Laid out for the search: it reads one short
/// array and one text, whatever the number of blocks, and touches nothing else unless a path matches.
#[derive(Debug, Default)]
pub(super) struct Matchers {
    blocks: Vec<Block>,
    /// The paths and prefixes of all blocks.
    text: String,
    regexes: Vec<Regex>,
    conditions: Vec<Conditions>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    path: PathTest,
    /// Index of everything but the path; most blocks have nothing else.
    conditions: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PathTest {
    /// No condition: Istio's implicit prefix `/`, which `OPTIONS *` does not have.
    Any,
    /// The regular expression `.*`.
    Everything,
    Exact(Text),
    Prefix(Text),
    ExactIgnoringCase(Text),
    PrefixIgnoringCase(Text),
    /// Index of the expression.
    Regex(u32),
    /// A block that cannot match: it was not valid.
    Never,
}

/// A part of the text that the blocks share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    start: u32,
    end: u32,
}

#[derive(Clone, Debug, Default)]
struct Conditions {
    headers: Vec<HeaderCondition>,
    query: Vec<QueryCondition>,
}

#[derive(Clone, Debug)]
pub(super) struct HeaderCondition {
    pub(super) source: Source,
    pub(super) test: Test,
    /// From `withoutHeaders`: holds if the test fails. A missing header is then tested as an empty one.
    pub(super) negated: bool,
}

#[derive(Clone, Debug)]
pub(super) struct QueryCondition {
    pub(super) name: Box<str>,
    pub(super) test: Test,
}

/// One condition of a block, for whoever has to say what it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'m> {
    /// On the path. Every block has it, if only to say that any path will do.
    Path(&'m Matchers, PathTest),
    /// On a header, or what is read like one.
    Header(&'m HeaderCondition),
    /// On a parameter of the query.
    Query(&'m QueryCondition),
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
    /// A pseudo header that no request has.
    Missing,
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Box<Regex>),
}

impl Matchers {
    /// Adds a block behind those that are there; none is that of a rule without blocks. Gives back what part of the path it
    /// matches.
    pub(super) fn push(&mut self, block: Option<&HttpMatch>) -> Matched {
        let conditions = block.map_or_else(|| Some(Conditions::default()), Conditions::new);
        let (path, conditions) = match conditions {
            Some(conditions) => (self.path_test(block), conditions),
            None => (PathTest::Never, Conditions::default()),
        };
        let conditions = (!conditions.is_empty()).then(|| {
            self.conditions.push(conditions);
            index(self.conditions.len() - 1)
        });
        self.blocks.push(Block { path, conditions });
        path.matched()
    }

    /// No more blocks come: gives back what memory is left over.
    pub(super) fn shrink(&mut self) {
        self.blocks.shrink_to_fit();
        self.text.shrink_to_fit();
        self.regexes.shrink_to_fit();
        self.conditions.shrink_to_fit();
    }

    /// The number of the first block of which every condition holds. `path` is the request's, without query and fragment.
    #[inline]
    pub(super) fn first(&self, path: &str, request: &RequestView<'_>) -> Option<usize> {
        self.blocks.iter().position(|block| {
            self.path_passes(block.path, path)
                && block.conditions.is_none_or(|number| self.conditions[number as usize].hold(request))
        })
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The conditions of a block, in the order in which they are asked.
    pub(super) fn conditions(&self, number: usize) -> impl Iterator<Item = Condition<'_>> {
        let block = &self.blocks[number];
        let rest = block.conditions.map(|number| &self.conditions[number as usize]);
        let headers = rest.into_iter().flat_map(|rest| rest.headers.iter().map(Condition::Header));
        let query = rest.into_iter().flat_map(|rest| rest.query.iter().map(Condition::Query));
        std::iter::once(Condition::Path(self, block.path)).chain(headers).chain(query)
    }

    /// A regular expression of a path.
    pub(super) fn regex(&self, number: u32) -> &Regex {
        &self.regexes[number as usize]
    }

    fn path_test(&mut self, block: Option<&HttpMatch>) -> PathTest {
        let Some(block) = block else { return PathTest::Any };
        let ignore_case = block.ignore_uri_case.is_some_and(|flag| flag.value);
        match block.uri.as_deref() {
            None | Some(StringMatch::Present) => PathTest::Any,
            Some(StringMatch::Exact(text)) if ignore_case => PathTest::ExactIgnoringCase(self.add_text(text)),
            Some(StringMatch::Exact(text)) => PathTest::Exact(self.add_text(text)),
            Some(StringMatch::Prefix(text)) if ignore_case => PathTest::PrefixIgnoringCase(self.add_text(text)),
            Some(StringMatch::Prefix(text)) => PathTest::Prefix(self.add_text(text)),
            Some(StringMatch::Regex(pattern)) if pattern.text == ".*" => PathTest::Everything,
            Some(StringMatch::Regex(pattern)) => match &pattern.regex {
                Ok(regex) => {
                    self.regexes.push(regex.clone());
                    PathTest::Regex(index(self.regexes.len() - 1))
                }
                Err(_) => PathTest::Never,
            },
        }
    }

    fn add_text(&mut self, text: &str) -> Text {
        let start = index(self.text.len());
        self.text.push_str(text);
        Text { start, end: index(self.text.len()) }
    }

    /// A path or prefix.
    pub(super) fn text(&self, text: Text) -> &str {
        &self.text[text.start as usize..text.end as usize]
    }

    #[inline]
    fn path_passes(&self, test: PathTest, path: &str) -> bool {
        match test {
            PathTest::Any => path.starts_with('/'),
            PathTest::Everything => true,
            PathTest::Exact(text) => path == self.text(text),
            PathTest::Prefix(text) => path.starts_with(self.text(text)),
            PathTest::ExactIgnoringCase(text) => path.eq_ignore_ascii_case(self.text(text)),
            PathTest::PrefixIgnoringCase(text) => {
                let prefix = self.text(text).as_bytes();
                path.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
            PathTest::Regex(number) => self.regexes[number as usize].is_match(path.as_bytes()),
            PathTest::Never => false,
        }
    }
}

impl PathTest {
    fn matched(self) -> Matched {
        match self {
            Self::Any => Matched::Prefix(1),
            Self::Prefix(text) | Self::PrefixIgnoringCase(text) => Matched::Prefix((text.end - text.start) as usize),
            _ => Matched::Whole,
        }
    }
}

/// Sources are bounded to some MiB a file, so that lengths of what is in them fit.
fn index(length: usize) -> u32 {
    u32::try_from(length).expect("a virtual host has less than 4 GiB of text")
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
            let test = Test::new(wanted.as_deref())?;
            conditions.query.push(QueryCondition { name: name.as_str().into(), test });
        }
        Some(conditions)
    }

    fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty()
    }

    fn hold(&self, request: &RequestView<'_>) -> bool {
        self.headers.iter().all(|condition| condition.holds(request))
            && self.query.iter().all(|condition| condition.holds(request))
    }
}

impl QueryCondition {
    fn holds(&self, request: &RequestView<'_>) -> bool {
        self.value(request).is_some_and(|value| self.test.passes(value.as_bytes()))
    }

    /// What the request says.
    pub(super) fn value<'r>(&self, request: &RequestView<'r>) -> Option<&'r str> {
        first_query_value(request.path, &self.name)
    }
}

impl Condition<'_> {
    /// Whether it holds. `path` is the request's, without query and fragment.
    pub(super) fn holds(self, path: &str, request: &RequestView<'_>) -> bool {
        match self {
            Self::Path(matchers, test) => matchers.path_passes(test, path),
            Self::Header(condition) => condition.holds(request),
            Self::Query(condition) => condition.holds(request),
        }
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

    /// What the request says.
    pub(super) fn value<'r>(&self, request: &RequestView<'r>) -> Option<Cow<'r, [u8]>> {
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

    pub(super) fn passes(&self, value: &[u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::rewrite::path_and_query;
    use crate::routing::testing::{Request, at, exact, on_uri, prefix, regex, text};

    type Wanted = Option<StringMatch>;

    /// Whether a block matches.
    fn matches(block: &HttpMatch, request: &Request) -> bool {
        let mut matchers = Matchers::default();
        matchers.push(Some(block));
        matchers.first(path_and_query(&request.path).0, &request.view()).is_some()
    }

    fn uri_matches(uri: StringMatch, path: &str) -> bool {
        matches(&on_uri(uri), &Request::get(path))
    }

    fn ignoring_case(uri: StringMatch) -> HttpMatch {
        HttpMatch { ignore_uri_case: Some(at(true)), ..on_uri(uri) }
    }

    fn on_header(name: &str, wanted: Wanted) -> HttpMatch {
        HttpMatch { headers: vec![(text(name), wanted.map(at))], ..HttpMatch::default() }
    }

    fn without_header(name: &str, wanted: Wanted) -> HttpMatch {
        HttpMatch { without_headers: vec![(text(name), wanted.map(at))], ..HttpMatch::default() }
    }

    fn on_query(name: &str, wanted: StringMatch) -> HttpMatch {
        HttpMatch { query_params: vec![(text(name), Some(at(wanted)))], ..HttpMatch::default() }
    }

    #[test]
    fn an_exact_uri_is_equality_without_query_and_fragment() {
        for (path, hit) in
            [("/a", true), ("/a?x", true), ("/a#x", true), ("/a#?x", true), ("/a/", false), ("/A", false), ("/", false)]
        {
            assert_eq!(uri_matches(exact("/a"), path), hit, "{path}");
        }
    }

    #[test]
    fn a_prefix_is_a_string_prefix() {
        for (path, hit) in [("/v2", true), ("/v2example", true), ("/v2/x?y", true), ("/v", false), ("/V2", false)] {
            assert_eq!(uri_matches(prefix("/v2"), path), hit, "{path}");
        }
        assert!(uri_matches(prefix(""), "*"));
        assert!(!uri_matches(prefix("/a?"), "/a?b"), "the query is not part of it");
    }

    #[test]
    fn a_regex_matches_the_whole_path() {
        for (path, hit) in [("/v12/x", true), ("/v12/x?y", true), ("/v12/x/y", false), ("/a/v12/x", false)] {
            assert_eq!(uri_matches(regex("/v[0-9]+/.|/b"), path), hit, "{path}");
        }
        assert!(uri_matches(regex("/v[0-9]+/.|/b"), "/b"), "anchored around the alternation");
        assert!(uri_matches(regex(".*"), "*"));
    }

    #[test]
    fn case_can_be_ignored_but_not_by_a_regex() {
        assert!(matches(&ignoring_case(exact("/aBc")), &Request::get("/AbC")));
        assert!(!matches(&ignoring_case(exact("/aBc")), &Request::get("/AbCd")));
        assert!(matches(&ignoring_case(prefix("/aBc")), &Request::get("/AbCd")));
        assert!(!matches(&ignoring_case(prefix("/aBc")), &Request::get("/ab")));
        assert!(!matches(&ignoring_case(regex("/abc")), &Request::get("/ABC")));
        assert!(!matches(&ignoring_case(prefix("/aé")), &Request::get("/aÉ")), "ASCII only, and no split character");
    }

    #[test]
    fn without_conditions_every_path_matches() {
        assert!(matches(&HttpMatch::default(), &Request::get("/x")));
        assert!(matches(&on_uri(StringMatch::Present), &Request::get("/x")));
        assert!(!matches(&HttpMatch::default(), &Request::get("*")), "the implicit prefix is `/`");
    }

    #[test]
    fn method_scheme_and_authority_are_compared_as_sent() {
        let block = HttpMatch { method: Some(at(regex("GET|PUT"))), ..HttpMatch::default() };
        let mut request = Request::get("/");
        for (method, hit) in [("GET", true), ("PUT", true), ("get", false), ("PUTS", false)] {
            request.method = method.to_owned();
            assert_eq!(matches(&block, &request), hit, "{method}");
        }
        let block = HttpMatch { scheme: Some(at(exact("https"))), ..HttpMatch::default() };
        assert!(!matches(&block, &Request::get("/")));
        let block = HttpMatch { authority: Some(at(exact("b"))), ..HttpMatch::default() };
        assert!(matches(&block, &Request::get("/")));
        assert!(!matches(&block, &Request::get("/").host("b:80")));
        assert!(!matches(&block, &Request::get("/").host("B")));
    }

    #[test]
    fn pseudo_headers_are_headers_and_the_path_has_its_query() {
        assert!(matches(&on_header(":path", Some(exact("/a?b"))), &Request::get("/a?b")));
        assert!(matches(&on_header(":method", Some(exact("GET"))), &Request::get("/")));
        assert!(matches(&on_header(":authority", Some(prefix("b"))), &Request::get("/")));
        assert!(matches(&on_header("Host", Some(exact("b"))), &Request::get("/")));
        assert!(matches(&on_header(":scheme", Some(exact("http"))), &Request::get("/")));
        assert!(!matches(&on_header(":status", None), &Request::get("/")));
        assert!(matches(&without_header(":status", None), &Request::get("/")), "no request has it");
        assert!(matches(&without_header(":status", Some(exact("200"))), &Request::get("/")));
        assert!(!matches(&on_header("@request.auth.claims", None), &Request::get("/")));
        assert!(!matches(&without_header("@request.auth.claims", None), &Request::get("/")));
    }

    #[test]
    fn repeated_headers_are_compared_joined() {
        let twice = Request::get("/").header("x-v", "1").header("X-V", "2");
        assert!(matches(&on_header("X-v", Some(exact("1,2"))), &twice));
        assert!(!matches(&on_header("x-v", Some(exact("1"))), &twice));
        assert!(matches(&on_header("x-v", Some(exact("1"))), &Request::get("/").header("X-V", "1")));
        let crumbs = Request::get("/").header("cookie", "a=b").header("cookie", "user=jason");
        assert!(matches(&on_header("cookie", Some(exact("a=b; user=jason"))), &crumbs));
    }

    #[test]
    fn a_header_may_only_have_to_be_there() {
        for wanted in [None, Some(StringMatch::Present), Some(regex("*"))] {
            let (with, without) = (on_header("x-a", wanted.clone()), without_header("x-a", wanted));
            let empty = Request::get("/").header("x-a", "");
            assert!(matches(&with, &empty) && !matches(&without, &empty));
            assert!(!matches(&with, &Request::get("/")) && matches(&without, &Request::get("/")));
        }
    }

    #[test]
    fn a_missing_header_is_tested_as_empty_where_it_must_not_match() {
        let none = Request::get("/");
        assert!(!matches(&on_header("x-a", Some(exact(""))), &none));
        assert!(!matches(&on_header("x-a", Some(regex(".*"))), &none));
        assert!(matches(&without_header("x-a", Some(exact("jason"))), &none));
        assert!(!matches(&without_header("x-a", Some(exact(""))), &none));
        assert!(!matches(&without_header("x-a", Some(regex(".*"))), &none));
        let other = none.clone().header("x-a", "other");
        assert!(matches(&without_header("x-a", Some(prefix("jason"))), &other));
        assert!(!matches(&without_header("x-a", Some(prefix("ot"))), &other));
    }

    #[test]
    fn the_first_undecoded_value_of_a_parameter_counts() {
        let key = |wanted| on_query("key", wanted);
        for (path, hit) in
            [("/?key=1&key=2", true), ("/?key=2&key=1", false), ("/?a&key=1", true), ("/?Key=1", false), ("/", false)]
        {
            assert_eq!(matches(&key(exact("1")), &Request::get(path)), hit, "{path}");
        }
        for path in ["/?key", "/?key=", "/?key&key=1", "/?a=b&key#x"] {
            assert!(matches(&key(exact("")), &Request::get(path)), "{path}");
            assert!(matches(&key(StringMatch::Present), &Request::get(path)), "{path}");
        }
        assert!(matches(&key(exact("a=b")), &Request::get("/?key=a=b")));
        assert!(!matches(&key(exact("ab")), &Request::get("/?key=a%62")));
        assert!(!matches(&key(regex("[0-9]+")), &Request::get("/?key=a1")));
        assert!(!matches(&key(StringMatch::Present), &Request::get("/#?key")));
    }

    #[test]
    fn all_conditions_of_a_block_must_hold() {
        let block = HttpMatch { uri: Some(at(prefix("/a"))), ..on_header("x-a", Some(exact("1"))) };
        assert!(matches(&block, &Request::get("/a").header("x-a", "1")));
        assert!(!matches(&block, &Request::get("/a")));
        assert!(!matches(&block, &Request::get("/b").header("x-a", "1")));
    }

    #[test]
    fn blocks_that_have_only_a_path_take_their_place_in_the_list_and_their_text() {
        let mut matchers = Matchers::default();
        for block in [exact("/a"), prefix("/b"), regex(".*"), StringMatch::Present].map(on_uri) {
            matchers.push(Some(&block));
        }
        matchers.shrink();
        assert_eq!((matchers.blocks.capacity(), matchers.text.capacity()), (4, "/a/b".len()));
        assert_eq!((matchers.regexes.capacity(), matchers.conditions.capacity()), (0, 0), "nothing else is read");
    }

    #[test]
    fn a_broken_regex_never_matches_wherever_it_stands() {
        for block in [
            on_uri(regex("(")),
            on_header("x-a", Some(regex("("))),
            without_header("x-a", Some(regex("("))),
            on_query("a", regex("(")),
        ] {
            assert!(!matches(&block, &Request::get("/?a").header("x-a", "1")));
        }
    }
}
