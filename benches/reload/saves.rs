//! Saves a new weight and waits until it is in effect.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::Client;
use crate::text;

/// How often the effect is looked for.
const LOOK: Duration = Duration::from_micros(500);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first service, all of whose requests go to `v1` or to `v2`, as the file says.
#[derive(Debug)]
pub(crate) struct Saves {
    file: PathBuf,
    draft: PathBuf,
    /// The file without its first service.
    rest: String,
    rules: usize,
    upstreams: [u16; 2],
    port: u16,
}

impl Saves {
    /// The first service of the first file in this folder; it sends everything to `v1` from now on.
    pub(crate) fn new(folder: &Path, rules: usize, upstreams: [u16; 2], port: u16) -> Result<Self, String> {
        let file = folder.join("services-00.yaml");
        let whole = fs::read_to_string(&file).map_err(|error| format!("cannot read a file: {error}"))?;
        let first = text::service(0, rules, upstreams, text::CANARY);
        let rest = whole.strip_prefix(&first).ok_or("the first service is not where it should be")?.to_owned();
        let saves = Self { draft: folder.join(".draft"), file, rest, rules, upstreams, port };
        saves.write(0)?;
        Ok(saves)
    }

    /// Sends everything to the other version; how long it took from the rename until an answer came from there.
    pub(crate) fn save(&self) -> Result<Duration, String> {
        let mut client = Client::connect(self.port)?;
        let (weight, wanted) = if client.get(0, 0)? == "v2" { (0, "v1") } else { (100, "v2") };
        let saved = self.write(weight)?;
        while client.get(0, 0)? != wanted {
            if saved.elapsed() > PATIENCE {
                return Err("a saved file has no effect".to_owned());
            }
            thread::sleep(LOOK);
        }
        Ok(saved.elapsed())
    }

    /// Saves a weight of `v2`; when that was.
    fn write(&self, weight: u32) -> Result<Instant, String> {
        let text = text::service(0, self.rules, self.upstreams, weight) + &self.rest;
        fs::write(&self.draft, text).map_err(|error| format!("cannot write a file: {error}"))?;
        let saved = Instant::now();
        fs::rename(&self.draft, &self.file).map_err(|error| format!("cannot rename a file: {error}"))?;
        Ok(saved)
    }
}
