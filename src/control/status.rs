//! What an operator is told about the configuration: which generation serves, and what is wrong with what is on disk.
//! The body of `/config/status`, of a refused reload, and of `serin status --json`.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::render::Entry;

/// The state of the configuration at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnDisk {
    /// Its hash.
    pub hash: String,
    /// What became of it.
    pub state: OnDiskState,
    /// When it was last looked at, as RFC 3339.
    pub checked_at: String,
    /// Everything that is wrong with it, warnings included.
    pub errors: Vec<Entry>,
}

/// What became of the content on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDiskState {
    /// It serves.
    Active,
    /// It is invalid: an earlier one serves, if there was one.
    Rejected,
    /// A path does not exist: an earlier configuration serves, if there was one.
    Missing,
}

/// A configuration that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its hash.
    pub hash: String,
    /// Whether a path does not exist.
    pub missing: bool,
    /// Everything that is wrong with it, warnings included.
    pub problems: Vec<Entry>,
    /// The same as text, as `serin check` prints it.
    pub text: String,
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
