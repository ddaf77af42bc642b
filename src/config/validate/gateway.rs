//! `kind: Gateway`: its servers, their ports and hosts. Their TLS: `server_tls`.

use std::collections::HashSet;

use super::report::{Report, conflict, missing, no_effect, unsupported, wrong};
use super::service_entry::{self, Family};
use super::{checks, server_tls};
use crate::config::diagnostic::Diagnostic;
use crate::config::names;
use crate::config::place::{Place, Spanned};
use crate::config::resource::Resource;
use crate::config::resource::gateway::{Gateway, Server, ServerPort};

/// Checks one Gateway by itself.
pub(super) fn check(report: &mut Report, resource: &Resource<Gateway>) {
    let spec = &resource.spec;
    let name = &resource.metadata.name;
    if !names::is_label(name) {
        let place = if name.place.line == 0 { resource.place } else { name.place };
        report.wrong(place, format!("`{}` is no name for a Gateway: letters, digits and inner dashes", name.value));
    }
    if spec.servers.is_empty() {
        report.add(missing(spec.place, "a Gateway needs at least one of `servers`"));
    }
    if let Some(selector) = &spec.selector {
        report.add(no_effect(selector.place, "`selector` has no effect: every Gateway is served by this proxy"));
    }
    let mut port_names = HashSet::new();
    for server in &spec.servers {
        check_server(report, server);
        let name = server.port.as_ref().map(|port| &port.name).filter(|name| !name.is_empty());
        if let Some(name) = name.filter(|name| !port_names.insert(name.as_str())) {
            report.add(conflict(name.place, format!("the port name `{}` is there twice", name.value)));
        }
    }
}

fn check_server(report: &mut Report, server: &Server) {
    if server.hosts.is_empty() {
        report.add(missing(server.place, "a server needs at least one host"));
    }
    for host in &server.hosts {
        check_host(report, host);
    }
    let unix = server.bind.as_ref().is_some_and(|bind| bind.starts_with("unix://"));
    match &server.port {
        Some(port) => check_port(report, port, unix),
        None => report.add(missing(server.place, "`port` of the server is missing")),
    }
    bind(report, server);
    server_tls::check(report, server);
    if let Some(endpoint) = &server.default_endpoint {
        report.add(no_effect(endpoint.place, "`defaultEndpoint` has no effect"));
    }
    let Some(port) = &server.port else { return };
    let redirect = server.tls.as_ref().and_then(|tls| tls.https_redirect.as_ref()).filter(|redirect| redirect.value);
    let family = service_entry::family(&port.protocol);
    if let Some(redirect) = redirect.filter(|_| family != Family::Http) {
        report.add(no_effect(redirect.place, "`httpsRedirect` has no effect on a server that is not plain HTTP"));
    }
    if family == Family::Other || port.protocol.eq_ignore_ascii_case("TLS") {
        report.add(
            unsupported(
                port.protocol.place,
                format!("servers of {} are not supported: this proxy serves HTTP", port.protocol.value),
            )
            .help("use HTTP, or HTTPS with certificates"),
        );
    }
}

/// `[namespace/]host`.
fn check_host(report: &mut Report, written: &Spanned<String>) {
    let host = match written.split_once('/') {
        Some((namespace, host)) => {
            if namespace.is_empty() || host.is_empty() {
                report.wrong(written.place, format!("`{}` lacks what stands before or after its `/`", written.value));
                return;
            }
            if !matches!(namespace, "*" | ".") && !names::is_label(namespace) {
                report.wrong(written.place, format!("`{namespace}` in `{}` is no namespace", written.value));
            }
            host
        }
        None => written.as_str(),
    };
    if host == "*" || checks::is_ip(host) {
        return;
    }
    if !host.contains('.') {
        report.add(
            wrong(written.place, format!("`{host}` is a short name: hosts of a Gateway have a dot"))
                .help(format!("write `{host}.example.com`, or `*`")),
        );
    }
    if host.contains('*') && !host.starts_with("*.") {
        report.wrong(written.place, format!("`{host}`: a wildcard is a whole part of a name: `*.example.com`"));
    } else if let Err(reason) = names::check_wildcard_domain(host) {
        report.add(checks::bad_host(&Spanned::new(host.to_owned(), written.place), &reason));
    }
}

fn check_port(report: &mut Report, port: &ServerPort, unix: bool) {
    let place = |of: Place| if of.line == 0 { port.place } else { of };
    if port.protocol.is_empty() {
        report.add(missing(port.place, "`protocol` of the port is missing").help("HTTP or HTTPS"));
    } else if service_entry::family(&port.protocol) == Family::Unknown {
        report.add(service_entry::unknown_protocol(&port.protocol));
    }
    if port.name.is_empty() {
        report.add(missing(port.place, "`name` of the port is missing"));
    }
    if unix && port.number.value != 0 {
        report.add(conflict(place(port.number.place), "a server on a Unix socket has port number 0"));
    } else if !unix {
        checks::port(report, &Spanned::new(port.number.value, place(port.number.place)));
    }
    if let Some(target) = port.target_port.as_ref().filter(|target| target.value != 0) {
        report.wrong(target.place, "`targetPort` means nothing on a Gateway");
    }
}

fn bind(report: &mut Report, server: &Server) {
    let Some(bind) = server.bind.as_ref().filter(|bind| !bind.is_empty()) else { return };
    if let Some(path) = bind.strip_prefix("unix://") {
        checks::unix_path(report, bind, path);
    } else if !checks::is_ip(bind) {
        report.add(not_an_address(bind));
    }
}

fn not_an_address(bind: &Spanned<String>) -> Diagnostic {
    wrong(bind.place, format!("`{}` is neither an IP address nor `unix://` with a path", bind.value))
}
