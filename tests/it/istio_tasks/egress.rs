//! Egress: applications ask an outside service in plain HTTP, and the proxy speaks TLS to it.

use super::{Task, status};
use crate::support::client::Client;
use crate::support::tls::Authority;
use crate::tls::{free_port, local};
use crate::upstream_tls::Upstream;

#[test]
fn an_outside_service_is_asked_over_tls() {
    let (authority, port) = (Authority::new(), free_port());
    let upstream = Upstream::start(&authority.issue(&["api.partner.test"]), None);
    let files = tempfile::tempdir().unwrap();
    let roots = files.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let arguments = ["--listen", "127.0.0.1:80", "--port-map", &format!("80={port}")];
    let environment = [("SSL_CERT_FILE", roots.as_path())];
    let endpoints = [("api.partner.test", upstream.port)];
    let task = Task::within(&environment, &["egress-tls"], &endpoints, &arguments);
    let answer = Client::connect(local(port)).ask("api.partner.test", "/", &[]).unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "HTTP/1.1 none"));
    let names: Vec<_> = upstream.seen().into_iter().map(|handshake| handshake.name).collect();
    assert_eq!(names, [Some("api.partner.test".to_owned())]);
    let log = task.proxy.log();
    let mut listeners = log.lines().filter_map(|line| line.strip_prefix("listener http://")?.parse().ok());
    let other = listeners.find(|address| *address != local(port)).unwrap();
    assert_eq!(status(&mut Client::connect(other), "api.partner.test", "/"), 404, "the rule is for port 80");
}
