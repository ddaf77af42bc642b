//! `serin stats`: exact counters of every version, for people and for benchmark harnesses.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::admin_client::AdminOption;
use super::view::poll::{Counted, read};
use super::view::text::{NOTHING, duration, part, percent, plain};
use super::{fail, print};
use crate::telemetry::{NONE, Tally, VersionSummary};

/// Print exact counters and latencies of every version, since the start or the last reset
#[derive(Args, Debug)]
#[command(after_help = "\
`--reset` prints what was since the last reset and begins anew; nothing is lost
between the two. It is a baseline that the proxy keeps for this command: metrics
go on as they were.

p50 to p99.9 are of whole requests whose answer was below 500, to within 1.1 %.

Exit status: 0 printed, 2 no answer.

Example:
  serin stats
  serin stats --reset >/dev/null; ./load; serin stats --json")]
pub struct Stats {
    #[command(flatten)]
    proxy: AdminOption,

    /// Begin anew after this
    #[arg(long)]
    reset: bool,

    /// Print the answer of the admin port as it is
    #[arg(long)]
    json: bool,
}

impl Stats {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let answer = self.proxy.open().and_then(|admin| {
            if self.reset { admin.post("/api/v1/versions/reset") } else { admin.get("/api/v1/versions?since=reset") }
        });
        let text = answer.and_then(|answer| {
            let json = format!("{:#}\n", answer.body);
            let counted = read(answer)?;
            Ok(if self.json { json } else { people(&counted) })
        });
        match text {
            Ok(text) => {
                print(&text);
                ExitCode::SUCCESS
            }
            Err(message) => fail(&message),
        }
    }
}

fn people(counted: &Counted) -> String {
    let from = if counted.reset { "the last reset" } else { "the start" };
    let (since, seconds) = (plain(&counted.since), counted.seconds);
    let mut out = format!("since {from} at {since}, {seconds:.1} s, generation {}\n", counted.generation);
    for version in counted.versions.iter().filter(|one| one.app != NONE || one.total.requests > 0) {
        out.push('\n');
        out.push_str(&block(version, seconds));
    }
    out
}

/// What one version did, in a few lines.
fn block(of: &VersionSummary, seconds: f64) -> String {
    let name = if of.app == NONE { "(no version)".to_owned() } else { format!("{} {}", of.app, of.version) };
    let gone = if of.configured || of.app == NONE { "" } else { ", not in the configuration any more" };
    let mut out = format!("{}{gone}\n", plain(&name));
    let total = &of.total;
    // Writing to a string cannot fail.
    let _ = writeln!(out, "  requests  {}{}, {} in flight", requests(total), rate(total, seconds), of.in_flight);
    let _ = writeln!(out, "  latency   {}", latency(total));
    let _ = writeln!(out, "  bytes     {} in, {} out", of.bytes_in, of.bytes_out);
    if !of.flags.is_empty() {
        let flags: Vec<_> = of.flags.iter().map(|(flag, count)| format!("{flag} {count}")).collect();
        let _ = writeln!(out, "  flags     {}", plain(&flags.join(", ")));
    }
    for route in &of.routes {
        let share = match (route.declared, route.effective) {
            (Some(declared), Some(effective)) if of.app != NONE => {
                let got = route.got.map_or_else(|| NOTHING.to_owned(), |got| format!("{:.2} %", got * 100.0));
                let file = if (declared - effective).abs() < 1e-9 {
                    String::new()
                } else {
                    format!(" (file {})", percent(declared, 2))
                };
                format!("share wanted {}{file}, got {got}; ", percent(effective, 2))
            }
            _ => String::new(),
        };
        let _ = writeln!(out, "  route {}: {share}{}", plain(&route.route), requests(&route.done));
        if of.routes.len() > 1 {
            let _ = writeln!(out, "    latency {}", latency(&route.done));
        }
    }
    out
}

/// `1234 (2xx 1230, 5xx 4), 0.3 % failed`.
fn requests(of: &Tally) -> String {
    let codes = of.codes.iter().filter(|(_, count)| *count > 0);
    let codes: Vec<_> = codes.map(|(class, count)| format!("{class} {count}")).collect();
    match of.requests {
        0 => "0".to_owned(),
        all => format!("{all} ({}), {} failed", codes.join(", "), part(of.errors, all)),
    }
}

fn rate(of: &Tally, seconds: f64) -> String {
    if seconds > 0.0 { format!(", {:.1}/s", of.requests as f64 / seconds) } else { String::new() }
}

fn latency(of: &Tally) -> String {
    let quantile = |name: &str, q| format!("{name} {}", duration(of.latency.quantile(q)));
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)].map(|(name, q)| quantile(name, q)).join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;
    use crate::cli::view::testing::through;

    #[test]
    fn a_page_for_people() {
        let share = |declared: f64, got: f64| json!({ "declared": declared, "effective": 0.7, "got": got });
        let mut v2 = through("a/0", "v2", (300, 6, 192), &share(0.3, 0.3));
        v2.configured = false;
        let counted = Counted {
            since: "2026-11-25T02:06:34.790Z".to_owned(),
            reset: true,
            seconds: 10.0,
            generation: 3,
            versions: vec![through("a/0", "v1", (700, 0, 0), &share(0.7, 0.7)), v2],
            ..Counted::default()
        };
        assert_eq!(
            people(&counted),
            "since the last reset at 2026-11-25T02:06:34.790Z, 10.0 s, generation 3\n\
             \n\
             shop v1\n\
             \x20 requests  700 (2xx 700), 0.0 % failed, 70.0/s, 0 in flight\n\
             \x20 latency   p50 9.0 ms, p90 9.0 ms, p99 9.0 ms, p99.9 9.0 ms\n\
             \x20 bytes     0 in, 70000 out\n\
             \x20 route a/0: share wanted 70 %, got 70.00 %; 700 (2xx 700), 0.0 % failed\n\
             \n\
             shop v2, not in the configuration any more\n\
             \x20 requests  300 (2xx 294, 5xx 6), 2.0 % failed, 30.0/s, 0 in flight\n\
             \x20 latency   p50 579 ms, p90 579 ms, p99 579 ms, p99.9 579 ms\n\
             \x20 bytes     0 in, 30000 out\n\
             \x20 flags     UT 6\n\
             \x20 route a/0: share wanted 70 % (file 30 %), got 30.00 %; 300 (2xx 294, 5xx 6), 2.0 % failed\n"
        );
    }

    #[test]
    fn requests_that_reached_no_version_are_shown_once_there_are_any() {
        let mut none =
            through("_none", "_none", (0, 0, 0), &json!({ "declared": null, "effective": null, "got": null }));
        none.app = NONE.to_owned();
        let with = |none: &VersionSummary| people(&Counted { versions: vec![none.clone()], ..Counted::default() });
        assert!(!with(&none).contains("(no version)"));
        none.total = from_value(json!({
            "requests": 2, "errors": 0, "codes": { "4xx": 2 }, "latency": { "cells": [] },
        }))
        .unwrap();
        let text = with(&none);
        assert!(text.contains("\n(no version)\n  requests  2 (4xx 2), 0.0 % failed, 0 in flight\n"), "{text}");
    }
}
