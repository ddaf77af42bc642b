//! `serin demo`, as a newcomer runs it: in a pipe, from an empty folder.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::support::PATIENCE;
use super::support::proxy::{run, said, serin};

struct Demo {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process =
            serin().arg("demo").args(arguments).current_dir(folder).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next line that fits, with all before it.
    fn line(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let (deadline, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        while Instant::now() < deadline
            && let Some(line) = self.lines.next()
        {
            let line = line.unwrap();
            if fits(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("no such line in\n{}", seen.join("\n"));
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
    }

    /// Waits for its end; what it still said, and how it ended.
    fn end(&mut self) -> (Vec<String>, ExitStatus) {
        let rest = self.lines.by_ref().map(Result::unwrap).collect();
        (rest, self.process.wait().unwrap())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number after `word` in the part of a line that is about a version.
fn number(line: &str, version: &str, word: &str) -> f64 {
    let part = line.split('|').find(|part| part.contains(&format!("{version} wanted"))).unwrap();
    let (_, rest) = part.split_once(word).unwrap_or_else(|| panic!("no `{word}` in {line}"));
    rest.trim_start().split([' ', ',', '/']).next().unwrap().parse().unwrap_or_else(|_| panic!("`{word}` in {line}"))
}

#[test]
fn a_canary_is_at_work_and_the_end_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), &["--for", "3s", "--rps", "200"]);
    let first = demo.line(|line| line.contains("v1 wanted 90 %") && line.contains("v2 wanted 10 %"));
    assert!(number(&first, "v1", "total") > 0.0, "{first}");
    let (lines, status) = demo.end();
    assert!(status.success(), "{status}");
    let last = lines.iter().rfind(|line| line.contains("v2 wanted")).unwrap();
    let (v1, v2) = (number(last, "v1", "total"), number(last, "v2", "total"));
    let (all, wanted) = (v1 + v2, (v1 + v2) * 0.1);
    assert!(all > 100.0, "{last}");
    assert!((v2 - wanted).abs() <= 5.0 * (wanted * 0.9).sqrt(), "five standard deviations: {last}");
    let ended = lines.last().unwrap();
    assert!(ended.contains(" 0 without an answer"), "{ended}");
    assert!(!folder.path().join("serin-demo/releases").exists(), "nobody asked for a release");
    for name in ["vs", "dr", "se"] {
        assert!(folder.path().join(format!("serin-demo/product-service-{name}.yaml")).exists());
    }
}

#[test]
fn what_is_saved_is_in_force_at_once_and_what_is_wrong_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("serin-demo/product-service-vs.yaml");
    let mut demo = Demo::start(folder.path(), &[]);
    demo.line(|line| line.contains("v2 wanted 10 %"));
    let text = fs::read_to_string(&weights).unwrap();
    let edited = text.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 100");
    fs::write(&weights, &edited).unwrap();
    demo.line(|line| line.ends_with("generation 2: v1 90 % -> 0 %, v2 10 % -> 100 %"));
    let shown = demo.line(|line| line.contains("v2 wanted 100 %, got 100.0 %"));
    assert!(shown.contains("v1 wanted 0 %, got 0.0 %"), "{shown}");

    fs::write(&weights, edited.replace("weight: 0", "weight: 60")).unwrap();
    let refused = demo.line(|line| line.contains("refused, generation 2 stays: "));
    assert!(refused.contains("serin-demo/product-service-vs.yaml:"), "{refused}");
    let shown = demo.line(|line| line.contains("v2 wanted"));
    assert!(shown.ends_with("| generation 2, files refused"), "{shown}");
    fs::write(&weights, &edited).unwrap();
    demo.line(|line| line.ends_with("the files are those of generation 2 again"));

    demo.interrupt();
    let (lines, status) = demo.end();
    assert!(status.success(), "{status}");
    assert!(lines.last().unwrap().contains(" 0 without an answer"), "{lines:?}");

    let mut again = Demo::start(folder.path(), &["--for", "1s"]);
    again.line(|line| line.contains("as you left it"));
    again.line(|line| line.contains("v2 wanted 100 %"));
    assert!(again.end().1.success());
}

#[test]
fn two_at_a_time_keep_out_of_each_others_way() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut demos = folders.each_ref().map(|folder| Demo::start(folder.path(), &["--for", "2s"]));
    for demo in &mut demos {
        let last = demo.line(|line| line.starts_with("0:02") && line.contains("v2 wanted"));
        assert!(number(&last, "v1", "total") > 10.0, "{last}");
        let (lines, status) = demo.end();
        assert!(status.success() && lines.last().unwrap().contains(" 0 without an answer"), "{lines:?}");
    }
}

/// Whether the line shows that a version gets this share, and what it got of late.
fn gets(line: &str, version: &str, share: &str) -> bool {
    let wanted = format!("{version} wanted {share} %, got ");
    line.contains(&wanted) && !line.contains(&format!("{wanted}-"))
}

/// The report that the demo names at its end.
fn report(folder: &Path, said: &[String]) -> String {
    let named = said.iter().find_map(|line| line.strip_prefix("its report: "));
    let path = named.unwrap_or_else(|| panic!("no report in {said:#?}"));
    fs::read_to_string(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_version_that_fails_is_rolled_back_while_the_other_keeps_serving() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), &["--bad", "--rps", "200"]);
    demo.line(|line| line.ends_with("started product-service at 10 %"));
    demo.line(|line| line.contains("step 1 of 4 at 10 %, ") && line.contains("evidence "));
    let sentence = demo.line(|line| line.contains("rolled back product-service at 10 %: v2 took "));
    let shown = demo.line(|line| line.contains("product-service rolled back | ") && gets(line, "v1", "100"));
    assert!(number(&shown, "v1", "got") > 90.0 && shown.contains("v2 wanted 0 %"), "{shown}");
    let rate = shown.split("%, ").nth(2).and_then(|rest| rest.split('/').next()).unwrap();
    assert!(rate.parse::<f64>().unwrap_or_else(|_| panic!("no rate in {shown}")) > 0.0, "{shown}");
    // Nobody ends it: its release is over.
    let (lines, status) = demo.end();
    assert!(status.success(), "{status}");
    let (_, sentence) = sentence.split_once("  ").unwrap();
    assert!(lines.contains(&format!("the release is over: {sentence}")), "{lines:#?}");
    let report = report(folder.path(), &lines);
    assert!(report.contains(sentence), "{report}");
    assert!(lines.last().unwrap().contains(" 0 without an answer"), "{lines:#?}");
}

/// The release of a reader who has no minute: with 400 requests a second it has its evidence in a second.
const QUICK: &str = "\
apiVersion: serin.dev/v1alpha1
kind: Canary
metadata: { name: quick }
spec:
  virtualService: product-service-vs
  stable: v1
  canary: v2
  steps: [50, 100]
  analysis: { warmUp: 0s, minDuration: 1s, minRequests: 10, latency: { slowerThan: off } }
";

#[test]
fn a_release_of_the_readers_own_goes_to_its_end_and_the_next_demo_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("serin-demo/canary.yaml");
    fs::create_dir(folder.path().join("serin-demo")).unwrap();
    fs::write(&canary, QUICK).unwrap();
    let mut demo = Demo::start(folder.path(), &["--rollout", "--rps", "400"]);
    demo.line(|line| line.ends_with("started quick at 50 %"));
    demo.line(|line| line.contains("advanced quick to 100 %: v2 failed 0 of "));
    demo.line(|line| line.contains("quick step 2 of 2 at 100 %, "));
    demo.line(|line| line.contains("promoted quick: "));
    demo.line(|line| line.contains("quick promoted | ") && gets(line, "v2", "100"));
    let (lines, status) = demo.end();
    assert!(status.success(), "{status}");
    assert!(lines.iter().any(|line| line.starts_with("the release is over: promoted quick: ")), "{lines:#?}");
    assert!(report(folder.path(), &lines).contains("\npromoted after "), "{lines:#?}");
    assert_eq!(fs::read_to_string(&canary).unwrap(), QUICK);

    let mut again = Demo::start(folder.path(), &["--bad", "--rps", "40"]);
    again.line(|line| line.ends_with("started quick at 50 %"));
    again.line(|line| line.contains("quick step 1 of 2 at 50 %, "));
    again.interrupt();
    let (lines, status) = again.end();
    assert!(status.success(), "{status}");
    assert!(!lines.iter().any(|line| line.contains("promoted")), "{lines:#?}");
}

#[test]
fn a_release_that_cannot_begin_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("serin-demo/canary.yaml");
    let output = run(&["demo", "--rollout", "--for", "1s"], folder.path());
    assert!(output.status.success(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\nthe release did not begin\n"), "{output:?}");
    fs::write(&canary, "# nothing\n").unwrap();
    let output = run(&["demo", "--rollout"], folder.path());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("error: there is no release in serin-demo") && said.contains("help: --reset"), "{said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("serin-demo"), "in the way").unwrap();
    let output = run(&["demo"], folder.path());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: cannot write serin-demo: ") && said.contains("help: "), "{said}");
}
