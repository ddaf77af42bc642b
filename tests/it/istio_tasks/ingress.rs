//! Ingress: what a Gateway lets in, by host and path, and nothing else.

use super::{Task, example, status};
use crate::support::client::Client;
use crate::support::upstream::{Upstream, answer};
use crate::tls::{free_port, local};

/// httpbin as far as the task asks for it: `/status/CODE` answers with that status.
fn httpbin() -> Upstream {
    Upstream::answering(|request| {
        let target = request.head.line.split(' ').nth(1).unwrap();
        match target.strip_prefix("/status/") {
            Some(code) => format!("HTTP/1.1 {code} wanted\r\ncontent-length: 0\r\n\r\n").into_bytes(),
            None => answer("httpbin"),
        }
    })
}

#[test]
fn two_prefixes_of_one_host_are_let_in() {
    let (upstream, port) = (httpbin(), free_port());
    let map = format!("80={port}");
    let mut task = Task::with(&["httpbin-gateway"], &[("httpbin", upstream.port)], &["--port-map", &map]);
    let mut client = Client::connect(local(port));
    for (target, code) in [("/status/200", 200), ("/status/418", 418), ("/status/503", 503), ("/delay/5", 200)] {
        for host in ["httpbin.example.com", "HTTPBIN.example.com:8081"] {
            assert_eq!(status(&mut client, host, target), code, "{host}{target}");
        }
    }
    assert_eq!(upstream.ledger.len(), 8);
    for (host, target) in [("httpbin.example.com", "/headers"), ("other.example.com", "/status/200"), ("a", "/delay/1")]
    {
        let answer = client.ask(host, target, &[]).unwrap();
        assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (404, "NR"), "{host}{target}");
    }
    assert_eq!(task.ask("httpbin.example.com", &[]).status(), 404, "it is served at the Gateway only");
    assert_eq!(upstream.ledger.len(), 8);
    // As a browser is let in that cannot set the host.
    let any = example("httpbin-gateway").replace("\"httpbin.example.com\"", "\"*\"").replace("/status", "/headers");
    task.apply_text(&any);
    assert_eq!(status(&mut client, "127.0.0.1", "/headers"), 200);
    assert_eq!(status(&mut client, "127.0.0.1", "/status/200"), 404);
}

#[test]
fn the_pages_of_bookinfo_are_let_in_under_any_host() {
    let (upstream, port) = (Upstream::named("productpage"), free_port());
    let map = format!("8080={port}");
    let task = Task::with(&["bookinfo-gateway"], &[("productpage", upstream.port)], &["--port-map", &map]);
    let mut client = Client::connect(local(port));
    let pages = ["/productpage", "/productpage?u=normal", "/static/a.css", "/login", "/logout", "/api/v1/products/0"];
    for (number, target) in pages.into_iter().enumerate() {
        let answer = client.ask("books.example", target, &[]).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "productpage"), "{target}");
        assert_eq!(upstream.ledger.last().head.get("host"), "books.example");
        assert_eq!(upstream.ledger.len(), number + 1);
    }
    for target in ["/", "/productpage/", "/logins", "/api/v1/product", "/reviews"] {
        assert_eq!(status(&mut client, "books.example", target), 404, "{target}");
    }
    assert_eq!(upstream.ledger.len(), pages.len());
    assert_eq!(task.flagged("NR"), 5.0);
}
