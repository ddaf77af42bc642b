//! `serin diff`: what a changed configuration changes, in words.

mod canaries;
mod changes;
mod samples;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::offline::Reading;
use super::print;
use canaries::CanaryChange;
use changes::Change;
use samples::Sampled;

/// Requests that are shown of those whose answer differs; after so many, only their number.
const SHOWN: usize = 20;

/// Say what changes from one configuration to another: rules, shares, sticky clients, releases, answers
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin diff config/ config.new/
  git show HEAD:vs.yaml | serin diff - vs.yaml

Requests are made up from the matches of both configurations; those for regular expressions may miss.

Exit status: 0 nothing changes, 1 something does or a configuration is invalid, 2 wrong usage.")]
pub struct Diff {
    /// A file, a folder (every *.yaml and *.yml in it), or - for standard input
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The same, as it is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,

    #[command(flatten)]
    reading: Reading,

    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Differences {
    differs: bool,
    changes: Vec<Change>,
    canaries: Vec<CanaryChange>,
    samples: Vec<Sampled>,
}

impl Diff {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let load = |path: &PathBuf| self.reading.load(std::slice::from_ref(path));
        let (old, new) = match (load(&self.old), load(&self.new)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(code), _) | (_, Err(code)) => return code,
        };
        let (changes, samples) = (changes::changes(&old.table, &new.table), samples::samples(&old, &new));
        let canaries = canaries::canaries(&old.releases, &new.releases);
        let differs = !changes.is_empty() || !canaries.is_empty() || !samples.is_empty();
        let found = Differences { differs, changes, canaries, samples };
        let text = if self.json {
            let text = serde_json::to_string_pretty(&found).expect("text and numbers can always be written as JSON");
            text + "\n"
        } else {
            people(&found)
        };
        print(&text);
        if found.differs { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

fn people(found: &Differences) -> String {
    if !found.differs {
        return "nothing changes\n".to_owned();
    }
    let mut out = String::new();
    let changes = found.changes.iter().map(|change| (change.title(), &change.details));
    for (title, details) in changes.chain(found.canaries.iter().map(|change| (change.title(), &change.details))) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{title}");
        for detail in details {
            let _ = writeln!(out, "  {detail}");
        }
    }
    if found.samples.is_empty() {
        return out;
    }
    let _ = writeln!(out, "\nrequests whose answer differs:");
    for one in found.samples.iter().take(SHOWN) {
        let _ = writeln!(out, "  {}\n    before  {}\n    after   {}", one.request, one.old, one.new);
    }
    if found.samples.len() > SHOWN {
        let _ = writeln!(out, "  and {} more", found.samples.len() - SHOWN);
    }
    out
}
