//! The demos of a release: begins it over the admin port, as `serin rollout start` does, shows it until it is left, and says how
//! it went.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use tokio::time::{Instant, sleep};

use super::folder;
use crate::app::{AdminAddress, ReleaseStatus, Running};
use crate::cli::admin_client::{Admin, segment};
use crate::cli::release_view::{event, words};
use crate::cli::view::poll::{Picture, poll};
use crate::cli::view::show::{LiveView, show, until};
use crate::cli::view::signals::Signals;
use crate::cli::view::terminal::{Theme, is_capable};
use crate::cli::view::text::plain;
use crate::cli::watch::Watch;
use crate::rollout::State;

/// Between the first answers and the start: time to read what there is to try.
const BEFORE: Duration = Duration::from_secs(3);
/// Between two looks whether there are answers.
const LOOK: Duration = Duration::from_millis(250);
/// How often the final state is printed into a pipe.
const AFTER: u32 = 4;

/// How it went.
#[derive(Debug)]
pub(super) struct Told {
    /// Whether no worker died.
    pub healthy: bool,
    /// The release as it was last; none if the time was over before it began.
    release: Option<ReleaseStatus>,
}

/// Begins the release of the folder and shows it until it is left, or `end`; in a pipe until it is over.
///
/// # Errors
/// There is no release, or it cannot begin: what to tell the reader.
pub(super) async fn play(
    admin: &Admin,
    running: &Running,
    end: Option<Instant>,
    signals: &mut Signals,
) -> Result<Told, String> {
    let begun = tokio::select! {
        () = signals.any() => return Ok(Told::nothing(true)),
        () = until(end) => return Ok(Told::nothing(true)),
        begun = begin(admin) => begun.map_err(|message| format!("error: {message}"))?,
    };
    let (name, picture) = begun;
    let watch = Watch::new(Some(name)).with_keys(keys(&running.admin));
    let mut view = Release::new(watch, !is_capable(), || running.look_after());
    view.take(Ok(picture));
    let left = end.map(|end| end.saturating_duration_since(Instant::now()));
    show(&mut view, admin, left, signals).await.map_err(|message| format!("error: {message}"))?;
    Ok(Told { healthy: view.healthy, release: view.watch.release().cloned() })
}

/// What ends it, and what shows more in another terminal; within 80 columns.
fn keys(admin: &AdminAddress) -> String {
    let usual = matches!(admin, AdminAddress::Network(address) if address.port() == super::ADMIN);
    let option = if usual { String::new() } else { format!(" --admin {admin}") };
    format!("q ends the demo; try serin top{option}")
}

/// Starts the release once requests are answered: its name, and how things stand then.
async fn begin(admin: &Admin) -> Result<(String, Picture), String> {
    let answered = |picture: &Picture| picture.counted.versions.iter().any(|version| version.total.requests > 0);
    let mut picture = poll(admin).await?;
    while !answered(&picture) {
        sleep(LOOK).await;
        picture = poll(admin).await?;
    }
    sleep(BEFORE).await;
    let Some(release) = poll(admin).await?.releases.into_iter().next() else {
        let (folder, canary) = (super::FOLDER, folder::CANARY);
        return Err(format!("there is no release in {folder}\n  = help: --reset writes {folder}/{canary} anew"));
    };
    let name = release.view.name;
    // One with `start: onSubset` has begun by itself.
    if release.view.state == State::Idle {
        let answer = admin.tell(&format!("/api/v1/rollouts/{}/start", segment(&name))).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal());
        }
    }
    Ok((name, poll(admin).await?))
}

impl Told {
    /// Nothing about a release.
    pub(super) fn nothing(healthy: bool) -> Self {
        Self { healthy, release: None }
    }

    /// How the release ended, and which reports it left: complete lines.
    pub(super) fn conclusion(&self, state_dir: &Path) -> String {
        let Some(release) = &self.release else {
            return "the release did not begin\n".to_owned();
        };
        conclusion(release, is_capable(), &folder::reports(state_dir))
    }
}

/// The same; with all that happened, for a reader from whose terminal it is gone.
fn conclusion(release: &ReleaseStatus, all: bool, reports: &[PathBuf]) -> String {
    let view = &release.view;
    let mut text = String::new();
    if all {
        text.extend(view.events.iter().map(|move_| event(move_) + "\n"));
    }
    if view.state.is_over() {
        let last = view.events.iter().rev().find(|event| event.to == view.state);
        let how = last.map_or_else(|| words::in_short(view.state).to_owned(), |event| plain(&event.sentence));
        if !all {
            text.push_str(&format!("the release is over: {how}\n"));
        }
    } else {
        text.push_str(&format!("{} was left at {}: it has not ended\n", view.name, words::standing(release)));
    }
    text.extend(reports.iter().map(|path| format!("its report: {}\n", path.display())));
    text
}

/// The screen of a release, and whether the proxy behind it is well.
struct Release<F> {
    watch: Watch,
    /// Whether there is nobody who leaves it: it is over soon after the release is.
    ends: bool,
    look_after: F,
    healthy: bool,
    /// How often it was seen since the release has ended.
    after: u32,
}

impl<F: Fn() -> bool> Release<F> {
    fn new(watch: Watch, ends: bool, look_after: F) -> Self {
        Self { watch, ends, look_after, healthy: true, after: 0 }
    }
}

impl<F: Fn() -> bool> LiveView for Release<F> {
    fn take(&mut self, polled: Result<Picture, String>) {
        self.healthy = (self.look_after)();
        self.watch.take(polled);
        let over = self.watch.release().is_some_and(|release| release.view.state.is_over());
        self.after = if over { self.after + 1 } else { 0 };
    }

    fn key(&mut self, key: KeyCode) {
        self.watch.key(key);
    }

    fn draw(&mut self, frame: &mut Frame<'_>, theme: Theme) {
        self.watch.draw(frame, theme);
    }

    fn lines(&mut self) -> String {
        self.watch.lines()
    }

    fn is_over(&self) -> bool {
        !self.healthy || self.ends && self.after >= AFTER
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::cli::release_view::testing::held;
    use crate::cli::view::poll::Counted;

    fn in_state(state: State) -> ReleaseStatus {
        let mut release = held();
        let mut last = release.view.events[1].clone();
        (last.to, last.sentence) = (state, "rolled back it: evidence".to_owned());
        release.view.events.push(last);
        release.view.state = state;
        release
    }

    fn picture(release: ReleaseStatus) -> Result<Picture, String> {
        Ok(Picture { at: Instant::now(), counted: Counted::default(), releases: vec![release] })
    }

    #[test]
    fn the_end_is_told_with_its_reports() {
        let release = in_state(State::RolledBack);
        let reports = [PathBuf::from("a.txt")];
        let text = conclusion(&release, false, &reports);
        assert_eq!(text, "the release is over: rolled back it: evidence\nits report: a.txt\n");
        let text = conclusion(&release, true, &reports);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "each move once: {text}");
        assert!(lines[0].contains("advanced ") && lines[2].ends_with("rolled back it: evidence"), "{text}");
        let text = conclusion(&held(), false, &[]);
        assert_eq!(text, "shop/product-service was left at step 2 of 5 at 30 %, held, attempt 2: it has not ended\n");
    }

    #[test]
    fn where_nobody_leaves_it_is_over_soon_after_the_release() {
        for ends in [true, false] {
            let mut view = Release::new(Watch::new(Some("shop/product-service".to_owned())), ends, || true);
            view.take(picture(held()));
            assert!(!view.is_over());
            for _ in 0..AFTER {
                assert!(!view.is_over());
                view.take(picture(in_state(State::Promoted)));
            }
            assert_eq!(view.is_over(), ends);
            view.take(picture(held()));
            assert!(!view.is_over(), "it is tried again");
        }
    }

    #[test]
    fn an_unusual_admin_port_is_to_be_typed() {
        assert_eq!(keys(&"127.0.0.1:15000".parse().unwrap()), "q ends the demo; try serin top");
        let other = keys(&"127.0.0.1:54321".parse().unwrap());
        assert_eq!(other, "q ends the demo; try serin top --admin 127.0.0.1:54321");
    }

    #[test]
    fn a_proxy_that_is_not_well_ends_it() {
        let well = Cell::new(true);
        let mut view = Release::new(Watch::new(None), false, || well.get());
        view.take(picture(held()));
        assert!(!view.is_over());
        well.set(false);
        view.take(picture(held()));
        assert!(view.is_over() && !view.healthy);
    }
}
