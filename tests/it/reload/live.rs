//! The same through the built binary, under steady load: nobody notices a reload, whatever the file looked like meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serin::config::load;

use crate::support::config::Config;
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::proxy::{Proxy, run, said, serin};
use crate::support::upstream::{Script, Upstream};

use super::writers;

/// Clients that keep a connection each.
const CLIENTS: usize = 4;
/// Answers that are enough to see that one version gives all of them.
const ENOUGH: usize = 100;

/// A proxy of one path, under load; all requests go to one version, and each change sends them to the other.
struct Live {
    proxy: Proxy,
    /// What it serves.
    input: PathBuf,
    load: Load,
    config: Config,
    /// The version that gets everything.
    now: usize,
    changes: usize,
}

impl Live {
    /// Lays out the first configuration and serves it. `layout` gets the folder and the text, and says what to serve.
    fn start(layout: impl FnOnce(&Path, &str) -> PathBuf) -> Self {
        let versions = [Upstream::named("v1"), Upstream::named("v2")];
        let config = Config::default().version("v1", 100, &[versions[0].port]).version("v2", 0, &[versions[1].port]);
        let folder = tempfile::tempdir().unwrap();
        let input = layout(folder.path(), &config.yaml());
        let proxy = Proxy::spawn(folder, serin().arg("run").arg(&input));
        let load = Load::start(proxy.listen, CLIENTS);
        Self { proxy, input, load, config, now: 0, changes: 0 }
    }

    /// What sends everything to the other version. No two of them are equal.
    fn next(&mut self) -> String {
        self.now = 1 - self.now;
        self.changes += 1;
        let mut weights = [0; 2];
        weights[self.now] = 100;
        format!("{}---\n# {}\n", self.config.weights(&weights).yaml(), self.changes)
    }

    /// Makes a change, and checks that from then on one version gets every request.
    fn change(&mut self, what: &str, save: impl FnOnce(&Path, &str)) {
        let text = self.next();
        let folder = self.proxy.path("");
        self.after(what, || save(&folder, &text));
    }

    fn after(&self, what: &str, save: impl FnOnce()) {
        save();
        let saved = load::read(std::slice::from_ref(&self.input), false).hash();
        eventually(what, || self.proxy.status()["hash"] == saved.as_str());
        self.is_in_force(what);
    }

    fn is_in_force(&self, what: &str) {
        self.load.next_phase();
        let counts = self.load.counts(ENOUGH);
        let version = ["v1", "v2"][self.now];
        assert_eq!(counts.get(version), Some(&counts.values().sum()), "{what}: {counts:?}");
    }

    fn wait_for_state(&self, state: &str) {
        eventually(state, || self.proxy.status()["on_disk"]["state"] == state);
    }

    /// Not one request failed, no connection was closed, no counter was reset.
    fn finish(self) {
        let outcome = self.load.finish();
        assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
        let counted = self.proxy.requests(&[("code", "200")]);
        assert!(counted >= outcome.answered as f64, "{counted} of {}: a counter was reset", outcome.answered);
        eventually("old snapshots are gone", || self.proxy.metric("serin_config_snapshots_live", &[]) <= 2.0);
    }
}

#[test]
fn no_way_to_save_costs_a_request() {
    let mut live = Live::start(|folder, text| {
        let path = folder.join("vs.yaml");
        fs::write(&path, text).unwrap();
        path
    });
    for (name, save) in writers::ALL {
        live.change(name, |folder, text| save(&folder.join("vs.yaml"), text));
    }
    let path = live.proxy.path("vs.yaml");
    let unchanged =
        |live: &Live| live.proxy.metric("serin_config_reloads_total", &[("result", "unchanged"), ("trigger", "watch")]);
    let before = unchanged(&live);
    writers::touch(&path);
    eventually("the touch is seen", || unchanged(&live) > before);
    live.is_in_force("touch");

    for content in ["", "half: [", "kind: Nothing\n"].into_iter().chain(["a: b: c\n"; 10]) {
        fs::write(&path, content).unwrap();
        live.wait_for_state("rejected");
    }
    live.is_in_force("invalid");
    assert_eq!(live.proxy.ask("GET", "/ready").0, 200);
    live.change("invalid, then valid", |folder, text| writers::in_place(&folder.join("vs.yaml"), text));

    fs::remove_file(&path).unwrap();
    live.wait_for_state("missing");
    live.is_in_force("deleted");
    live.change("back", |folder, text| writers::in_pieces(&folder.join("vs.yaml"), text));

    live.change("in two halves", |folder, text| {
        let mut file = fs::File::create(folder.join("vs.yaml")).unwrap();
        let half = text.find("\n---").unwrap() + 1;
        file.write_all(&text.as_bytes()[..half]).unwrap();
        // The time that the case is about, not one to wait for something.
        thread::sleep(Duration::from_millis(50));
        file.write_all(&text.as_bytes()[half..]).unwrap();
    });
    live.finish();
}

#[test]
fn a_thousand_rewrites_cost_nothing() {
    let mut live = Live::start(|folder, text| {
        let path = folder.join("vs.yaml");
        fs::write(&path, text).unwrap();
        path
    });
    let path = live.proxy.path("vs.yaml");
    let memory = |live: &Live| live.proxy.metric("process_resident_memory_bytes", &[]);
    let rewrite = |live: &mut Live, times: usize| {
        for _ in 0..times {
            let text = live.next();
            writers::rename(&path, &text);
        }
    };
    rewrite(&mut live, 250);
    live.change("the last of the first", |_, text| writers::rename(&path, text));
    let before = memory(&live);
    rewrite(&mut live, 749);
    live.change("the last one wins", |_, text| writers::rename(&path, text));
    let growth = memory(&live) - before;
    assert!(growth < 16e6, "{growth} bytes more");
    live.finish();
}

#[test]
fn config_maps_links_and_folders_are_swapped_under_load() {
    let mut live = Live::start(|folder, text| {
        writers::config_map(folder, 0, &[("vs.yaml", text)]);
        folder.to_owned()
    });
    for round in 1..=3 {
        live.change("ConfigMap", |folder, text| writers::config_map(folder, round, &[("vs.yaml", text)]));
    }
    live.finish();

    let mut live = Live::start(|folder, text| {
        for name in ["releases/1", "releases/2", "repository"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("repository/vs.yaml"), text).unwrap();
        symlink("../../repository/vs.yaml", folder.join("releases/1/vs.yaml")).unwrap();
        symlink("releases/1", folder.join("current")).unwrap();
        folder.join("current")
    });
    live.change("edited behind a link", |folder, text| writers::in_place(&folder.join("repository/vs.yaml"), text));
    live.change("current swapped", |folder, text| {
        fs::write(folder.join("releases/2/vs.yaml"), text).unwrap();
        writers::swap_link(&folder.join("current"), Path::new("releases/2"));
    });
    live.change("current swapped back", |folder, text| {
        writers::rename(&folder.join("repository/vs.yaml"), text);
        writers::replace_link(&folder.join("current"), Path::new("releases/1"));
    });
    let text = live.next();
    fs::remove_dir_all(live.proxy.path("releases")).unwrap();
    live.wait_for_state("missing");
    live.after("folders back", || {
        fs::create_dir_all(live.proxy.path("releases/1")).unwrap();
        writers::in_pieces(&live.proxy.path("releases/1/vs.yaml"), &text);
    });
    live.finish();
}

#[test]
fn a_weight_change_keeps_connections_and_counters() {
    const CHANGES: u32 = 40;
    let versions = [Upstream::named("v1"), Upstream::named("v2")];
    let config = Config::default().version("v1", 50, &[versions[0].port]).version("v2", 50, &[versions[1].port]);
    let proxy = Proxy::start(&config);
    let load = Load::start(proxy.listen, CLIENTS);
    let mut counted = 0.0;
    for change in 0..CHANGES {
        let generation = proxy.generation();
        proxy.save_by_rename(&config.weights(&[40 + change % 2, 60 - change % 2]).yaml());
        eventually("it is in force", || proxy.generation() > generation);
        load.next_phase();
        load.counts(20);
        let now = proxy.requests(&[("code", "200")]);
        assert!(now >= counted + 20.0, "{now} after {counted}");
        counted = now;
    }
    let outcome = load.finish();
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    for upstream in &versions {
        // As many as there were requests at once on each worker; one for each change if the pools were given up.
        let connections = upstream.ledger.connections();
        assert!(connections < CHANGES as usize, "{connections} connections");
    }
}

#[test]
fn what_began_before_a_reload_ends_after_it() {
    let script = Script::start();
    let config = Config::single(&[script.port]);
    let proxy = Proxy::start(&config);
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nhost: product-service\r\n\r\n");
    let mut answering = script.accept();
    assert_eq!(answering.request().unwrap().unwrap().head.target().1, "/slow");
    answering.send("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n");
    let mut socket = proxy.client();
    socket.send(
        "GET /socket HTTP/1.1\r\nhost: product-service\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let mut peer = script.accept();
    assert_eq!(peer.request().unwrap().unwrap().head.get("upgrade"), "websocket");
    peer.send(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    assert_eq!(socket.head().unwrap().unwrap().status(), 101);

    for round in 0..50 {
        let generation = proxy.generation();
        proxy.save_by_rename(&format!("# {round}\n{}", config.yaml()));
        eventually("it is in force", || proxy.generation() > generation);
        answering.send([b'0' + round % 10]);
        socket.stream().write_all(&[round]).unwrap();
        let mut byte = [0];
        peer.stream().read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round]);
        peer.stream().write_all(&byte).unwrap();
        socket.stream().read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round]);
    }
    let answer = slow.answer().unwrap();
    assert_eq!((answer.status(), answer.text()), (200, "0123456789".repeat(5)));
}

#[test]
fn status_and_reload_say_what_the_proxy_says() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]);
    let proxy = Proxy::start(&config);
    let ask = |command: &str, more: &[&str]| {
        let admin = proxy.admin.to_string();
        let output = run(&[&[command, "--admin", &admin], more].concat(), &proxy.path(""));
        (output.status.code().unwrap(), said(&output))
    };
    let (code, text) = ask("status", &[]);
    assert!(code == 0 && text.starts_with("generation 1 (") && text.contains("on disk: the same"), "{code} {text}");
    let (code, text) = ask("reload", &[]);
    assert_eq!((code, text.as_str()), (0, "unchanged: generation 1 serves\n"));

    proxy.save(&config.yaml().replace("weight: 100", "weight: 90"));
    let (code, text) = ask("reload", &[]);
    assert!(
        code == 1 && text.contains("spec.http[0]") && text.ends_with("rejected: generation 1 still serves\n"),
        "{text}"
    );
    let (code, text) = ask("status", &[]);
    assert!(code == 1 && text.contains("on disk: rejected (") && text.contains("error"), "{code} {text}");
    let (code, text) = ask("status", &["--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &status["generation"], &status["on_disk"]["state"]), (1, &1.into(), &"rejected".into()));

    drop(proxy);
    let output = run(&["status", "--admin", "127.0.0.1:1"], Path::new("/"));
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("cannot reach the admin port at 127.0.0.1:1: connection refused"));
}
