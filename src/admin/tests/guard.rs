//! Who may ask: hosts, origins, bodies, tokens, Unix sockets.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::*;

const TOKEN: &str = "correct-horse-battery-staple";

/// The token, as a file holds it.
fn token() -> Token {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    Token::read(file.path()).unwrap()
}

#[test]
fn every_answer_carries_the_security_headers_and_no_cors() {
    let admin = Admin::start();
    for (request, headers) in [
        ("GET /", ""),
        ("GET /nowhere", ""),
        ("GET /metrics", "host: evil.test\r\n"),
        ("POST /config/reload", "origin: http://evil.test\r\n"),
        ("OPTIONS /config/reload", "origin: http://evil.test\r\naccess-control-request-method: POST\r\n"),
    ] {
        let head = admin.ask(request, headers).head;
        assert!(head.contains("x-content-type-options: nosniff"), "{request}: {head}");
        assert!(head.contains("content-security-policy: default-src 'self'; frame-ancestors 'none'"), "{request}");
        assert!(!head.contains("access-control"), "{request}: {head}");
    }
}

#[test]
fn only_this_server_may_be_named_as_host() {
    let admin = Admin::start();
    let port = admin.address.port();
    for host in
        ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:15000", &format!("127.0.0.1:{port}"), "Serin.Internal:80"]
    {
        assert_eq!(admin.ask("GET /metrics", &format!("host: {host}\r\n")).status, 200, "{host}");
    }
    for host in [
        "evil.test",
        "",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "localhost@evil.test",
        "evil@localhost",
        "10.1.2.3",
        "[::2]",
        "localhost.",
        "localhost:80:80",
    ] {
        let answer = admin.ask("GET /metrics", &format!("host: {host}\r\n"));
        assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("host_not_allowed")), "{host}");
    }
    assert_eq!(admin.ask("GET /metrics", "host: localhost\r\nhost: localhost\r\n").status, 403, "two hosts");
    assert_eq!(admin.send(b"GET /metrics HTTP/1.0\r\n\r\n").status, 403, "no host");
    assert_eq!(admin.ask("GET http://evil.test/metrics", "host: localhost\r\n").status, 403, "another target");
}

#[test]
fn no_other_page_can_reload() {
    let admin = Admin::start();
    let own = format!("origin: http://{}\r\n", admin.address);
    for headers in [
        "origin: http://evil.test\r\n",
        "origin: null\r\n",
        "origin: http://localhost:1\r\n",
        &format!("origin: https://{}\r\n", admin.address),
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        &format!("{own}sec-fetch-site: cross-site\r\n"),
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n",
        "host: evil.test\r\n",
        "host: evil.test\r\norigin: http://evil.test\r\nsec-fetch-site: same-origin\r\n",
    ] {
        assert_eq!(admin.ask("POST /config/reload", headers).status, 403, "{headers}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "\u{e9}"] {
        assert_eq!(admin.ask("POST /config/reload", &format!("content-type: {kind}\r\n")).status, 415, "{kind}");
    }
    assert_eq!(admin.ask("GET /config/reload", "sec-fetch-dest: image\r\n").status, 405);
    assert_eq!(admin.reloads.load(SeqCst), 0, "none of these had an effect");
    for headers in ["", &own, &format!("{own}sec-fetch-site: same-origin\r\n"), "content-type: application/json\r\n"] {
        assert_ne!(admin.ask("POST /config/reload", headers).status, 403, "{headers}");
    }
    assert_eq!(admin.reloads.load(SeqCst), 4);
}

#[test]
fn bodies_over_a_mebibyte_are_refused() {
    let admin = Admin::start();
    let head = |length| {
        format!(
            "POST /config/reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut request = head(1 << 20).into_bytes();
    request.resize(request.len() + (1 << 20), b' ');
    assert_eq!(admin.send(&request).status, 200);
    assert_eq!(admin.send(head((1 << 20) + 1).as_bytes()).status, 413);
    let chunked = "POST /config/reload HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut request = format!("{chunked}100001\r\n").into_bytes();
    request.resize(request.len() + (1 << 20) + 1, b' ');
    assert_eq!(admin.send(&request).status, 413, "no length said beforehand");
    assert_eq!(admin.send(format!("{chunked}not a length\r\n").as_bytes()).status, 400);
    assert_eq!(admin.reloads.load(SeqCst), 1);
}

#[test]
fn with_a_token_only_the_probes_are_open() {
    let admin = Admin::locked(token());
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    let wrong = "authorization: Bearer correct-horse-battery-stapler\r\n";
    for resource in RESOURCES {
        let request = format!("{} {}", resource.method, resource.path.replace("{name}", "idle"));
        let open = matches!(resource.path, "/ready" | "/live");
        let refused = admin.ask(&request, "");
        assert_eq!(refused.status, if open { 200 } else { 401 }, "{request}");
        assert_eq!(refused.head.contains("\r\nwww-authenticate: bearer\r\n"), !open, "{request}: {}", refused.head);
        assert_ne!(admin.ask(&request, &right).status, 401, "{request}");
    }
    assert_eq!(admin.ask("POST /ready", "").status, 401);
    assert_eq!(admin.ask("GET /ready/", "").status, 401, "another path");
    let (reloads, said) = (admin.reloads.load(SeqCst), admin.said.take());
    assert_eq!((reloads, said.len()), (1, 7), "those with the token");
    for _ in 0..10 {
        assert_eq!(admin.ask("POST /config/reload", wrong).status, 401);
    }
    let barred = admin.ask("POST /config/reload", &right);
    assert_eq!((barred.status, &barred.json()["error"]), (429, &json!("too_many_failures")));
    assert!(barred.head.contains("\r\nretry-after: "), "{}", barred.head);
    assert_eq!(admin.ask("GET /ready", "").status, 200, "balancers are not barred");
    assert_eq!(admin.reloads.load(SeqCst), 1);
}

#[test]
fn a_token_is_no_leave_for_pages_of_other_origins() {
    let admin = Admin::locked(token());
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    for headers in ["origin: http://evil.test\r\n", "sec-fetch-site: cross-site\r\n", "host: evil.test\r\n"] {
        assert_eq!(admin.ask("POST /config/reload", &format!("{right}{headers}")).status, 403, "{headers}");
    }
    assert_eq!(admin.reloads.load(SeqCst), 0);
}

/// Asks over a Unix socket.
fn ask_at(path: &Path, request: &str, headers: &str) -> u16 {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\n{headers}connection: close\r\n\r\n").as_bytes()).unwrap();
    Answer::read(stream).status
}

#[test]
fn over_a_unix_socket_a_made_up_name_is_fine_and_changes_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let admin = Admin::at(UnixListener::bind(&path).unwrap().into(), |_| {});
    for host in ["localhost", "docker", "10.1.2.3:80", "[::2]"] {
        assert_eq!(ask_at(&path, "GET /metrics", &format!("host: {host}\r\n")), 200, "{host}");
        let own = format!("host: {host}\r\norigin: http://{host}\r\n");
        assert_eq!(ask_at(&path, "POST /api/v1/rollouts/idle/start", &own), 200, "{host}");
    }
    assert_eq!(admin.said.take().len(), 4);
    assert_eq!(ask_at(&path, "POST /config/reload", "host: a\r\norigin: http://b\r\n"), 403, "no page's");
    for broken in ["", "host: evil.test\r\n", "host: a@b\r\n", "host: a\r\nhost: a\r\n"] {
        assert_eq!(ask_at(&path, "GET /metrics", broken), 403, "{broken}");
    }
}

#[test]
fn over_a_unix_socket_a_token_is_asked_for_and_nobody_is_barred() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let _admin = Admin::at(UnixListener::bind(&path).unwrap().into(), |state| state.token = Some(token()));
    for _ in 0..20 {
        assert_eq!(ask_at(&path, "GET /metrics", "host: a\r\nauthorization: Bearer wrong\r\n"), 401);
    }
    let right = format!("host: a\r\nauthorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask_at(&path, "POST /config/reload", &right), 200);
    assert_eq!(ask_at(&path, "GET /ready", "host: a\r\n"), 200);
}
