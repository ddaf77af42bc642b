//! A saved file is in force, however it was saved; what is no whole, valid configuration never is.
//! Real files, the real watch and the real publisher; only what would serve requests is replaced by a list.

mod ledger;
mod live;
mod mutated;
mod random;
mod sandbox;
mod writers;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serin::config::settings::Settings;
use serin::control::{FileWatch, Inputs, OnDiskState, Outcome, Pace, Publisher, Trigger};
use serin::telemetry::{Buckets, Metrics};

/// Long enough for any machine; a wait that takes it all has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// So that what is found was found by events.
const EVENTS_ONLY: Pace = Pace { stat: PATIENCE, hash: PATIENCE };

/// A VirtualService that says its weight at its beginning and, after enough text for several writes, again at its end: a
/// half of it is valid YAML, but does not say the same twice.
fn yaml(weight: i64) -> String {
    let filler = "  # nothing\n".repeat(400);
    let rule = |name| {
        format!(
            "  - name: {name}\n    match: [{{uri: {{prefix: /{name}}}}}]\n    route:\n    \
             - destination: {{host: a.example, subset: v2}}\n      weight: {weight}\n    \
             - destination: {{host: a.example, subset: v1}}\n      weight: {}\n",
            100 - weight
        )
    };
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  \
                hosts: [a.example]\n  http:\n";
    format!("{head}{}{filler}{}", rule("first"), rule("last"))
}

/// The first half of it, which is valid.
fn half(weight: i64) -> String {
    let whole = yaml(weight);
    let end = whole.find("  - name: last").unwrap();
    whole[..end].to_owned()
}

/// What was put in force: the weights of all rules, in order.
#[derive(Clone, Default)]
struct InForce(Arc<(Mutex<Vec<Vec<i64>>>, Condvar)>);

struct Proxy {
    publisher: Publisher,
    metrics: Metrics,
    in_force: InForce,
    /// Ends before the folder it watches.
    watch: Option<FileWatch>,
}

impl Proxy {
    fn start(path: &Path) -> Self {
        Self::start_with(vec![path.to_owned()], false, EVENTS_ONLY)
    }

    fn start_with(paths: Vec<PathBuf>, recursive: bool, pace: Pace) -> Self {
        let (metrics, in_force) = (Metrics::new(1, Buckets::Fine), InForce::default());
        let shared = Arc::clone(&in_force.0);
        let settings = Settings { references: false, ..Settings::default() };
        let publisher = Publisher::new(
            Inputs::Paths { paths, recursive },
            settings,
            metrics.clone(),
            Box::new(move |loaded, _| {
                let rules = loaded.resources.virtual_services.iter().flat_map(|service| &service.spec.http);
                let weight = |rule: &serin::config::resource::virtual_service::HttpRoute| {
                    rule.route[0].weight.as_ref().map_or(100, |weight| weight.value)
                };
                shared.0.lock().unwrap().push(rules.map(weight).collect());
                shared.1.notify_all();
                Ok(())
            }),
        );
        publisher.start();
        let watch = Some(FileWatch::start(publisher.clone(), pace).unwrap());
        Self { publisher, metrics, in_force, watch }
    }

    /// Waits until this weight is in force.
    fn wait_for(&self, weight: i64) {
        self.wait_for_all(&[weight, weight]);
    }

    fn wait_for_all(&self, weights: &[i64]) {
        let (list, changed) = &*self.in_force.0;
        let guard = list.lock().unwrap();
        let wait = changed.wait_timeout_while(guard, PATIENCE, |list| list.last().is_none_or(|last| *last != weights));
        let (list, timeout) = wait.unwrap();
        assert!(
            !timeout.timed_out(),
            "in force: {:?}, wanted {weights:?}\n{:#?}",
            list.last(),
            self.publisher.status()
        );
    }

    fn wait_for_state(&self, state: OnDiskState) {
        wait_until(|| self.publisher.status().on_disk.state == state, || format!("{:#?}", self.publisher.status()));
    }

    fn count(&self, result: &str) -> u64 {
        let metrics = self.metrics.render();
        let prefix = format!("serin_config_reloads_total{{result=\"{result}\",");
        let values = metrics.lines().filter_map(|line| line.strip_prefix(&prefix));
        values.map(|rest| rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn wait_for_count(&self, result: &str, count: u64) {
        wait_until(|| self.count(result) >= count, || self.metrics.render());
    }

    /// Everything that was ever in force was whole.
    fn check_whole(&self) {
        for weights in &*self.in_force.0.0.lock().unwrap() {
            assert!(weights.len() == 2 && weights[0] == weights[1], "a half was in force: {weights:?}");
        }
    }

    fn ever(&self) -> Vec<i64> {
        self.in_force.0.0.lock().unwrap().iter().map(|weights| weights[0]).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.watch.take();
    }
}

fn wait_until(condition: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{}", otherwise());
        thread::sleep(Duration::from_millis(1));
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    fs::write(&path, yaml(10)).unwrap();
    (folder, path)
}

#[test]
fn every_way_to_save_takes_effect() {
    for (name, save) in writers::ALL {
        let (_folder, path) = folder();
        let proxy = Proxy::start(&path);
        for weight in [30, 50, 100, 0] {
            save(&path, &yaml(weight));
            proxy.wait_for(weight);
        }
        proxy.check_whole();
        assert_eq!(proxy.ever(), [10, 30, 50, 100, 0], "{name}");
        assert_eq!(proxy.count("rejected"), 0, "{name}: a file that is gone for a moment is no error");
    }
}

#[test]
fn touching_a_file_changes_nothing() {
    let (_folder, path) = folder();
    let proxy = Proxy::start(&path);
    writers::touch(&path);
    proxy.wait_for_count("unchanged", 1);
    writers::rename(&path, &yaml(10));
    proxy.wait_for_count("unchanged", 2);
    assert_eq!((proxy.count("applied"), proxy.publisher.status().generation), (0, 1));
}

#[test]
fn a_config_map_is_swapped_three_times() {
    for whole_volume in [false, true] {
        let volume = tempfile::tempdir().unwrap();
        writers::config_map(volume.path(), 0, &[("vs.yaml", &yaml(10))]);
        let input = if whole_volume { volume.path().to_owned() } else { volume.path().join("vs.yaml") };
        let proxy = Proxy::start(&input);
        for (round, weight) in [(1, 30), (2, 50), (3, 100)] {
            writers::config_map(volume.path(), round, &[("vs.yaml", &yaml(weight))]);
            proxy.wait_for(weight);
        }
        proxy.wait_for_count("applied", 3);
        assert_eq!((proxy.count("applied"), proxy.count("rejected")), (3, 0), "exactly one reload for each swap");
    }
}

#[test]
fn a_file_behind_a_link_is_edited_where_it_is() {
    for (name, save) in writers::ALL {
        let (outside, target) = folder();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("repository")).unwrap();
        symlink("repository/vs.yaml", inside.path().join("vs.yaml")).unwrap();
        for input in [inside.path().join("vs.yaml"), inside.path().to_owned()] {
            let proxy = Proxy::start(&input);
            for weight in [30, 50, 10] {
                save(&target, &yaml(weight));
                proxy.wait_for(weight);
            }
            assert_eq!(proxy.ever(), [10, 30, 50, 10], "{name}");
        }
    }
}

#[test]
fn the_current_release_is_swapped_and_edited() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for (release, weight) in [("1", 10), ("2", 30), ("3", 50)] {
        fs::create_dir_all(path("releases").join(release)).unwrap();
        fs::write(path("releases").join(release).join("vs.yaml"), yaml(weight)).unwrap();
    }
    symlink("releases/1", path("current")).unwrap();
    let proxy = Proxy::start(&path("current/vs.yaml"));
    writers::swap_link(&path("current"), Path::new("releases/2"));
    proxy.wait_for(30);
    writers::rename(&path("releases/1/vs.yaml"), &yaml(77));
    writers::replace_link(&path("current"), &path("releases/3"));
    proxy.wait_for(50);
    writers::in_place(&path("releases/3/vs.yaml"), &yaml(51));
    proxy.wait_for(51);
    assert_eq!(proxy.ever(), [10, 30, 50, 51]);
}

#[test]
fn a_deleted_file_keeps_serving_and_comes_back() {
    let (_folder, path) = folder();
    let proxy = Proxy::start(&path);
    for weight in [30, 50] {
        fs::remove_file(&path).unwrap();
        proxy.wait_for_state(OnDiskState::Missing);
        assert!(proxy.metrics.render().contains("serin_config_last_reload_successful 0"));
        writers::in_pieces(&path, &yaml(weight));
        proxy.wait_for(weight);
        proxy.wait_for_state(OnDiskState::Active);
    }
    proxy.check_whole();
    assert_eq!(proxy.ever(), [10, 30, 50]);
}

#[test]
fn a_deleted_folder_keeps_serving_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let conf = root.path().join("etc/conf");
    let path = conf.join("vs.yaml");
    let make = |weight| {
        fs::create_dir_all(&conf).unwrap();
        writers::in_pieces(&path, &yaml(weight));
    };
    make(10);
    for input in [&path, &conf] {
        let proxy = Proxy::start(input);
        for (gone, weight) in [(conf.clone(), 30), (root.path().join("etc"), 50), (conf.clone(), 10)] {
            fs::remove_dir_all(&gone).unwrap();
            proxy.wait_for_state(OnDiskState::Missing);
            make(weight);
            proxy.wait_for(weight);
        }
        // Away and back before anybody looked.
        fs::rename(&conf, root.path().join("old")).unwrap();
        make(70);
        proxy.wait_for(70);
        fs::remove_dir_all(root.path().join("old")).unwrap();
        writers::rename(&path, &yaml(10));
        proxy.wait_for(10);
        proxy.check_whole();
        assert_eq!(proxy.ever(), [10, 30, 50, 10, 70, 10]);
    }
}

#[test]
fn half_a_file_is_never_in_force() {
    let (_folder, path) = folder();
    let proxy = Proxy::start(&path);
    for weight in [30, 50, 70] {
        let (half, whole) = (half(weight), yaml(weight));
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(half.as_bytes()).unwrap();
        // The time that the case is about, not one to wait for something.
        thread::sleep(Duration::from_millis(50));
        file.write_all(&whole.as_bytes()[half.len()..]).unwrap();
        drop(file);
        proxy.wait_for(weight);
    }
    proxy.check_whole();
    assert_eq!(proxy.ever(), [10, 30, 50, 70]);
}

#[test]
fn a_file_that_stays_open_is_taken_once_it_rests() {
    let (_folder, path) = folder();
    let proxy = Proxy::start(&path);
    let mut file = fs::File::create(&path).unwrap();
    for piece in yaml(30).as_bytes().chunks(1000) {
        file.write_all(piece).unwrap();
    }
    proxy.wait_for(30);
    drop(file);
    proxy.check_whole();
}

#[test]
fn what_is_invalid_changes_nothing_and_says_why() {
    let (_folder, path) = folder();
    let proxy = Proxy::start(&path);
    let broken = yaml(30).replace("weight: 70", "weight: seventy");
    for text in ["", "\n", "# nothing\n", "{", "kind: Other\n", &broken, &"[".repeat(100_000)] {
        writers::rename(&path, text);
        proxy.wait_for_state(OnDiskState::Rejected);
        assert!(!proxy.publisher.status().on_disk.errors.is_empty(), "{text:.20}");
        writers::rename(&path, &yaml(10));
        proxy.wait_for_state(OnDiskState::Active);
    }
    assert_eq!(proxy.publisher.status().generation, 1);
    let rejected = proxy.count("rejected");
    for round in 0..10 {
        writers::in_place(&path, &format!("{broken}# {round}\n"));
        proxy.wait_for_count("rejected", rejected + round + 1);
    }
    let status = proxy.publisher.status();
    let error = &status.on_disk.errors[0];
    assert_eq!(error.path, "spec.http[0].route[1].weight");
    assert_eq!((error.line, Path::new(&error.file)), (Some(13), path.as_path()));
    let Outcome::Rejected { generation: 1, rejection } = proxy.publisher.reload(Trigger::Api) else { panic!() };
    assert_eq!(rejection.problems, status.on_disk.errors);
    writers::in_place(&path, &yaml(30));
    proxy.wait_for(30);
    assert_eq!(proxy.ever(), [10, 30]);
}

#[test]
fn of_a_thousand_rewrites_the_last_one_wins() {
    for save in [writers::rename, writers::in_place] {
        let (_folder, path) = folder();
        let proxy = Proxy::start(&path);
        for round in 0..1000 {
            save(&path, &yaml(round % 97));
        }
        save(&path, &yaml(99));
        proxy.wait_for(99);
        proxy.check_whole();
        assert_eq!(proxy.count("rejected"), 0, "{:?}", proxy.ever());
    }
}

#[test]
fn files_of_a_folder_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::write(path("a.yaml"), yaml(10)).unwrap();
    let proxy = Proxy::start_with(vec![root.path().to_owned()], true, EVENTS_ONLY);
    let other = yaml(30).replace("name: a}", "name: b}").replace("hosts: [a.example]", "hosts: [b.example]");
    for name in ["b.yaml", "deep/b.yml", "deep/deeper/b.yaml"] {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        writers::in_pieces(&path(name), &other);
        proxy.wait_for_all(&[10, 10, 30, 30]);
        fs::remove_file(path(name)).unwrap();
        proxy.wait_for_all(&[10, 10]);
    }
    fs::write(path("notes.txt"), "a").unwrap();
    fs::write(path(".b.yaml.swp"), &other).unwrap();
    writers::rename(&path("a.yaml"), &yaml(70));
    proxy.wait_for_all(&[70, 70]);
    assert_eq!(proxy.count("rejected"), 0);
}

#[test]
fn a_file_that_may_be_read_again_is_read_again() {
    let (_folder, path) = folder();
    let proxy = Proxy::start(&path);
    writers::in_place(&path, "broken");
    proxy.wait_for_state(OnDiskState::Rejected);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    writers::rename(&path, &yaml(30));
    proxy.wait_for(30);
}

#[test]
fn reading_the_file_ourselves_is_no_change() {
    let (_folder, path) = folder();
    let proxy = Proxy::start(&path);
    for _ in 0..100 {
        assert_eq!(fs::read_to_string(&path).unwrap(), yaml(10));
        assert_eq!(proxy.publisher.reload(Trigger::Signal), Outcome::Unchanged { generation: 1 });
    }
    writers::rename(&path, &yaml(30));
    proxy.wait_for_count("applied", 1);
    let metrics = proxy.metrics.render();
    for (label, count) in [
        ("result=\"unchanged\",trigger=\"signal\"", 100),
        ("result=\"unchanged\",trigger=\"watch\"", 0),
        ("result=\"applied\",trigger=\"watch\"", 1),
    ] {
        assert!(metrics.contains(&format!("serin_config_reloads_total{{{label}}} {count}\n")), "{label}\n{metrics}");
    }
    assert!(metrics.contains("serin_config_watch_healthy 1"), "{metrics}");
    assert!(metrics.contains("serin_config_generation 2"), "{metrics}");
}

#[test]
fn without_events_the_poll_finds_what_changed() {
    let (_folder, path) = folder();
    let pace = Pace { stat: Duration::from_millis(2), hash: Duration::from_millis(2) };
    let proxy = Proxy::start_with(vec![path.clone()], false, pace);
    for (name, save) in writers::ALL {
        save(&path, &yaml(30));
        proxy.wait_for(30);
        save(&path, &yaml(50));
        proxy.wait_for(50);
        assert_eq!(proxy.count("rejected"), 0, "{name}");
    }
    proxy.check_whole();
}
