//! The table that is printed.

use std::fmt;
use std::time::Duration;

/// One release, from its start to its rollback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Of both versions, until the decision.
    pub(crate) requests: u64,
    /// How long after the decision the last request was routed to the canary.
    pub(crate) routed: Duration,
    /// How long after it the last request arrived there.
    pub(crate) arrived: Duration,
}

/// All releases under one load.
#[derive(Debug)]
pub(crate) struct Pass {
    /// Requests a second that were asked for; none: as fast as they are answered.
    pub(crate) rate: Option<u32>,
    pub(crate) connections: u32,
    /// Requests a second that were answered.
    pub(crate) rps: f64,
    pub(crate) attempts: Vec<Attempt>,
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) passes: Vec<Pass>,
}

/// The value that this part (0–1) of the values does not exceed.
fn quantile<T: Ord + Copy + Default>(values: impl Iterator<Item = T>, part: f64) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let rank = (values.len() as f64 * part).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.rate.is_some() { "steady" } else { "as fast as answered" };
        write!(f, "| {kind}, {:.0} rps over {} connections | {} |", self.rps, self.connections, self.attempts.len())?;
        let requests = |part| quantile(self.attempts.iter().map(|one| one.requests), part);
        write!(f, " {} | {} |", requests(0.5), requests(0.95))?;
        let met = self.attempts.iter().filter(|one| !one.routed.max(one.arrived).is_zero()).count();
        write!(f, " {met} |")?;
        for late in [|one: &Attempt| one.routed, |one: &Attempt| one.arrived] {
            let late = |part| quantile(self.attempts.iter().map(late), part).as_secs_f64() * 1e3;
            write!(f, " {:.2} | {:.2} |", late(0.99), late(1.0))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A canary at 10 % that fails every request; the bar for the last request to it is 10 ms after the decision."
        )?;
        write!(f, "| load | releases | requests: median | p95 | releases with a request after the decision |")?;
        writeln!(f, " last routed, ms after it: p99 | max | last arrived: p99 | max |\n|{}", " --- |".repeat(9))?;
        self.passes.iter().try_for_each(|pass| write!(f, "{pass}"))
    }
}
