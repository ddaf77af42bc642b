//! The release screen, live: what `serin rollout status --watch` and the demos of a release show.

use std::collections::BTreeMap;
use std::process::ExitCode;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use tokio::time::Instant;

use super::admin_client::Admin;
use super::release_view::{self, Scene};
use super::view::poll::{Picture, poll};
use super::view::recent::Recent;
use super::view::show::{LiveView, show, watching};
use super::view::terminal::Theme;
use super::view::text::clock;
use crate::app::ReleaseStatus;

/// Shows a release, or each of them in turn, until q is pressed; in a pipe a line a second and each event's sentence.
/// 0: ended by a person; 2: no proxy answers, or it has no such release.
pub(super) fn watch(admin: &Admin, name: Option<&str>) -> ExitCode {
    watching(async |mut signals| {
        let first = poll(admin).await?;
        known(&first, name)?;
        let mut watch = Watch::new(name.map(ToOwned::to_owned));
        watch.take(Ok(first));
        show(&mut watch, admin, None, &mut signals).await
    })
}

/// Whether there is anything to watch.
fn known(picture: &Picture, name: Option<&str>) -> Result<(), String> {
    let names: Vec<_> = picture.releases.iter().map(|release| release.view.name.as_str()).collect();
    if names.is_empty() {
        return Err("the configuration in force has no release\n  help: a `kind: Canary` makes one".to_owned());
    }
    match name.filter(|name| !names.contains(name)) {
        Some(name) => Err(format!("there is no release `{name}`\n  help: there is {}", names.join(", "))),
        None => Ok(()),
    }
}

/// The screen and what it has seen.
#[derive(Debug)]
pub(super) struct Watch {
    recent: Recent,
    /// The one to be shown; none: any.
    name: Option<String>,
    /// The one on the screen.
    shown: Option<String>,
    /// The number of the last event of each that was printed.
    printed: BTreeMap<String, u64>,
    /// Whether a poll has come that was not printed so far.
    fresh: bool,
    /// What is said about keys while there is no other release.
    keys: String,
}

impl Watch {
    /// Of this release, or of all.
    pub(super) fn new(name: Option<String>) -> Self {
        let (recent, printed) = (Recent::default(), BTreeMap::new());
        Self { recent, shown: name.clone(), name, printed, fresh: false, keys: "q quits".to_owned() }
    }

    /// As it is, with something else said about keys.
    pub(super) fn with_keys(self, keys: String) -> Self {
        Self { keys, ..self }
    }

    /// The release on the screen, as it was last.
    pub(super) fn release(&self) -> Option<&ReleaseStatus> {
        let releases = self.releases();
        releases.iter().find(|release| Some(&release.view.name) == self.shown.as_ref())
    }

    fn releases(&self) -> &[ReleaseStatus] {
        self.recent.picture().map_or(&[], |picture| &picture.releases)
    }

    /// One that is under way, or the first; with `by`, so many further on.
    fn choose(&mut self, by: isize) {
        let releases = self.releases();
        let at = releases.iter().position(|release| Some(&release.view.name) == self.shown.as_ref());
        let chosen = match at {
            Some(at) => at.checked_add_signed(by).unwrap_or(releases.len() - 1) % releases.len(),
            None => releases.iter().position(|release| release.view.state.is_active()).unwrap_or(0),
        };
        let chosen = releases.get(chosen).map(|release| release.view.name.clone());
        self.shown = chosen.or_else(|| self.name.clone());
    }

    fn scene<'s>(&'s self, release: &'s ReleaseStatus, notice: Option<String>) -> Scene<'s> {
        let view = &release.view;
        Scene {
            release,
            stable: self.recent.version(release, &view.stable.version),
            canary: self.recent.version(release, &view.canary.version),
            generation: self.recent.picture().map_or(0, |picture| picture.counted.generation),
            notice,
            keys: if self.releases().len() > 1 { "q quits, Tab: the next release" } else { &self.keys },
        }
    }
}

impl LiveView for Watch {
    fn take(&mut self, polled: Result<Picture, String>) {
        self.fresh = polled.is_ok();
        self.recent.take(polled);
        if self.name.is_none() || self.shown.is_none() {
            self.choose(0);
        }
    }

    fn key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Tab | KeyCode::Right | KeyCode::Down => self.choose(1),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Up => self.choose(-1),
            _ => {}
        }
    }

    fn draw(&mut self, frame: &mut Frame<'_>, theme: Theme) {
        let silence = self.recent.silence(Instant::now());
        let notice = silence.map(|(time, why)| format!("no answer for {}: {why}", clock(time)));
        match self.release() {
            Some(release) => release_view::draw(frame, &self.scene(release, notice), theme),
            None => {
                let gone = "the configuration in force has no such release any more; q quits";
                frame.render_widget(notice.as_deref().unwrap_or(gone), frame.area());
            }
        }
    }

    fn lines(&mut self) -> String {
        let mut text: String = self.recent.notices().into_iter().map(|notice| notice + "\n").collect();
        if !std::mem::take(&mut self.fresh) {
            return text;
        }
        let wanted = |release: &&ReleaseStatus| self.name.as_ref().is_none_or(|name| *name == release.view.name);
        let mut printed = BTreeMap::new();
        for release in self.releases().iter().filter(wanted) {
            let (name, events) = (&release.view.name, &release.view.events);
            let last = events.last().map_or(0, |event| event.sequence);
            // A release without its state begins to count anew.
            let before = self.printed.get(name).copied().filter(|before| *before <= last).unwrap_or(0);
            for event in events.iter().filter(|event| event.sequence > before) {
                text.push_str(&(release_view::event(event) + "\n"));
            }
            text.push_str(&(release_view::line(&self.scene(release, None)) + "\n"));
            printed.insert(name.clone(), last);
        }
        if printed.is_empty() {
            text.push_str("the configuration in force has no such release any more\n");
        }
        self.printed = printed;
        text
    }

    fn is_over(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
