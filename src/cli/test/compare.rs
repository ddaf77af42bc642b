//! What became of a request, against what was expected.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cases::{Expect, Text};
use crate::cli::explain::percent;
use crate::cli::offline::{Outcome, Sent, Target};

/// Shares may differ by so much, in percent: they are often written rounded.
const ROUNDING: f64 = 0.05;

/// One thing that is not as expected.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// Which part of the expectation.
    pub(super) what: String,
    /// What was expected.
    pub(super) wanted: String,
    /// What is.
    pub(super) got: String,
}

/// Everything that is not as expected.
pub(super) fn compare(expect: &Expect, outcome: &Outcome) -> Vec<Difference> {
    let mut found = Differences(Vec::new());
    if let Some(wanted) = &expect.rule {
        found.rule(wanted, outcome);
    }
    found.destination(expect, outcome);
    if let Some(wanted) = &expect.destinations {
        let shown = |list: &BTreeMap<String, f64>| {
            let shares = list.iter().map(|(name, share)| format!("{name} {} %", percent(share / 100.0)));
            shares.collect::<Vec<_>>().join(", ")
        };
        let mut got = BTreeMap::new();
        for target in outcome.destinations.iter().filter(|target| target.share > 0.0) {
            // As the expectation names it: by as much as it says.
            let name = wanted.keys().find(|name| is_called(target, name)).cloned();
            *got.entry(name.unwrap_or_else(|| target.place.name())).or_insert(0.0) += target.share * 100.0;
        }
        let same = got.keys().eq(wanted.keys()) && got.iter().all(|(name, share)| close(*share, wanted[name]));
        found.check("destinations", same, shown(wanted), shown(&got));
    }
    let sent = request(expect, outcome);
    found.equal("path", expect.path.as_ref(), &sent.path);
    found.equal("host", expect.host.as_ref(), &sent.host);
    found.headers("headers", &expect.headers, &sent.headers);
    found.equal("status", expect.status.map(|status| status.to_string()).as_ref(), &outcome.status().to_string());
    let none = BTreeMap::new();
    let own = outcome.response.as_ref().map_or(&none, |own| &own.headers);
    found.equal("location", expect.location.as_ref(), own.get("location").map_or("none", String::as_str));
    found.equal("body", expect.body.as_ref(), outcome.response.as_ref().map_or("none", |own| &own.body));
    found.headers("response", &expect.response, own);
    found.equal("timeout", expect.timeout.as_ref(), outcome.timeout.as_deref().unwrap_or("none"));
    found.0
}

/// The request as it goes to the destination in question.
fn request<'o>(expect: &Expect, outcome: &'o Outcome) -> &'o Sent {
    let named = expect.destination.as_ref();
    let target = named.and_then(|name| outcome.destinations.iter().find(|target| is_called(target, name)));
    target.map_or(&outcome.request, |target| &target.request)
}

/// Whether `HOST[/SUBSET][:PORT]` means a destination. A short host means the Kubernetes service of that name, too.
fn is_called(target: &Target, name: &str) -> bool {
    let (name, port) = match name.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (name, None),
    };
    let (host, subset) = match name.split_once('/') {
        Some((host, subset)) => (host, Some(subset)),
        None => (name, None),
    };
    let place = &target.place;
    let same_host = place.host == host || !host.contains('.') && place.host.starts_with(&format!("{host}."));
    same_host
        && place.subset.as_deref() == subset
        && port.is_none_or(|port| place.port.is_some_and(|own| own.to_string() == port))
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= ROUNDING
}

struct Differences(Vec<Difference>);

impl Differences {
    fn check(&mut self, what: &str, same: bool, wanted: impl Into<String>, got: impl Into<String>) {
        if !same {
            self.0.push(Difference { what: what.to_owned(), wanted: wanted.into(), got: got.into() });
        }
    }

    fn equal(&mut self, what: &str, wanted: Option<&String>, got: &str) {
        if let Some(wanted) = wanted {
            self.check(what, wanted == got, wanted, got);
        }
    }

    fn rule(&mut self, wanted: &str, outcome: &Outcome) {
        let place = outcome.rule.as_ref().map(|rule| format!("{}/{}", rule.virtual_service, rule.index));
        let names = [outcome.label.as_deref(), place.as_deref()];
        let same = match outcome.label {
            None => wanted == "none",
            Some(_) => names.contains(&Some(wanted)),
        };
        self.check("rule", same, wanted, outcome.label.as_deref().unwrap_or("none"));
    }

    fn destination(&mut self, expect: &Expect, outcome: &Outcome) {
        let got = || {
            let shares = outcome.destinations.iter().filter(|target| target.share > 0.0);
            let shares: Vec<_> =
                shares.map(|target| format!("{} {} %", target.place.name(), percent(target.share))).collect();
            if shares.is_empty() { "none".to_owned() } else { shares.join(", ") }
        };
        match (&expect.destination, expect.share) {
            (None, None) => {}
            (Some(none), _) if none == "none" => {
                self.check("destination", outcome.destinations.is_empty(), none, got())
            }
            (Some(name), share) => {
                let sum: f64 = outcome
                    .destinations
                    .iter()
                    .filter(|target| is_called(target, name))
                    .map(|target| target.share)
                    .sum();
                let wanted = share.unwrap_or(100.0);
                let same =
                    close(sum * 100.0, wanted) && outcome.destinations.iter().any(|target| is_called(target, name));
                self.check("destination", same, format!("{name} {} %", percent(wanted / 100.0)), got());
            }
            (None, Some(share)) => {
                let same = outcome.destinations.iter().any(|target| close(target.share * 100.0, share));
                self.check("share", same, format!("{share} %"), got());
            }
        }
    }

    fn headers(&mut self, what: &str, wanted: &BTreeMap<String, Option<Text>>, got: &BTreeMap<String, String>) {
        for (name, value) in wanted {
            let found = got.get(&name.to_ascii_lowercase()).map(String::as_str);
            let value = value.as_ref().map(|value| value.0.as_str());
            let shown = |value: Option<&str>| value.unwrap_or("none").to_owned();
            self.check(&format!("{what}.{name}"), found == value, shown(value), shown(found));
        }
    }
}
