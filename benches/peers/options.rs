//! What can be asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::contender::Peer;
use crate::work::Work;

/// Serin beside other proxies under the same load, in CPU time per request.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench peers --")]
pub(crate) struct Options {
    /// How often each proxy is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// How long each measurement lasts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Only this work (repeatable)
    #[arg(long, value_name = "WORK", value_delimiter = ',')]
    only: Vec<Work>,

    /// Only this proxy (repeatable)
    #[arg(long = "proxy", value_name = "NAME", value_delimiter = ',')]
    pub(crate) proxies: Vec<Peer>,

    /// One more Serin, to compare with (repeatable)
    #[arg(long, value_name = "PATH")]
    pub(crate) serin: Vec<PathBuf>,

    /// Exit 1 if Serin misses a bar
    #[arg(long)]
    pub(crate) check: bool,

    /// Write all numbers here as well
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// The works to measure, in their own order.
    pub(crate) fn works(&self) -> Vec<Work> {
        Work::ALL.into_iter().filter(|work| self.only.is_empty() || self.only.contains(work)).collect()
    }

    /// How long one measurement lasts.
    pub(crate) fn seconds(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}
