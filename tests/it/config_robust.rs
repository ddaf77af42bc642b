//! Whatever a file holds, loading ends with an answer: no panic, the same answer each time, and every problem at a line of the
//! file and a column of that line. Only an empty file, and one that is no text, have no lines to point at.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serin::config::load;
use serin::config::render;
use serin::config::settings::Settings;

use super::oracles::config_bytes;

/// Where changes begin: every fixture that is text, good and bad.
pub(crate) fn fixtures() -> Vec<String> {
    let mut texts = Vec::new();
    for folder in ["config/valid", "config/warned", "config/invalid", "tasks"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        texts.extend(paths.iter().filter_map(|path| fs::read_to_string(path).ok()));
    }
    assert!(texts.len() > 40, "{}", texts.len());
    texts
}

/// What is typed by mistake, and what YAML gives a meaning.
const TYPED: [&str; 24] = [
    "\n", "\r", "\t", " ", "  ", ":", ": ", "- ", "-", "---\n", "...\n", "{", "}", "[", "]", ",", "&a ", "*a",
    "!!str ", "\"", "'", "|\n", "# ", "한",
];

/// One slip.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Cut(usize),
    Delete(usize, usize),
    Insert(usize, &'static str),
    RepeatLine(usize),
    Indent(usize, bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => any::<usize>().prop_map(Change::Cut),
        3 => (any::<usize>(), 1..6_usize).prop_map(|(at, length)| Change::Delete(at, length)),
        5 => (any::<usize>(), prop::sample::select(&TYPED[..])).prop_map(|(at, typed)| Change::Insert(at, typed)),
        1 => any::<usize>().prop_map(Change::RepeatLine),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, more)| Change::Indent(at, more)),
    ]
}

/// Some slips.
pub(crate) fn slips() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 1..6)
}

/// Makes one in a text.
pub(crate) fn apply(text: &mut String, change: &Change) {
    let at = |text: &str, wanted: usize| {
        let wanted = wanted % (text.len() + 1);
        (wanted..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
    };
    let line = |text: &str, wanted: usize| text[..at(text, wanted)].rfind('\n').map_or(0, |end| end + 1);
    match change {
        Change::Cut(wanted) => text.truncate(at(text, *wanted)),
        Change::Delete(wanted, length) => {
            let from = at(text, *wanted);
            let end = text[from..].char_indices().nth(*length).map_or(text.len(), |(end, _)| from + end);
            text.replace_range(from..end, "");
        }
        Change::Insert(wanted, typed) => text.insert_str(at(text, *wanted), typed),
        Change::RepeatLine(wanted) => {
            let from = line(text, *wanted);
            let end = text[from..].find('\n').map_or(text.len(), |end| from + end + 1);
            let again = text[from..end].to_owned();
            text.insert_str(from, &again);
        }
        Change::Indent(wanted, more) => {
            let from = line(text, *wanted);
            match more {
                true => text.insert_str(from, "  "),
                false if text[from..].starts_with("  ") => text.replace_range(from..from + 2, ""),
                false => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn slips_of_the_hand_get_an_answer(mut text in prop::sample::select(fixtures()), changes in slips()) {
        for change in &changes {
            apply(&mut text, change);
        }
        config_bytes::check_text(&text);
    }

    #[test]
    fn any_text_gets_an_answer(text in "(\\PC|[\n\r\t:{}\\[\\]&*!|>#'\"-]){0,60}") {
        config_bytes::check_text(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("vs.yaml");
        std::fs::write(&path, &bytes).unwrap();
        let loaded = load::load(load::read(&[path], false), &Settings::default());
        prop_assert!(!loaded.is_valid());
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        config_bytes::are_inside(&loaded, text, wide || text.trim().is_empty());
        let said = render::text(&loaded, false);
        prop_assert!(said.starts_with("error") || said.starts_with("warning"));
    }
}
