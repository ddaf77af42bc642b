//! The table against a second reading of Istio's rules: slow, linear, written apart from it, sharing none of its code. Both
//! are asked about requests made of the same few words as the configuration, so that near misses are common.

use std::time::{Duration, SystemTime};

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::compile::{Options, compile};
use super::table::{Action, Found};
use super::testing::{Request, at, exact, on_uri, prefix, regex, resources, rule, service, text};
use crate::config::place::Spanned;
use crate::config::resource::virtual_service::HttpMatch;
use crate::config::resource::{Resource, VirtualService};
use crate::config::value::StringMatch;

const PATTERNS: &[&str] =
    &["a.x", "A.X", "*.x", "*", "x", "b.a.x", "*.a.x", "*-a.x", "*a.x", "*.X", "::1", "c-a.x", "*.c-a.x"];
const HOSTS: &[&str] = &[
    "a.x", "a.X", "x", ".x", "z.x", "b.a.x", "z.a.x", "z.b.a.x", "c-a.x", "-a.x", "z.c-a.x", "za.x", "[::1]", "", "y",
];
const PORTS: &[&str] = &["", "", ".", ":80", ":81", ".:80", ":"];
const PATHS: &[&str] = &["/", "/a", "/A", "/a/", "/ab", "/a/b", "/b", "*", "/a.b", "/a/b/c"];
const QUERIES: &[&str] =
    &["", "", "?", "?k", "?k=", "?k=1", "?k=1&k=2", "?k=2&k=1", "?K=1", "?j=1&k=1#f", "#?k=1", "?j&k=a"];
const WORDS: &[&str] = &["", "1", "2", "1,2", "a", "A", "ab", "GET", "http", "a.x"];
const REGEXES: &[&str] = &["a", "/a.*", ".*", "1|2", "1.*", "*", "(", "(?i)get", "a?", "/a/[a-c]"];
const NAMES: &[&str] = &["x-a", "X-B", ":method", ":path", "host"];

fn string_match(texts: &'static [&'static str]) -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        3 => select(texts).prop_map(exact),
        3 => select(texts).prop_map(prefix),
        2 => select(REGEXES).prop_map(regex),
        1 => Just(StringMatch::Present),
    ]
}

type Conditions = Vec<(Spanned<String>, Option<Spanned<StringMatch>>)>;

fn conditions(names: &'static [&'static str]) -> impl Strategy<Value = Conditions> {
    let one = (select(names).prop_map(text), option::weighted(0.9, string_match(WORDS).prop_map(at)));
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(one, 1..3)]
}

fn block() -> impl Strategy<Value = HttpMatch> {
    let uri = option::weighted(0.7, string_match(PATHS));
    let fixed = (option::weighted(0.1, string_match(WORDS)), option::weighted(0.1, string_match(HOSTS)));
    let lists = (conditions(NAMES), conditions(NAMES), conditions(&["k", "j"]));
    (uri, any::<bool>(), fixed, lists, option::weighted(0.1, select(&[80i64, 81][..]))).prop_map(
        |(uri, ignore_case, (method, authority), (headers, without_headers, query_params), port)| HttpMatch {
            method: method.map(at),
            authority: authority.map(at),
            headers,
            without_headers,
            query_params,
            ignore_uri_case: Some(at(ignore_case)),
            port: port.map(at),
            ..uri.map_or_else(HttpMatch::default, on_uri)
        },
    )
}

fn services() -> impl Strategy<Value = Vec<Resource<VirtualService>>> {
    let rules = prop::collection::vec(prop::collection::vec(block(), 0..3), 1..4);
    let one = (prop::collection::vec(select(PATTERNS), 1..4), rules, option::of(0u64..3));
    prop::collection::vec(one, 1..5).prop_map(|services| {
        // Names fall while numbers rise, so that the order of the list is never the order of age.
        services
            .into_iter()
            .enumerate()
            .map(|(number, (hosts, rules, age))| {
                let name = format!("vs-{}", 9 - number);
                let http =
                    rules.into_iter().enumerate().map(|(index, blocks)| rule(&format!("{name}/{index}"), blocks));
                let mut service = service(&name, &hosts, http.collect());
                service.metadata.created = age.map(|age| SystemTime::UNIX_EPOCH + Duration::from_secs(age));
                service
            })
            .collect()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let headers = prop::collection::vec((select(&["x-a", "x-b"][..]), select(WORDS)), 0..4);
    let target = (select(PATHS), select(QUERIES)).prop_map(|(path, query)| format!("{path}{query}"));
    let authority = (select(HOSTS), select(PORTS)).prop_map(|(host, port)| format!("{host}{port}"));
    (target, authority, headers, select(&["GET", "get", "A"][..])).prop_map(|(target, authority, headers, method)| {
        let request = Request::get(&target).host(&authority);
        let mut request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.method = method.to_owned();
        request
    })
}

/// Whether a value, missing or not, satisfies a condition; `None` if the condition is broken.
fn satisfies(wanted: Option<&StringMatch>, value: Option<&str>) -> Option<bool> {
    Some(match wanted {
        wanted if asks_for_presence(wanted) => value.is_some(),
        Some(StringMatch::Exact(text)) => value == Some(text),
        Some(StringMatch::Prefix(text)) => value.is_some_and(|value| value.starts_with(text)),
        Some(StringMatch::Regex(pattern)) => {
            let whole = regex::Regex::new(&format!(r"\A({})\z", pattern.text)).ok()?;
            value.is_some_and(|value| whole.is_match(value))
        }
        None | Some(StringMatch::Present) => value.is_some(),
    })
}

fn asks_for_presence(wanted: Option<&StringMatch>) -> bool {
    matches!(wanted, None | Some(StringMatch::Present))
        || matches!(wanted, Some(StringMatch::Regex(p)) if p.text == "*")
}

fn header(request: &Request, name: &str) -> Option<String> {
    match name.to_lowercase().as_str() {
        ":method" => Some(request.method.clone()),
        ":path" => Some(request.path.clone()),
        "host" => Some(request.authority.clone()),
        name => {
            let all: Vec<_> = request.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            (!all.is_empty()).then(|| all.join(","))
        }
    }
}

fn uri_matches(block: &HttpMatch, path: &str) -> Option<bool> {
    let ignore_case = block.ignore_uri_case.is_some_and(|flag| flag.value);
    let fold = |text: &str| if ignore_case { text.to_lowercase() } else { text.to_owned() };
    match block.uri.as_ref().map(|uri| &uri.value) {
        None | Some(StringMatch::Present) => Some(path.starts_with('/')),
        Some(StringMatch::Exact(text)) => Some(fold(path) == fold(text)),
        Some(StringMatch::Prefix(text)) => Some(fold(path).starts_with(&fold(text))),
        Some(StringMatch::Regex(pattern)) if pattern.text == "*" => None,
        regex => satisfies(regex, Some(path)),
    }
}

fn block_matches(block: &HttpMatch, request: &Request) -> Option<bool> {
    let whole = request.path.split('#').next().unwrap();
    let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
    let parameters = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let parameters: Vec<_> = if whole.contains('?') { parameters.collect() } else { Vec::new() };
    let mut all = vec![uri_matches(block, path)?];
    for (wanted, value) in [(&block.method, &request.method), (&block.authority, &request.authority)] {
        if let Some(wanted) = wanted {
            all.push(satisfies(Some(&wanted.value), Some(value))?);
        }
    }
    for (name, wanted) in &block.headers {
        all.push(satisfies(wanted.as_deref(), header(request, name).as_deref())?);
    }
    for (name, wanted) in &block.without_headers {
        let value = header(request, name);
        // Only a condition on presence tells a missing header from an empty one.
        let value = if asks_for_presence(wanted.as_deref()) { value } else { Some(value.unwrap_or_default()) };
        all.push(!satisfies(wanted.as_deref(), value.as_deref())?);
    }
    for (name, wanted) in &block.query_params {
        let value = parameters.iter().find(|(key, _)| *key == name.value).map(|(_, value)| *value);
        all.push(satisfies(wanted.as_deref(), value)?);
    }
    Some(all.into_iter().all(|holds| holds))
}

/// How specific a host pattern is for a host: the length of what it fixes, most for an exact name.
fn specificity(pattern: &str, host: &str) -> Option<usize> {
    let pattern = pattern.to_lowercase();
    match pattern.strip_prefix('*') {
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix) || pattern == "*").then_some(suffix.len()),
        None => (pattern == host).then_some(usize::MAX),
    }
}

fn host(authority: &str) -> String {
    let lower = authority.to_lowercase();
    if let Some(end) = lower.find(']') {
        return lower[1..end].to_owned();
    }
    let host = lower.split(':').next().unwrap();
    host.strip_suffix('.').unwrap_or(host).to_owned()
}

/// `vs/rule` where the request goes, or why nowhere.
fn expected(services: &[Resource<VirtualService>], request: &Request, any_host: bool) -> String {
    let here = |block: &&HttpMatch| block.port.is_none_or(|port| port.value == i64::from(request.port));
    let mut oldest: Vec<_> = services.iter().collect();
    oldest.retain(|service| {
        service.spec.http.iter().any(|rule| rule.matches.is_empty() || rule.matches.iter().any(|block| here(&block)))
    });
    oldest.sort_by_key(|service| (service.metadata.created, service.metadata.name.value.clone()));
    let host = host(&request.authority);
    let claims = oldest.iter().enumerate().flat_map(|(age, service)| {
        let patterns = service.spec.hosts.iter();
        patterns.filter_map(|pattern| specificity(pattern, &host)).map(move |specific| (specific, services.len() - age))
    });
    let owner = match claims.max() {
        Some((_, rank)) => oldest[services.len() - rank],
        // Alone is who shares no host: the owner of at least one pattern each.
        None if any_host && owners(&oldest) == 1 => oldest[0],
        None => return "no host".to_owned(),
    };
    for (index, rule) in owner.spec.http.iter().enumerate() {
        let all = [HttpMatch::default()];
        for block in if rule.matches.is_empty() { &all } else { &rule.matches[..] }.iter().filter(here) {
            if block_matches(block, request) == Some(true) {
                return format!("{}/{index}", owner.metadata.name.value);
            }
            // What stands behind a catch-all is dropped, even where `OPTIONS *` would have come through to it.
            if is_catch_all(block) {
                return "no rule".to_owned();
            }
        }
    }
    "no rule".to_owned()
}

fn is_catch_all(block: &HttpMatch) -> bool {
    let any_uri = match block.uri.as_ref().map(|uri| &uri.value) {
        None | Some(StringMatch::Present) => true,
        Some(StringMatch::Prefix(text)) => text == "/",
        Some(StringMatch::Regex(pattern)) => pattern.text == ".*",
        Some(StringMatch::Exact(_)) => false,
    };
    let lists = block.headers.len() + block.without_headers.len() + block.query_params.len();
    any_uri && lists == 0 && block.method.is_none() && block.authority.is_none()
}

/// How many of the services own a pattern.
fn owners(oldest: &[&Resource<VirtualService>]) -> usize {
    let mut taken = Vec::new();
    let owns = |service: &&&Resource<VirtualService>| {
        let patterns: Vec<_> = service.spec.hosts.iter().map(|host| host.to_lowercase()).collect();
        let some = patterns.iter().any(|pattern| !taken.contains(pattern));
        taken.extend(patterns);
        some
    };
    oldest.iter().filter(owns).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_table_agrees_with_a_linear_search(
        services in services(), requests in prop::collection::vec(request(), 1..12), any_host in any::<bool>()
    ) {
        let options = Options { mesh_ports: vec![80], any_host };
        let table = compile(&resources(services.clone()), &options, &mut |wanted| wanted.destination.host.value.clone());
        for request in &requests {
            let got = match table.find(&request.view()) {
                Found::NoHost => "no host".to_owned(),
                Found::NoRule => "no rule".to_owned(),
                Found::Route(route) => match &route.rule.action {
                    Action::Forward(split) => split.pick(0).value.to.clone(),
                    other => panic!("not forwarded: {other:?}"),
                },
            };
            prop_assert_eq!(got, expected(&services, request, any_host), "{:?}", request);
        }
    }
}
