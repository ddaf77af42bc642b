//! `kind: Gateway`: its servers, their ports and hosts. Their TLS: `server_tls`.

use std::collections::HashSet;

use super::protocol::{self, Family};
use super::report::{Report, conflict, missing, no_effect, unsupported, wrong};
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
    let family = protocol::family(&port.protocol);
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
    } else if protocol::family(&port.protocol) == Family::Unknown {
        report.add(protocol::unknown_protocol(&port.protocol));
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
        report.add(
            unsupported(bind.place, "servers on a Unix socket are not supported: this proxy listens on TCP ports")
                .help("for clients of this machine alone, bind to `127.0.0.1` and give the port a number"),
        );
    } else if !checks::is_ip(bind) {
        report.add(not_an_address(bind));
    }
}

fn not_an_address(bind: &Spanned<String>) -> Diagnostic {
    wrong(bind.place, format!("`{}` is neither an IP address nor `unix://` with a path", bind.value))
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, each_passes, errors, warnings};

    fn servers(cases: &[(&str, &str)]) {
        let specs: Vec<_> = cases.iter().map(|(server, wanted)| (format!("  servers: [{server}]"), *wanted)).collect();
        each_fails("Gateway", &specs.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect::<Vec<_>>());
    }

    #[test]
    fn servers_have_hosts_and_ports() {
        let port = "port: {number: 80, name: http, protocol: HTTP}";
        let cases = [
            (String::new(), "at least one of `servers`"),
            (format!("{{{port}}}"), "at least one host"),
            ("{hosts: ['*']}".to_owned(), "`port` of the server is missing"),
            (format!("{{{port}, hosts: [reviews]}}"), "is a short name"),
            (format!("{{{port}, hosts: ['*bar.com']}}"), "a wildcard is a whole part"),
            (format!("{{{port}, hosts: [/a.com]}}"), "lacks what stands before"),
            (format!("{{{port}, hosts: ['a_/b.com']}}"), "is no namespace"),
            (format!("{{{port}, hosts: ['*'], bind: foo.bar}}"), "neither an IP address"),
            ("{hosts: ['*'], port: {number: 66000, name: a, protocol: HTTP}}".to_owned(), "is not between 1 and 65535"),
            ("{hosts: ['*'], port: {number: 80, protocol: HTTP}}".to_owned(), "`name` of the port is missing"),
            ("{hosts: ['*'], port: {number: 80, name: a}}".to_owned(), "`protocol` of the port is missing"),
            (
                "{hosts: ['*'], port: {number: 80, name: a, protocol: TCP}}".to_owned(),
                "servers of TCP are not supported",
            ),
            (format!("{{{port}, hosts: [a.b]}}, {{{port}, hosts: [c.d]}}"), "the port name `http` is there twice"),
        ];
        servers(&cases.iter().map(|(server, wanted)| (server.as_str(), *wanted)).collect::<Vec<_>>());
        let fine = ["'*'", "a.b", "n/a.b", "'*/*.a.b'", "./a.b", "10.0.0.1"];
        let specs = fine.map(|host| format!("  servers: [{{{port}, hosts: [{host}]}}]"));
        each_passes("Gateway", &specs.each_ref().map(String::as_str));
    }

    #[test]
    fn a_server_on_a_unix_socket_is_refused_after_what_is_wrong_with_it() {
        let server = |number: u16, bind: &str| {
            format!(
                "  servers: [{{hosts: ['*'], port: {{number: {number}, name: a, protocol: HTTP}}, bind: '{bind}'}}]"
            )
        };
        let refused = "servers on a Unix socket are not supported: this proxy listens on TCP ports";
        assert_eq!(errors("Gateway", &server(0, "unix:///run/x")), [refused]);
        let both = errors("Gateway", &server(80, "unix://x"));
        assert_eq!(both.len(), 3, "{both:?}");
        assert!(both[0].contains("has port number 0") && both[1].contains("no absolute path") && both[2] == refused);
    }

    #[test]
    fn tls_fits_the_protocol() {
        let with = |protocol: &str, tls: &str| {
            format!("{{hosts: ['*'], port: {{number: 443, name: a, protocol: {protocol}}}{tls}}}")
        };
        let cases = [
            (with("HTTPS", ""), "needs `tls`"),
            (with("HTTPS", ", tls: {}"), "passed through"),
            (with("HTTPS", ", tls: {mode: PASSTHROUGH}"), "not supported"),
            (with("HTTPS", ", tls: {mode: SIMPLE, serverCertificate: c}"), "`privateKey` is missing"),
            (with("HTTPS", ", tls: {mode: MUTUAL, serverCertificate: c, privateKey: k}"), "needs `caCertificates`"),
            (
                with("HTTPS", ", tls: {mode: SIMPLE, serverCertificate: c, privateKey: k, caCrl: l}"),
                "exclude each other",
            ),
            (with("HTTPS", ", tls: {mode: SIMPLE, credentialName: s}"), "Kubernetes secret"),
            (with("HTTPS", ", tls: {mode: ISTIO_MUTUAL}"), "certificates that Istio issues"),
            (with("HTTP", ", tls: {mode: SIMPLE, serverCertificate: c, privateKey: k}"), "plain HTTP cannot have TLS"),
        ];
        servers(&cases.iter().map(|(server, wanted)| (server.as_str(), *wanted)).collect::<Vec<_>>());
        let fine = [
            with("HTTPS", ", tls: {mode: SIMPLE, serverCertificate: c, privateKey: k}"),
            with(
                "HTTPS",
                ", tls: {mode: MUTUAL, caCertificates: a, tlsCertificates: [{serverCertificate: c, privateKey: k}]}",
            ),
            with("HTTP", ", tls: {httpsRedirect: true}"),
        ];
        let specs = fine.map(|server| format!("  servers: [{server}]"));
        each_passes("Gateway", &specs.each_ref().map(String::as_str));
    }

    #[test]
    fn a_redirect_to_https_makes_sense_on_plain_http_only() {
        let tls = "tls: {mode: SIMPLE, serverCertificate: c, privateKey: k, httpsRedirect: true}";
        let spec = format!("  servers: [{{hosts: ['*'], port: {{number: 443, name: a, protocol: HTTPS}}, {tls}}}]");
        assert_eq!(warnings("Gateway", &spec).len(), 1);
    }
}
