//! F3, the route table: it agrees with the naive matcher about every request, it can explain what it finds, and rules that match
//! nothing change nothing. The input is text, a line for each thing:
//!
//! ```text
//! anyhost
//! service 2 a.x *.x            the age, then the hosts
//! rule
//! match
//! uri prefix /a                also method, scheme, authority; exact, prefix, regex or present
//! fold
//! port 81
//! header x-a exact 1           also without
//! query k regex 1|2
//! request GET http a.x:80 /a?k=1
//! with x-a 1
//! ```

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use serin::config::place::{Place, Spanned};
use serin::config::re2;
use serin::config::resource::virtual_service::{Destination, HttpMatch, HttpRoute, HttpRouteDestination};
use serin::config::resource::{Metadata, Resource, Resources, VirtualService};
use serin::config::value::{Pattern, StringMatch};
use serin::routing::{Action, Found, Options, RequestView, RouteTable, compile};

use super::naive_matcher::{Request, expected};
use super::{first_word, lines};

/// More of each kind would take time and find nothing else.
const MOST: usize = 8;
/// The port of the listener; rules may ask for another.
const PORT: u16 = 80;
/// What no request has.
const NEVER: &str = "NO SUCH METHOD";

/// How many of the requests found a route: a test wants to know that some did.
pub(crate) fn check(bytes: &[u8]) -> usize {
    let Input { services, requests, any_host } = Input::read(bytes);
    let table = table(&services, any_host);
    let padded = table_with_dead_rules(services.clone(), any_host);
    let mut routed = 0;
    for request in &requests {
        let view = view(request);
        let found = table.find(&view);
        let got = told(&found);
        assert_eq!(got, expected(&services, request, any_host), "{request:?}");
        assert_eq!(told(&padded.find(&view)), got, "with rules that match nothing: {request:?}");
        let explained = table.listener(PORT).unwrap().explain(&view);
        assert_eq!(told(&explained.found), got, "explained: {request:?}");
        routed += usize::from(matches!(found, Found::Route(_)));
    }
    routed
}

fn table(services: &[Resource<VirtualService>], any_host: bool) -> RouteTable<String> {
    let resources = Resources { virtual_services: services.to_vec(), ..Resources::default() };
    let options = Options { mesh_ports: vec![PORT], any_host };
    compile(&resources, &options, &mut |wanted| wanted.destination.host.value.clone())
}

/// A rule that matches nothing before each rule; not in a service that has none, which would begin to own its hosts.
fn table_with_dead_rules(mut services: Vec<Resource<VirtualService>>, any_host: bool) -> RouteTable<String> {
    let dead = HttpMatch { method: Some(at(StringMatch::Exact(NEVER.to_owned()))), ..HttpMatch::default() };
    for service in &mut services {
        let rules = std::mem::take(&mut service.spec.http);
        service.spec.http =
            rules.into_iter().flat_map(|kept| [rule("dead", vec![dead.clone()], Some(PORT)), kept]).collect();
        // Where every block is for another port, the service must stay out of this one.
        let here = |rule: &HttpRoute| {
            rule.matches.is_empty()
                || rule.matches.iter().any(|block| block.port.is_none_or(|port| port.value == i64::from(PORT)))
        };
        let alive = service.spec.http.iter().filter(|rule| destination(rule) != "dead").any(here);
        if !alive {
            service.spec.http.retain(|rule| destination(rule) != "dead");
        }
    }
    table(&services, any_host)
}

fn told(found: &Found<'_, String>) -> String {
    match found {
        Found::NoHost => "no host".to_owned(),
        Found::NoRule => "no rule".to_owned(),
        Found::Route(route) => match &route.rule.action {
            Action::Forward(split) => split.pick(0).value.to.clone(),
            other => panic!("not forwarded: {other:?}"),
        },
    }
}

fn view(request: &Request) -> RequestView<'_> {
    let Request { method, scheme, authority, path, headers, port } = request;
    RequestView { method, scheme, authority, path, headers, port: *port }
}

/// A configuration, and requests that it is asked about.
#[derive(Default)]
struct Input {
    services: Vec<Resource<VirtualService>>,
    requests: Vec<Request>,
    any_host: bool,
}

impl Input {
    /// Lines that mean nothing are left out, so that every text is an input.
    fn read(bytes: &[u8]) -> Self {
        let mut input = Self::default();
        for (word, rest) in lines(bytes) {
            input.line(word, rest);
        }
        input
    }

    fn line(&mut self, word: &str, rest: &str) -> Option<()> {
        match word {
            "anyhost" => self.any_host = true,
            "service" if self.services.len() < MOST => {
                let (age, hosts) = first_word(rest);
                // Names fall while numbers rise, so that the order of the list is never the order of age.
                let name = format!("vs-{}", 9 - self.services.len());
                let hosts: Vec<_> = hosts.split(' ').filter(|host| is_pattern(host)).take(MOST).collect();
                if !hosts.is_empty() {
                    self.services.push(service(&name, &hosts, age.parse().ok()));
                }
            }
            "request" if self.requests.len() < MOST => self.requests.push(request(rest)?),
            "with" => {
                let (name, value) = first_word(rest);
                let (name, value) = (HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
                self.requests.last_mut()?.headers.append(name, value);
            }
            "rule" => {
                let service = self.services.last_mut()?;
                let to = format!("{}/{}", service.metadata.name.value, service.spec.http.len());
                if service.spec.http.len() < MOST {
                    service.spec.http.push(rule(&to, Vec::new(), None));
                }
            }
            _ => return self.condition(word, rest),
        }
        Some(())
    }

    fn condition(&mut self, word: &str, rest: &str) -> Option<()> {
        let rule = self.services.last_mut()?.spec.http.last_mut()?;
        if word == "match" && rule.matches.len() < MOST {
            rule.matches.push(HttpMatch::default());
        }
        let block = rule.matches.last_mut()?;
        let named = || {
            let (name, wanted) = first_word(rest);
            (!name.is_empty()).then(|| (at(name.to_owned()), string_match(wanted).map(at)))
        };
        match word {
            "uri" => block.uri = Some(at(string_match(rest)?)),
            "method" => block.method = Some(at(string_match(rest)?)),
            "scheme" => block.scheme = Some(at(string_match(rest)?)),
            "authority" => block.authority = Some(at(string_match(rest)?)),
            "fold" => block.ignore_uri_case = Some(at(true)),
            "port" => block.port = Some(at(rest.parse().ok()?)),
            "header" => block.headers.push(named()?),
            "without" => block.without_headers.push(named()?),
            "query" => block.query_params.push(named()?),
            _ => {}
        }
        Some(())
    }
}

fn at<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Place::default())
}

fn string_match(text: &str) -> Option<StringMatch> {
    let (kind, text) = first_word(text);
    let text = text.to_owned();
    Some(match kind {
        "exact" => StringMatch::Exact(text),
        "prefix" => StringMatch::Prefix(text),
        "regex" if is_common(&text) => StringMatch::Regex(Pattern { regex: re2::whole(&text), text }),
        "present" => StringMatch::Present,
        _ => return None,
    })
}

/// Whether RE2 and the `regex` crate surely read a pattern alike; where they do not is known in `serin::config::re2` alone.
fn is_common(pattern: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.*+?|()[]^-_,=".contains(&byte);
    let differs = ["[[", "--", "(?", "[]", "[^]"].iter().any(|part| pattern.contains(part));
    let nested = pattern.split(']').any(|class| class.matches('[').count() > 1);
    pattern.bytes().all(plain) && !differs && !nested
}

/// Whether the validation takes it for a host: the rest never reaches the table.
fn is_pattern(text: &str) -> bool {
    let name = text.strip_prefix('*').unwrap_or(text);
    let is_address = name == text && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    !text.is_empty() && (is_address || is_name) && !name.ends_with('.')
}

/// `METHOD SCHEME AUTHORITY TARGET`, as much of it as the proxy lets through.
fn request(text: &str) -> Option<Request> {
    let [method, scheme, authority, path] = text.splitn(4, ' ').collect::<Vec<_>>()[..] else { return None };
    let fits = path.is_ascii() && !path.contains(' ') && is_authority(authority);
    let [method, scheme, authority, path] = [method, scheme, authority, path].map(str::to_owned);
    fits.then(|| Request { method, scheme, authority, path, headers: HeaderMap::new(), port: PORT })
}

fn is_authority(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = |text: &str| text.is_empty() || text.strip_prefix(':').is_some_and(digits);
    let is_address = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| is_address(address) && is_port(port)),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte));
            is_name && is_port(port) && name.len() < 256
        }
    }
}

fn rule(to: &str, mut matches: Vec<HttpMatch>, port: Option<u16>) -> HttpRoute {
    matches.iter_mut().for_each(|block| block.port = port.map(|port| at(i64::from(port))));
    let host = Destination { host: at(to.to_owned()), ..Destination::default() };
    let entry = HttpRouteDestination { destination: Some(host), ..HttpRouteDestination::default() };
    HttpRoute { matches, route: vec![entry], ..HttpRoute::default() }
}

fn destination(rule: &HttpRoute) -> &str {
    rule.route[0].destination.as_ref().map_or("", |destination| destination.host.as_str())
}

fn service(name: &str, hosts: &[&str], age: Option<u32>) -> Resource<VirtualService> {
    let created = age.map(|age| SystemTime::UNIX_EPOCH + Duration::from_secs(age.into()));
    let metadata =
        Metadata { name: at(name.to_owned()), namespace: at("default".to_owned()), created, ..Metadata::default() };
    let hosts = hosts.iter().map(|host| at((*host).to_owned())).collect();
    Resource { metadata, spec: VirtualService { hosts, ..VirtualService::default() }, place: Place::default() }
}
