//! The way that leads to each file: which folders have to be watched so that no change of what a path means goes unseen,
//! and which names in them matter. It looks at the disk and changes nothing, there or here.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Links followed on one way; the kernel gives up at the same number.
const MAX_LINKS: usize = 40;

/// Everything that is to be watched. All paths are real: no link is left in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// Each folder, with what matters in it.
    pub(super) folders: BTreeMap<PathBuf, Names>,
    /// The files at the end of the ways, as far as there are any.
    pub(super) files: BTreeSet<PathBuf>,
    /// What every step looked like: equal marks, nothing changed.
    pub(super) marks: Vec<Mark>,
}

/// The names in one folder that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    exact: BTreeSet<OsString>,
    /// It is itself an input: files of a configuration matter, whatever they are called.
    input: bool,
    /// So do folders in it.
    deep: bool,
}

/// What one step looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    path: PathBuf,
    /// Device, inode, size, links, modified and changed in nanoseconds; `None` when there was nothing.
    seen: Option<[i128; 6]>,
}

impl Ways {
    /// The ways to these inputs as they are now.
    pub(super) fn of(paths: &[PathBuf], recursive: bool) -> Self {
        let mut walk = Walk { ways: Self::default(), recursive, visited: HashSet::new() };
        for path in paths {
            // Only the working directory can be unknown, and then nothing relative can be read either.
            if let Ok(path) = std::path::absolute(path) {
                walk.input(&path);
            }
        }
        walk.ways
    }

    /// And those to single files that these inputs name.
    pub(super) fn and_to(self, named: &[PathBuf]) -> Self {
        let mut walk = Walk { ways: self, recursive: false, visited: HashSet::new() };
        for path in named.iter().filter_map(|path| std::path::absolute(path).ok()) {
            walk.follow(&path);
        }
        walk.ways
    }

    /// Whether an event about this path can mean a change.
    pub(super) fn matter(&self, path: &Path) -> bool {
        if self.files.contains(path) || self.folders.contains_key(path) {
            return true;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
        self.folders.get(parent).is_some_and(|names| {
            names.exact.contains(name) || (names.input && is_config(name)) || (names.deep && path.is_dir())
        })
    }

    /// Files that stand at the end of a way and have no name on their disk any more: only a mount can show them, and what
    /// replaced them is out of sight.
    pub(super) fn orphans(&self) -> impl Iterator<Item = &Path> {
        let orphan = |mark: &&Mark| mark.seen.is_some_and(|seen| seen[3] == 0) && self.files.contains(&mark.path);
        self.marks.iter().filter(orphan).map(|mark| mark.path.as_path())
    }
}

/// Where the way to this path ends now: at the file, or at the first step that is missing.
pub(super) fn end(path: &Path) -> Option<PathBuf> {
    let ways = Ways::of(std::slice::from_ref(&path.to_owned()), false);
    ways.marks.last().map(|mark| mark.path.clone()).or_else(|| path.canonicalize().ok())
}

/// Whether a file of this name in a folder is part of the configuration: the rule of `config::load::read`.
fn is_config(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    !is_hidden(name) && extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

struct Walk {
    ways: Ways,
    recursive: bool,
    visited: HashSet<PathBuf>,
}

impl Walk {
    fn input(&mut self, path: &Path) {
        if let Some(folder) = self.follow(path) {
            self.folder(folder);
        }
    }

    /// Goes to the end of the way and notes every step that may change. The real path if it ends at a folder.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut here = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = steps(path).collect();
        let mut links = 0;
        while let Some(step) = ahead.pop_front() {
            if step == "/" {
                here = PathBuf::from("/");
                continue;
            }
            if step == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&step);
            let found = fs::symlink_metadata(&next).ok();
            if found.as_ref().is_some_and(Metadata::is_dir) {
                here = next;
                continue;
            }
            self.note(&here, step, found.as_ref());
            let found = found?;
            if !found.is_symlink() {
                if ahead.is_empty() && found.is_file() {
                    self.ways.files.insert(next);
                }
                return None;
            }
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = fs::read_link(&next).ok()?;
            for step in steps(&target).collect::<Vec<_>>().into_iter().rev() {
                ahead.push_front(step);
            }
        }
        Some(here)
    }

    fn note(&mut self, folder: &Path, name: OsString, found: Option<&Metadata>) {
        let seen = found.map(|found| {
            let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
            [
                i128::from(found.dev()),
                i128::from(found.ino()),
                i128::from(found.len()),
                i128::from(found.nlink()),
                time(found.mtime(), found.mtime_nsec()),
                time(found.ctime(), found.ctime_nsec()),
            ]
        });
        self.ways.marks.push(Mark { path: folder.join(&name), seen });
        self.ways.folders.entry(folder.to_owned()).or_default().exact.insert(name);
    }

    /// A folder that is an input, and the files in it.
    fn folder(&mut self, folder: PathBuf) {
        if !self.visited.insert(folder.clone()) {
            return;
        }
        let names = self.ways.folders.entry(folder.clone()).or_default();
        names.input = true;
        names.deep = self.recursive;
        let mut entries: Vec<OsString> = match fs::read_dir(&folder) {
            Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect(),
            Err(_) => Vec::new(),
        };
        entries.sort();
        for name in entries.into_iter().filter(|name| !is_hidden(name)) {
            let path = folder.join(&name);
            if is_config(&name) || self.recursive && path.is_dir() {
                match self.follow(&path) {
                    Some(below) if self.recursive => self.folder(below),
                    _ => {}
                }
            }
        }
    }
}

fn steps(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter(|step| *step != Component::CurDir).map(|step| step.as_os_str().to_owned())
}

#[cfg(test)]
mod tests;
