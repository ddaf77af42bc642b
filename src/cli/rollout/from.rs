//! `--from FILE`: a release on traffic that was written down, in an access log or in a report.

mod lines;
mod log;
mod report;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::canary::Canary;
use crate::cli::fail;

/// Replays what a file holds, whichever of the two it is. `paths` hold the plan; a report needs none.
pub(super) fn replay(file: &Path, canary: &Canary, paths: &[PathBuf], json: bool) -> ExitCode {
    match is_report(file) {
        Err(error) => fail(&format!("cannot read {}: {error}", file.display())),
        Ok(Some(report)) => report::replay(file, &report, canary, paths, json),
        Ok(None) if paths.is_empty() => {
            let help =
                "help: an access log is replayed with the plan of a Canary: serin rollout simulate PATH --from FILE";
            fail(&format!("`{}` is no report, and no PATH says which release to replay\n  {help}", file.display()))
        }
        Ok(None) => log::replay(file, canary, paths, json),
    }
}

/// The whole file, if it is one object with decisions. A log is many objects, and never read as a whole here.
fn is_report(file: &Path) -> std::io::Result<Option<Value>> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut first = Vec::new();
    reader.read_until(b'\n', &mut first)?;
    let whole = |value: &Value| value.get("decisions").is_some();
    if let Ok(value) = serde_json::from_slice::<Value>(&first) {
        return Ok(Some(value).filter(whole));
    }
    // A report over several lines begins with its brace alone; the line of a log does not.
    if first.trim_ascii() != b"{" {
        return Ok(None);
    }
    reader.read_to_end(&mut first)?;
    Ok(serde_json::from_slice(&first).ok().filter(whole))
}
