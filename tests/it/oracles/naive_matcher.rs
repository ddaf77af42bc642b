//! A second reading of Istio's rules for matching: slow, linear, written apart from the table of `serin::routing`, sharing none
//! of its code.

use http::HeaderMap;
use http::header::HeaderName;
use regex::bytes::RegexBuilder;
use serin::config::place::Spanned;
use serin::config::resource::virtual_service::HttpMatch;
use serin::config::resource::{Resource, VirtualService};
use serin::config::value::{Pattern, StringMatch};

/// A request that owns what a view borrows.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) port: u16,
}

/// `vs/rule` where the request goes, or why nowhere.
pub(crate) fn expected(services: &[Resource<VirtualService>], request: &Request, any_host: bool) -> String {
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
    for rule in &owner.spec.http {
        let all = [HttpMatch::default()];
        for block in if rule.matches.is_empty() { &all } else { &rule.matches[..] }.iter().filter(here) {
            if block_matches(block, request) == Some(true) {
                return rule.route[0].destination.as_ref().unwrap().host.value.clone();
            }
            // What stands behind a catch-all is dropped, even where `OPTIONS *` would have come through to it.
            if is_catch_all(block) {
                return "no rule".to_owned();
            }
        }
    }
    "no rule".to_owned()
}

/// Whether a value, missing or not, satisfies a condition; `None` if the condition is broken.
fn satisfies(wanted: Option<&StringMatch>, value: Option<&str>) -> Option<bool> {
    Some(match wanted {
        wanted if asks_for_presence(wanted) => value.is_some(),
        Some(StringMatch::Exact(text)) => value == Some(text),
        Some(StringMatch::Prefix(text)) => value.is_some_and(|value| value.starts_with(text)),
        Some(StringMatch::Regex(pattern)) => {
            let whole = whole(pattern)?;
            value.is_some_and(|value| whole.is_match(value.as_bytes()))
        }
        None | Some(StringMatch::Present) => value.is_some(),
    })
}

/// What is no expression was told to the operator; the rest is matched as a whole, with ASCII classes.
fn whole(pattern: &Pattern) -> Option<regex::bytes::Regex> {
    pattern.regex.as_ref().ok()?;
    RegexBuilder::new(&format!(r"\A(?:{})\z", pattern.text)).unicode(false).build().ok()
}

fn asks_for_presence(wanted: Option<&StringMatch>) -> bool {
    matches!(wanted, None | Some(StringMatch::Present))
        || matches!(wanted, Some(StringMatch::Regex(p)) if p.text == "*")
}

fn header(request: &Request, name: &str) -> Option<String> {
    match name.to_lowercase().as_str() {
        ":method" => Some(request.method.clone()),
        ":scheme" => Some(request.scheme.clone()),
        ":path" => Some(request.path.clone()),
        "host" | ":authority" => Some(request.authority.clone()),
        name => {
            let all: Vec<_> = request.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            (!all.is_empty()).then(|| all.join(if name == "cookie" { "; " } else { "," }))
        }
    }
}

/// Names that look at a claim of a token are never there, nor is their absence.
fn is_broken(name: &str) -> bool {
    !name.starts_with(':') && HeaderName::from_bytes(name.as_bytes()).is_err()
}

fn uri_matches(block: &HttpMatch, path: &str) -> Option<bool> {
    let ignore_case = block.ignore_uri_case.is_some_and(|flag| flag.value);
    let fold = |text: &str| if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    match block.uri.as_ref().map(|uri| &uri.value) {
        None | Some(StringMatch::Present) => Some(path.starts_with('/')),
        Some(StringMatch::Exact(text)) => Some(fold(path) == fold(text)),
        Some(StringMatch::Prefix(text)) => Some(fold(path).starts_with(&fold(text))),
        Some(StringMatch::Regex(pattern)) if pattern.text == "*" => None,
        regex => satisfies(regex, Some(path)),
    }
}

fn block_matches(block: &HttpMatch, request: &Request) -> Option<bool> {
    let target = request.path.split('#').next().unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameters = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let parameters: Vec<_> = if target.contains('?') { parameters.collect() } else { Vec::new() };
    let mut all = vec![uri_matches(block, path)?];
    let fixed =
        [(&block.method, &request.method), (&block.authority, &request.authority), (&block.scheme, &request.scheme)];
    for (wanted, value) in fixed {
        if let Some(wanted) = wanted {
            all.push(satisfies(Some(&wanted.value), Some(value))?);
        }
    }
    if block.headers.iter().chain(&block.without_headers).any(|(name, _)| is_broken(name)) {
        return None;
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
fn specificity(pattern: &Spanned<String>, host: &str) -> Option<usize> {
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

fn is_catch_all(block: &HttpMatch) -> bool {
    let any_uri = match block.uri.as_ref().map(|uri| &uri.value) {
        None | Some(StringMatch::Present) => true,
        Some(StringMatch::Prefix(text)) => text == "/",
        Some(StringMatch::Regex(pattern)) => pattern.text == ".*",
        Some(StringMatch::Exact(_)) => false,
    };
    let lists = block.headers.len() + block.without_headers.len() + block.query_params.len();
    let fixed = [&block.method, &block.authority, &block.scheme];
    any_uri && lists == 0 && fixed.iter().all(|wanted| wanted.is_none())
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
