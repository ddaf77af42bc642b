use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use tempfile::TempDir;

use super::*;
use crate::config::settings::Settings;
use crate::control::publisher::Inputs;
use crate::telemetry::{Buckets, Metrics};

const QUICK: Pace = Pace { stat: Duration::from_millis(5), hash: Duration::from_millis(20) };
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What was put in force, in order, each as the texts of all files.
#[derive(Clone, Default)]
struct InForce(Arc<(Mutex<Vec<String>>, Condvar)>);

impl InForce {
    fn publisher(&self, paths: Vec<PathBuf>) -> Publisher {
        let shared = Arc::clone(&self.0);
        let inputs = Inputs::Paths { paths, recursive: false };
        Publisher::new(
            inputs,
            Settings { references: false, ..Settings::default() },
            Metrics::new(1, Buckets::Fine),
            Box::new(move |loaded, _| {
                let text: String = loaded.sources.iter().map(|source| &*source.text).collect();
                shared.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                shared.1.notify_all();
                Ok(())
            }),
        )
    }

    fn wait_for(&self, wanted: &str) {
        let seen = self.0.0.lock().unwrap();
        let wait = self.0.1.wait_timeout_while(seen, PATIENCE, |seen| seen.last().is_none_or(|last| last != wanted));
        let (seen, timeout) = wait.unwrap();
        assert!(!timeout.timed_out(), "in force: {:?}", seen.last());
    }
}

fn yaml(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [a.example], http: [{{route: [{{destination: {{host: a.example}}}}]}}]}}\n"
    )
}

fn save(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

/// A publisher whose one file is in force.
pub(super) struct Started {
    _folder: TempDir,
    path: PathBuf,
    in_force: InForce,
    pub(super) publisher: Publisher,
}

impl Started {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vs.yaml");
        save(&path, &yaml("one"));
        let in_force = InForce::default();
        let publisher = in_force.publisher(vec![path.clone()]);
        publisher.start();
        Self { _folder: folder, path, in_force, publisher }
    }
}

fn no_watcher(_: Reports) -> notify::Result<notify::RecommendedWatcher> {
    Err(notify::Error::io(io::Error::from_raw_os_error(24)))
}

#[test]
fn without_a_watcher_changes_are_found_by_looking() {
    let Started { path, in_force, publisher, .. } = &Started::new();
    let watch = FileWatch::start_with(publisher.clone(), QUICK, no_watcher).unwrap();
    let metrics = publisher.metrics().render();
    assert!(metrics.contains("serin_config_watch_healthy 0"), "{metrics}");
    for name in ["two", "three"] {
        save(path, &yaml(name));
        in_force.wait_for(&yaml(name));
    }
    watch.stop();
    let metrics = publisher.metrics().render();
    assert!(metrics.contains("serin_config_reloads_total{result=\"applied\",trigger=\"poll\"} 2"), "{metrics}");
    assert!(metrics.contains("serin_config_reloads_total{result=\"unchanged\",trigger=\"poll\"} 0"), "{metrics}");
}

#[test]
fn a_change_before_the_watch_began_is_found() {
    let Started { path, in_force, publisher, .. } = &Started::new();
    save(path, &yaml("two"));
    let never = Pace { stat: PATIENCE, hash: PATIENCE };
    let _watch = FileWatch::start(publisher.clone(), never).unwrap();
    in_force.wait_for(&yaml("two"));
}
