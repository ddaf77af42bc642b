//! `serin test`: a table of requests, each with what is to become of it, against a configuration that nobody serves.

mod cases;
mod compare;

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::offline::{Outcome, Reading};
use super::{fail, print};
use cases::Case;
use compare::Difference;

/// Check that requests are routed as a table says
#[derive(Args, Debug)]
#[command(after_help = "\
The table is a YAML list. `request` is METHOD URL; everything under `expect` may be left out:

  - name: jason gets v2            # for the report; the request by default
    request: GET http://reviews/api
    headers: {end-user: jason}     # a list for a repeated header
    from: 10.0.0.9                 # the client's address, 127.0.0.1 by default
    expect:
      rule: jason                  # its name or VIRTUALSERVICE/INDEX; none
      destination: reviews/v2      # HOST[/SUBSET][:PORT]; none
      share: 100                   # percent of the requests that it gets, 100 by default
      destinations: {reviews/v1: 90, reviews/v2: 10}   # all of them, in percent
      path: /v2/api                # as the destination gets it, with its query
      host: reviews
      headers: {x-canary: \"yes\", x-debug: null}        # null: not there
      status: 200                  # 404 no host or rule, 503 no endpoint, of redirects and
                                   # direct responses their own, 200 for all that is forwarded
      location: https://reviews/   # of a redirect
      body: gone                   # of a direct response
      response: {x-from: serin}    # headers of redirects and direct responses
      timeout: 5s                  # none

Example:
  serin test config/ --cases routes.yaml

Exit status: 0 all as expected, 1 a difference or an invalid configuration, 2 wrong usage or a table that is none.")]
pub struct Test {
    /// A file, a folder (every *.yaml and *.yml in it), or - for standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// The table
    #[arg(long, value_name = "FILE")]
    cases: PathBuf,

    #[command(flatten)]
    reading: Reading,

    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// How one case went.
#[derive(Debug, Serialize)]
struct Verdict {
    name: String,
    line: u32,
    passed: bool,
    differences: Vec<Difference>,
}

impl Test {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let cases = match self.read() {
            Ok(cases) => cases,
            Err(message) => return fail(&message),
        };
        let offline = match self.reading.load(&self.paths) {
            Ok(offline) => offline,
            Err(code) => return code,
        };
        let judge = |case: &Case| {
            let differences = compare::compare(&case.expect, &Outcome::new(&offline, &case.ask));
            Verdict { name: case.name.clone(), line: case.line, passed: differences.is_empty(), differences }
        };
        let verdicts: Vec<_> = cases.iter().map(judge).collect();
        let text = if self.json {
            let text = serde_json::to_string_pretty(&verdicts).expect("text and numbers can always be written as JSON");
            text + "\n"
        } else {
            self.people(&verdicts)
        };
        print(&text);
        if verdicts.iter().all(|verdict| verdict.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn read(&self) -> Result<Vec<Case>, String> {
        let name = self.cases.display();
        let mut text = String::new();
        let read = if self.cases.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            fs::read_to_string(&self.cases)
        };
        cases::parse(&read.map_err(|error| format!("{name}: {error}"))?).map_err(|message| format!("{name}:{message}"))
    }

    fn people(&self, verdicts: &[Verdict]) -> String {
        let mut out = String::new();
        for verdict in verdicts.iter().filter(|verdict| !verdict.passed) {
            out.push_str(&format!("{}:{}: {}\n", self.cases.display(), verdict.line, verdict.name));
            for Difference { what, wanted, got } in &verdict.differences {
                out.push_str(&format!("  {what}: wanted {wanted}, got {got}\n"));
            }
        }
        let failed = verdicts.iter().filter(|verdict| !verdict.passed).count();
        out.push_str(&format!("{} of {} as expected\n", verdicts.len() - failed, verdicts.len()));
        out
    }
}
