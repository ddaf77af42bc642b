//! The table that is printed.

use std::fmt;
use std::time::Duration;

use crate::Options;
use crate::load::Latencies;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Report {
    set_up: String,
    /// Of each quiet spell.
    pub(crate) quiet: Vec<Latencies>,
    /// Of each spell of rewriting.
    pub(crate) busy: Vec<Latencies>,
    /// From each save to its effect.
    pub(crate) effects: Vec<Duration>,
    /// Resident memory of Serin before the first reload.
    memory_kib: u64,
    /// After the last.
    pub(crate) memory_after_kib: u64,
    /// At most.
    pub(crate) memory_peak_kib: u64,
}

impl Report {
    pub(crate) fn new(options: &Options, memory_kib: u64) -> Self {
        let Options { services, rules, rate, connections, workers, .. } = options;
        let set_up = format!(
            "{services} VirtualServices of {rules} rules, {rate} requests a second over {connections} connections, \
             {workers} worker(s) and the thread that reads on one core"
        );
        let (memory_after_kib, memory_peak_kib) = (0, 0);
        Self {
            set_up,
            quiet: Vec::new(),
            busy: Vec::new(),
            effects: Vec::new(),
            memory_kib,
            memory_after_kib,
            memory_peak_kib,
        }
    }

    /// By how much a quantile of a spell of rewriting lies above that of the quiet spell before it: the median of all rounds.
    fn moves(&self, part: f64) -> f64 {
        let differences = self
            .quiet
            .iter()
            .zip(&self.busy)
            .map(|(quiet, busy)| milliseconds(busy.quantile(part)) - milliseconds(quiet.quantile(part)));
        median(differences.collect())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.set_up)?;
        writeln!(f, "| ms | requests | p50 | p90 | p99 | p99.9 | max |\n| --- | --- | --- | --- | --- | --- | --- |")?;
        let quantiles = [0.5, 0.9, 0.99, 0.999, 1.0];
        for (name, spells) in [("quiet", &self.quiet), ("rewriting", &self.busy)] {
            let all = Latencies::together(spells);
            write!(f, "| {name} | {} |", all.count())?;
            quantiles.iter().try_for_each(|part| write!(f, " {:.3} |", milliseconds(all.quantile(*part))))?;
            writeln!(f)?;
        }
        write!(f, "| moves (median of rounds) | |")?;
        quantiles.iter().try_for_each(|part| write!(f, " {:+.3} |", self.moves(*part)))?;
        let effects: Vec<f64> = self.effects.iter().copied().map(milliseconds).collect();
        let slowest = effects.iter().copied().fold(0.0, f64::max);
        let (count, middle) = (effects.len(), median(effects));
        writeln!(f, "\nfrom save to effect: median {middle:.0} ms, at most {slowest:.0} ms, of {count} saves")?;
        let mib = |kib: u64| kib / 1024;
        writeln!(
            f,
            "resident memory: {} MiB after the start, {} MiB after the last reload, {} MiB at most",
            mib(self.memory_kib),
            mib(self.memory_after_kib),
            mib(self.memory_peak_kib)
        )
    }
}
