//! `serin set-weight`: changes the weights of a route in the operator's file, and nothing else in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use crate::config::diagnostic::Kind;
use crate::config::edit::{self, Edited};
use crate::config::load::{self, Loaded, Read, Source};
use crate::config::render;
use crate::config::settings::Settings;

/// Change the weights of a route in its file; comments, order and quoting stay
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin set-weight vs.yaml v1=70 v2=30
  serin set-weight config/ --route checkout reviews/v2=0 reviews/v1=100

Exit status: 0 done, 1 refused, 2 wrong usage or a file that cannot be read or written.")]
pub struct SetWeight {
    /// A file, or a folder (every *.yaml and *.yml in it)
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Destinations by subset, host, or HOST/SUBSET, each with its new weight
    #[arg(value_name = "NAME=WEIGHT", required = true)]
    weights: Vec<Weight>,

    /// The route, by its name or as VIRTUALSERVICE/INDEX; needed if several have weights
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Take weights as shares of their sum; otherwise they must sum to 100
    #[arg(long)]
    relative_weights: bool,

    /// Print what changed as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Weight {
    name: String,
    weight: u32,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, weight) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=WEIGHT")?;
        let weight = weight.parse().ok().filter(|weight| *weight <= i32::MAX as u32);
        Ok(Self { name: name.to_owned(), weight: weight.ok_or("the weight must be a whole number, 0 or more")? })
    }
}

/// Why nothing was changed.
enum Refusal {
    /// The answer is no.
    No(String),
    /// It could not even be tried.
    Unable(String),
}

impl SetWeight {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let (text, code) = match self.change() {
            Ok(text) => (text, ExitCode::SUCCESS),
            Err(refusal) => {
                let (Refusal::No(message) | Refusal::Unable(message)) = &refusal;
                super::say(message.trim_end());
                return ExitCode::from(if matches!(refusal, Refusal::No(_)) { 1 } else { 2 });
            }
        };
        // Nobody is left to be told that the reader went away.
        let _ = io::stdout().write_all(text.as_bytes());
        code
    }

    fn change(&self) -> Result<String, Refusal> {
        // Only the route itself is judged: what it refers to may be in files that were not given.
        let settings = Settings { relative_weights: self.relative_weights, references: false, ..Settings::default() };
        if !self.path.exists() {
            return Err(Refusal::Unable(format!("error: {}: no such file or folder", self.path.display())));
        }
        let before = load::load(load::read(std::slice::from_ref(&self.path), false), &settings);
        let weights: Vec<_> = self.weights.iter().map(|one| (one.name.clone(), one.weight)).collect();
        let edited = edit::set_weights(&before, self.route.as_deref(), &weights)
            .map_err(|message| Refusal::No(format!("{}error: {message}", syntax_errors(&before))))?;
        let path = before.sources[edited.file].path.clone();
        let old = before.sources[edited.file].text.clone();
        let mut sources = before.sources;
        sources[edited.file] = Source { path: path.clone(), text: edited.text.as_str().into() };
        let after = load::load(Read { sources, ..Read::default() }, &settings);
        if !after.is_valid() {
            return Err(Refusal::No(
                errors(&after) + "\nerror: nothing was changed: with these weights the configuration is refused",
            ));
        }
        if *old != *edited.text {
            write(&path, &old, &edited.text)
                .map_err(|error| Refusal::Unable(format!("error: {}: {error}", path.display())))?;
        }
        Ok(if self.json { json(&path, &edited) } else { people(&path, &edited) })
    }
}

/// What kept the route from being found, perhaps.
fn syntax_errors(loaded: &Loaded) -> String {
    let unread = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.kind == Kind::Syntax);
    unread.map(|diagnostic| render::one(&loaded.sources, diagnostic, false) + "\n").collect()
}

fn errors(loaded: &Loaded) -> String {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    errors.map(|diagnostic| render::one(&loaded.sources, diagnostic, colours)).collect::<Vec<_>>().join("\n")
}

fn people(path: &Path, edited: &Edited) -> String {
    let lines = edited.changes.iter().map(|change| {
        let from = change.from.map_or_else(|| "none".to_owned(), |weight| weight.to_string());
        let same = change.from == Some(i64::from(change.to));
        let what = if same { format!("{from} as before") } else { format!("{from} -> {}", change.to) };
        format!("{}:{}: {} {}: {what}\n", path.display(), change.line, edited.route, change.destination)
    });
    lines.collect()
}

fn json(path: &Path, edited: &Edited) -> String {
    #[derive(Serialize)]
    struct Output<'e> {
        file: String,
        route: &'e str,
        changes: Vec<Weights<'e>>,
    }
    #[derive(Serialize)]
    struct Weights<'e> {
        destination: &'e str,
        line: u32,
        from: Option<i64>,
        to: u32,
    }
    let changes = edited.changes.iter().map(|change| Weights {
        destination: &change.destination,
        line: change.line,
        from: change.from,
        to: change.to,
    });
    let output = Output { file: path.display().to_string(), route: &edited.route, changes: changes.collect() };
    serde_json::to_string_pretty(&output).expect("text and numbers can always be written as JSON") + "\n"
}

/// Replaces a file in one step, so that no reader sees a half: a new file beside it, then a rename. A symbolic link stays one; the mode is kept.
/// Refuses if it holds anything but `old`.
pub(super) fn write(path: &Path, old: &str, new: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let now = fs::read(&path)?;
    let mark: &[u8] = if now.starts_with("\u{feff}".as_bytes()) { "\u{feff}".as_bytes() } else { b"" };
    if now[mark.len()..] != *old.as_bytes() {
        return Err(io::Error::other("it changed meanwhile; nothing was written"));
    }
    let folder = path.parent().ok_or_else(|| io::Error::other("it is in no folder"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_new(&temporary, &[mark, new.as_bytes()], &path).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write_new(temporary: &Path, parts: &[&[u8]], like: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.set_permissions(fs::metadata(like)?.permissions())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn weights_of_the_command_line() {
        let parse = |text: &str| text.parse::<Weight>();
        assert_eq!(parse("shop/v1=70"), Ok(Weight { name: "shop/v1".to_owned(), weight: 70 }));
        for wrong in ["", "v1", "=1", "v1=", "v1=-1", "v1=1.5", "v1=4294967296", "v1=2147483648"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("real.yaml"), folder.path().join("link.yaml"));
        fs::write(&path, "\u{feff}old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.yaml", &link).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        write(&link, "old", "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\u{feff}new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.mode() & 0o777, after.ino() == before), (0o640, false));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vs.yaml");
        fs::write(&path, "theirs").unwrap();
        assert!(write(&path, "old", "new").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }

    const RULE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - route:
    - {destination: {host: shop, subset: v1}, weight: 90} # stable
    - {destination: {host: shop, subset: v2}, weight: 10}
";

    fn command(path: &Path, weights: &[&str]) -> SetWeight {
        let weights = weights.iter().map(|weight| weight.parse().unwrap()).collect();
        SetWeight { path: path.to_owned(), weights, route: None, relative_weights: false, json: false }
    }

    #[test]
    fn a_file_is_changed_only_if_it_stays_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vs.yaml");
        fs::write(&path, RULE).unwrap();
        for wrong in [&["v1=70"][..], &["v1=70", "v2=20"], &["v1=70", "v3=30"]] {
            assert!(matches!(command(&path, wrong).change(), Err(Refusal::No(_))));
            assert_eq!(fs::read_to_string(&path).unwrap(), RULE);
        }
        let Ok(said) = command(&path, &["v1=70", "v2=30"]).change() else { panic!() };
        assert!(said.contains(":8: shop/0 v1: 90 -> 70\n") && said.contains(":9: shop/0 v2: 10 -> 30\n"), "{said}");
        let expected = RULE.replace("90", "70").replace("10}", "30}");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        let gone = folder.path().join("gone.yaml");
        assert!(matches!(command(&gone, &["v1=1"]).change(), Err(Refusal::Unable(_))));
    }

    #[test]
    fn a_wrong_sum_may_be_put_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vs.yaml");
        fs::write(&path, RULE.replace("10}", "1}")).unwrap();
        assert!(command(&path, &["v2=10"]).change().is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), RULE);
    }
}
