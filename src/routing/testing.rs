//! Values for the tests of this module.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::table::RequestView;
use crate::config::place::Place;
use crate::config::re2;
use crate::config::resource::virtual_service::{
    Destination, HeaderOperations, Headers, HttpMatch, HttpRoute, HttpRouteDestination,
};
use crate::config::resource::{Metadata, Resource, Resources, VirtualService};
pub(super) use crate::config::testing::{at, map, text};
use crate::config::value::{Pattern, StringMatch};

pub(super) fn exact(value: &str) -> StringMatch {
    StringMatch::Exact(value.to_owned())
}

pub(super) fn prefix(value: &str) -> StringMatch {
    StringMatch::Prefix(value.to_owned())
}

/// As the decoder makes it.
pub(super) fn regex(value: &str) -> StringMatch {
    StringMatch::Regex(Pattern { text: value.to_owned(), regex: re2::whole(value) })
}

pub(super) fn operations(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderOperations {
    HeaderOperations { set: map(set), add: map(add), remove: remove.iter().map(|name| text(name)).collect() }
}

pub(super) fn on_request(operations: HeaderOperations) -> Option<Box<Headers>> {
    Some(Box::new(Headers { request: Some(operations), response: None }))
}

/// A block with a condition on the path only.
pub(super) fn on_uri(uri: StringMatch) -> HttpMatch {
    HttpMatch { uri: Some(at(uri)), ..HttpMatch::default() }
}

pub(super) fn destination(host: &str, weight: Option<i64>) -> HttpRouteDestination {
    let destination = Destination { host: text(host), ..Destination::default() };
    HttpRouteDestination { destination: Some(destination), weight: weight.map(at), ..HttpRouteDestination::default() }
}

/// A rule that sends to a host what one of the blocks matches.
pub(super) fn rule(host: &str, matches: Vec<HttpMatch>) -> HttpRoute {
    HttpRoute { matches, route: vec![destination(host, None)], ..HttpRoute::default() }
}

pub(super) fn service(name: &str, hosts: &[&str], http: Vec<HttpRoute>) -> Resource<VirtualService> {
    Resource {
        metadata: Metadata { name: text(name), namespace: text("default"), ..Metadata::default() },
        spec: VirtualService {
            hosts: hosts.iter().map(|host| text(host)).collect(),
            http,
            ..VirtualService::default()
        },
        place: Place::default(),
    }
}

pub(super) fn resources(virtual_services: Vec<Resource<VirtualService>>) -> Resources {
    Resources { virtual_services, ..Resources::default() }
}

/// A request that owns what a view borrows.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) scheme: String,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) port: u16,
}

impl Request {
    /// `GET` of this path from host `b`, port 80.
    pub(super) fn get(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            scheme: "http".to_owned(),
            authority: "b".to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            port: 80,
        }
    }

    pub(super) fn host(mut self, authority: &str) -> Self {
        self.authority = authority.to_owned();
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            headers: &self.headers,
            port: self.port,
        }
    }
}
