//! The only writer of the configuration in force. Whoever wants a change, be it a saved file, a signal or the admin port,
//! comes here; changes happen one at a time, whole or not at all, and never on a data-plane thread.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config::credentials::Files;
use crate::config::diagnostic::{Diagnostic, Kind, Severity};
use crate::config::load::{self, Loaded, Read, Source};
use crate::config::render::{self, Entry};
use crate::config::settings::Settings;
use crate::telemetry::{Metrics, ReloadResult};

use super::Trigger;
use super::changes::{self, Weights};
use super::courteous::courteously;
use super::meant::{Meant, Outdated};
use super::status::{self, OnDisk, OnDiskState, Rejection, Status};

/// Builds what serves a valid configuration under this generation and puts it in force with one swap; or refuses it,
/// because a port is taken, say, and leaves everything as it was.
pub type Install = Box<dyn Fn(&Loaded, u64) -> Result<(), Vec<Diagnostic>> + Send + Sync>;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Inputs {
    /// Files and folders.
    Paths {
        /// As typed.
        paths: Vec<PathBuf>,
        /// Whether folders below them count.
        recursive: bool,
    },
    /// YAML that stands in no file.
    Text(String),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something new is in force: every request that begins after this obeys it.
    Applied {
        /// Its generation.
        generation: u64,
    },
    /// The same as what is in force.
    Unchanged {
        /// The generation in force.
        generation: u64,
    },
    /// It cannot be put in force: what was in force stays.
    Rejected {
        /// The generation that stays; 0 if there is none.
        generation: u64,
        /// Why.
        rejection: Arc<Rejection>,
    },
}

/// A handle to the one writer; clones share it.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    inputs: Inputs,
    settings: Settings,
    metrics: Metrics,
    install: Install,
    writer: Mutex<Writer>,
    /// Apart from `writer`, so that asking never waits for a change under way.
    status: Mutex<Arc<Status>>,
    /// The certificate files that the sources named when they were last understood: they are input, too.
    named: Mutex<Arc<Vec<PathBuf>>>,
    /// Whether nothing may come into force.
    frozen: AtomicBool,
}

#[derive(Default)]
struct Writer {
    generation: u64,
    active: Option<Active>,
    rejected: Option<Arc<Rejection>>,
}

struct Active {
    hash: String,
    since: String,
    sources: Vec<PathBuf>,
    warnings: Vec<Entry>,
    weights: Weights,
}

impl Publisher {
    /// A writer that has read nothing so far.
    pub fn new(inputs: Inputs, settings: Settings, metrics: Metrics, install: Install) -> Self {
        let status = Mutex::new(status::unread());
        let (writer, named, frozen) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        let shared = Shared { inputs, settings, metrics, install, writer, status, named, frozen };
        Self { shared: Arc::new(shared) }
    }

    /// The first load. The same as [`reload`](Self::reload), but it answers to no trigger and is not counted as one.
    pub fn start(&self) -> Outcome {
        let mut turn = self.turn();
        let read = turn.read();
        turn.change(read, None, Instant::now())
    }

    /// Reads all inputs and puts them in force if they are new and valid. Returns when the result holds.
    pub fn reload(&self, trigger: Trigger) -> Outcome {
        let started = Instant::now();
        let mut turn = self.turn();
        let read = turn.read();
        turn.change(read, Some(trigger), started)
    }

    /// The same, if the generation in force is one that the change is meant for. Nothing can come into force between the look and
    /// the change.
    ///
    /// # Errors
    /// It is meant for another generation; nothing was read.
    pub fn reload_meant(&self, trigger: Trigger, meant: &Meant) -> Result<Outcome, Outdated> {
        let started = Instant::now();
        let mut turn = self.turn();
        meant.check(turn.writer.generation)?;
        let read = turn.read();
        Ok(turn.change(read, Some(trigger), started))
    }

    /// Nothing comes into force any more until [`thaw`](Self::thaw); when this returns, nothing is on its way either.
    pub fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::Release);
        drop(self.turn());
    }

    /// Changes come into force again. What was missed is seen by the next reload.
    pub fn thaw(&self) {
        self.shared.frozen.store(false, Ordering::Release);
    }

    /// Waits until it is the caller's turn. What is read in one turn and put in force in another could be older than what was
    /// put in force between them.
    pub(super) fn turn(&self) -> Turn<'_> {
        Turn { shared: &self.shared, writer: lock(&self.shared.writer) }
    }

    /// The hash of what was last looked at, in force or not.
    pub(super) fn last_hash(&self) -> String {
        self.status().on_disk.hash.clone()
    }

    /// The certificate files that count as input, as far as is known.
    pub(super) fn named(&self) -> Arc<Vec<PathBuf>> {
        Arc::clone(&lock(&self.shared.named))
    }

    /// Where the configuration comes from.
    pub fn inputs(&self) -> &Inputs {
        &self.shared.inputs
    }

    /// The metrics of reloading are in here.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The state of this moment. Never waits for a change under way.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&lock(&self.shared.status))
    }
}

/// More text than this, in bytes, takes so long to understand (over 10 ms) that requests would feel it.
const LARGE: usize = 256 * 1024;

/// What came of trying to put something in force.
enum Attempt {
    /// It is, with these warnings and weights.
    InForce(Vec<Entry>, Weights),
    /// It was already.
    Same,
    /// Everything that speaks against it.
    Refused(Problems),
}

/// The right to change what is in force, for as long as it is held.
pub(super) struct Turn<'a> {
    shared: &'a Shared,
    writer: MutexGuard<'a, Writer>,
}

impl Turn<'_> {
    /// Reads all inputs and changes nothing.
    pub(super) fn read(&self) -> Read {
        let read = match &self.shared.inputs {
            Inputs::Paths { paths, recursive } => load::read(paths, *recursive),
            Inputs::Text(text) => {
                let source = Source { path: PathBuf::from("<command line>"), text: text.as_str().into() };
                Read { sources: vec![source], ..Read::default() }
            }
        };
        let named = Arc::clone(&lock(&self.shared.named));
        Read { files: Files::read(named.iter().cloned()), ..read }
    }

    /// Puts what was read in this turn in force, if it is new and valid. `started` is when the change was noticed.
    pub(super) fn apply(&mut self, read: Read, trigger: Trigger, started: Instant) -> Outcome {
        self.change(read, Some(trigger), started)
    }

    fn change(&mut self, read: Read, trigger: Option<Trigger>, started: Instant) -> Outcome {
        if self.shared.frozen.load(Ordering::Acquire) {
            return Outcome::Unchanged { generation: self.writer.generation };
        }
        let hash = read.hash();
        let outcome = if self.is_active(&hash) { self.stay() } else { self.replace(read, hash) };
        *lock(&self.shared.status) = Arc::new(self.writer.status());
        if let Some(trigger) = trigger {
            self.shared.metrics.reloads().looked(outcome.result(), trigger, started.elapsed());
        }
        outcome
    }

    fn is_active(&self, hash: &str) -> bool {
        self.writer.active.as_ref().is_some_and(|active| active.hash == hash)
    }

    /// What was read is in force already.
    fn stay(&mut self) -> Outcome {
        let generation = self.writer.generation;
        if self.writer.rejected.take().is_some() {
            tracing::info!(generation, "the configuration on disk is the one in force again");
        }
        Outcome::Unchanged { generation }
    }

    /// Loads what is new and puts it in force, or keeps what is there. `hash` is that of what was read, as far as it went.
    fn replace(&mut self, read: Read, mut hash: String) -> Outcome {
        let generation = self.writer.generation + 1;
        let sources: Vec<PathBuf> = read.sources.iter().map(|source| source.path.clone()).collect();
        // A mistake of this program in reading one file must not end a proxy that serves another.
        let large = read.sources.iter().map(|source| source.text.len()).sum::<usize>() > LARGE;
        let attempt = panic::catch_unwind(AssertUnwindSafe(|| match large {
            true => courteously(|| self.attempt(read, generation, &mut hash)),
            false => self.attempt(read, generation, &mut hash),
        }));
        let missing = self.missing();
        let rejected = |hash, (problems, text)| Rejection { hash, missing, problems, text };
        let writer = &mut *self.writer;
        match attempt {
            Ok(Attempt::InForce(warnings, weights)) => {
                let changed = writer.active.as_ref().map(|before| changes::between(&before.weights, &weights));
                let changed = changed.filter(|changed| !changed.is_empty());
                writer.generation = generation;
                writer.rejected = None;
                self.shared.metrics.reloads().in_force(generation, &hash);
                let short = hash.get(..12).unwrap_or(&hash);
                tracing::info!(generation, hash = short, changed = changed.as_deref(), "configuration in force");
                writer.active = Some(Active { hash, since: status::now(), sources, warnings, weights });
                Outcome::Applied { generation }
            }
            Ok(Attempt::Same) => self.stay(),
            Ok(Attempt::Refused(problems)) => writer.reject(rejected(hash, problems)),
            Err(_) => writer.reject(rejected(hash, mistake())),
        }
    }

    /// Understands what was read, with the files that it names, and puts it in force. `hash` becomes that of all of it.
    fn attempt(&self, read: Read, generation: u64, hash: &mut String) -> Attempt {
        let mut loaded = load::load(read, &self.shared.settings);
        *lock(&self.shared.named) = Arc::new(loaded.files.paths().map(Path::to_owned).collect());
        hash.clone_from(&loaded.hash);
        if self.is_active(hash) {
            return Attempt::Same;
        }
        let installed = loaded.is_valid() && {
            let refused = (self.shared.install)(&loaded, generation).err();
            let installed = refused.is_none();
            loaded.diagnostics.extend(refused.into_iter().flatten());
            installed
        };
        let (entries, text) = (render::entries(&loaded), render::text(&loaded, false));
        if !installed {
            return Attempt::Refused((entries, text));
        }
        loaded.notices.iter().for_each(|notice| tracing::info!("{notice}"));
        if !entries.is_empty() {
            tracing::warn!("the configuration has warnings:\n{}", text.trim_end());
        }
        Attempt::InForce(entries, changes::weights(&loaded.resources))
    }

    fn missing(&self) -> bool {
        match &self.shared.inputs {
            Inputs::Paths { paths, .. } => paths.iter().any(|path| path.as_os_str() != "-" && !path.exists()),
            Inputs::Text(_) => false,
        }
    }
}

/// What is wrong, for programs and for people.
type Problems = (Vec<Entry>, String);

/// What is said when reading or building a configuration fails as it never should.
fn mistake() -> Problems {
    let entry = Entry {
        severity: Severity::Error,
        kind: Kind::Value,
        code: None,
        file: String::new(),
        line: None,
        column: None,
        path: String::new(),
        message: "this configuration makes serin fail".to_owned(),
        help: Some("this is a mistake in serin, not in the file: please report it with the file".to_owned()),
    };
    let text = format!("error: {}\n  = help: {}\n", entry.message, entry.help.as_deref().unwrap_or_default());
    (vec![entry], text)
}

impl Writer {
    fn reject(&mut self, rejection: Rejection) -> Outcome {
        let generation = self.generation;
        if self.rejected.as_deref() != Some(&rejection) {
            let text = rejection.text.trim_end();
            match generation {
                0 => tracing::error!("no configuration in force: what is there is rejected\n{text}"),
                _ => tracing::error!("configuration rejected, generation {generation} stays in force\n{text}"),
            }
            self.rejected = Some(Arc::new(rejection));
        }
        let rejection = self.rejected.clone().expect("it was set above, or equal to the one that is set");
        Outcome::Rejected { generation, rejection }
    }

    fn status(&self) -> Status {
        let active = self.active.as_ref();
        let hash = active.map(|active| active.hash.clone());
        let (on_disk, state, errors) = match &self.rejected {
            Some(rejected) if rejected.missing => (rejected.hash.clone(), OnDiskState::Missing, &rejected.problems),
            Some(rejected) => (rejected.hash.clone(), OnDiskState::Rejected, &rejected.problems),
            None => {
                let warnings = active.map_or(const { &Vec::new() }, |active| &active.warnings);
                (hash.clone().unwrap_or_default(), OnDiskState::Active, warnings)
            }
        };
        Status {
            generation: self.generation,
            hash,
            active_since: active.map(|active| active.since.clone()),
            sources: active.map_or_else(Vec::new, |active| active.sources.clone()),
            on_disk: OnDisk { hash: on_disk, state, checked_at: status::now(), errors: errors.clone() },
        }
    }
}

impl Outcome {
    /// The generation in force; 0 if there is none.
    pub fn generation(&self) -> u64 {
        match self {
            Self::Applied { generation } | Self::Unchanged { generation } | Self::Rejected { generation, .. } => {
                *generation
            }
        }
    }

    /// The word for it in metrics.
    pub fn result(&self) -> ReloadResult {
        match self {
            Self::Applied { .. } => ReloadResult::Applied,
            Self::Unchanged { .. } => ReloadResult::Unchanged,
            Self::Rejected { .. } => ReloadResult::Rejected,
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("inputs", &self.shared.inputs).finish_non_exhaustive()
    }
}

/// What a panic leaves behind is as whole as before it: values are replaced at once, at the end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
