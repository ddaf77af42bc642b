//! The folder of the demo: files for the reader to edit. What is there stays as it was left, but for the ports of the built-in
//! upstreams when another program has taken them.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use crate::cli::set_weight;
use crate::config::load::{self, Loaded};
use crate::config::place::{Place, Spanned};
use crate::config::render;
use crate::config::resource::service_entry::WorkloadEntry;
use crate::config::settings::Settings;

/// The files, in the order in which they are of interest.
const FILES: [(&str, &str); 3] = [
    (WEIGHTS, include_str!("files/product-service-vs.yaml")),
    ("product-service-dr.yaml", include_str!("files/product-service-dr.yaml")),
    ("product-service-se.yaml", include_str!("files/product-service-se.yaml")),
];
/// The file with the weights.
pub(super) const WEIGHTS: &str = "product-service-vs.yaml";
/// The file with the release, for the demos of one.
pub(super) const CANARY: &str = "canary.yaml";
const CANARY_TEXT: &str = include_str!("files/canary.yaml");
/// Where the states and reports of releases are.
const RELEASES: &str = "releases";

/// What became of the files that were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All of them were.
    All,
    /// Some were there and stay as they are.
    Kept,
}

/// A port for the built-in upstream of a version.
#[derive(Debug)]
pub(super) struct Upstream {
    /// The version.
    pub version: &'static str,
    /// Listens on the port that the ServiceEntry names.
    pub listener: TcpListener,
}

/// Writes the files that are missing, with that of the release if there is to be one; with `reset` all of them, and that of a
/// release also if an earlier demo left it.
///
/// # Errors
/// What to tell the reader.
pub(super) fn write(folder: &Path, reset: bool, release: bool) -> Result<Written, String> {
    fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    let mut written = Written::All;
    let canary = (release || reset && folder.join(CANARY).exists()).then_some((CANARY, CANARY_TEXT));
    for (name, text) in FILES.into_iter().chain(canary) {
        let path = folder.join(name);
        let made = OpenOptions::new().write(true).create(reset).truncate(reset).create_new(!reset).open(&path);
        match made.and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => written = Written::Kept,
            Err(error) => return Err(cannot_write(&path, &error)),
        }
    }
    Ok(written)
}

/// A new folder for the state and the report of one release. Those of earlier demos stay, and no release goes on where another
/// demo was left.
///
/// # Errors
/// What to tell the reader.
pub(super) fn new_state_dir(folder: &Path) -> Result<PathBuf, String> {
    let releases = folder.join(RELEASES);
    fs::create_dir_all(&releases).map_err(|error| cannot_write(&releases, &error))?;
    let mut number = 1_u32;
    loop {
        let path = releases.join(number.to_string());
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(cannot_write(&path, &error)),
        }
    }
}

/// The reports in such a folder that are for people, in the order in which they were written.
pub(super) fn reports(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir).into_iter().flatten();
    let mut reports: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| is_report(path)).collect();
    reports.sort();
    reports
}

fn is_report(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.contains(".report-") && name.ends_with(".txt"))
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    let help = "run it where you may write; it makes the folder `serin-demo` there";
    format!("error: cannot write {}: {error}\n  = help: {help}", path.display())
}

/// Listens for every version that the folder expects on this host: on the port that the ServiceEntry names or, if that is
/// taken, on a free one, which is written there in its stead.
///
/// # Errors
/// What to tell the reader: the configuration is not valid, there is no port, or the file cannot be written.
pub(super) fn upstreams(folder: &Path, versions: &[&'static str]) -> Result<Vec<Upstream>, String> {
    let loaded = load::load(load::read(&[folder.to_owned()], false), &Settings::default());
    if !loaded.is_valid() {
        let text = render::text(&loaded, false);
        return Err(format!("{text}\nerror: {} is not valid: mend it, or begin anew with --reset", folder.display()));
    }
    let (mut upstreams, mut edits) = (Vec::new(), Vec::new());
    for version in versions {
        let Some(port) = port_of(&loaded, version) else { continue };
        let (listener, number) = listen(port.value).map_err(|error| format!("error: no free port: {error}"))?;
        if i64::from(number) != port.value {
            edits.push((port.place, number));
        }
        upstreams.push(Upstream { version, listener });
    }
    rewrite(&loaded, edits)?;
    Ok(upstreams)
}

/// The port of the endpoint on this host that carries the version's label.
fn port_of<'l>(loaded: &'l Loaded, version: &str) -> Option<&'l Spanned<i64>> {
    let here = |endpoint: &&WorkloadEntry| {
        let labelled = endpoint.labels.iter().any(|(name, value)| name.value == "version" && value.value == version);
        labelled && matches!(endpoint.address.as_str(), "127.0.0.1" | "localhost")
    };
    let mut endpoints = loaded.resources.service_entries.iter().flat_map(|entry| &entry.spec.endpoints);
    endpoints.find(here)?.ports.first().map(|(_, port)| port)
}

/// Listens on this port, or on a free one.
fn listen(wanted: i64) -> io::Result<(TcpListener, u16)> {
    let wanted = u16::try_from(wanted).unwrap_or(0);
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    listener.set_nonblocking(true)?;
    let number = listener.local_addr()?.port();
    Ok((listener, number))
}

/// Puts other numbers in these places of the files.
fn rewrite(loaded: &Loaded, mut edits: Vec<(Place, u16)>) -> Result<(), String> {
    // From the end, so that a number of another length moves none that is still to come.
    edits.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    for (index, source) in (0u32..).zip(&loaded.sources) {
        let mut text = source.text.to_string();
        for (place, number) in edits.iter().filter(|(place, _)| place.file == index) {
            text = replaced(&text, *place, *number).ok_or_else(|| cannot_edit(&source.path, *place))?;
        }
        if text != *source.text {
            let failed = |error| format!("error: cannot write {}: {error}", source.path.display());
            set_weight::write(&source.path, &source.text, &text).map_err(failed)?;
        }
    }
    Ok(())
}

fn cannot_edit(path: &Path, place: Place) -> String {
    let at = format!("{}:{}:{}", path.display(), place.line, place.column);
    format!("error: {at}: another program listens on this port\n  = help: write the number of a free port there")
}

/// The text with another number at a place; none if there are no digits to replace.
fn replaced(text: &str, place: Place, number: u16) -> Option<String> {
    let line: usize = text.split_inclusive('\n').take(place.line.checked_sub(1)? as usize).map(str::len).sum();
    let rest = text.get(line..)?;
    let (column, _) = rest.char_indices().nth(place.column.checked_sub(1)? as usize)?;
    let digits = rest[column..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - column);
    if digits == 0 || digits != place.length as usize {
        return None;
    }
    let at = line + column;
    Some(format!("{}{number}{}", &text[..at], &text[at + digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("serin-demo");
        (above, folder)
    }

    #[test]
    fn what_was_edited_is_kept_until_it_is_reset() {
        let (_above, folder) = folder();
        assert_eq!(write(&folder, false, false), Ok(Written::All));
        let (weights, other) = (folder.join(WEIGHTS), folder.join("product-service-dr.yaml"));
        fs::write(&weights, "mine").unwrap();
        fs::remove_file(&other).unwrap();
        assert_eq!(write(&folder, false, false), Ok(Written::Kept));
        assert_eq!(fs::read_to_string(&weights).unwrap(), "mine");
        assert!(other.exists());
        assert_eq!(write(&folder, true, false), Ok(Written::All));
        assert_eq!(fs::read_to_string(&weights).unwrap(), FILES[0].1);
    }

    #[test]
    fn the_file_of_a_release_is_written_for_its_demos_and_reset_once_it_is_there() {
        let (_above, folder) = folder();
        let canary = folder.join(CANARY);
        write(&folder, true, false).unwrap();
        assert!(!canary.exists(), "nobody asked for a release");
        assert_eq!(write(&folder, false, true), Ok(Written::Kept), "the others were there");
        assert_eq!(fs::read_to_string(&canary).unwrap(), CANARY_TEXT);
        fs::write(&canary, "mine").unwrap();
        write(&folder, false, true).unwrap();
        assert_eq!(fs::read_to_string(&canary).unwrap(), "mine");
        write(&folder, true, false).unwrap();
        assert_eq!(fs::read_to_string(&canary).unwrap(), CANARY_TEXT, "an invalid one must not outlive --reset");
    }

    #[test]
    fn each_release_has_a_folder_of_its_own_in_which_its_reports_are_found() {
        let (_above, folder) = folder();
        let (first, second) = (new_state_dir(&folder).unwrap(), new_state_dir(&folder).unwrap());
        assert_ne!(first, second);
        for name in ["a.json", "a.report-2.txt", "a.report-1.txt", "a.report-1.json", "a.report-1.txt.new"] {
            fs::write(first.join(name), "").unwrap();
        }
        assert_eq!(reports(&first), [first.join("a.report-1.txt"), first.join("a.report-2.txt")]);
        assert!(reports(&second).is_empty() && reports(&folder.join("none")).is_empty());
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "in the way").unwrap();
        assert!(new_state_dir(&folder).unwrap_err().contains("help: run it where"));
    }

    #[test]
    fn a_folder_that_cannot_be_is_said() {
        let (_above, folder) = folder();
        fs::write(&folder, "in the way").unwrap();
        let said = write(&folder, false, false).unwrap_err();
        assert!(said.starts_with("error: cannot write ") && said.contains("help: run it where"), "{said}");
    }

    #[test]
    fn ports_that_are_taken_give_way_to_free_ones_and_nothing_else_changes() {
        let (_above, folder) = folder();
        write(&folder, false, false).unwrap();
        let entry = folder.join("product-service-se.yaml");
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let before = FILES[2].1.replace("8081", &port).replace("8082", &port);
        fs::write(&entry, &before).unwrap();
        let first = upstreams(&folder, &["v1", "v2"]).unwrap();
        let port_of = |one: &Upstream| one.listener.local_addr().unwrap().port().to_string();
        let wanted = before.replacen(&port, &port_of(&first[0]), 1);
        let wanted = wanted.replacen(&port, &port_of(&first[1]), 1);
        assert_eq!(fs::read_to_string(&entry).unwrap(), wanted);
        let ports: Vec<_> = first.iter().map(port_of).collect();
        drop(first);
        let again = upstreams(&folder, &["v1", "v2"]).unwrap();
        assert_eq!(again.iter().map(port_of).collect::<Vec<_>>(), ports, "the same ports while they are free");
        assert_eq!(fs::read_to_string(&entry).unwrap(), wanted);
    }

    #[test]
    fn a_version_elsewhere_needs_no_upstream() {
        let (_above, folder) = folder();
        write(&folder, false, false).unwrap();
        let text = FILES[2].1.replacen("address: 127.0.0.1", "address: 10.0.0.1", 1).replace("8082", "0");
        fs::write(folder.join("product-service-se.yaml"), text.replace("http: 0", "http: 1")).unwrap();
        let upstreams = upstreams(&folder, &["v1", "v2"]).unwrap();
        assert_eq!(upstreams.iter().map(|one| one.version).collect::<Vec<_>>(), ["v2"]);
    }

    #[test]
    fn an_invalid_folder_is_refused_with_its_line() {
        let (_above, folder) = folder();
        write(&folder, false, false).unwrap();
        fs::write(folder.join(WEIGHTS), FILES[0].1.replace("weight: 90", "weight: 60")).unwrap();
        let said = upstreams(&folder, &["v1"]).unwrap_err();
        assert!(said.contains("product-service-vs.yaml:") && said.contains("--reset"), "{said}");
    }

    #[test]
    fn only_plain_digits_are_replaced() {
        let place = |line, column, length| Place { file: 0, line, column, length };
        assert_eq!(replaced("a\nä: 80 # x\n", place(2, 4, 2), 9000).unwrap(), "a\nä: 9000 # x\n");
        assert_eq!(replaced("a: 80", place(1, 4, 2), 1).unwrap(), "a: 1");
        assert_eq!(replaced("a: 0x50", place(1, 4, 4), 1), None);
        assert_eq!(replaced("a: 80", place(0, 1, 1), 1), None);
        assert_eq!(replaced("a: 80", place(9, 1, 1), 1), None);
    }
}
