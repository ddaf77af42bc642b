use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::config::place::Place;
use crate::telemetry::Buckets;

fn yaml(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [a.example], http: [{{route: [{{destination: {{host: a.example}}}}]}}]}}\n"
    )
}

/// What was put in force: generations and names.
type Installed = Arc<Mutex<Vec<(u64, String)>>>;

/// A publisher of one file, whose `install` refuses names that begin with `refused` and fails at `panic`.
fn publisher(path: &Path) -> (Publisher, Installed) {
    let installed = Installed::default();
    let list = Arc::clone(&installed);
    let install = Box::new(move |loaded: &Loaded, generation| {
        let service = &loaded.resources.virtual_services[0];
        let name = service.metadata.name.value.clone();
        assert_ne!(name, "panic");
        if name.starts_with("refused") {
            return Err(vec![Diagnostic::error(Kind::Conflict, service.place, "port 80 is taken").help("free it")]);
        }
        lock(&list).push((generation, name));
        Ok(())
    });
    let inputs = Inputs::Paths { paths: vec![path.to_owned()], recursive: false };
    let settings = Settings { references: false, ..Settings::default() };
    (Publisher::new(inputs, settings, Metrics::new(1, Buckets::Fine), install), installed)
}

fn metric(publisher: &Publisher, line: &str) -> bool {
    publisher.metrics().render().lines().any(|one| one == line)
}

#[test]
fn what_is_new_and_valid_is_put_in_force_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    let (publisher, installed) = publisher(&path);
    assert_eq!(publisher.status().generation, 0);
    fs::write(&path, yaml("one")).unwrap();
    assert_eq!(publisher.start(), Outcome::Applied { generation: 1 });
    assert_eq!(publisher.reload(Trigger::Signal), Outcome::Unchanged { generation: 1 });
    fs::write(&path, yaml("two")).unwrap();
    assert_eq!(publisher.reload(Trigger::Api), Outcome::Applied { generation: 2 });
    assert_eq!(*lock(&installed), [(1, "one".to_owned()), (2, "two".to_owned())]);

    let status = publisher.status();
    assert_eq!((status.generation, status.on_disk.state), (2, OnDiskState::Active));
    assert_eq!(status.hash.as_deref(), Some(status.on_disk.hash.as_str()));
    assert_eq!(status.sources, [path]);
    let since = status.active_since.as_deref().unwrap();
    assert!(since.parse::<jiff::Timestamp>().is_ok() && since.ends_with('Z'), "{since}");
    for line in [
        "serin_config_generation 2",
        "serin_config_last_reload_successful 1",
        "serin_config_reloads_total{result=\"applied\",trigger=\"api\"} 1",
        "serin_config_reloads_total{result=\"applied\",trigger=\"signal\"} 0",
        "serin_config_reloads_total{result=\"unchanged\",trigger=\"signal\"} 1",
        &format!("serin_config_info{{hash=\"{}\"}} 1", status.on_disk.hash),
    ] {
        assert!(metric(&publisher, line), "{line}\n{}", publisher.metrics().render());
    }
}

/// Truly at once: each waits for its turn before it looks which generation is in force.
#[test]
fn of_those_who_have_seen_the_same_one_makes_the_change() {
    const WRITERS: u64 = 8;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    let (publisher, installed) = publisher(&path);
    fs::write(&path, yaml("g1")).unwrap();
    publisher.start();
    for seen in 1..20 {
        fs::write(&path, yaml(&format!("g{}", seen + 1))).unwrap();
        let together = Barrier::new(WRITERS as usize);
        let reload = || {
            together.wait();
            publisher.reload_meant(Trigger::Api, &Meant::For(vec![seen]))
        };
        let outcomes: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(reload)).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let made: Vec<_> = outcomes.iter().flatten().collect();
        assert_eq!(made, [&Outcome::Applied { generation: seen + 1 }]);
        assert!(outcomes.iter().filter(|outcome| outcome.is_err()).all(|told| *told == Err(Outdated(seen + 1))));
    }
    assert_eq!(lock(&installed).len(), 20);
    assert_eq!(publisher.reload_meant(Trigger::Api, &Meant::For(vec![20])), Ok(Outcome::Unchanged { generation: 20 }));
}

#[test]
fn what_is_refused_leaves_the_last_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    let (publisher, installed) = publisher(&path);
    fs::write(&path, yaml("one")).unwrap();
    publisher.start();
    let good = publisher.status();
    for (content, message) in [
        (Some("a: ["), None),
        (Some(""), Some("empty file")),
        (Some(&*yaml("refused")), Some("port 80 is taken")),
        (Some(&*yaml("panic")), Some("this configuration makes serin fail")),
        (None, None),
    ] {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let Outcome::Rejected { generation: 1, rejection } = publisher.reload(Trigger::Signal) else {
            panic!("{content:?}");
        };
        let status = publisher.status();
        let wanted = if content.is_some() { OnDiskState::Rejected } else { OnDiskState::Missing };
        assert_eq!((status.generation, &status.hash, status.on_disk.state), (1, &good.hash, wanted), "{content:?}");
        assert_ne!(Some(&status.on_disk.hash), status.hash.as_ref());
        assert_eq!(status.on_disk.errors, rejection.problems);
        if let Some(message) = message {
            assert_eq!(rejection.problems[0].message, message);
        }
        assert!(metric(&publisher, "serin_config_last_reload_successful 0"));
        assert!(metric(&publisher, "serin_config_generation 1"));
    }
    fs::write(&path, yaml("one")).unwrap();
    assert_eq!(publisher.reload(Trigger::Signal), Outcome::Unchanged { generation: 1 });
    assert_eq!(publisher.status().on_disk.state, OnDiskState::Active);
    assert!(metric(&publisher, "serin_config_last_reload_successful 1"));
    assert_eq!(lock(&installed).len(), 1);
}

#[test]
fn without_a_first_configuration_a_later_one_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    let (publisher, _installed) = publisher(&path);
    let Outcome::Rejected { generation: 0, rejection } = publisher.start() else { panic!() };
    assert!(rejection.missing && rejection.problems[0].severity == Severity::Error && !rejection.text.is_empty());
    assert_eq!((publisher.status().generation, &publisher.status().hash), (0, &None));
    fs::write(&path, yaml("one")).unwrap();
    assert_eq!(publisher.reload(Trigger::Watch), Outcome::Applied { generation: 1 });
}

#[test]
fn a_refusal_that_may_have_passed_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    fs::write(&path, yaml("one")).unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let install = Box::new(move |_: &Loaded, _| match counted.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(vec![Diagnostic::error(Kind::Conflict, Place::default(), "port 80 is taken")]),
        _ => Ok(()),
    });
    let inputs = Inputs::Paths { paths: vec![path], recursive: false };
    let settings = Settings { references: false, ..Settings::default() };
    let publisher = Publisher::new(inputs, settings, Metrics::new(1, Buckets::Fine), install);
    let (first, second) = (publisher.start(), publisher.reload(Trigger::Api));
    let (Outcome::Rejected { rejection: first, .. }, Outcome::Rejected { rejection: second, .. }) = (first, second)
    else {
        panic!();
    };
    assert!(Arc::ptr_eq(&first, &second), "told once");
    assert_eq!(publisher.reload(Trigger::Api), Outcome::Applied { generation: 1 });
}

#[test]
fn changes_from_all_sides_happen_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    let (publisher, installed) = publisher(&path);
    fs::write(&path, yaml("start")).unwrap();
    publisher.start();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (publisher, path) = (&publisher, &path);
            scope.spawn(move || {
                for round in 0..50 {
                    let next = path.with_extension(format!("{thread}"));
                    fs::write(&next, yaml(&format!("n{thread}-{round}"))).unwrap();
                    fs::rename(next, path).unwrap();
                    publisher.reload(Trigger::Api);
                }
            });
        }
    });
    publisher.reload(Trigger::Api);
    let installed = lock(&installed);
    let generations: Vec<u64> = installed.iter().map(|(generation, _)| *generation).collect();
    assert_eq!(generations, (1..=installed.len() as u64).collect::<Vec<_>>());
    assert!(fs::read_to_string(&path).unwrap().contains(&installed.last().unwrap().1), "the last one wins");
}

#[test]
fn yaml_without_a_file_is_read_as_one() {
    let metrics = Metrics::new(1, Buckets::Fine);
    let settings = Settings { references: false, ..Settings::default() };
    let publisher = Publisher::new(Inputs::Text(yaml("one")), settings, metrics, Box::new(|_, _| Ok(())));
    assert_eq!(publisher.start(), Outcome::Applied { generation: 1 });
    assert_eq!(publisher.reload(Trigger::Signal), Outcome::Unchanged { generation: 1 });
    assert_eq!(publisher.status().on_disk.state, OnDiskState::Active);
}
