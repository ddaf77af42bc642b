//! From looks at the running proxy to what the view shows: shares wanted and got, and what happened to the configuration.
//! Does no input or output.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::view::{Column, Event, View};
use crate::cli::view::text::percent;
use crate::cli::view::window::Window;
use crate::telemetry::{ActiveRoute, NONE, VersionSummary};

/// Events that are remembered.
const EVENTS: usize = 5;

/// The share of each `(app, version)`; `None` where the rules of the configuration differ in it.
type Shares = BTreeMap<(String, String), Option<f64>>;

/// One look at the proxy.
#[derive(Debug)]
pub(super) struct Look {
    /// When.
    pub at: Instant,
    /// The counters of every version.
    pub versions: Vec<VersionSummary>,
    /// What is in force.
    pub routes: Vec<ActiveRoute>,
    /// Its generation.
    pub generation: u64,
    /// Why the files as they are now are not in force; empty if they are.
    pub problems: Vec<String>,
}

/// What has been seen so far.
#[derive(Debug)]
pub(super) struct Live {
    start: Instant,
    window: Window,
    generation: u64,
    shares: Shares,
    problems: Vec<String>,
    events: VecDeque<Event>,
    fresh: Vec<Event>,
}

impl Live {
    /// Nothing so far.
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            window: Window::default(),
            generation: 0,
            shares: Shares::new(),
            problems: Vec::new(),
            events: VecDeque::new(),
            fresh: Vec::new(),
        }
    }

    /// Takes in one look and says what is to be shown.
    pub(super) fn look(&mut self, look: Look) -> View {
        let elapsed = look.at.duration_since(self.start);
        let changed = look.generation != self.generation;
        self.note(elapsed, &look, changed);
        let (versions, routed): (Vec<_>, Vec<_>) = look.versions.into_iter().partition(|one| one.app != NONE);
        if changed {
            // Requests that were routed before the change may still end: counting begins with the next look.
            self.window.restart();
        } else {
            self.window.look(look.at, versions.iter().chain(&routed).cloned().collect());
        }
        View {
            elapsed,
            span: self.window.length(),
            columns: self.columns(&versions),
            unrouted: self.window.done(NONE, NONE).requests,
            generation: self.generation,
            problems: self.problems.clone(),
            events: self.events.iter().cloned().collect(),
        }
    }

    /// The events since the last call.
    pub(super) fn fresh_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.fresh)
    }

    fn note(&mut self, at: Duration, look: &Look, changed: bool) {
        if changed {
            let shares = shares(&look.routes);
            let first = self.generation == 0;
            let what = if first { "in force".to_owned() } else { difference(&self.shares, &shares) };
            self.event(at, format!("generation {}: {what}", look.generation));
            (self.generation, self.shares) = (look.generation, shares);
        }
        if look.problems != self.problems {
            match look.problems.first() {
                Some(first) => {
                    let headline = first.lines().next().unwrap_or_default();
                    self.event(at, format!("refused, generation {} stays: {headline}", self.generation));
                }
                None if !changed => {
                    self.event(at, format!("the files are those of generation {} again", self.generation))
                }
                None => {}
            }
            self.problems.clone_from(&look.problems);
        }
    }

    fn event(&mut self, at: Duration, text: String) {
        let event = Event { at, text };
        self.fresh.push(event.clone());
        self.events.push_back(event);
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    fn columns(&self, versions: &[VersionSummary]) -> Vec<Column> {
        let done: Vec<_> = self.shares.keys().map(|(app, version)| self.window.done(app, version)).collect();
        let of = done.iter().map(|done| done.requests).sum();
        let columns = self.shares.iter().zip(done).map(|(((app, version), wanted), done)| Column {
            name: name(&self.shares, app, version),
            wanted: *wanted,
            got: done.requests,
            of,
            failures: done.errors,
            p50: done.latency.quantile(0.5),
            p99: done.latency.quantile(0.99),
            total: versions
                .iter()
                .find(|one| &one.app == app && &one.version == version)
                .map_or(0, |one| one.total.requests),
        });
        columns.collect()
    }
}

/// The version; with its service in front if there are several.
fn name(shares: &Shares, app: &str, version: &str) -> String {
    if shares.keys().all(|(other, _)| other == app) { version.to_owned() } else { format!("{app} {version}") }
}

/// The share of each version, as far as all rules agree.
fn shares(routes: &[ActiveRoute]) -> Shares {
    let mut rules: BTreeMap<&str, BTreeMap<(String, String), f64>> = BTreeMap::new();
    for active in routes {
        let to = active.metrics.destination();
        let version = (to.app().to_owned(), to.version().to_owned());
        *rules.entry(active.metrics.route()).or_default().entry(version).or_default() += active.declared;
    }
    let mut all = rules.values();
    let Some(first) = all.next() else { return Shares::new() };
    if all.all(|other| other == first) {
        return first.iter().map(|(version, share)| (version.clone(), Some(*share))).collect();
    }
    rules.values().flat_map(BTreeMap::keys).map(|version| (version.clone(), None)).collect()
}

/// What is different, version by version.
fn difference(before: &Shares, after: &Shares) -> String {
    let word = |share: Option<&Option<f64>>| match share {
        Some(Some(share)) => percent(*share, 1),
        Some(None) => "by rule".to_owned(),
        None => "none".to_owned(),
    };
    let mut versions: Vec<_> = before.keys().chain(after.keys()).collect();
    versions.sort();
    versions.dedup();
    let moved = versions.into_iter().filter(|version| before.get(*version) != after.get(*version));
    let all = if before.len() > after.len() { before } else { after };
    let moved: Vec<_> = moved
        .map(|version| {
            let (then, now) = (word(before.get(version)), word(after.get(version)));
            format!("{} {then} -> {now}", name(all, &version.0, &version.1))
        })
        .collect();
    if moved.is_empty() { "in force, with the same shares".to_owned() } else { moved.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::testing::counted;
    use crate::telemetry::{Buckets, Metrics};

    /// `(route, version, share)`.
    fn routes(of: &[(&str, &str, f64)]) -> Vec<ActiveRoute> {
        let metrics = Metrics::new(1, Buckets::Fine);
        let route = |(route, version, share): &(&str, &str, f64)| ActiveRoute {
            metrics: metrics.route(route, "shop", version),
            declared: *share,
            effective: *share,
        };
        of.iter().map(route).collect()
    }

    struct Story {
        live: Live,
        at: Instant,
    }

    impl Story {
        fn new() -> Self {
            let at = Instant::now();
            Self { live: Live::new(at), at }
        }

        /// One look, a second after the last, at a canary with this share of v2.
        fn look(&mut self, generation: u64, share: f64, counts: [u64; 2], problems: &[&str]) -> View {
            self.at += Duration::from_secs(1);
            self.live.look(Look {
                at: self.at,
                versions: vec![
                    counted("v1", counts[0], counts[0] / 10, 0),
                    counted("v2", counts[1], counts[1] / 10, 0),
                ],
                routes: routes(&[("a/0", "v1", 1.0 - share), ("a/0", "v2", share)]),
                generation,
                problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
            })
        }

        fn texts(&mut self) -> Vec<String> {
            self.live.fresh_events().into_iter().map(|event| event.text).collect()
        }
    }

    #[test]
    fn a_change_of_weights_is_told_and_counting_begins_anew() {
        let mut story = Story::new();
        story.look(1, 0.1, [0, 0], &[]);
        story.look(1, 0.1, [0, 0], &[]);
        let view = story.look(1, 0.1, [90, 10], &[]);
        let got = |view: &View| view.columns.iter().map(|one| (one.got, one.of, one.total)).collect::<Vec<_>>();
        assert_eq!(got(&view), [(90, 100, 90), (10, 100, 10)]);
        assert_eq!((view.columns[1].wanted, view.columns[1].failures), (Some(0.1), 1));
        let view = story.look(2, 0.5, [180, 20], &[]);
        assert_eq!(got(&view), [(0, 0, 180), (0, 0, 20)]);
        story.look(2, 0.5, [181, 20], &[]);
        let view = story.look(2, 0.5, [231, 70], &[]);
        assert_eq!(got(&view), [(50, 100, 231), (50, 100, 70)]);
        assert_eq!(story.texts(), ["generation 1: in force", "generation 2: v1 90 % -> 50 %, v2 10 % -> 50 %"]);
        assert!(story.texts().is_empty());
    }

    #[test]
    fn a_refused_file_is_told_once_and_so_is_its_mending() {
        let mut story = Story::new();
        story.look(1, 0.1, [0, 0], &[]);
        story.texts();
        let wrong = "vs.yaml:17:19: error: the weights sum to 120\n  help: 100";
        assert_eq!(story.look(1, 0.1, [0, 0], &[wrong]).problems, [wrong]);
        story.look(1, 0.1, [0, 0], &[wrong]);
        assert_eq!(story.texts(), ["refused, generation 1 stays: vs.yaml:17:19: error: the weights sum to 120"]);
        assert!(story.look(1, 0.1, [0, 0], &[]).problems.is_empty());
        assert_eq!(story.texts(), ["the files are those of generation 1 again"]);
        story.look(1, 0.1, [0, 0], &[wrong]);
        story.texts();
        story.look(2, 0.3, [0, 0], &[]);
        assert_eq!(story.texts(), ["generation 2: v1 90 % -> 70 %, v2 10 % -> 30 %"]);
    }

    #[test]
    fn old_events_are_forgotten() {
        let mut story = Story::new();
        let views: Vec<_> = (1..10).map(|generation| story.look(generation, 0.1, [0, 0], &[])).collect();
        assert_eq!(views[8].events.len(), EVENTS);
        assert!(views[8].events[EVENTS - 1].text.starts_with("generation 9: in force, with the same"));
    }

    #[test]
    fn shares_are_known_where_all_rules_agree() {
        let one = shares(&routes(&[("a/0", "v1", 0.9), ("a/0", "v2", 0.05), ("a/0", "v2", 0.05)]));
        assert_eq!(one.values().copied().collect::<Vec<_>>(), [Some(0.9), Some(0.1)]);
        let alike = shares(&routes(&[("a/0", "v1", 1.0), ("a/1", "v1", 1.0)]));
        assert_eq!(alike.values().copied().collect::<Vec<_>>(), [Some(1.0)]);
        let mixed = shares(&routes(&[("a/0", "v1", 1.0), ("a/1", "v1", 0.5), ("a/1", "v2", 0.5)]));
        assert_eq!(mixed.values().copied().collect::<Vec<_>>(), [None, None]);
        assert_eq!(difference(&one, &alike), "v1 90 % -> 100 %, v2 10 % -> none");
        assert_eq!(difference(&alike, &mixed), "v1 100 % -> by rule, v2 none -> by rule");
        assert!(shares(&[]).is_empty());
    }

    #[test]
    fn services_are_named_where_there_are_several() {
        let both: Shares =
            [("a", "v1"), ("b", "v1")].map(|(app, version)| ((app.to_owned(), version.to_owned()), Some(0.5))).into();
        assert_eq!(name(&both, "b", "v1"), "b v1");
    }
}
