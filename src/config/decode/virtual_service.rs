//! `spec` of a VirtualService, from the tree to its type. No rule beyond types and names is applied here.

use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::Spanned;
use crate::config::resource::virtual_service::{
    Delegate, Destination, HttpMatch, HttpRoute, HttpRouteDestination, RouteDestination, TcpMatch, TcpRoute, TlsMatch,
    TlsRoute, VirtualService,
};

use super::object::{At, Object};
use super::out::Out;
use super::pattern::{STRING_MATCH, string_match};
use super::policy::{
    CORS, DIRECT_RESPONSE, FAULT, HEADERS, MIRROR, PERCENT, REDIRECT, RETRIES, REWRITE, cors, direct_response, fault,
    headers, mirror, percent, redirect, retries, rewrite,
};
use super::shape::{Shape, many, one, value};

pub(super) static VIRTUAL_SERVICE: Shape = Shape::new(
    "the `spec` of a VirtualService",
    &[
        value("hosts"),
        value("gateways"),
        many("http", &HTTP_ROUTE),
        many("tls", &TLS_ROUTE),
        many("tcp", &TCP_ROUTE),
        value("exportTo"),
    ],
);

static HTTP_ROUTE: Shape = Shape::new(
    "an http rule",
    &[
        value("name"),
        many("match", &HTTP_MATCH),
        many("route", &HTTP_DESTINATION),
        one("redirect", &REDIRECT),
        one("directResponse", &DIRECT_RESPONSE),
        one("delegate", &DELEGATE),
        one("rewrite", &REWRITE),
        value("timeout"),
        one("retries", &RETRIES),
        one("fault", &FAULT),
        one("mirror", &DESTINATION),
        many("mirrors", &MIRROR),
        value("mirrorPercent"),
        one("mirrorPercentage", &PERCENT),
        one("corsPolicy", &CORS),
        one("headers", &HEADERS),
    ],
);

static HTTP_MATCH: Shape = Shape::new(
    "a block of `match`",
    &[
        value("name"),
        one("uri", &STRING_MATCH),
        one("scheme", &STRING_MATCH),
        one("method", &STRING_MATCH),
        one("authority", &STRING_MATCH),
        value("headers"),
        value("withoutHeaders"),
        value("queryParams"),
        value("ignoreUriCase"),
        value("port"),
        value("gateways"),
        value("sourceLabels"),
        value("sourceNamespace"),
        value("statPrefix"),
    ],
);

static HTTP_DESTINATION: Shape =
    Shape::new("an entry of `route`", &[one("destination", &DESTINATION), value("weight"), one("headers", &HEADERS)]);

pub(super) static DESTINATION: Shape =
    Shape::new("a destination", &[value("host"), value("subset"), one("port", &PORT_SELECTOR)]);

static PORT_SELECTOR: Shape = Shape::new("`port`", &[value("number")]);

static DELEGATE: Shape = Shape::new("`delegate`", &[value("name"), value("namespace")]);

static TLS_ROUTE: Shape = Shape::new("a tls rule", &[many("match", &TLS_MATCH), many("route", &L4_DESTINATION)]);

static TLS_MATCH: Shape = Shape::new(
    "a block of `match`",
    &[
        value("sniHosts"),
        value("destinationSubnets"),
        value("port"),
        value("sourceLabels"),
        value("gateways"),
        value("sourceNamespace"),
    ],
);

static TCP_ROUTE: Shape = Shape::new("a tcp rule", &[many("match", &TCP_MATCH), many("route", &L4_DESTINATION)]);

static TCP_MATCH: Shape = Shape::new(
    "a block of `match`",
    &[
        value("destinationSubnets"),
        value("port"),
        value("sourceSubnet"),
        value("sourceLabels"),
        value("gateways"),
        value("sourceNamespace"),
    ],
);

static L4_DESTINATION: Shape = Shape::new("an entry of `route`", &[one("destination", &DESTINATION), value("weight")]);

pub(super) fn virtual_service(at: At<'_>, out: &mut Out) -> VirtualService {
    let object = Object::open(at, &VIRTUAL_SERVICE, out);
    VirtualService {
        hosts: object.strings("hosts", out),
        gateways: object.field("gateways").map(|_| object.strings("gateways", out)).filter(|list| !list.is_empty()),
        http: object.rules("http", out, http_route),
        tls: object.rules("tls", out, tls_route),
        tcp: object.rules("tcp", out, tcp_route),
        export_to: object.strings("exportTo", out),
        place: object.place(),
    }
}

fn http_route(at: At<'_>, out: &mut Out) -> HttpRoute {
    let object = Object::open(at, &HTTP_ROUTE, out);
    HttpRoute {
        name: object.string("name", out),
        matches: object.many("match", out, http_match),
        route: object.many("route", out, http_destination),
        redirect: object.boxed("redirect", out, redirect),
        direct_response: object.boxed("directResponse", out, direct_response),
        delegate: object.boxed("delegate", out, delegate),
        rewrite: object.boxed("rewrite", out, rewrite),
        timeout: object.duration("timeout", out),
        retries: object.boxed("retries", out, retries),
        fault: object.boxed("fault", out, fault),
        mirror: object.boxed("mirror", out, destination),
        mirrors: object.many("mirrors", out, mirror),
        mirror_percent: object.uint32("mirrorPercent", out),
        mirror_percentage: object.one("mirrorPercentage", out, percent),
        cors_policy: object.boxed("corsPolicy", out, cors),
        headers: object.boxed("headers", out, headers),
        place: object.place(),
    }
}

fn http_match(at: At<'_>, out: &mut Out) -> HttpMatch {
    if at.node.is_null() {
        let warning = Diagnostic::warning(Kind::Value, at.place, "an empty entry of `match` matches every request");
        out.diagnostics.push(warning.help("remove it, or say what it is to match"));
    }
    let object = Object::open(at, &HTTP_MATCH, out);
    HttpMatch {
        name: object.string("name", out),
        uri: object.one("uri", out, string_match),
        scheme: object.one("scheme", out, string_match),
        method: object.one("method", out, string_match),
        authority: object.one("authority", out, string_match),
        headers: object.object_map("headers", out, string_match),
        without_headers: object.object_map("withoutHeaders", out, string_match),
        query_params: object.object_map("queryParams", out, string_match),
        ignore_uri_case: object.boolean("ignoreUriCase", out),
        port: object.uint32("port", out),
        gateways: object.strings("gateways", out),
        source_labels: object.string_map("sourceLabels", out),
        source_namespace: object.string("sourceNamespace", out),
        stat_prefix: object.string("statPrefix", out),
        place: object.place(),
    }
}

fn http_destination(at: At<'_>, out: &mut Out) -> HttpRouteDestination {
    let object = Object::open(at, &HTTP_DESTINATION, out);
    HttpRouteDestination {
        destination: object.one("destination", out, destination),
        weight: object.int32("weight", out),
        headers: object.boxed("headers", out, headers),
        place: object.place(),
    }
}

pub(super) fn destination(at: At<'_>, out: &mut Out) -> Destination {
    let object = Object::open(at, &DESTINATION, out);
    Destination {
        host: object.text("host", out),
        subset: object.string("subset", out),
        port: object.one("port", out, port_selector),
        place: object.place(),
    }
}

/// `port: {number: 80}`; `{}` is port 0.
pub(super) fn port_selector(at: At<'_>, out: &mut Out) -> Spanned<i64> {
    let object = Object::open(at, &PORT_SELECTOR, out);
    object.uint32("number", out).unwrap_or_else(|| Spanned::new(0, object.place()))
}

fn delegate(at: At<'_>, out: &mut Out) -> Delegate {
    let object = Object::open(at, &DELEGATE, out);
    Delegate { name: object.text("name", out), namespace: object.string("namespace", out), place: object.place() }
}

fn tls_route(at: At<'_>, out: &mut Out) -> TlsRoute {
    let object = Object::open(at, &TLS_ROUTE, out);
    TlsRoute {
        matches: object.many("match", out, tls_match),
        route: object.many("route", out, l4_destination),
        place: object.place(),
    }
}

fn tls_match(at: At<'_>, out: &mut Out) -> TlsMatch {
    let object = Object::open(at, &TLS_MATCH, out);
    TlsMatch {
        sni_hosts: object.strings("sniHosts", out),
        destination_subnets: object.strings("destinationSubnets", out),
        port: object.uint32("port", out),
        source_labels: object.string_map("sourceLabels", out),
        gateways: object.strings("gateways", out),
        source_namespace: object.string("sourceNamespace", out),
        place: object.place(),
    }
}

fn tcp_route(at: At<'_>, out: &mut Out) -> TcpRoute {
    let object = Object::open(at, &TCP_ROUTE, out);
    TcpRoute {
        matches: object.many("match", out, tcp_match),
        route: object.many("route", out, l4_destination),
        place: object.place(),
    }
}

fn tcp_match(at: At<'_>, out: &mut Out) -> TcpMatch {
    let object = Object::open(at, &TCP_MATCH, out);
    TcpMatch {
        destination_subnets: object.strings("destinationSubnets", out),
        port: object.uint32("port", out),
        source_subnet: object.string("sourceSubnet", out),
        source_labels: object.string_map("sourceLabels", out),
        gateways: object.strings("gateways", out),
        source_namespace: object.string("sourceNamespace", out),
        place: object.place(),
    }
}

fn l4_destination(at: At<'_>, out: &mut Out) -> RouteDestination {
    let object = Object::open(at, &L4_DESTINATION, out);
    RouteDestination {
        destination: object.one("destination", out, destination),
        weight: object.int32("weight", out),
        place: object.place(),
    }
}
