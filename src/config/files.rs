//! Reading files as a whole or not at all: regular files only, of bounded size, that did not change meanwhile.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::credentials::Files;
use super::diagnostic::{Diagnostic, Kind};
use super::load::Source;
use super::place::Place;
use super::{text, yaml};

/// So that opening a FIFO does not wait for a writer.
const O_NONBLOCK: i32 = if cfg!(target_os = "linux") { 0o4000 } else { 4 };
/// How often a file that changes under the reader is read again.
const ATTEMPTS: usize = 8;

/// What the paths held.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The files, sorted by path. One that could not be read is here without text.
    pub sources: Vec<Source>,
    /// Files that could not be read, and why.
    pub problems: Vec<Diagnostic>,
    /// Certificate files, as far as it was known which ones the sources name.
    pub files: Files,
}

impl Read {
    /// BLAKE3 over all paths and contents, in hexadecimal. Equal hashes: nothing changed.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for source in &self.sources {
            part(source.path.as_os_str().as_encoded_bytes());
            part(source.text.as_bytes());
        }
        self.problems.iter().for_each(|problem| part(problem.message.as_bytes()));
        for (path, content) in self.files.contents() {
            part(path.as_os_str().as_encoded_bytes());
            part(content);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Reads files, folders (every `*.yaml` and `*.yml` in them that is not hidden; below them too if `recursive`) and, for `-`, standard input.
/// Symbolic links are followed. The same file is read once.
pub fn read(paths: &[PathBuf], recursive: bool) -> Read {
    let mut wanted = Wanted { files: Vec::new(), folders: HashSet::new(), recursive };
    for path in paths {
        wanted.add(path);
    }
    wanted.files.sort();
    let mut read = Read::default();
    let mut seen = HashSet::new();
    for (path, problem) in wanted.files {
        let same = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if !seen.insert(same) {
            continue;
        }
        let input = path.as_os_str() == "-";
        let content = match problem {
            Some(problem) => Err(problem),
            None if input => standard_input(),
            None => read_file(&path),
        };
        let text =
            content.map_err(|problem| (Place::default(), problem)).and_then(utf8).unwrap_or_else(|(place, message)| {
                let file = u32::try_from(read.sources.len()).unwrap_or(u32::MAX);
                read.problems.push(Diagnostic::error(Kind::Syntax, Place { file, ..place }, message));
                String::new()
            });
        let path = if input { PathBuf::from("<stdin>") } else { path };
        read.sources.push(Source { path, text: text.into() });
    }
    read
}

/// The files to read; for those that cannot be, why.
struct Wanted {
    files: Vec<(PathBuf, Option<String>)>,
    folders: HashSet<PathBuf>,
    recursive: bool,
}

impl Wanted {
    fn add(&mut self, path: &Path) {
        if path.as_os_str() != "-" && path.is_dir() {
            let before = self.files.len();
            self.add_folder(path);
            if self.files.len() == before {
                let problem = "no `*.yaml` or `*.yml` file in this folder".to_owned();
                self.files.push((path.to_owned(), Some(problem)));
            }
        } else {
            self.files.push((path.to_owned(), None));
        }
    }

    fn add_folder(&mut self, folder: &Path) {
        // A link to a folder above would never end.
        if !self.folders.insert(fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())) {
            return;
        }
        let entries = match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => return self.files.push((folder.to_owned(), Some(cannot_read(&error)))),
        };
        for entry in entries {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() {
                if self.recursive {
                    self.add_folder(&path);
                }
            } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                self.files.push((path, None));
            }
        }
    }
}

fn cannot_read(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("cannot read it: {}", text.to_lowercase())
}

fn too_large() -> String {
    format!("larger than {} MiB", yaml::MAX_BYTES >> 20)
}

fn standard_input() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    io::stdin().take(yaml::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(&error))?;
    if bytes.len() as u64 > yaml::MAX_BYTES { Err(too_large()) } else { Ok(bytes) }
}

/// A regular file as a whole; or why not.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    for _ in 0..ATTEMPTS {
        let mut file =
            OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(|error| cannot_read(&error))?;
        let read = read_once(&mut file)?;
        if let Some(bytes) = read {
            return Ok(bytes);
        }
        std::thread::yield_now();
    }
    Err("it keeps changing while it is read".to_owned())
}

/// The content, unless it changed while it was read.
fn read_once(file: &mut File) -> Result<Option<Vec<u8>>, String> {
    let state = |file: &File| file.metadata().map_err(|error| cannot_read(&error));
    let before = state(file)?;
    if !before.is_file() {
        return Err("not a regular file".to_owned());
    }
    if before.len() > yaml::MAX_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default() + 1);
    file.take(yaml::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(&error))?;
    let after = state(file)?;
    let same = before.len() == after.len() && before.modified().ok() == after.modified().ok();
    Ok((same && bytes.len() as u64 == after.len()).then_some(bytes))
}

/// The text without its byte order mark; or where it stops to be UTF-8.
fn utf8(bytes: Vec<u8>) -> Result<String, (Place, String)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err((Place::default(), "not UTF-8, but probably UTF-16: save it as UTF-8".to_owned()));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let whole = String::from_utf8_lossy(error.as_bytes());
        let (line, column) = text::position(&whole, valid);
        (Place { line, column, length: 1, file: 0 }, format!("byte 0x{:02x} is not UTF-8", error.as_bytes()[valid]))
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(read: &Read) -> Vec<&str> {
        read.problems.iter().map(|problem| problem.message.as_str()).collect()
    }

    #[test]
    fn a_folder_gives_its_yaml_files_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", ".hidden.yaml", "notes.txt"] {
            fs::write(folder.path().join(name), "a: 1\n").unwrap();
        }
        fs::create_dir(folder.path().join("deeper.yaml")).unwrap();
        fs::write(folder.path().join("deeper.yaml/c.yaml"), "\u{feff}a: 1\n").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let names = |recursive| -> Vec<String> {
            let read = read(&[folder.path().to_owned(), folder.path().join("a.yml")], recursive);
            assert!(read.problems.is_empty() && read.sources.iter().all(|source| &*source.text == "a: 1\n"));
            let inside = |source: &Source| source.path.strip_prefix(folder.path()).unwrap().display().to_string();
            read.sources.iter().map(inside).collect()
        };
        assert_eq!(names(false), ["a.yml", "b.yaml"]);
        assert_eq!(names(true), ["a.yml", "b.yaml", "deeper.yaml/c.yaml"]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("latin.yaml"), b"a: b\nc: \xe9\n").unwrap();
        fs::write(path("wide.yaml"), b"\xff\xfea\0").unwrap();
        File::create(path("sparse.yaml")).unwrap().set_len(1 << 30).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe.yaml")).status().unwrap().success());
        let read = read(&[path("gone.yaml"), folder.path().to_owned()], false);
        assert_eq!(
            messages(&read),
            [
                "cannot read it: no such file or directory",
                "byte 0xe9 is not UTF-8",
                "not a regular file",
                "larger than 16 MiB",
                "not UTF-8, but probably UTF-16: save it as UTF-8",
            ]
        );
        assert_eq!((read.problems[1].place.line, read.problems[1].place.column), (2, 4));
        let empty = tempfile::tempdir().unwrap();
        let read = super::read(&[empty.path().to_owned()], false);
        assert_eq!(messages(&read), ["no `*.yaml` or `*.yml` file in this folder"]);
    }

    #[test]
    fn the_hash_tells_contents_and_names_apart() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let hash = |sources: &[Source]| Read { sources: sources.to_vec(), ..Read::default() }.hash();
        let one = hash(&[source("a", "bc")]);
        assert_eq!(one, hash(&[source("a", "bc")]));
        assert_ne!(one, hash(&[source("ab", "c")]));
        assert_ne!(one, hash(&[source("a", "bd")]));
    }
}
