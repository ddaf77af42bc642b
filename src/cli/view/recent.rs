//! What a running proxy did lately, poll by poll; and whether it still answers. Does no input or output.

use std::time::Duration;

use tokio::time::Instant;

use super::poll::Picture;
use super::window::Window;
use crate::app::ReleaseStatus;
use crate::telemetry::{Tally, VersionSummary};

/// The last polls.
#[derive(Debug, Default)]
pub(in crate::cli) struct Recent {
    picture: Option<Picture>,
    window: Window,
    /// Since when there is no answer, and why.
    lost: Option<(Instant, String)>,
    /// When the process began to count, on this clock.
    origin: Option<Instant>,
    notices: Vec<String>,
}

/// What one version did lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cli) struct Lately {
    /// Over how long.
    pub span: Duration,
    /// Its requests.
    pub done: Tally,
}

impl Lately {
    /// Requests a second; none before there was any time.
    pub(in crate::cli) fn rate(&self) -> Option<f64> {
        (!self.span.is_zero()).then(|| self.done.requests as f64 / self.span.as_secs_f64())
    }
}

impl Recent {
    /// Takes in what a poll brought.
    pub(in crate::cli) fn take(&mut self, polled: Result<Picture, String>) {
        match polled {
            Ok(picture) => self.answered(picture),
            Err(why) => {
                let why = why.lines().next().unwrap_or_default().to_owned();
                if self.lost.is_none() {
                    self.notices.push(format!("no answer any more: {why}"));
                }
                let since = self.lost.take().map_or_else(Instant::now, |(since, _)| since);
                self.lost = Some((since, why));
            }
        }
    }

    fn answered(&mut self, picture: Picture) {
        let before = self.picture.as_ref();
        let same = before.is_some_and(|before| before.counted.since == picture.counted.since);
        if self.lost.take().is_some() {
            let anew = if same { "" } else { "; it was started anew" };
            self.notices.push(format!("the proxy answers again{anew}"));
        } else if before.is_some() && !same {
            self.notices.push("the proxy was started anew".to_owned());
        }
        if !same || before.is_some_and(|before| shares(before) != shares(&picture)) {
            // Shares got under other weights say nothing about these.
            self.window.restart();
        }
        // The proxy's own clock: how long the answer took must not look like traffic.
        let counted = Duration::try_from_secs_f64(picture.counted.seconds).unwrap_or_default();
        let origin =
            self.origin.filter(|_| same).unwrap_or_else(|| picture.at.checked_sub(counted).unwrap_or(picture.at));
        self.origin = Some(origin);
        self.window.look(origin + counted, picture.counted.versions.clone());
        self.picture = Some(picture);
    }

    /// What the proxy said last.
    pub(in crate::cli) fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// Why it does not answer, and for how long, if it does not.
    pub(in crate::cli) fn silence(&self, now: Instant) -> Option<(Duration, &str)> {
        self.lost.as_ref().map(|(since, why)| (now.duration_since(*since), why.as_str()))
    }

    /// What is to be told in lines since the last call.
    pub(in crate::cli) fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Over how long it counts.
    pub(in crate::cli) fn span(&self) -> Duration {
        self.window.length()
    }

    /// What was counted lately.
    pub(in crate::cli) fn window(&self) -> &Window {
        &self.window
    }

    /// What a version of a release did lately through its route; none where its counters are not to be found by its name.
    pub(in crate::cli) fn version(&self, release: &ReleaseStatus, version: &str) -> Option<Lately> {
        let versions = &self.picture.as_ref()?.counted.versions;
        let named: Vec<_> = versions.iter().filter(|one| one.version == version).flat_map(routes).collect();
        let here = named.iter().find(|(_, route)| *route == release.view.route);
        let (app, route) = match (here, &named[..]) {
            (Some(found), _) => *found,
            (None, [only]) => *only,
            _ => return None,
        };
        Some(Lately { span: self.window.length(), done: self.window.through(route, app, version) })
    }
}

fn routes(of: &VersionSummary) -> impl Iterator<Item = (&str, &str)> {
    of.routes.iter().map(|route| (of.app.as_str(), route.route.as_str()))
}

/// Route, app and version, and the share of the route that the version is to get.
type Share<'p> = (&'p str, &'p str, &'p str, Option<f64>);

/// What decides who gets what.
fn shares(picture: &Picture) -> (u64, Vec<Share<'_>>) {
    let versions = picture.counted.versions.iter();
    let shares = versions.flat_map(|one| {
        one.routes.iter().map(|route| (one.app.as_str(), one.version.as_str(), route.route.as_str(), route.effective))
    });
    (picture.counted.generation, shares.filter(|(.., effective)| effective.is_some()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::release_view::testing::held;
    use crate::cli::view::poll::Counted;
    use crate::cli::view::testing::{counted, through};

    fn picture(since: &str, seconds: f64, versions: Vec<VersionSummary>) -> Picture {
        let counted = Counted { since: since.to_owned(), seconds, generation: 1, versions, ..Counted::default() };
        Picture { at: Instant::now(), counted, releases: Vec::new() }
    }

    fn requests(recent: &Recent) -> u64 {
        recent.window().done("shop", "v1").requests
    }

    #[test]
    fn rates_are_by_the_clock_of_the_proxy() {
        let mut recent = Recent::default();
        recent.take(Ok(picture("a", 10.0, vec![counted("v1", 100, 0, 0)])));
        recent.take(Ok(picture("a", 12.5, vec![counted("v1", 150, 0, 0)])));
        assert_eq!((recent.span(), requests(&recent)), (Duration::from_millis(2500), 50));
        assert!(recent.notices().is_empty());
    }

    #[test]
    fn a_proxy_that_goes_and_comes_back_is_told_once_each() {
        let mut recent = Recent::default();
        recent.take(Ok(picture("a", 10.0, vec![counted("v1", 100, 0, 0)])));
        recent.take(Err("cannot reach it\n  help: start it".to_owned()));
        recent.take(Err("cannot reach it".to_owned()));
        assert_eq!(recent.silence(Instant::now()).map(|(_, why)| why), Some("cannot reach it"));
        assert_eq!(recent.notices(), ["no answer any more: cannot reach it"]);
        assert_eq!(recent.picture().unwrap().counted.seconds, 10.0, "what it said last stays");
        recent.take(Ok(picture("b", 1.0, vec![counted("v1", 7, 0, 0)])));
        assert_eq!(recent.notices(), ["the proxy answers again; it was started anew"]);
        assert_eq!((recent.silence(Instant::now()), requests(&recent)), (None, 0));
        recent.take(Ok(picture("b", 2.0, vec![counted("v1", 9, 0, 0)])));
        assert_eq!((recent.span(), requests(&recent)), (Duration::from_secs(1), 2));
        recent.take(Err("gone".to_owned()));
        recent.take(Ok(picture("b", 3.0, vec![counted("v1", 9, 0, 0)])));
        assert_eq!(recent.notices(), ["no answer any more: gone", "the proxy answers again"]);
    }

    #[test]
    fn other_weights_begin_a_new_window() {
        let version = |requests, effective: f64| {
            let shares = json!({ "declared": 1.0, "effective": effective, "got": null });
            vec![through("a/0", "v1", (requests, 0, 0), &shares)]
        };
        let mut recent = Recent::default();
        recent.take(Ok(picture("a", 1.0, version(10, 0.9))));
        recent.take(Ok(picture("a", 2.0, version(20, 0.9))));
        recent.take(Ok(picture("a", 3.0, version(30, 0.7))));
        assert_eq!((recent.span(), requests(&recent)), (Duration::ZERO, 0));
    }

    #[test]
    fn a_version_of_a_release_is_found_by_its_route() {
        let release = held();
        assert_eq!(release.view.route, "product-service-vs/0");
        let shares = json!({ "declared": 0.9, "effective": 0.9, "got": null });
        let at = |requests| {
            vec![
                through("product-service-vs/0", "v1", (requests, 0, 0), &shares),
                through("other", "v1", (requests * 3, 0, 0), &shares),
                through("other", "v2", (requests * 5, 0, 0), &shares),
            ]
        };
        let mut recent = Recent::default();
        recent.take(Ok(picture("a", 1.0, at(10))));
        recent.take(Ok(picture("a", 3.0, at(20))));
        let v1 = recent.version(&release, "v1").unwrap();
        assert_eq!((v1.done.requests, v1.rate()), (10, Some(5.0)));
        assert_eq!(recent.version(&release, "v2").unwrap().done.requests, 50, "the only one of that name");
        assert_eq!(recent.version(&release, "v3"), None);
    }
}
