//! The loop of a live view: polls the proxy once a second, draws on a terminal or prints lines into a pipe, obeys keys.

use std::future::{Future, pending};
use std::process::ExitCode;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::poll::{PERIOD, Picture, poll};
use super::signals::Signals;
use super::terminal::{FullScreen, Pressed, Theme, is_capable, put};
use crate::cli::admin_client::Admin;
use crate::cli::fail;

/// Between two drawings while nothing comes: clocks run on.
const REDRAW: Duration = Duration::from_millis(500);

/// Something to look at while it changes.
pub(in crate::cli) trait LiveView {
    /// Takes in what a poll brought.
    fn take(&mut self, polled: Result<Picture, String>);

    /// Obeys a key.
    fn key(&mut self, key: KeyCode);

    /// Draws it on the whole terminal.
    fn draw(&mut self, frame: &mut Frame<'_>, theme: Theme);

    /// What is to be printed into a pipe after the last poll: complete lines.
    fn lines(&mut self) -> String;

    /// Whether there is nothing more to be seen.
    fn is_over(&self) -> bool;
}

/// Shows a view, which has taken in a first poll, until it is over, this time is over, a key or a signal ends it, or nobody
/// reads any more.
///
/// # Errors
/// The terminal cannot be used: what to tell the reader.
pub(in crate::cli) async fn show(
    view: &mut impl LiveView,
    admin: &Admin,
    time: Option<Duration>,
    signals: &mut Signals,
) -> Result<(), String> {
    let end = time.map(|time| Instant::now() + time);
    let mut tasks = JoinSet::new();
    let mut polled = polls(admin.clone(), &mut tasks);
    if !is_capable() {
        print(view, &mut polled, end, signals).await;
        return Ok(());
    }
    let mut screen = FullScreen::open().map_err(|error| format!("cannot use the terminal: {error}"))?;
    on_screen(view, &mut screen, (&mut polled, end), signals).await;
    screen.close();
    Ok(())
}

/// Polls from now on, each second; ends with the tasks.
fn polls(admin: Admin, tasks: &mut JoinSet<()>) -> UnboundedReceiver<Result<Picture, String>> {
    let (sender, receiver) = unbounded_channel();
    tasks.spawn(async move {
        let mut turns = interval(PERIOD);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first turn is at once, and the first poll has been.
        turns.tick().await;
        loop {
            turns.tick().await;
            if sender.send(poll(&admin).await).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Runs what watches a proxy, on this thread. Said with `error: ` in front: why it cannot.
pub(in crate::cli) fn watching<F>(watch: impl FnOnce(Signals) -> F) -> ExitCode
where
    F: Future<Output = Result<(), String>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let watched = runtime.block_on(async {
        let signals = Signals::install().map_err(|error| format!("cannot handle signals: {error}"))?;
        watch(signals).await
    });
    watched.map_or_else(|message| fail(&message), |()| ExitCode::SUCCESS)
}

/// Waits for this moment, or for ever.
pub(in crate::cli) async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}

async fn print(
    view: &mut impl LiveView,
    polled: &mut UnboundedReceiver<Result<Picture, String>>,
    end: Option<Instant>,
    signals: &mut Signals,
) {
    loop {
        let lines = view.lines();
        if (!lines.is_empty() && put(&lines).is_err()) || view.is_over() {
            return;
        }
        tokio::select! {
            // A poll that has come is shown before the end.
            biased;
            () = signals.any() => return,
            Some(picture) = polled.recv() => view.take(picture),
            () = until(end) => return,
        }
    }
}

async fn on_screen(
    view: &mut impl LiveView,
    screen: &mut FullScreen,
    (polled, end): (&mut UnboundedReceiver<Result<Picture, String>>, Option<Instant>),
    signals: &mut Signals,
) {
    let theme = Theme::new();
    let mut redraws = interval(REDRAW);
    loop {
        if screen.draw(|frame| view.draw(frame, theme)).is_err() || view.is_over() {
            return;
        }
        tokio::select! {
            () = signals.any() => return,
            pressed = screen.pressed() => match pressed {
                Pressed::Quit => return,
                Pressed::Key(key) => view.key(key),
                Pressed::Resized => {}
            },
            Some(picture) = polled.recv() => view.take(picture),
            _ = redraws.tick() => {}
            () = until(end) => return,
        }
    }
}
