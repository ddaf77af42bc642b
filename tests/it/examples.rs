//! The runnable configurations in `config`, as the README and the docs name them: each is valid, without a word of warning.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serin::config::load::{self, Loaded};
use serin::config::release::{self, LATENCY_EDGES, Release};
use serin::config::settings::Settings;
use serin::telemetry::Buckets;

use super::support::proxy::{run, said};

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// The folders with resources; others hold the files of other programs.
fn examples() -> Vec<String> {
    let is_resource = |path: &Path| {
        let yaml = path.extension().is_some_and(|one| one == "yaml" || one == "yml");
        yaml && fs::read_to_string(path).unwrap().lines().any(|line| line.starts_with("apiVersion:"))
    };
    let holds_one = |folder: &Path| fs::read_dir(folder).unwrap().any(|entry| is_resource(&entry.unwrap().path()));
    let folders = fs::read_dir(config()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut names: Vec<_> = folders
        .filter(|path| holds_one(path))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn loaded(example: &str) -> Loaded {
    load::load(load::read(&[config().join(example)], false), &Settings::default())
}

#[test]
fn each_is_valid() {
    let examples = examples();
    for wanted in ["quickstart", "rollout"] {
        assert!(examples.iter().any(|name| name == wanted), "{wanted} is not among {examples:?}");
    }
    for example in examples {
        let output = run(&["check", &example, "--deny-warnings"], &config());
        assert_eq!(output.status.code(), Some(0), "{example}: {}", said(&output));
        assert!(said(&output).ends_with("valid: 0 errors, 0 warnings\n"), "{example}: {}", said(&output));
    }
}

#[test]
fn the_rollout_is_the_release_that_the_docs_tell() {
    let loaded = loaded("rollout");
    let releases = release::releases(&loaded.resources, &loaded.sources);
    let [Release { name, route, stable, canary, steps, .. }] = &releases[..] else { panic!("{releases:?}") };
    assert_eq!((name.as_str(), route.label.as_str()), ("product-service", "product-service-vs/0"));
    assert_eq!((stable.subset.as_str(), stable.position), ("v1", 0));
    assert_eq!((canary.subset.as_str(), canary.position), ("v2", 1));
    assert_eq!(steps.iter().map(|step| step.weight).collect::<Vec<_>>(), [10, 30, 50, 100]);
}

#[test]
fn thresholds_lie_on_the_buckets_of_the_metrics() {
    let buckets: Vec<_> = Buckets::Fine.bounds().iter().map(|bound| Duration::from_secs_f64(*bound)).collect();
    assert_eq!(buckets, LATENCY_EDGES);
}
