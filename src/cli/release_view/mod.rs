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
use super::view::text::{clipped, clock, plain, width_of, wrapped};
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
