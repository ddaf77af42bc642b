//! What a request finds in a table that was compiled from resources.

mod forward;
mod gateways;
mod hosts;
mod rules;

use super::*;
use crate::config::resource::virtual_service::HttpRouteDestination;
use crate::config::resource::{Resource, VirtualService};
use crate::routing::table::{Found, Route, Target};
use crate::routing::testing::{
    Request, at, destination, exact, on_request, on_uri, operations, prefix, resources, rule, service, text,
};

/// A table whose destinations are their hosts, for port 80.
fn compiled(services: Vec<Resource<VirtualService>>, any_host: bool) -> RouteTable<String> {
    let options = Options { mesh_ports: vec![80], any_host };
    compile(&resources(services), &options, &mut |wanted| wanted.destination.host.value.clone())
}

/// Where a request goes: the destination with the greatest share, or why it goes nowhere.
fn went(table: &RouteTable<String>, request: &Request) -> String {
    match table.find(&request.view()) {
        Found::NoHost => "no host".to_owned(),
        Found::NoRule => "no rule".to_owned(),
        Found::Route(route) => match &route.rule.action {
            Action::Forward(split) => split.pick(0).value.to.clone(),
            Action::Redirect(redirect) => redirect.status.to_string(),
            Action::Respond(response) => response.status.to_string(),
        },
    }
}

fn route<'t>(table: &'t RouteTable<String>, path: &str) -> &'t Route<String> {
    match table.find(&Request::get(path).view()) {
        Found::Route(route) => route,
        other => panic!("no route: {other:?}"),
    }
}

fn targets(table: &RouteTable<String>) -> Vec<&Target<String>> {
    match &route(table, "/").rule.action {
        Action::Forward(split) => split.entries().iter().map(|entry| &entry.value).collect(),
        other => panic!("not forwarded: {other:?}"),
    }
}

fn one(http: Vec<HttpRoute>) -> RouteTable<String> {
    compiled(vec![service("vs", &["b"], http)], false)
}
