//! What Serin has to reach beside each peer.

use std::fmt;

use serde_json::{Value, json};

use crate::report::Row;
use crate::work::Work;

/// Whom Serin is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    One(&'static str),
    /// Whichever peer needs least.
    BestPeer,
}

/// Serin's CPU time over the other's, at most.
const BARS: [(Work, Against, f64); 8] = [
    (Work::Small, Against::One("haproxy"), 0.95),
    (Work::Small, Against::One("nginx"), 0.90),
    (Work::Small, Against::One("envoy"), 0.30),
    (Work::Small, Against::One("floor"), 1.45),
    (Work::Kib64, Against::BestPeer, 1.0),
    (Work::Mib1, Against::BestPeer, 1.0),
    (Work::Upload, Against::BestPeer, 1.0),
    (Work::Http2, Against::One("haproxy"), 1.0),
];

const PEERS: [&str; 4] = ["nginx", "haproxy", "envoy", "caddy"];

/// How Serin stands against one bar.
#[derive(Debug)]
pub(crate) struct Verdict {
    work: Work,
    against: String,
    bar: f64,
    ratio: Option<f64>,
    /// None: one of the two was not measured.
    pub(crate) met: Option<bool>,
}

impl Verdict {
    /// For machines.
    pub(crate) fn json(&self) -> Value {
        json!({"work": self.work.to_string(), "against": self.against, "bar": self.bar, "ratio": self.ratio, "met": self.met})
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, against, bar, .. } = self;
        match (self.ratio, self.met) {
            (Some(ratio), Some(met)) => {
                let word = if met { "met" } else { "MISSED" };
                write!(formatter, "{work}: {ratio:.2} × {against}, at most {bar:.2}: {word}")
            }
            _ => write!(formatter, "{work}: at most {bar:.2} × {against}: not judged, {against} was not measured"),
        }
    }
}

/// A verdict for every bar of the works that Serin was measured in.
pub(crate) fn judge(rows: &[Row]) -> Vec<Verdict> {
    let find = |work, name: &str| rows.iter().find(|row| row.work == work && row.name == name);
    let verdict = |&(work, against, bar): &(Work, Against, f64)| {
        let serin = find(work, "serin")?;
        let (name, ratio) = match against {
            Against::One(name) => (name.to_owned(), find(work, name).map(|peer| serin.ratio_to(peer))),
            Against::BestPeer => {
                let ratios = PEERS.iter().filter_map(|name| Some((*name, serin.ratio_to(find(work, name)?))));
                match ratios.max_by(|(_, one), (_, other)| one.total_cmp(other)) {
                    Some((name, ratio)) => (format!("{name} (the best peer)"), Some(ratio)),
                    None => ("the best peer".to_owned(), None),
                }
            }
        };
        Some(Verdict { work, against: name, bar, ratio, met: ratio.map(|ratio| ratio <= bar) })
    };
    BARS.iter().filter_map(verdict).collect()
}
