//! F7, the operator's changes to headers: they do what a list of name and value does that is gone through step by step, and
//! nothing that they make can end a field early, name a host or frame a body. The order of fields of different names means nothing
//! (RFC 9110 §5.3); that of the values of one name is checked. The input is text:
//!
//! ```text
//! several                      a second destination: its block comes first, the rule's follows
//! rule set x-a 1               also destination; also add
//! rule remove x-b
//! field x-a 0
//! ```

use std::collections::BTreeMap;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serin::config::place::{Place, Spanned};
use serin::config::resource::virtual_service::{
    Destination, HeaderOperations, Headers, HttpRoute, HttpRouteDestination,
};
use serin::config::resource::{Metadata, Resource, Resources, VirtualService};
use serin::routing::{Action, Answered, Facts, Options, compile};

use super::{first_word, lines};

/// What no operation may make, change or drop.
const KEPT: [&str; 4] = ["host", ":authority", "content-length", "transfer-encoding"];

/// A header map as the text says it: the values of each name in their order.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

/// Whether any operation did something.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let Input { rule, destination, several, fields, filled } = Input::read(bytes);
    let before = list(&fields);
    let (request, response) = applied(&rule, &destination, several, &fields);
    for (name, value) in request.iter().chain(&response) {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}: {value:?}");
    }
    for name in KEPT {
        assert_eq!(list(&request).get(name), before.get(name), "{name} was changed");
    }
    // What variables stand for is known elsewhere.
    if !filled {
        assert_eq!(list(&request), by_hand(&rule, &destination, several, &fields));
        assert_eq!(list(&request), list(&response), "requests and responses differ");
    }
    list(&request) != before
}

/// Applies the operations as the proxy does it.
fn applied(
    rule: &HeaderOperations,
    destination: &HeaderOperations,
    several: bool,
    fields: &HeaderMap,
) -> (HeaderMap, HeaderMap) {
    let both = |operations: &HeaderOperations| {
        Some(Box::new(Headers { request: Some(operations.clone()), response: Some(operations.clone()) }))
    };
    let entry = |weight| HttpRouteDestination {
        destination: Some(Destination { host: at("b".to_owned()), ..Destination::default() }),
        weight: Some(at(weight)),
        headers: both(destination),
        ..HttpRouteDestination::default()
    };
    let route = if several { vec![entry(50), entry(50)] } else { vec![entry(100)] };
    let http = vec![HttpRoute { route, headers: both(rule), ..HttpRoute::default() }];
    let metadata = Metadata { name: at("vs".to_owned()), namespace: at("default".to_owned()), ..Metadata::default() };
    let spec = VirtualService { hosts: vec![at("a".to_owned())], http, ..VirtualService::default() };
    let service = Resource { metadata, spec, place: Place::default() };
    let resources = Resources { virtual_services: vec![service], ..Resources::default() };
    let table = compile(&resources, &Options { mesh_ports: vec![80], any_host: true }, &mut |_| ());
    let (_, compiled) = table.rules().next().expect("a rule");
    let Action::Forward(split) = &compiled.action else { panic!("not forwarded") };
    let target = &split.pick(0).value;
    let (mut request, mut response) = (fields.clone(), fields.clone());
    let kept = target.response_headers.keep(&request, facts);
    target.request_headers.apply_to_request(&mut request, facts);
    target.response_headers.apply_to_response(&mut response, kept.as_deref(), Answered { status: 200, upstream: None });
    (request, response)
}

fn facts() -> Facts<'static> {
    Facts {
        method: "GET",
        scheme: "http",
        authority: None,
        path: "/",
        protocol: "HTTP/1.1",
        peer: ([127, 0, 0, 1], 1).into(),
        port: 80,
        started: std::time::SystemTime::UNIX_EPOCH,
    }
}

/// Removed, set, added: for one destination all of it together, else one block after the other.
fn by_hand(rule: &HeaderOperations, destination: &HeaderOperations, several: bool, fields: &HeaderMap) -> Fields {
    let mut all: Vec<(String, Vec<u8>)> =
        fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    let blocks: &[&[&HeaderOperations]] = if several { &[&[destination], &[rule]] } else { &[&[rule, destination]] };
    for together in blocks {
        for name in together.iter().flat_map(|operations| &operations.remove) {
            let name = name.to_ascii_lowercase();
            all.retain(|(known, _)| *known != name || KEPT.contains(&known.as_str()));
        }
        for operations in *together {
            for (name, value) in in_order(&operations.set) {
                all.retain(|(known, _)| *known != name);
                all.push((name, value));
            }
        }
        for operations in *together {
            all.extend(in_order(&operations.add));
        }
    }
    let mut fields = Fields::new();
    all.into_iter().for_each(|(name, value)| fields.entry(name).or_default().push(value));
    fields
}

/// What of a map does something, by the alphabet of the names as they are written.
fn in_order(map: &[(Spanned<String>, Spanned<String>)]) -> Vec<(String, Vec<u8>)> {
    let mut sorted: Vec<_> = map.iter().map(|(name, value)| (&name.value, &value.value)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    let is_value =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
    let works = sorted.into_iter().filter(|(name, value)| is_token(name) && is_value(value));
    let works = works.map(|(name, value)| (name.to_ascii_lowercase(), value.replace("%%", "%").into_bytes()));
    works.filter(|(name, _)| !KEPT.contains(&name.as_str())).collect()
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn list(map: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in map {
        fields.entry(name.to_string()).or_default().push(value.as_bytes().to_vec());
    }
    fields
}

fn at<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Place::default())
}

#[derive(Default)]
struct Input {
    rule: HeaderOperations,
    destination: HeaderOperations,
    several: bool,
    fields: HeaderMap,
    /// A value has variables, or a percent sign that may begin one.
    filled: bool,
}

impl Input {
    fn read(bytes: &[u8]) -> Self {
        let mut input = Self::default();
        for (word, rest) in lines(bytes).take(100) {
            match word {
                "several" => input.several = true,
                "rule" => input.filled |= operation(&mut input.rule, rest),
                "destination" => input.filled |= operation(&mut input.destination, rest),
                "field" => input.field(rest),
                _ => {}
            }
        }
        input
    }

    fn field(&mut self, rest: &str) {
        let (name, value) = first_word(rest);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            self.fields.append(name, value);
        }
    }
}

/// Adds an operation; says whether its value may have variables. `\n` and the like stand for the character.
fn operation(operations: &mut HeaderOperations, rest: &str) -> bool {
    let (kind, rest) = first_word(rest);
    let (name, value) = first_word(rest);
    let value = value.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
    let filled = value.replace("%%", "").contains('%');
    let pair = (at(name.to_owned()), at(value));
    match kind {
        "set" => operations.set.push(pair),
        "add" => operations.add.push(pair),
        "remove" => operations.remove.push(pair.0),
        _ => return false,
    }
    filled
}
