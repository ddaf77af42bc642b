//! The lines of a JSON access log, as far as a replay needs them.

use std::io::BufRead;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::rollout::Arm;
use crate::rollout::simulate::Recorded;

/// Fields without which a line says nothing about a release.
const NEEDED: [&str; 8] =
    ["time", "duration_ms", "upstream_ms", "version", "route", "attempts", "share", "first_failed"];
/// Bad lines that are named.
const NAMED: usize = 5;

/// Which lines are of the release.
#[derive(Debug)]
pub(super) struct Wanted<'w> {
    /// The label `route` of its rule.
    pub(super) route: &'w str,
    /// The label `version` of the stable version.
    pub(super) stable: &'w str,
    /// That of the canary.
    pub(super) canary: &'w str,
}

/// What a log holds of a release.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Its requests, by the time at which they came; that is counted from the first of them.
    pub(super) requests: Vec<Recorded>,
    /// When the first of them came.
    pub(super) began: Option<Timestamp>,
    /// Times of the stable version's answers while the canary had no share.
    pub(super) before: Vec<Duration>,
    /// Lines of other routes and versions.
    pub(super) others: u64,
    /// Lines of its route without a draw, or without an attempt: nothing that speaks for or against a version.
    pub(super) silent: u64,
    /// Lines that cannot be read.
    pub(super) bad: u64,
    /// The first of them: line number, and why.
    pub(super) named: Vec<(u64, String)>,
}

/// One line.
#[derive(Deserialize)]
struct Line {
    time: String,
    duration_ms: f64,
    upstream_ms: Option<f64>,
    version: Option<String>,
    drawn: Option<String>,
    route: Option<String>,
    attempts: u32,
    share: Option<f64>,
    first_failed: Option<bool>,
}

impl Lines {
    /// Reads a log to its end. Empty lines say nothing.
    pub(super) fn read(mut log: impl BufRead, wanted: &Wanted<'_>) -> std::io::Result<Self> {
        let (mut lines, mut dated, mut text) = (Self::default(), Vec::new(), Vec::new());
        for number in 1.. {
            text.clear();
            if log.read_until(b'\n', &mut text)? == 0 {
                break;
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            match line(&text) {
                Ok((time, line)) => dated.extend(lines.take(&line, wanted).map(|request| (time, request))),
                Err(why) => {
                    lines.bad += 1;
                    if lines.named.len() < NAMED {
                        lines.named.push((number, why));
                    }
                }
            }
        }
        // A line is written when its request has ended; what counts is when it came.
        dated.sort_by_key(|(time, _)| *time);
        lines.began = dated.first().map(|(time, _)| *time);
        let began = lines.began.unwrap_or_default();
        let since = |time: Timestamp| Duration::try_from(time.duration_since(began)).unwrap_or_default();
        lines.requests = dated.into_iter().map(|(time, request)| Recorded { at: since(time), ..request }).collect();
        Ok(lines)
    }

    /// The request of a line, if it is of the release; its time is still to be filled in.
    fn take(&mut self, line: &Line, wanted: &Wanted<'_>) -> Option<Recorded> {
        let version = line.drawn.as_deref().or(line.version.as_deref());
        let version = match version {
            Some(version) if version == wanted.canary => Some(Arm::Canary),
            Some(version) if version == wanted.stable => Some(Arm::Stable),
            _ => None,
        };
        let (Some(version), true) = (version, line.route.as_deref() == Some(wanted.route)) else {
            self.others += 1;
            return None;
        };
        let (Some(share), Some(bad)) = (line.share, line.first_failed) else {
            self.silent += 1;
            return None;
        };
        let latency = line.latency();
        let share = if version == Arm::Canary { share } else { 1.0 - share };
        // The log has what was drawn, the rest is a difference: without its rounding, equal shares are equal again.
        let share = (share * 1e9).round() / 1e9;
        if share <= 0.0 {
            self.before.push(latency);
            return None;
        }
        Some(Recorded { at: Duration::ZERO, version, share, bad, latency, key: None })
    }

    /// The time that 99 of 100 answers of the stable version did not exceed: before the canary had a share if there are enough
    /// answers from then, else all along.
    pub(super) fn stable_p99(&self) -> Option<Duration> {
        let along = self.requests.iter().filter(|request| request.version == Arm::Stable);
        let mut times: Vec<Duration> = match self.before.len() {
            0..300 => self.before.iter().copied().chain(along.map(|request| request.latency)).collect(),
            _ => self.before.clone(),
        };
        times.sort_unstable();
        times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied()
    }
}

impl Line {
    /// How long the first attempt took: what is judged. Where it failed and there were more, at most what the last one left of the
    /// whole. (An attempt that was repeated for nothing did not fail, but is among them.)
    fn latency(&self) -> Duration {
        let whole = self.duration_ms;
        let millis = match self.upstream_ms {
            Some(upstream) if self.attempts <= 1 || self.first_failed == Some(false) => upstream,
            Some(upstream) => whole - upstream,
            None => whole,
        };
        Duration::try_from_secs_f64(millis.max(0.0) / 1e3).unwrap_or_default()
    }
}

/// A line, and when its request came.
fn line(text: &[u8]) -> Result<(Timestamp, Line), String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    if let Some(missing) = NEEDED.into_iter().find(|field| value.get(field).is_none()) {
        return Err(format!("no field `{missing}`"));
    }
    let line = Line::deserialize(value).map_err(|error| error.to_string())?;
    match line.share {
        Some(share) if !(0.0..=1.0).contains(&share) => Err(format!("`share` is from 0 to 1, not {share}")),
        _ => match line.time.parse() {
            Ok(time) => Ok((time, line)),
            Err(error) => Err(format!("`time`: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'static> = Wanted { route: "main", stable: "1.0", canary: "2.0" };

    fn text(second: u32, rest: &str) -> String {
        let fields = [
            ("duration_ms", "30.5"),
            ("upstream_ms", "20.25"),
            ("version", "\"1.0\""),
            ("route", "\"main\""),
            ("attempts", "1"),
            ("share", "0.9"),
            ("first_failed", "false"),
        ];
        let fields = fields.iter().filter(|(name, _)| !rest.contains(&format!("\"{name}\"")));
        let fields: Vec<String> = fields.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let comma = if rest.is_empty() { "" } else { "," };
        format!("{{\"time\":\"2026-11-25T10:00:{second:02}.250Z\",{}{comma}{rest}}}\n", fields.join(","))
    }

    fn read(lines: &[String]) -> Lines {
        Lines::read(lines.concat().as_bytes(), &WANTED).unwrap()
    }

    #[test]
    fn requests_are_in_the_order_in_which_they_came() {
        let canary = r#""version":"2.0","share":0.1,"first_failed":true"#;
        let lines = read(&[text(9, canary), text(3, ""), "\n".to_owned(), text(5, "")]);
        let request = |at, version, bad| {
            let latency = Duration::from_micros(20_250);
            Recorded { at: Duration::from_secs(at), version, share: 0.1, bad, latency, key: None }
        };
        let wanted = [request(0, Arm::Stable, false), request(2, Arm::Stable, false), request(6, Arm::Canary, true)];
        assert_eq!(lines.requests, wanted);
        assert_eq!(lines.began.unwrap().to_string(), "2026-11-25T10:00:03.25Z");
        assert_eq!((lines.bad, lines.others, lines.silent), (0, 0, 0));
    }

    #[test]
    fn what_says_nothing_is_counted_apart() {
        let lines = read(&[
            text(1, r#""route":"other""#),
            text(1, r#""version":null"#),
            text(1, r#""share":null"#),
            text(1, r#""first_failed":null"#),
            text(1, r#""share":1"#),
        ]);
        assert!(lines.requests.is_empty());
        assert_eq!((lines.others, lines.silent, lines.before.len()), (2, 2, 1));
    }

    #[test]
    fn bad_lines_are_named() {
        let no_share = text(1, "").replace("\"share\":0.9,", "");
        let lines =
            read(&["{\n".to_owned(), text(1, ""), no_share, text(1, r#""share":7"#), text(61, ""), "[]\n".to_owned()]);
        assert_eq!((lines.requests.len(), lines.bad), (1, 5));
        let (numbers, why): (Vec<u64>, Vec<&str>) =
            lines.named.iter().map(|(number, why)| (*number, why.as_str())).unzip();
        assert_eq!(numbers, [1, 3, 4, 5, 6]);
        assert!(why[0].starts_with("not JSON: "), "{why:?}");
        assert_eq!((why[1], why[2], why[4]), ("no field `share`", "`share` is from 0 to 1, not 7", "no field `time`"));
        assert!(why[3].starts_with("`time`: "), "{why:?}");
        assert_eq!(read(&vec!["x\n".to_owned(); 9]).named.len(), NAMED);
    }

    /// The one that was drawn is judged, whoever answered in its place.
    #[test]
    fn a_shielded_failure_is_the_canarys() {
        let shielded = r#""drawn":"2.0","version":"1.0","share":0.1,"first_failed":true,"attempts":2"#;
        let lines = read(&[text(1, shielded)]);
        let request = lines.requests[0];
        assert_eq!((request.version, request.share, request.bad), (Arm::Canary, 0.1, true));
        assert_eq!(request.latency, Duration::from_micros(10_250));
        let repeated = read(&[text(1, r#""attempts":2"#)]);
        assert_eq!(repeated.requests[0].latency, Duration::from_micros(20_250));
    }

    #[test]
    fn the_p99_is_that_of_the_time_before_if_there_is_enough() {
        let before = |count: u64| -> Vec<Duration> { (1..=count).map(Duration::from_millis).collect() };
        let lines = Lines { before: before(1_000), ..read(&[text(1, "")]) };
        assert_eq!(lines.stable_p99(), Some(Duration::from_millis(990)));
        let lines = Lines { before: before(2), ..read(&[text(1, ""), text(2, "")]) };
        assert_eq!(lines.stable_p99(), Some(Duration::from_micros(20_250)));
        assert_eq!(Lines::default().stable_p99(), None);
    }
}
