//! A release as a test runs it: two versions, their configuration with a Canary, and a state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::config::Config;
use super::proxy::{Proxy, run, said, serin};
use super::upstream::Upstream;

/// The files of a release, `shop`, of the version `v2` beside `v1`. `V` is what stands behind: an upstream of each.
pub(crate) struct Scene<V = Upstream> {
    /// The stable version.
    pub(crate) v1: V,
    /// The canary.
    pub(crate) v2: V,
    folder: TempDir,
    /// The configuration.
    pub(crate) yaml: String,
}

impl Scene {
    /// `spec` is the rest of the Canary's spec.
    pub(crate) fn new(v1: Upstream, v2: Upstream, spec: &str) -> Self {
        let ports = [v1.port, v2.port];
        Self::of((v1, v2), ports, spec)
    }
}

impl<V> Scene<V> {
    /// The same of versions that listen on these ports.
    pub(crate) fn of((v1, v2): (V, V), ports: [u16; 2], spec: &str) -> Self {
        let config = Config::default().version("v1", 100, &ports[..1]).version("v2", 0, &ports[1..]);
        let yaml = format!(
            "{}---\napiVersion: serin.dev/v1alpha1\nkind: Canary\nmetadata: {{name: shop}}\nspec:\n  \
             virtualService: product-service-vs\n  stable: v1\n  canary: v2\n{spec}",
            config.yaml()
        );
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("config")).unwrap();
        fs::write(folder.path().join("config/all.yaml"), &yaml).unwrap();
        Self { v1, v2, folder, yaml }
    }

    /// A proxy on these files.
    pub(crate) fn start(&self) -> Proxy {
        self.start_as(serin())
    }

    /// The same, with the same draws each time.
    pub(crate) fn start_seeded(&self, seed: &str) -> Proxy {
        let mut command = serin();
        command.args(["run", "--seed", seed]);
        self.serve(command)
    }

    /// The same, with faults put in (`SERIN_TEST_FAIL`).
    pub(crate) fn start_with(&self, fault: &str) -> Proxy {
        let mut command = serin();
        command.env("SERIN_TEST_FAIL", fault);
        self.start_as(command)
    }

    fn start_as(&self, mut command: Command) -> Proxy {
        command.arg("run");
        self.serve(command)
    }

    fn serve(&self, mut command: Command) -> Proxy {
        command.arg(self.folder.path().join("config")).arg("--state-dir").arg(self.state());
        Proxy::spawn(tempfile::tempdir().unwrap(), &mut command)
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Saves another configuration.
    pub(crate) fn save(&self, yaml: &str) {
        fs::write(self.folder.path().join("config/all.yaml"), yaml).unwrap();
    }

    /// Whether the file is as it was written.
    pub(crate) fn is_untouched(&self) -> bool {
        fs::read_to_string(self.folder.path().join("config/all.yaml")).unwrap() == self.yaml
    }
}

/// Runs a verb to its end.
pub(crate) fn rollout(proxy: &Proxy, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", proxy.admin);
    run(&[&["rollout"], arguments, &["--admin", &admin]].concat(), Path::new("."))
}

/// The same, which has to go well.
#[track_caller]
pub(crate) fn done(proxy: &Proxy, arguments: &[&str]) {
    let output = rollout(proxy, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
}

/// What the admin port says of the release.
pub(crate) fn status(proxy: &Proxy) -> Value {
    let (code, body) = proxy.ask("GET", "/api/v1/rollouts/shop");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The name of its state.
pub(crate) fn state(proxy: &Proxy) -> String {
    status(proxy)["state"]["name"].as_str().unwrap().to_owned()
}

/// The canary's percentage in force.
pub(crate) fn weight(proxy: &Proxy) -> u64 {
    status(proxy)["effective_weight"].as_u64().unwrap()
}

/// Requests one after the other until the release is in this state; how many that took.
#[track_caller]
pub(crate) fn until(proxy: &Proxy, wanted: &str, most: usize) -> usize {
    let mut client = proxy.client();
    for sent in 1..=most {
        client.get("/");
        if sent % 5 == 0 && state(proxy) == wanted {
            return sent;
        }
    }
    panic!("not {wanted} after {most} requests: {:#}\n{}", status(proxy), proxy.log());
}

/// An upstream that fails every request.
pub(crate) fn failing() -> Upstream {
    Upstream::answering(|_| b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_vec())
}
