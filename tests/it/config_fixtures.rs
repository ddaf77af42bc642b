//! Configurations in `tests/fixtures/config`: those in `valid` load without an error, those in `warned` with warnings, those in
//! `invalid` do not, and about each of the latter two exactly the text in `NAME.expected` is said.
//! `SERIN_BLESS=1 cargo test --test it config_fixtures` writes what is said now; read it before you commit it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serin::config::load::{self, Loaded, Read, Source};
use serin::config::render;
use serin::config::settings::Settings;
use syn::Item;

use super::architecture;

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

fn load(path: &Path) -> Loaded {
    load::load(load::read(&[path.to_owned()], false), &Settings::default())
}

/// What is said about a file; it is called by its bare name, so that messages are the same everywhere.
fn said(path: &Path, loaded: &Loaded) -> String {
    let folder = path.parent().expect("a file is in a folder").display();
    render::text(loaded, false).replace(&format!("{folder}/"), "")
}

/// That what is said about each file of a folder is what stands beside it.
fn in_these_words(name: &str, valid: bool) {
    let bless = std::env::var_os("SERIN_BLESS").is_some();
    let mut different = Vec::new();
    for path in files(name) {
        let loaded = load(&path);
        let said = said(&path, &loaded);
        assert_eq!(loaded.is_valid(), valid, "{}:\n{said}", path.display());
        assert!(!said.is_empty(), "nothing is said about {}", path.display());
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
fn valid_ones_are_accepted() {
    for path in files("valid") {
        let loaded = load(&path);
        assert!(loaded.is_valid(), "{}", render::text(&loaded, false));
        assert!(!loaded.resources.virtual_services.is_empty());
    }
}

#[test]
fn invalid_ones_are_refused_in_these_words() {
    in_these_words("invalid", false);
}

#[test]
fn doubtful_ones_are_accepted_with_these_words() {
    in_these_words("warned", true);
}

/// The sorts of problems, as the source declares them.
fn kinds() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/diagnostic.rs");
    let items = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap().items;
    let variants = items.into_iter().find_map(|item| match item {
        Item::Enum(found) if found.ident == "Kind" => Some(found.variants),
        _ => None,
    });
    variants.unwrap().into_iter().map(|variant| variant.ident.to_string()).collect()
}

/// The codes of `istioctl analyze` that stand in the source, tests apart.
fn codes() -> BTreeSet<String> {
    let mut files = Vec::new();
    architecture::collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut codes = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let source = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (start, _) in source.match_indices("\"IST") {
            codes.extend(source[start + 1..].split('"').next().filter(|code| code.len() == 7).map(str::to_owned));
        }
    }
    codes
}

#[test]
fn every_kind_and_every_code_has_its_words_here() {
    let (mut kinds, mut codes) = (kinds(), codes());
    assert!(kinds.len() >= 8 && codes.len() >= 10, "{kinds:?} {codes:?}");
    for path in files("invalid").into_iter().chain(files("warned")) {
        for diagnostic in load(&path).diagnostics {
            kinds.remove(&format!("{:?}", diagnostic.kind));
            diagnostic.code.map(|code| codes.remove(code));
        }
    }
    assert!(kinds.is_empty() && codes.is_empty(), "no fixture has a problem of the kinds {kinds:?} or codes {codes:?}");
}

#[test]
fn no_words_are_left_over() {
    for name in ["invalid", "warned"] {
        for path in fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()) {
            let said = path.extension().is_some_and(|extension| extension == "expected");
            assert!(!said || path.with_extension("yaml").exists(), "{} is of no file", path.display());
        }
    }
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
