//! What was measured, as a table and as JSON.

use std::fmt;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bars;
use crate::contender::Running;
use crate::options::Options;
use crate::work::{Load, Work};

/// One proxy under one work.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it did.
    pub(crate) work: Work,
    /// Who did it.
    pub(crate) name: String,
    /// CPU time for a request, in microseconds, round by round.
    cpu: Vec<f64>,
    per_second: Vec<f64>,
    memory_kib: u64,
}

impl Row {
    /// Nothing measured yet.
    pub(crate) fn new(work: Work, name: &str) -> Self {
        Self { work, name: name.to_owned(), cpu: Vec::new(), per_second: Vec::new(), memory_kib: 0 }
    }

    /// Adds a round.
    pub(crate) fn record(&mut self, spent: Duration, load: &Load, memory_kib: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^53")]
        self.cpu.push(spent.as_secs_f64() * 1e6 / load.completed as f64);
        self.per_second.push(load.per_second);
        self.memory_kib = self.memory_kib.max(memory_kib);
    }

    /// This row's CPU time over another's: the median of the ratios of their rounds.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        median(self.cpu.iter().zip(&other.cpu).map(|(mine, theirs)| mine / theirs))
    }

    fn json(&self, serin: Option<&Self>) -> Value {
        json!({
            "work": self.work.to_string(),
            "proxy": self.name,
            "cpu_us_per_request": median(self.cpu.iter().copied()),
            "cpu_us_per_request_by_round": self.cpu,
            "ratio_to_serin": serin.map(|serin| self.ratio_to(serin)),
            "requests_per_second": median(self.per_second.iter().copied()),
            "memory_kib": self.memory_kib,
        })
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// Everything there is to say about a run.
#[derive(Debug)]
pub(crate) struct Report {
    command: String,
    loads: Vec<String>,
    machine: Value,
    versions: Vec<(String, String)>,
    missing: Vec<String>,
    /// In the order of measuring.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// The frame of a report, without rows.
    pub(crate) fn new(options: &Options, running: &[Running], missing: Vec<String>) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let loads = options
            .works()
            .into_iter()
            .map(|work| format!("{work}: {}", work.command("PORT", options.seconds()).join(" ")));
        Self {
            command: format!("cargo bench --bench peers -- {}", arguments.join(" "))
                .trim_end_matches([' ', '-'])
                .to_owned(),
            loads: loads.collect(),
            machine: machine(),
            versions: running.iter().map(|proxy| (proxy.name().to_owned(), proxy.version.clone())).collect(),
            missing,
            rows: Vec::new(),
        }
    }

    /// All numbers.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| row.json(self.serin(row.work))).collect();
        let bars: Vec<Value> = bars::judge(&self.rows).iter().map(bars::Verdict::json).collect();
        json!({
            "command": self.command, "loads": self.loads, "machine": self.machine,
            "versions": self.versions.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "missing": self.missing, "rows": rows, "bars": bars,
        })
    }

    fn serin(&self, work: Work) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work && row.name == "serin")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.command)?;
        let machine = |key: &str| self.machine[key].as_str().unwrap_or("unknown");
        writeln!(formatter, "{}, {} cores, Linux {}", machine("processor"), self.machine["cores"], machine("kernel"))?;
        for (name, version) in &self.versions {
            writeln!(formatter, "{name}: {version}")?;
        }
        for reason in &self.missing {
            writeln!(formatter, "left out: {reason}")?;
        }
        for load in &self.loads {
            writeln!(formatter, "{load}")?;
        }
        let mut work = None;
        for row in &self.rows {
            if work.replace(row.work) != Some(row.work) {
                let heading = row.work.to_string();
                writeln!(
                    formatter,
                    "\n{heading:<24} {:>10} {:>17} {:>9} {:>11} {:>9}",
                    "µs CPU", "lowest–highest", "× serin", "requests/s", "MiB"
                )?;
            }
            let (lowest, highest) =
                row.cpu.iter().fold((f64::INFINITY, 0f64), |(low, high), cpu| (low.min(*cpu), high.max(*cpu)));
            let ratio =
                self.serin(row.work).map_or_else(|| "–".to_owned(), |serin| format!("{:.2}", row.ratio_to(serin)));
            writeln!(
                formatter,
                "{:<24} {:>10.2} {:>17} {ratio:>9} {:>11.0} {:>9}",
                row.name,
                median(row.cpu.iter().copied()),
                format!("{lowest:.2}–{highest:.2}"),
                median(row.per_second.iter().copied()),
                row.memory_kib / 1024,
            )?;
        }
        let verdicts = bars::judge(&self.rows);
        if !verdicts.is_empty() {
            writeln!(formatter)?;
        }
        verdicts.iter().try_for_each(|verdict| writeln!(formatter, "{verdict}"))
    }
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let processor = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    json!({
        "processor": processor.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}
