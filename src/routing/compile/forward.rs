//! What a rule says of a request that it forwards: how its headers and host change on the way to a destination, what share
//! a destination has, and whether a client stays with it.

use std::borrow::Cow;

use http::header::HeaderValue;

use crate::config::names;
use crate::config::resource::Metadata;
use crate::config::resource::virtual_service::{
    Destination, HeaderOperations, Headers, HttpRewrite, HttpRoute, HttpRouteDestination,
};
use crate::config::sticky::{ANNOTATION, StickyBy};
use crate::routing::headers::{self, HeaderOps};
use crate::routing::rewrite::PathRewrite;
use crate::routing::sticky::Sticky;
use crate::routing::table::Target;

/// A destination with everything that is to be done to its messages.
pub(super) fn target<D>(to: D, written: &HttpRoute, entry: &HttpRouteDestination) -> Target<D> {
    let (rule, own) = (written.headers.as_deref(), entry.headers.as_deref());
    let (request_headers, response_headers) = if written.route.len() == 1 {
        (HeaderOps::together(&[request(rule), request(own)]), HeaderOps::together(&[response(rule), response(own)]))
    } else {
        (HeaderOps::in_turn(&[request(own), request(rule)]), HeaderOps::in_turn(&[response(own), response(rule)]))
    };
    let authority = written.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_ref());
    let host = authority
        .filter(|authority| !authority.is_empty())
        .and_then(|authority| HeaderValue::from_bytes(authority.as_bytes()).ok())
        .or_else(|| headers::host(request(rule)))
        .or_else(|| headers::host(request(own)));
    Target { to, request_headers, response_headers, host }
}

fn request(headers: Option<&Headers>) -> Option<&HeaderOperations> {
    headers?.request.as_ref()
}

pub(super) fn response(headers: Option<&Headers>) -> Option<&HeaderOperations> {
    headers?.response.as_ref()
}

pub(super) fn weight(entry: &HttpRouteDestination) -> u64 {
    entry.weight.map_or(0, |weight| u64::try_from(weight.value).unwrap_or(0))
}

pub(super) fn path_rewrite(written: &HttpRewrite) -> Option<PathRewrite> {
    match (&written.uri_regex_rewrite, &written.uri) {
        (Some(regex), _) => PathRewrite::regex(&regex.pattern, &regex.rewrite),
        (None, Some(uri)) if !uri.is_empty() => Some(PathRewrite::Replace(uri.as_str().into())),
        (None, _) => None,
    }
}

/// How a rule keeps its clients: as the VirtualService says in which its destinations are written, else the one with the hosts.
pub(super) fn sticky(written: &HttpRoute, owner: &Metadata, root: &Metadata) -> Option<Sticky> {
    let said = owner.annotation(ANNOTATION).or_else(|| root.annotation(ANNOTATION))?;
    let by = StickyBy::parse(said).ok()?;
    if written.route.len() < 2 {
        return None;
    }
    let named = |entry: &HttpRouteDestination| {
        let name = entry.destination.as_ref().map_or_else(String::new, |one| full_name(one, &owner.namespace));
        (name, weight(entry))
    };
    Sticky::new(&by, &written.route.iter().map(named).collect::<Vec<_>>())
}

/// A destination as no other one is called, however its host is written.
fn full_name(destination: &Destination, namespace: &str) -> String {
    let host = names::expand(&destination.host, namespace);
    let host = host.map_or_else(|| names::canonical(&destination.host), Cow::Owned);
    let subset = destination.subset.as_ref().map_or("", |subset| subset.as_str());
    let port = destination.port.map_or(0, |port| port.value);
    format!("{host}|{subset}|{port}")
}
