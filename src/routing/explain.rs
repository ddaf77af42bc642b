//! Why a request goes where it goes, in words, and what a table says of itself. Reads the very table that requests consult and
//! asks its conditions; decides nothing by itself.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::matching::{Condition, HeaderCondition, Matchers, PathTest, Source, Test};
use super::rewrite::path_and_query;
use super::table::{Found, Hosts, LeftOut, RequestView, Route, Rule};

/// What became of a request, and why not something else.
#[derive(Debug)]
pub struct Explained<'t, D> {
    /// The host pattern that it fell under; none if no virtual host answers to it.
    pub host: Option<String>,
    /// What [`Hosts::find`] says.
    pub found: Found<'t, D>,
    /// The match blocks of the rules before, in their order.
    pub skipped: Vec<Skipped>,
}

/// A match block that did not match: the first of its conditions that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The label of its rule.
    pub rule: Arc<str>,
    /// The condition by its field, such as `uri` or `headers.end-user`.
    pub condition: String,
    /// What it wants, such as `prefix: /v2`.
    pub wanted: String,
    /// What the request says; none if it says nothing of the kind.
    pub actual: Option<String>,
}

/// A virtual host as it can be described.
#[derive(Debug)]
pub struct Described<'t, D> {
    /// A pattern it answers to.
    pub host: String,
    /// Its routes in their order, each with its conditions in words (`uri prefix: /v2`); without any it takes everything.
    pub routes: Vec<(&'t Route<D>, Vec<String>)>,
    /// Whether plain requests are sent to `https`.
    pub https_redirect: bool,
}

/// A request made up so that a block may match it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Method; `GET` unless a condition wants another.
    pub method: String,
    /// `http` unless a condition wants another.
    pub scheme: String,
    /// Set if a condition asks for it; else whatever leads to the virtual host.
    pub authority: Option<String>,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
}

impl<D> Hosts<D> {
    /// Finds the route of a request and says why it is not an earlier one.
    pub fn explain(&self, request: &RequestView<'_>) -> Explained<'_, D> {
        let found = self.find(request);
        let host = self.index.pattern(request.authority);
        // The redirect of a Gateway comes before all rules.
        let redirected = matches!(&found, Found::Route(route) if route.rule.origin.is_none());
        let skipped = match self.index.find(request.authority) {
            Some(number) if !redirected => self.skipped(number, request, &found),
            _ => Vec::new(),
        };
        Explained { host, found, skipped }
    }

    fn skipped(&self, number: u32, request: &RequestView<'_>, found: &Found<'_, D>) -> Vec<Skipped> {
        let host = &self.virtual_hosts[number as usize];
        let (path, _) = path_and_query(request.path);
        let taken = match found {
            Found::Route(route) => Some(*route),
            Found::NoHost | Found::NoRule => None,
        };
        let end = host.routes.iter().position(|route| taken.is_some_and(|taken| std::ptr::eq(taken, route)));
        let mut left_out = host.left_out.iter().filter(|one| end.is_none_or(|end| one.behind <= end)).peekable();
        let mut skipped = Vec::new();
        for (number, route) in host.routes.iter().enumerate().take(end.unwrap_or(host.routes.len())) {
            while let Some(one) = left_out.next_if(|one| one.behind <= number) {
                skipped.push(Skipped::left_out(one));
            }
            let failed = host.matchers.conditions(number).find(|condition| !condition.holds(path, request));
            skipped.extend(failed.map(|condition| Skipped {
                rule: Arc::clone(&route.rule.label),
                condition: condition.name(),
                wanted: condition.wanted(),
                actual: condition.actual(path, request),
            }));
        }
        skipped.extend(left_out.map(Skipped::left_out));
        // Other blocks of the rule itself are no reason for anything.
        skipped.retain(|one| taken.is_none_or(|taken| *one.rule != *taken.rule.label));
        skipped
    }

    /// Its virtual hosts, one for each pattern, in the order of the alphabet.
    pub fn describe(&self) -> Vec<Described<'_, D>> {
        let described = |(host, number): (String, u32)| {
            let virtual_host = &self.virtual_hosts[number as usize];
            let routes = virtual_host.routes.iter().enumerate();
            let words = |number| -> Vec<String> {
                let conditions = virtual_host.matchers.conditions(number).filter(|condition| !condition.is_trivial());
                conditions.map(|condition| format!("{} {}", condition.name(), condition.wanted())).collect()
            };
            Described {
                host,
                routes: routes.map(|(number, route)| (route, words(number))).collect(),
                https_redirect: virtual_host.https_redirect,
            }
        };
        self.index.patterns().into_iter().map(described).collect()
    }

    /// Made-up requests for each pattern and block, and one for each pattern that no block asks for. Those for regular
    /// expressions may miss.
    pub fn samples(&self) -> Vec<(String, Sample)> {
        let mut samples = Vec::new();
        for (pattern, number) in self.index.patterns() {
            let host = pattern.strip_prefix('*').map_or(pattern.clone(), |suffix| format!("any{suffix}"));
            let matchers = &self.virtual_hosts[number as usize].matchers;
            samples.push((host.clone(), Sample::default()));
            samples.extend((0..matchers.len()).map(|number| (host.clone(), Sample::of(matchers, number))));
        }
        samples
    }
}

impl<D> Rule<D> {
    /// What takes the place of the path, or of what matched of it.
    pub fn rewrite(&self) -> Option<String> {
        self.path_rewrite.as_ref().map(ToString::to_string)
    }
}

impl Skipped {
    fn left_out(block: &LeftOut) -> Self {
        Self {
            rule: Arc::clone(&block.rule),
            condition: block.condition.to_owned(),
            wanted: block.wanted.clone(),
            actual: block.actual.clone(),
        }
    }
}

impl Condition<'_> {
    /// The field it was written as.
    fn name(&self) -> String {
        match self {
            Self::Path(..) => "uri".to_owned(),
            Self::Header(HeaderCondition { source, negated, .. }) => match (source, negated) {
                (Source::Header(name), false) => format!("headers.{name}"),
                (Source::Header(name), true) => format!("withoutHeaders.{name}"),
                (pseudo, false) => pseudo.field().to_owned(),
                (pseudo, true) => format!("withoutHeaders.:{}", pseudo.field()),
            },
            Self::Query(condition) => format!("queryParams.{}", condition.name),
        }
    }

    /// Whether it is the condition on the path that every path fulfils.
    fn is_trivial(&self) -> bool {
        matches!(self, Self::Path(_, PathTest::Any | PathTest::Everything))
    }

    fn wanted(&self) -> String {
        match self {
            Self::Path(matchers, test) => path_wanted(matchers, *test),
            Self::Header(HeaderCondition { test, negated: false, .. }) => test.wanted(),
            Self::Header(HeaderCondition { test: Test::Present, .. }) => "absent".to_owned(),
            Self::Header(HeaderCondition { test, .. }) => format!("not {}", test.wanted()),
            Self::Query(condition) => condition.test.wanted(),
        }
    }

    fn actual(&self, path: &str, request: &RequestView<'_>) -> Option<String> {
        match self {
            Self::Path(..) => Some(path.to_owned()),
            Self::Header(condition) => {
                condition.source.value(request).map(|value| String::from_utf8_lossy(&value).into_owned())
            }
            Self::Query(condition) => condition.value(request).map(str::to_owned),
        }
    }
}

impl Source {
    fn field(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Scheme => "scheme",
            Self::Authority => "authority",
            Self::Path => "path",
            Self::Header(_) | Self::Missing => "status",
        }
    }
}

impl Test {
    fn wanted(&self) -> String {
        match self {
            Self::Present => "present".to_owned(),
            Self::Exact(text) => format!("exact: {text}"),
            Self::Prefix(text) => format!("prefix: {text}"),
            Self::Regex(regex) => format!("regex: {}", unanchored(regex.as_str())),
        }
    }

    /// A value that passes, as far as that can be seen.
    fn example(&self) -> String {
        match self {
            Self::Present => "1".to_owned(),
            Self::Exact(text) | Self::Prefix(text) => text.to_string(),
            Self::Regex(regex) => example(unanchored(regex.as_str())),
        }
    }
}

fn path_wanted(matchers: &Matchers, test: PathTest) -> String {
    match test {
        PathTest::Any => "prefix: /".to_owned(),
        PathTest::Everything => "regex: .*".to_owned(),
        PathTest::Exact(text) => format!("exact: {}", matchers.text(text)),
        PathTest::Prefix(text) => format!("prefix: {}", matchers.text(text)),
        PathTest::ExactIgnoringCase(text) => format!("exact, in any case: {}", matchers.text(text)),
        PathTest::PrefixIgnoringCase(text) => format!("prefix, in any case: {}", matchers.text(text)),
        PathTest::Regex(number) => format!("regex: {}", unanchored(matchers.regex(number).as_str())),
        PathTest::Never => "nothing: the rule is not valid".to_owned(),
    }
}

/// A regular expression as it was written, without what [`re2::whole`](crate::config::re2::whole) puts around it.
fn unanchored(regex: &str) -> &str {
    let whole = regex.strip_prefix("(?-u)").unwrap_or(regex);
    whole.strip_prefix(r"\A(?:").and_then(|rest| rest.strip_suffix(r")\z")).unwrap_or(regex)
}

/// A text that simple regular expressions match: `.*` and the like stand for nothing or one letter.
fn example(regex: &str) -> String {
    let first = regex.split('|').next().unwrap_or(regex).trim_start_matches("(?i)");
    let plain = [(".*", ""), (".+", "a"), ("[^/]+", "a"), ("[^/]*", ""), ("[0-9]+", "1"), ("\\d+", "1"), ("\\.", ".")];
    let mut text = first.to_owned();
    for (pattern, example) in plain {
        text = text.replace(pattern, example);
    }
    text.retain(|letter| !matches!(letter, '^' | '$' | '(' | ')' | '?' | '\\'));
    text
}

impl Default for Sample {
    fn default() -> Self {
        let (method, scheme) = ("GET".to_owned(), "http".to_owned());
        Self { method, scheme, authority: None, path: "/".to_owned(), headers: HeaderMap::new() }
    }
}

impl Sample {
    fn of(matchers: &Matchers, number: usize) -> Self {
        let mut sample = Self::default();
        for condition in matchers.conditions(number) {
            match condition {
                Condition::Path(_, test) => {
                    sample.path = match test {
                        PathTest::Exact(text) | PathTest::ExactIgnoringCase(text) => matchers.text(text).to_owned(),
                        PathTest::Prefix(text) | PathTest::PrefixIgnoringCase(text)
                            if !matchers.text(text).is_empty() =>
                        {
                            matchers.text(text).to_owned()
                        }
                        PathTest::Regex(number) => example(unanchored(matchers.regex(number).as_str())),
                        _ => sample.path,
                    };
                }
                Condition::Header(HeaderCondition { negated: true, .. }) => {}
                Condition::Header(HeaderCondition { source, test, .. }) => sample.set(source, test.example()),
                Condition::Query(condition) => {
                    let sign = if sample.path.contains('?') { '&' } else { '?' };
                    sample.path.push_str(&format!("{sign}{}={}", condition.name, condition.test.example()));
                }
            }
        }
        sample
    }

    fn set(&mut self, source: &Source, value: String) {
        match source {
            Source::Method => self.method = value,
            Source::Scheme => self.scheme = value,
            Source::Authority => self.authority = Some(value),
            Source::Path => self.path = value,
            Source::Header(name) => self.set_header(name, &value),
            Source::Missing => {}
        }
    }

    fn set_header(&mut self, name: &HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::config::resource::virtual_service::{HttpMatch, HttpRoute};
    use crate::routing::testing::{Request, at, exact, on_uri, prefix, regex, resources, rule, service, text};
    use crate::routing::{Options, RouteTable, compile};

    fn table(http: Vec<HttpRoute>) -> RouteTable<String> {
        let options = Options { mesh_ports: vec![80], any_host: false };
        let resources = resources(vec![service("vs", &["b", "*.b"], http)]);
        compile(&resources, &options, &mut |wanted| wanted.destination.host.value.clone())
    }

    fn explained(http: Vec<HttpRoute>, request: &Request) -> (Option<String>, Vec<String>) {
        let table = table(http);
        let explained = table.listener(80).unwrap().explain(&request.view());
        let line = |one: &Skipped| {
            format!("{}: {} wanted {}, got {:?}", one.rule, one.condition, one.wanted, one.actual.as_deref())
        };
        (explained.host, explained.skipped.iter().map(line).collect())
    }

    #[test]
    fn each_rule_before_says_which_condition_failed_first() {
        let on_header =
            |name: &str, wanted| HttpMatch { headers: vec![(text(name), Some(at(wanted)))], ..HttpMatch::default() };
        let without = HttpMatch { without_headers: vec![(text("x-a"), None)], ..HttpMatch::default() };
        let on_query = HttpMatch { query_params: vec![(text("k"), Some(at(exact("1"))))], ..HttpMatch::default() };
        let both = HttpMatch { uri: Some(at(prefix("/a"))), method: Some(at(exact("PUT"))), ..HttpMatch::default() };
        let elsewhere = HttpMatch { port: Some(at(81)), ..on_uri(prefix("/")) };
        let folding = HttpMatch { ignore_uri_case: Some(at(true)), ..on_uri(exact("/B")) };
        let rules = vec![
            rule("r", vec![on_header("end-user", exact("jason")), on_header("x-a", regex("[0-9]"))]),
            rule("r", vec![elsewhere, without]),
            rule("r", vec![on_query]),
            rule("r", vec![both, on_uri(regex("/x|/y"))]),
            rule("hit", vec![folding, HttpMatch::default()]),
        ];
        let request = Request::get("/a?k").header("x-a", "b").host("x.b:80");
        let (host, skipped) = explained(rules.clone(), &request);
        assert_eq!(host.as_deref(), Some("*.b"));
        assert_eq!(
            skipped,
            [
                "vs/0: headers.end-user wanted exact: jason, got None",
                "vs/0: headers.x-a wanted regex: [0-9], got Some(\"b\")",
                "vs/1: port wanted 81, got Some(\"80\")",
                "vs/1: withoutHeaders.x-a wanted absent, got Some(\"b\")",
                "vs/2: queryParams.k wanted exact: 1, got Some(\"\")",
                "vs/3: method wanted exact: PUT, got Some(\"GET\")",
                "vs/3: uri wanted regex: /x|/y, got Some(\"/a\")",
            ]
        );
        let (_, nothing) = explained(rules, &Request::get("/a").host("c"));
        assert_eq!(nothing, Vec::<String>::new(), "no host, no rule");
    }

    #[test]
    fn without_a_rule_all_of_them_are_skipped() {
        let elsewhere = HttpMatch { gateways: vec![text("edge")], ..HttpMatch::default() };
        let rules = vec![rule("r", vec![on_uri(exact("/a"))]), rule("r", vec![elsewhere])];
        let (host, skipped) = explained(rules, &Request::get("/b"));
        assert_eq!(host.as_deref(), Some("b"));
        assert_eq!(
            skipped,
            ["vs/0: uri wanted exact: /a, got Some(\"/b\")", "vs/1: gateways wanted edge, got Some(\"mesh\")"]
        );
    }

    #[test]
    fn a_table_says_what_is_in_it() {
        let table = table(vec![rule("r", vec![on_uri(prefix("/a"))]), rule("r", vec![])]);
        let described = table.listener(80).unwrap().describe();
        let hosts: Vec<_> = described.iter().map(|one| one.host.as_str()).collect();
        assert_eq!(hosts, ["*.b", "b"]);
        let words: Vec<_> = described[1].routes.iter().map(|(route, words)| (&*route.name, words.join(", "))).collect();
        assert_eq!(words, [("vs/0", "uri prefix: /a".to_owned()), ("vs/1", String::new())]);
    }

    const PATHS: &[&str] = &["/", "/a", "/ab", "/b"];

    proptest! {
        #[test]
        fn samples_are_taken_by_the_block_they_were_made_for(
            paths in prop::collection::vec((select(PATHS), any::<bool>()), 1..6), header in select(&["1", "2"][..])
        ) {
            let blocks = paths.iter().map(|(path, whole)| HttpMatch {
                headers: vec![(text("x-a"), Some(at(exact(header))))],
                ..on_uri(if *whole { exact(path) } else { prefix(path) })
            });
            let table = table(blocks.map(|block| rule("r", vec![block])).collect());
            let hosts = table.listener(80).unwrap();
            for (number, (host, sample)) in hosts.samples().iter().enumerate() {
                let mut request = Request::get(&sample.path).host(host);
                request.headers = sample.headers.clone();
                let explained = hosts.explain(&request.view());
                // The first of each host is for none of the blocks.
                let for_a_block = number % (paths.len() + 1) > 0;
                prop_assert_eq!(matches!(explained.found, Found::Route(_)), for_a_block);
            }
        }
    }
}
