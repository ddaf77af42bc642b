//! Configurations in `tests/fixtures/config`: those in `valid` load without an error, and for each in `invalid` exactly the text in
//! `NAME.expected` is said. `SERIN_BLESS=1 cargo test --test it config_fixtures` writes what is said now; read it before you commit it.

use std::fs;
use std::path::{Path, PathBuf};

use serin::config::load::{self, Loaded, Read, Source};
use serin::config::render;
use serin::config::settings::Settings;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config").join(name)
}

/// The YAML files of a folder, sorted.
fn files(name: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder(name)).expect("the fixtures are there").map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|one| one == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Loads a file under its bare name, so that messages are the same everywhere.
fn load(path: &Path) -> Loaded {
    let mut read = load::read(&[path.to_owned()], false);
    read.sources[0].path = path.file_name().expect("a file has a name").into();
    load::load(read, &Settings::default())
}

#[test]
fn valid_ones_are_accepted() {
    for path in files("valid") {
        let loaded = load(&path);
        assert!(loaded.is_valid(), "{}", render::text(&loaded, false));
        assert!(!loaded.resources.virtual_services.is_empty());
    }
}

#[test]
fn invalid_ones_are_refused_in_these_words() {
    let bless = std::env::var_os("SERIN_BLESS").is_some();
    let mut different = Vec::new();
    for path in files("invalid") {
        let loaded = load(&path);
        assert!(!loaded.is_valid(), "{} is accepted", path.display());
        let said = render::text(&loaded, false);
        let expected = path.with_extension("expected");
        if bless {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            different.push(format!("{}:\n{said}", path.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn each_document_may_stand_in_a_file_of_its_own() {
    let path = folder("valid").join("canary.yaml");
    let text = fs::read_to_string(path).unwrap();
    let parts: Vec<_> = text.split("---\n").collect();
    let source = |(index, part): (usize, &&str)| Source { path: format!("{index}.yaml").into(), text: (*part).into() };
    let sources = parts.iter().enumerate().map(source).collect();
    let loaded = load::load(Read { sources, ..Read::default() }, &Settings::default());
    assert!(loaded.is_valid(), "{}", render::text(&loaded, false));
    assert_eq!(loaded.resources.destination_rules.len(), 1);
}
