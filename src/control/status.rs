//! What an operator is told about the configuration: which generation serves, and what is wrong with what is on disk.
//! The body of `/config/status`, of a refused reload, and of `serin status --json`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::load::Loaded;

/// The state of the configuration at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The configuration that serves; 0 before the first.
    pub generation: u64,
    /// Its hash: BLAKE3 over all paths and contents, in hexadecimal.
    pub hash: Option<String>,
    /// Since when it serves, as RFC 3339.
    pub active_since: Option<String>,
    /// The files it came from.
    pub sources: Vec<PathBuf>,
    /// What the last look at the disk found.
    pub on_disk: OnDisk,
}

/// What is on disk, in force or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDisk {
    /// Its hash.
    pub hash: String,
    /// What became of it.
    pub state: OnDiskState,
    /// When it was last looked at, as RFC 3339.
    pub checked_at: String,
    /// Everything that is wrong with it, warnings included.
    pub errors: Vec<Problem>,
}

/// What became of the content on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDiskState {
    /// It serves.
    Active,
    /// It is invalid: an earlier one serves, if there was one.
    Rejected,
    /// A path does not exist: an earlier configuration serves, if there was one.
    Missing,
}

/// A diagnostic that stands for itself: its place is resolved. The same shape as in `serin check --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `error` or `warning`.
    pub severity: String,
    /// The sort of problem: `syntax`, `field`, `value` and so on.
    pub kind: String,
    /// The code of `istioctl analyze`.
    pub code: Option<String>,
    /// The file.
    pub file: Option<PathBuf>,
    /// Line, from 1; absent when the problem has no place.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// The field, such as `spec.http[0].route[1].weight`.
    pub path: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A configuration that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its hash.
    pub hash: String,
    /// Whether a path does not exist.
    pub missing: bool,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

/// What is wrong with a configuration, each place resolved. `more` was found after loading it.
pub(super) fn problems(loaded: &Loaded, more: &[Diagnostic]) -> Vec<Problem> {
    let all: Vec<&Diagnostic> = loaded.diagnostics.iter().chain(more).collect();
    let places: Vec<_> = all.iter().map(|diagnostic| diagnostic.place).collect();
    let paths = loaded.paths_of(&places);
    let file = |file: u32| loaded.sources.get(file as usize).map(|source| source.path.clone());
    all.into_iter().zip(paths).map(|(one, path)| Problem::new(one, file(one.place.file), path)).collect()
}

impl Problem {
    /// A problem that belongs to no file.
    pub(super) fn without_place(diagnostic: &Diagnostic) -> Self {
        Self::new(diagnostic, None, None)
    }

    fn new(diagnostic: &Diagnostic, file: Option<PathBuf>, path: Option<String>) -> Self {
        let place = diagnostic.place;
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        // The words for kinds are those of their serialization; a unit variant always has one.
        let kind = serde_json::to_value(diagnostic.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        Self {
            severity: severity.to_owned(),
            kind: kind.unwrap_or_default(),
            code: diagnostic.code.map(str::to_owned),
            file,
            line: (place.line > 0).then_some(place.line),
            column: (place.line > 0).then_some(place.column),
            path,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    }

    /// Whether it keeps the configuration out of force.
    pub fn is_error(&self) -> bool {
        self.severity != "warning"
    }
}

impl fmt::Display for Problem {
    /// `file:line:col: error: message`, then the help on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {}", self.severity, self.message)?;
        if let Some(code) = &self.code {
            write!(f, " [{code}]")?;
        }
        self.help.iter().try_for_each(|help| write!(f, "\n  help: {help}"))
    }
}

/// This moment as RFC 3339, in milliseconds.
pub(super) fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

/// What is told before anything was read.
pub(super) fn unread() -> Arc<Status> {
    let on_disk = OnDisk { hash: String::new(), state: OnDiskState::Missing, checked_at: now(), errors: Vec::new() };
    Arc::new(Status { generation: 0, hash: None, active_since: None, sources: Vec::new(), on_disk })
}
