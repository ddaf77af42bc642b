//! Requests made up from two tables, and what becomes of them in each.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::cli::explain::percent;
use crate::cli::offline::{Ask, Offline, Outcome};

/// A request whose answer differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Sampled {
    /// As it could be typed behind `serin explain --`.
    pub(super) request: String,
    /// What becomes of it before.
    pub(super) old: String,
    /// And after.
    pub(super) new: String,
}

/// Those whose answer differs, once each, by how they are written.
pub(super) fn samples(old: &Offline, new: &Offline) -> Vec<Sampled> {
    let mut found = BTreeSet::new();
    for (port, ask) in asks(old).into_iter().chain(asks(new)) {
        let outcome = |offline: &Offline| summary(&Outcome::at(offline, &ask, port), &ask);
        let (old, new) = (outcome(old), outcome(new));
        if old != new {
            found.insert(Sampled { request: typed(&ask), old, new });
        }
    }
    found.into_iter().collect()
}

fn asks(offline: &Offline) -> Vec<(u16, Ask)> {
    let mut asks = Vec::new();
    for port in offline.table.ports() {
        for (host, sample) in offline.table.listener(port).into_iter().flat_map(|hosts| hosts.samples()) {
            let authority = sample.authority.unwrap_or(host);
            let url = format!("{}://{authority}:{port}{}", sample.scheme, sample.path);
            let Ok(ask) = Ask::new(&sample.method, &url) else { continue };
            asks.push((port, Ask { authority, headers: sample.headers, ..ask }));
        }
    }
    asks
}

fn typed(ask: &Ask) -> String {
    let port = ask.port.unwrap_or_default();
    let mut text = format!("{} {}://{}:{port}{}", ask.method, ask.scheme, ask.authority, ask.path);
    for (name, value) in &ask.headers {
        text.push_str(&format!(" -H '{name}: {}'", String::from_utf8_lossy(value.as_bytes())));
    }
    text
}

/// What becomes of it, in a line.
fn summary(outcome: &Outcome, ask: &Ask) -> String {
    if outcome.listener.is_none() {
        return "nothing listens".to_owned();
    }
    if let Some(own) = &outcome.response {
        let location = own.headers.get("location").map_or_else(String::new, |location| format!(" {location}"));
        return format!("{}{location}", own.status);
    }
    let shares = outcome.destinations.iter().filter(|target| target.share > 0.0);
    let shares: Vec<_> = shares.map(|target| format!("{} {} %", target.place.name(), percent(target.share))).collect();
    let path = if outcome.request.path == ask.path { String::new() } else { format!(" as {}", outcome.request.path) };
    format!("{}{path}", shares.join(", "))
}
