//! What survives the process: the state of each release, as one JSON file in the state directory. Written beside its place, made
//! durable, and renamed, so that a reader finds the old or the new one, whole.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::RuleAddress;
use crate::rollout::Rollout;

/// The file in the folder that whoever has it holds a lock on. A file, and not the folder: also over NFS.
const LOCK: &str = ".lock";
/// The version of the format.
const FORMAT: u32 = 1;

/// A release as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Always [`FORMAT`].
    format: u32,
    /// The rule that the release moves.
    pub rule: RuleAddress,
    /// The weights of the file when it was last in force.
    pub declared: Vec<u64>,
    /// Since when the weight in force is not the file's (RFC 3339).
    pub since: Option<String>,
    /// All of the release.
    pub rollout: Rollout,
}

impl Kept {
    /// In this format.
    pub(super) fn new(rule: RuleAddress, declared: Vec<u64>, since: Option<String>, rollout: Rollout) -> Self {
        Self { format: FORMAT, rule, declared, since, rollout }
    }
}

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A later serin wrote it.
    #[error("its format is {0}, and this serin knows {FORMAT}")]
    Format(u32),
}

/// The folder that holds the states, of this process alone as long as a copy of this exists.
#[derive(Clone, Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    claim: Arc<Mutex<Claim>>,
}

/// What this process has of a folder.
#[derive(Debug, Default)]
struct Claim {
    /// Held, not read; none as long as it could not be had.
    lock: Option<File>,
    /// Where it was had only after this process had begun: the releases whose files are known since. Any other file there is of
    /// before, and was never read.
    known: Option<HashSet<String>>,
}

/// Why a folder is not this process's.
#[derive(Debug, thiserror::Error)]
enum NotClaimed {
    #[error("another serin keeps its releases there")]
    Taken,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<NotClaimed> for io::Error {
    fn from(not: NotClaimed) -> Self {
        match not {
            NotClaimed::Io(error) => error,
            taken @ NotClaimed::Taken => Self::other(taken),
        }
    }
}

impl StateDir {
    /// Makes the folder and keeps other processes off. A folder that cannot be had or written to now may be fine later: until
    /// then every [`Self::save`] fails, and says why.
    ///
    /// # Errors
    /// Another process has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let folder = Self { path: path.to_owned(), claim: Arc::default() };
        let claimed = folder.claim();
        match claimed.map(drop) {
            Err(taken @ NotClaimed::Taken) => Err(taken.into()),
            Err(error) => {
                folder.lock().known = Some(HashSet::new());
                let place = path.display();
                tracing::error!(
                    "{place}: the states of releases cannot be kept, nothing is raised until they can be: {error}"
                );
                Ok(folder)
            }
            Ok(()) => Ok(folder),
        }
    }

    /// Makes the folder and takes its lock, where that was not done yet.
    fn claim(&self) -> Result<MutexGuard<'_, Claim>, NotClaimed> {
        let mut claim = self.lock();
        if claim.lock.is_none() {
            fs::create_dir_all(&self.path)?;
            let lock = File::create(self.path.join(LOCK))?;
            lock.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => NotClaimed::Taken,
                TryLockError::Error(error) => error.into(),
            })?;
            claim.lock = Some(lock);
        }
        Ok(claim)
    }

    fn lock(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody else in this process has a copy.
    pub(super) fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.claim) == 1
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The kept state of a release; none if there is none.
    ///
    /// # Errors
    /// There is one that cannot be used.
    pub(super) fn load(&self, name: &str) -> Result<Option<Kept>, Unusable> {
        // Without the folder it is not known whether there is one.
        let mut claim = self.claim().map_err(io::Error::from)?;
        if let Some(known) = &mut claim.known {
            known.insert(name.to_owned());
        }
        drop(claim);
        let text = match fs::read(self.file(name, "json")) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let Head { format } = serde_json::from_slice(&text)?;
        if format != FORMAT {
            return Err(Unusable::Format(format));
        }
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Keeps the state of a release. When this returns, it survives a crash of the machine.
    ///
    /// # Errors
    /// The old state is still there.
    pub(super) fn save(&self, name: &str, kept: &Kept) -> io::Result<()> {
        let mut claim = self.claim().map_err(io::Error::from)?;
        let is_new = claim.known.as_mut().is_some_and(|known| known.insert(name.to_owned()));
        drop(claim);
        if is_new && self.file(name, "json").exists() {
            let aside = self.put_aside(name)?;
            tracing::warn!("release {name}: a state that could not be read at the start is now {}", aside.display());
        }
        self.write(&self.file(name, "json"), &serde_json::to_vec(kept)?)
    }

    /// Puts a state that cannot be used aside. Where it is now.
    ///
    /// # Errors
    /// It stays where it is.
    pub(super) fn put_aside(&self, name: &str) -> io::Result<PathBuf> {
        let place = self.file(name, "json");
        let free = (1..).map(|n| self.file(name, &format!("unreadable-{n}.json"))).find(|path| !path.exists());
        let aside = free.ok_or_else(|| io::Error::other("no free name"))?;
        fs::rename(place, &aside)?;
        self.sync()?;
        Ok(aside)
    }

    /// Keeps the report of a release that has ended, for programs and for people. Where the latter is.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn report(&self, name: &str, json: &[u8], text: &str) -> io::Result<PathBuf> {
        let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        // Two may end within a second, and a clock may go back.
        let places = (1..).map(|n| if n == 1 { format!("report-{at}") } else { format!("report-{at}-{n}") });
        let free = places.into_iter().find(|place| !self.file(name, &format!("{place}.json")).exists());
        let free = free.ok_or_else(|| io::Error::other("no free name"))?;
        let file = |kind: &str| self.file(name, &format!("{free}.{kind}"));
        self.write(&file("json"), json)?;
        self.write(&file("txt"), text.as_bytes())?;
        Ok(file("txt"))
    }

    fn write(&self, place: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut beside: OsString = place.as_os_str().to_owned();
        beside.push(".new");
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, place)?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// `product-service.json`; what a file name cannot hold is written as `%2F`.
    fn file(&self, name: &str, kind: &str) -> PathBuf {
        let mut plain = String::new();
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => plain.push(char::from(byte)),
                _ => {
                    let _ = write!(plain, "%{byte:02X}");
                }
            }
        }
        self.path.join(format!("{plain}.{kind}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rollout::{Analysis, Mode, Plan, Step};

    /// A release that has not begun, with one step.
    pub(in crate::control::rollout) fn kept(weight: u32) -> Kept {
        let plan = Plan {
            name: "a".to_owned(),
            virtual_service: "a".to_owned(),
            route: "r".to_owned(),
            stable: "v1".to_owned(),
            canary: "v2".to_owned(),
            steps: vec![Step::new(weight)],
            analysis: Analysis::default(),
            mode: Mode::Run,
            latency_edges: Vec::new(),
        };
        let rule = RuleAddress { namespace: "default".to_owned(), virtual_service: "a".to_owned(), number: 0 };
        Kept::new(rule, vec![100, 0], None, Rollout::new(plan).unwrap())
    }

    #[test]
    fn what_was_saved_last_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("new")).unwrap();
        assert!(state.load("team/a").unwrap().is_none());
        state.save("team/a", &kept(10)).unwrap();
        state.save("team/a", &kept(30)).unwrap();
        assert_eq!(state.load("team/a").unwrap().unwrap(), kept(30));
        assert!(state.load("team%2Fa").unwrap().is_none(), "names do not meet");
        let names = fs::read_dir(folder.path().join("new")).unwrap().map(|one| one.unwrap().file_name());
        let names: Vec<_> = names.filter(|name| name != LOCK).collect();
        assert_eq!(names, ["team%2Fa.json"], "nothing is left beside it");
    }

    #[test]
    fn a_folder_belongs_to_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        let copy = first.clone();
        drop(first);
        let error = StateDir::open(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "another serin keeps its releases there");
        drop(copy);
        StateDir::open(folder.path()).unwrap();
    }

    #[test]
    fn what_is_torn_or_of_another_time_is_said_and_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let text = serde_json::to_string(&kept(10)).unwrap();
        for (bad, said) in
            [(&text[..text.len() / 2], "EOF"), (&text.replace("\"format\":1", "\"format\":9"), "format is 9")]
        {
            fs::write(folder.path().join("a.json"), bad).unwrap();
            assert!(state.load("a").unwrap_err().to_string().contains(said));
            let aside = state.put_aside("a").unwrap();
            assert_eq!(fs::read_to_string(aside).unwrap(), bad);
            assert!(state.load("a").unwrap().is_none());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_claimed_as_soon_as_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        fs::write(&place, "no folder").unwrap();
        let state = StateDir::open(&place).unwrap();
        assert!(state.load("a").is_err(), "what is not known is not taken for nothing");
        assert!(state.save("a", &kept(10)).is_err());
        fs::remove_file(&place).unwrap();
        // A mount that comes late brings what was kept before.
        fs::create_dir(&place).unwrap();
        fs::write(place.join("a.json"), "of before").unwrap();
        state.save("a", &kept(10)).unwrap();
        assert_eq!(fs::read_to_string(place.join("a.unreadable-1.json")).unwrap(), "of before");
        state.save("a", &kept(30)).unwrap();
        assert!(!place.join("a.unreadable-2.json").exists());
        assert!(StateDir::open(&place).is_err(), "it is locked now");
        fs::remove_dir_all(&place).unwrap();
        assert!(state.save("a", &kept(10)).is_err());
    }

    #[test]
    fn reports_of_one_second_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let places: Vec<PathBuf> = (0..5).map(|_| state.report("a", b"{}", "said").unwrap()).collect();
        assert!(places.iter().all(|place| place.exists()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 11, "each with its JSON, and the lock");
    }
}
