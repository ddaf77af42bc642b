//! What the proxies are asked to do, and who asks: wrk for HTTP/1.1, h2load for HTTP/2.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;

use crate::process::{Cores, on_path};

/// One kind of request, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// HTTP/1.1, 64 connections, answers of 64 bytes
    Small,
    /// HTTP/1.1, 64 connections, answers of 64 KiB
    #[value(name = "64k")]
    Kib64,
    /// HTTP/1.1, 64 connections, answers of 1 MiB
    #[value(name = "1m")]
    Mib1,
    /// HTTP/1.1, 64 connections, requests of 1 MiB
    Upload,
    /// HTTP/2 in, HTTP/1.1 out, 8 connections with 16 streams, answers of 64 bytes
    Http2,
}

impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Small => "small",
            Self::Kib64 => "64k",
            Self::Mib1 => "1m",
            Self::Upload => "upload",
            Self::Http2 => "http2",
        })
    }
}

/// What a load generator saw.
#[derive(Debug, PartialEq)]
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) completed: u64,
    /// Requests answered in a second.
    pub(crate) per_second: f64,
}

/// Refuses to begin without what the works need.
pub(crate) fn require_tools(works: &[Work]) -> Result<(), String> {
    let http1 = works.iter().any(|work| *work != Work::Http2);
    let tools = [
        ("taskset", "util-linux", true),
        ("wrk", "wrk", http1),
        ("h2load", "nghttp2-client", works.contains(&Work::Http2)),
    ];
    match tools.iter().find(|(tool, _, needed)| *needed && on_path(tool).is_none()) {
        Some((tool, package, _)) => Err(format!("needs {tool}: install the package {package}")),
        None => Ok(()),
    }
}

impl Work {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 5] = [Self::Small, Self::Kib64, Self::Mib1, Self::Upload, Self::Http2];

    /// The command that makes the load, without the cores to run on.
    pub(crate) fn command(self, port: &str, duration: Duration) -> Vec<String> {
        let seconds = duration.as_secs();
        let path = match self {
            Self::Small | Self::Http2 => "small",
            Self::Kib64 => "64k",
            Self::Mib1 => "1m",
            Self::Upload => "upload",
        };
        let url = format!("http://127.0.0.1:{port}/{path}");
        let mut command: Vec<String> = match self {
            Self::Http2 => ["h2load", "-t1", "-c8", "-m16", "-D"].map(String::from).into(),
            _ => ["wrk", "-t1", "-c64", "-d"].map(String::from).into(),
        };
        command.push(seconds.to_string());
        if self == Self::Upload {
            command.extend(["-s".to_owned(), "benches/peers/upload.lua".to_owned()]);
        }
        command.push(url);
        command
    }

    /// Loads the proxy on a port of this machine. A single failed request is an error: a proxy that fails fast would win.
    pub(crate) fn load(self, port: u16, duration: Duration, cores: &Cores) -> Result<Load, String> {
        let command = self.command(&port.to_string(), duration);
        let output = Command::new("taskset").args(["--cpu-list", &cores.others]).args(&command).output();
        let output = output.map_err(|error| format!("cannot run {}: {error}", command[0]))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let load = if self == Self::Http2 { parse_h2load(&text) } else { parse_wrk(&text) };
        load.map_err(|reason| {
            format!("{self}: {reason}; {} said:\n{text}{}", command[0], String::from_utf8_lossy(&output.stderr))
        })
    }
}

fn parse_wrk(text: &str) -> Result<Load, &'static str> {
    if text.contains("Socket errors:") || text.contains("Non-2xx") {
        return Err("requests failed");
    }
    let completed = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let per_second = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    match (completed, per_second) {
        (Some(completed), Some(per_second)) if completed > 0 => Ok(Load { completed, per_second }),
        _ => Err("no request was answered"),
    }
}

fn parse_h2load(text: &str) -> Result<Load, &'static str> {
    let number = |line: &str, after: &str| {
        line.split(", ").find_map(|part| part.trim().strip_suffix(after)?.trim().parse::<u64>().ok())
    };
    let requests = text.lines().find_map(|line| line.strip_prefix("requests: ")).ok_or("no request was answered")?;
    if number(requests, "failed") != Some(0) || number(requests, "errored") != Some(0) {
        return Err("requests failed");
    }
    let statuses = text.lines().find_map(|line| line.strip_prefix("status codes: ")).unwrap_or_default();
    if ["3xx", "4xx", "5xx"].iter().any(|class| number(statuses, class) != Some(0)) {
        return Err("requests failed");
    }
    let finished = text.lines().find_map(|line| line.strip_prefix("finished in ")).unwrap_or_default();
    let per_second = finished.split(", ").find_map(|part| part.strip_suffix(" req/s")?.parse().ok());
    match (number(requests, "succeeded"), per_second) {
        (Some(completed), Some(per_second)) if completed > 0 => Ok(Load { completed, per_second }),
        _ => Err("no request was answered"),
    }
}
