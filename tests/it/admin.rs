//! The admin port against those who must not use it: pages in the operator's own browser, and other machines.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::config::Config;
use super::support::proxy::{Proxy, said, serin};
use super::support::release::Scene;
use super::support::upstream::Upstream;
use super::support::wire::{Message, Wire};

const TOKEN: &str = "correct-horse-battery-staple";

/// A request as it stands on the wire; `{admin}` is the address asked. It gets the length of its body.
fn ask(proxy: &Proxy, line: &str, fields: &str, body: &str) -> Message {
    let admin = proxy.admin.to_string();
    let fields: String = fields.split_terminator('\n').map(|field| format!("{}\r\n", field.trim())).collect();
    let host = if fields.contains("host: ") { "" } else { "host: {admin}\r\n" };
    let connection = if fields.contains("connection: ") { "" } else { "connection: close\r\n" };
    let length = format!("content-length: {}\r\n", body.len());
    let head = format!("{line} HTTP/1.1\r\n{host}{fields}{connection}{length}\r\n").replace("{admin}", &admin);
    let mut wire = Wire::new(TcpStream::connect(proxy.admin).unwrap());
    wire.send(head + body);
    let head = wire.head().unwrap().unwrap();
    if line.starts_with("HEAD ") {
        return Message { head, ..Message::default() };
    }
    wire.answer_after(head).unwrap()
}

/// Everything that the admin port can change, as its own readings show it.
fn state(proxy: &Proxy) -> Value {
    let read = |path: &str| serde_json::from_str::<Value>(&proxy.ask("GET", path).1).unwrap();
    let (status, dump) = (read("/config/status"), read("/config/dump"));
    let release = read("/api/v1/rollouts/shop");
    json!({
        "configuration": [status["generation"], status["hash"], status["active_since"], dump],
        "release": [release["state"], release["effective_weight"], release["events"], release["attempt"]],
        "asked to reload": proxy.metric("serin_config_reloads_total", &[("trigger", "api")]),
        "reset": read("/api/v1/versions?since=reset")["reset"],
    })
}

/// What a page of another origin can make the operator's browser send: fields, and a body. The method and the path are filled in.
#[rustfmt::skip]
const FROM_PAGES: [(&str, &str, &str, &str); 24] = [
    ("a form, as forms are sent", "POST", "origin: http://evil.test
        sec-fetch-site: cross-site
        sec-fetch-mode: navigate
        content-type: application/x-www-form-urlencoded", "full=true"),
    ("a form with files", "POST", "origin: http://evil.test
        sec-fetch-site: cross-site
        content-type: multipart/form-data; boundary=x", "--x--"),
    ("a form whose text looks like JSON", "POST", "origin: http://evil.test
        sec-fetch-site: cross-site
        content-type: text/plain", "{\"full\": true}"),
    ("a form of an old browser", "POST", "origin: http://evil.test
        content-type: application/x-www-form-urlencoded", "full=true"),
    ("a form of a browser that says nothing of its origin", "POST",
        "content-type: application/x-www-form-urlencoded", "full=true"),
    ("JSON as plain text, of such a browser", "POST", "content-type: text/plain;charset=UTF-8", "{\"full\": true}"),
    ("fetch without CORS", "POST", "origin: http://evil.test
        sec-fetch-site: cross-site
        sec-fetch-mode: no-cors
        content-type: text/plain;charset=UTF-8", "{\"full\": true}"),
    ("fetch without CORS and without a body", "POST", "origin: http://evil.test
        sec-fetch-site: cross-site
        sec-fetch-mode: no-cors", ""),
    ("fetch of JSON, as if a preflight had been granted", "POST", "origin: http://evil.test
        sec-fetch-site: cross-site
        sec-fetch-mode: cors
        content-type: application/json", "{}"),
    ("the preflight itself", "OPTIONS", "origin: http://evil.test
        access-control-request-method: POST
        access-control-request-headers: content-type", ""),
    ("a preflight for the private network", "OPTIONS", "origin: https://evil.test
        access-control-request-method: POST
        access-control-request-private-network: true", ""),
    ("a beacon", "POST", "origin: http://evil.test
        sec-fetch-site: cross-site
        sec-fetch-dest: empty
        content-type: text/plain;charset=UTF-8", "{}"),
    ("an image", "GET", "referer: http://evil.test/
        sec-fetch-site: cross-site
        sec-fetch-dest: image
        sec-fetch-mode: no-cors", ""),
    ("a script, which may override the method", "GET", "sec-fetch-site: cross-site
        sec-fetch-dest: script
        x-http-method-override: POST", ""),
    ("a link that is followed", "GET", "sec-fetch-site: cross-site
        sec-fetch-mode: navigate
        sec-fetch-user: ?1", ""),
    ("a link that is fetched beforehand", "HEAD", "sec-purpose: prefetch
        sec-fetch-site: cross-site", ""),
    ("a page of the same site on another port", "POST", "origin: http://127.0.0.1:3000
        sec-fetch-site: same-site
        content-type: application/json", "{}"),
    ("a page of this very host behind TLS", "POST", "origin: https://{admin}
        content-type: application/json", "{}"),
    ("a sandboxed frame", "POST", "origin: null
        sec-fetch-site: cross-site
        content-type: application/json", "{}"),
    ("a name that was rebound to this address", "POST", "host: evil.test
        origin: http://evil.test
        sec-fetch-site: same-origin
        content-type: application/json", "{}"),
    ("the same in an old browser", "POST", "host: evil.test:15000
        content-type: application/json", "{}"),
    ("a WebSocket", "GET", "origin: http://evil.test
        connection: upgrade
        upgrade: websocket
        sec-websocket-version: 13
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", ""),
    ("another method of fetch", "PUT", "origin: http://evil.test
        sec-fetch-site: cross-site
        content-type: application/json", "{}"),
    ("a method that deletes", "DELETE", "origin: http://evil.test
        sec-fetch-site: cross-site", ""),
];

/// What can be changed.
const WRITES: [&str; 5] = [
    "/config/reload",
    "/api/v1/versions/reset",
    "/api/v1/rollouts/shop/start",
    "/api/v1/rollouts/shop/promote",
    "/api/v1/rollouts/shop/abort",
];

#[test]
fn no_page_of_another_origin_changes_anything() {
    let plan = "  steps: [{weight: 10, approve: true}, 50, 100]\n  analysis: {latency: {slowerThan: off}}\n";
    let scene = Scene::new(Upstream::named("v1"), Upstream::named("v2"), plan);
    let proxy = scene.start();
    let before = state(&proxy);
    let hash = blake3::hash(before.to_string().as_bytes());
    for (what, method, fields, body) in FROM_PAGES {
        for path in WRITES {
            let answer = ask(&proxy, &format!("{method} {path}"), fields, body);
            assert!(matches!(answer.status(), 403 | 405 | 415), "{what}, {path}: {}", answer.status());
            assert!(!answer.head.fields.iter().any(|(name, _)| name.starts_with("access-control-")), "{what}");
        }
        let after = state(&proxy);
        assert_eq!(blake3::hash(after.to_string().as_bytes()), hash, "{what}:\n{before:#}\n{after:#}");
    }
    // Each of them would have shown: without a page, they all work.
    let mut last = before;
    for path in WRITES {
        assert_eq!(
            ask(&proxy, &format!("POST {path}"), "content-type: application/json", "{}").status(),
            200,
            "{path}"
        );
        let now = state(&proxy);
        assert_ne!(now, last, "{path}");
        last = now;
    }
}

/// A folder with a configuration and a token.
fn folder(token: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), Config::single(&[9]).yaml()).unwrap();
    let file = folder.path().join("token");
    fs::write(&file, token).unwrap();
    (folder, file)
}

#[test]
fn what_other_machines_can_reach_takes_a_token() {
    let (folder, file) = folder("short\n");
    let refused = |arguments: &[&str]| {
        let mut child = serin()
            .args(["run", "config.yaml", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(&folder)
            .env_remove("SERIN_ADMIN_TOKEN_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that says where it listens has started: it would not end by itself.
        let mut out = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut out).unwrap();
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    for address in ["0.0.0.0:0", "[::]:0"] {
        let text = refused(&["--admin", address]);
        assert!(text.contains(&format!("error: --admin {address}")), "{text}");
        assert!(text.contains("--admin-token-file FILE") && text.contains("--admin 127.0.0.1:0"), "{text}");
    }
    for (content, why) in [("short", "too few"), ("", "is empty"), ("two words of a token", "without spaces")] {
        fs::write(&file, content).unwrap();
        for address in ["0.0.0.0:0", "127.0.0.1:0"] {
            let text = refused(&["--admin", address, "--admin-token-file", "token"]);
            assert!(text.contains("error: the admin token in token") && text.contains(why), "{text}");
        }
    }
    assert!(refused(&["--admin", "0.0.0.0:0", "--admin-token-file", "elsewhere"]).contains("no such file"));
}

#[test]
fn with_the_token_everything_works_and_without_it_only_the_probes() {
    let (folder, file) = folder(TOKEN);
    let config = folder.path().join("config.yaml");
    let mut command = serin();
    command.arg("run").arg(config).args(["--admin", "0.0.0.0:0", "--admin-token-file"]).arg(&file);
    let proxy = Proxy::spawn(folder, &mut command);
    let right = format!("authorization: Bearer {TOKEN}");
    for (line, without, with) in [
        ("GET /ready", 200, 200),
        ("GET /live", 200, 200),
        ("GET /metrics", 401, 200),
        ("GET /config/dump", 401, 200),
        ("POST /config/reload", 401, 200),
    ] {
        let refused = ask(&proxy, line, "", "");
        assert_eq!(
            (refused.status(), refused.head.get("www-authenticate")),
            match without {
                401 => (401, "Bearer"),
                status => (status, ""),
            }
        );
        assert_eq!(ask(&proxy, line, &right, "").status(), with, "{line}");
    }
    let admin = proxy.admin.to_string();
    let run = |arguments: &[&str], variable: Option<&PathBuf>| {
        let mut command = serin();
        command.args(arguments).env_remove("SERIN_ADMIN_TOKEN_FILE");
        command.envs(variable.map(|file| ("SERIN_ADMIN_TOKEN_FILE", file)));
        command.args(["--admin", &admin]).stdin(Stdio::null()).output().unwrap()
    };
    let path = file.to_str().unwrap();
    let commands: [&[&str]; 5] = [&["status"], &["reload"], &["stats"], &["top", "--once"], &["rollout", "status"]];
    for command in commands {
        let refused = run(command, None);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains("--admin-token-file"), "{command:?}: {}", said(&refused));
        for output in [run(&[command, &["--admin-token-file", path]].concat(), None), run(command, Some(&file))] {
            assert_eq!(output.status.code(), Some(0), "{command:?}: {}", said(&output));
            assert!(!said(&output).contains(TOKEN), "{command:?}");
        }
    }
    assert!(!proxy.log().contains(TOKEN));
}

/// As if it were not there: neither a mistake, nor a token, nor silence.
#[test]
fn an_empty_variable_is_as_good_as_none() {
    let (folder, _) = folder(TOKEN);
    let config = folder.path().join("config.yaml");
    let mut command = serin();
    let proxy =
        Proxy::spawn(folder, command.arg("run").arg(config).env("SERIN_ADMIN_TOKEN_FILE", "").env("SERIN_LOG", ""));
    assert_eq!(proxy.ask("GET", "/metrics").0, 200);
    assert!(proxy.log().contains("configuration in force"), "{}", proxy.log());
    let admin = proxy.admin.to_string();
    let status = |arguments: &[&str]| {
        let mut command = serin();
        command.args(["status", "--admin", &admin]).args(arguments).env("SERIN_ADMIN_TOKEN_FILE", "");
        command.stdin(Stdio::null()).output().unwrap()
    };
    let output = status(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = status(&["--admin-token-file", ""]);
    assert_eq!(output.status.code(), Some(2), "what is typed is meant: {}", said(&output));
}

/// Both at once, and the watch of the files beside them: one of the three puts the file in force, and who comes later is told.
#[test]
fn of_those_who_have_seen_the_same_configuration_one_changes_it() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]);
    let proxy = Proxy::start(&config);
    let applied =
        |trigger| proxy.metric("serin_config_reloads_total", &[("result", "applied"), ("trigger", trigger)]) as usize;
    let by_itself = || applied("watch") + applied("poll");
    let mut told = 0;
    for seen in 1..=10 {
        let before = by_itself();
        let together = Barrier::new(2);
        let reload = || {
            together.wait();
            ask(&proxy, "POST /config/reload", &format!("if-match: \"{seen}\""), "").status()
        };
        proxy.save_by_rename(&format!("# {seen}\n{}", config.yaml()));
        let answers = thread::scope(|scope| [(); 2].map(|()| scope.spawn(reload)).map(|one| one.join().unwrap()));
        assert!(answers.iter().all(|status| [200, 412].contains(status)), "{answers:?}");
        let made = answers.iter().filter(|status| **status == 200).count();
        assert_eq!((made + by_itself() - before, proxy.generation()), (1, seen + 1), "{answers:?}");
        told += 2 - made;
    }
    assert_eq!(applied("api"), 20 - told);
}

/// The admin port makes no HTML at all, so a name of the configuration can be none; and nobody may take it for some.
#[test]
fn a_route_named_like_a_tag_is_never_html() {
    const TAG: &str = "<script>alert(1)</script>";
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]).rule(&format!("name: '{TAG}'"));
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.client().get("/").status(), 200);
    let mut met = 0;
    let index = proxy.ask("GET", "/").1;
    let paths = index.lines().filter_map(|line| line.strip_prefix("GET  ")?.split(' ').next());
    for path in paths.chain(["/%3Cscript%3E", "/api/v1/versions?since=%3Cscript%3E"]) {
        let answer = ask(&proxy, &format!("GET {}", path.replace("{name}", "%3Cscript%3E")), "", "");
        let kind = answer.head.get("content-type");
        assert!(["application/json", "text/plain"].contains(&kind.split(';').next().unwrap()), "{path}: {kind}");
        assert_eq!(answer.head.get("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.head.get("content-security-policy");
        assert_eq!(policy, "default-src 'self'; frame-ancestors 'none'", "{path}");
        met += usize::from(answer.text().contains(TAG));
    }
    assert!(met >= 2, "the name is shown: by the metrics, and the versions");
}
