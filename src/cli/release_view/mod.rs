//! The release screen: both versions side by side, the chain of steps, what the next one waits for, the evidence, the last
//! events. Pure: [`draw`] for a terminal, [`lines`] for a pipe.

mod evidence;
mod lines;
mod steps;
#[cfg(test)]
pub(in crate::cli) mod testing;
#[cfg(test)]
mod tests;
mod versions;
pub(in crate::cli) mod words;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::{Line, Span, Text};

pub(in crate::cli) use evidence::{bar, strongest};
pub(in crate::cli) use lines::{event, line};

use super::view::recent::Lately;
use super::view::terminal::Theme;
use super::view::text::{NOTHING, clipped, clock, plain, width_of, wrapped};
use crate::app::ReleaseStatus;

/// Columns for the names of rows.
const NAMES: usize = 22;
/// Lines that one sentence may take.
const SENTENCE: usize = 3;

/// Everything that is shown.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Scene<'s> {
    /// The release.
    pub release: &'s ReleaseStatus,
    /// What the stable version did lately, where that is known.
    pub stable: Option<Lately>,
    /// What the canary did.
    pub canary: Option<Lately>,
    /// The configuration in force.
    pub generation: u64,
    /// What is wrong with the view itself: that the proxy does not answer.
    pub notice: Option<String>,
    /// Keys that do something.
    pub keys: &'s str,
}

/// What comes to stable and to the canary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Flow {
    /// Requests a second, where that is known.
    rates: [Option<f64>; 2],
    /// Their shares, where there were any.
    got: [Option<f64>; 2],
    /// Whether the shares are those of the step; else they are of late.
    of_step: bool,
}

impl Scene<'_> {
    /// A release that is under way counts by itself; before and after, the proxy's counters tell.
    fn flow(&self) -> Flow {
        let status = self.release;
        if status.view.state.is_active() {
            let rates = [status.stable_rate, status.canary_rate].map(Some);
            return Flow { rates, got: [status.view.stable.got, status.view.canary.got], of_step: true };
        }
        let lately = [self.stable.as_ref(), self.canary.as_ref()];
        let requests = lately.map(|lately| lately.map(|lately| lately.done.requests as f64));
        let all: f64 = requests.iter().flatten().sum();
        let got = requests.map(|requests| requests.filter(|_| all > 0.0).map(|requests| requests / all));
        Flow { rates: lately.map(|lately| lately?.rate()), got, of_step: false }
    }
}

/// A number with one decimal, if there is one.
fn decimal(number: Option<f64>) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| format!("{number:.1}"))
}

/// A share in percent with one decimal, if there is one.
fn share(share: Option<f64>) -> String {
    share.map_or_else(|| NOTHING.to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// Draws it on the whole terminal. A low one loses old events first.
pub(in crate::cli) fn draw(frame: &mut Frame<'_>, scene: &Scene<'_>, theme: Theme) {
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let width = usize::from(body.width);
    let mut lines = vec![title(scene, width, theme)];
    if let Some(notice) = &scene.notice {
        lines.push(Line::styled(plain(notice), theme.bad()));
    }
    if let Some(trouble) = &scene.release.trouble {
        lines.push(Line::styled(plain(trouble), theme.bad()));
    }
    lines.extend(versions::table(scene, width, theme));
    lines.push(Line::default());
    lines.extend(steps::rows(scene.release, width, theme));
    lines.push(Line::default());
    lines.extend(evidence::rows(scene.release, width, theme));
    lines.push(Line::default());
    let room = usize::from(body.height).saturating_sub(lines.len());
    lines.extend(events(scene.release, width, room));
    frame.render_widget(Text::from(lines), body);
    let foot_text = format!("{}   generation {}", scene.keys, scene.generation);
    frame.render_widget(Line::styled(clipped(&foot_text, width), theme.faint()), foot);
}

/// Its name and state; the running time at the right edge.
fn title(scene: &Scene<'_>, width: usize, theme: Theme) -> Line<'static> {
    let view = &scene.release.view;
    let state = words::standing(scene.release);
    let time = clock(view.elapsed);
    let room = width.saturating_sub(time.len() + 1);
    let name = clipped(&plain(&view.name), room);
    let state = clipped(&format!("  {}", plain(&state)), room - width_of(&name));
    let gap = room + 1 - width_of(&name) - width_of(&state);
    Line::from(vec![
        Span::styled(name, theme.strong()),
        Span::styled(state, steps::style(view.state, theme)),
        Span::raw(" ".repeat(gap)),
        Span::raw(time),
    ])
}

/// The newest first, each with its clock, as many as fit.
fn events(release: &ReleaseStatus, width: usize, room: usize) -> Vec<Line<'static>> {
    let newest = release.view.events.iter().rev();
    let texts = newest.flat_map(|event| {
        let mut texts = wrapped(&lines::event(event), width);
        if texts.len() > SENTENCE {
            texts.truncate(SENTENCE);
            texts[SENTENCE - 1].push_str(" …");
        }
        texts
    });
    texts.take(room).map(|text| Line::raw(clipped(&text, width))).collect()
}

/// A row with a name in front.
fn row(name: &str, mut rest: Vec<Span<'static>>, theme: Theme) -> Line<'static> {
    rest.insert(0, Span::styled(format!("{name:10}"), theme.faint()));
    Line::from(rest)
}
