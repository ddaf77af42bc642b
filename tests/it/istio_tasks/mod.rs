//! The tasks that Istio publishes for its samples Bookinfo and httpbin, done with Serin: each applies the files of its task
//! (`tests/fixtures/tasks`, shaped like the published ones) to a running proxy, and looks at what clients and upstreams get.

mod bookinfo;
mod circuit;
mod egress;
mod examples;
mod faults;
mod ingress;
mod mirroring;
mod routing;
mod shifting;
mod timeouts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::support::client::Client;
use super::support::eventually;
use super::support::proxy::{Proxy, serin};
use super::support::wire::Message;

/// The header by which Bookinfo knows its user.
const JASON: (&str, &str) = ("end-user", "jason");

/// Where the examples are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tasks")
}

/// The text of an example.
fn example(name: &str) -> String {
    fs::read_to_string(folder().join(name).with_extension("yaml")).unwrap()
}

/// Resources by kind and name, as a cluster keeps them.
#[derive(Clone, Debug, Default)]
struct Applied(BTreeMap<(String, String), String>);

impl Applied {
    /// As `kubectl apply`: what has the kind and the name of something that is there replaces it.
    fn apply(&mut self, text: &str) {
        for document in text.split("\n---\n") {
            let value = |field: &str| {
                let line = document.lines().find_map(|line| line.strip_prefix(field));
                line.unwrap_or_else(|| panic!("no `{field}` in {document}")).to_owned()
            };
            self.0.insert((value("kind: "), value("  name: ")), document.to_owned());
        }
    }

    fn yaml(&self) -> String {
        self.0.values().cloned().collect::<Vec<_>>().join("\n---\n")
    }
}

/// A proxy to which the files of a task are applied one after another.
#[derive(Debug)]
struct Task {
    proxy: Proxy,
    applied: Applied,
}

impl Task {
    /// Serves examples; `endpoints` are a host, or a host and its version, with the port of each.
    fn start(examples: &[&str], endpoints: &[(&str, u16)]) -> Self {
        Self::with(examples, endpoints, &[])
    }

    /// The same with more arguments.
    fn with(examples: &[&str], endpoints: &[(&str, u16)], arguments: &[&str]) -> Self {
        Self::within(&[], examples, endpoints, arguments)
    }

    /// The same with more variables of its environment.
    fn within(environment: &[(&str, &Path)], examples: &[&str], endpoints: &[(&str, u16)], arguments: &[&str]) -> Self {
        let mut applied = Applied::default();
        examples.iter().for_each(|name| applied.apply(&example(name)));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.yaml"), applied.yaml()).unwrap();
        let mut command = serin();
        command.arg("run").arg(folder.path()).args(arguments).envs(environment.iter().copied());
        for (host, port) in endpoints {
            command.args(["--endpoint", &format!("{host}=127.0.0.1:{port}")]);
        }
        Self { proxy: Proxy::spawn(folder, &mut command), applied }
    }

    /// Applies an example, and waits until it is in force.
    fn apply(&mut self, name: &str) {
        self.apply_text(&example(name));
    }

    /// Applies a text, and waits until it is in force.
    fn apply_text(&mut self, text: &str) {
        let before = self.proxy.generation();
        self.applied.apply(text);
        self.proxy.save_by_rename(&self.applied.yaml());
        eventually("it is in force", || self.proxy.generation() > before);
    }

    /// Asks a host of the mesh for `/`.
    fn ask(&self, host: &str, fields: &[(&str, &str)]) -> Message {
        self.proxy.client().ask(host, "/", fields).unwrap()
    }

    /// How many answers had this flag.
    fn flagged(&self, flag: &str) -> f64 {
        self.proxy.metric("http_response_flags_total", &[("flag", flag)])
    }
}

/// The status that a host answers at a listener.
fn status(client: &mut Client, host: &str, target: &str) -> u16 {
    client.ask(host, target, &[]).unwrap().status()
}
