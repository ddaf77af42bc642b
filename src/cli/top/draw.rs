//! The table on a whole terminal, with the releases below it.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Row as Drawn, Table as Widget};
use tokio::time::Instant;

use super::Table;
use super::rows::Column;
use crate::app::ReleaseStatus;
use crate::cli::release_view::words::in_short;
use crate::cli::release_view::{bar, strongest};
use crate::cli::view::terminal::Theme;
use crate::cli::view::text::{clipped, clock, plain};

/// Releases that are shown.
const RELEASES: usize = 5;
/// Columns of an evidence bar.
const BAR: usize = 10;

/// Draws it; notes how many rows fit.
pub(super) fn draw(table: &mut Table, frame: &mut Frame<'_>, theme: Theme) {
    let releases = table.recent.picture().map_or(&[][..], |picture| &picture.releases);
    let below = releases_below(releases, usize::from(frame.area().width), theme);
    let notice = u16::from(table.recent.silence(Instant::now()).is_some());
    let height = below.len() as u16;
    let parts = [Constraint::Length(1), Constraint::Length(notice), Constraint::Min(2)];
    let parts = parts.into_iter().chain([Constraint::Length(height), Constraint::Length(1)]);
    let areas = Layout::vertical(parts).split(frame.area());
    let width = usize::from(frame.area().width);
    frame.render_widget(headline(table, width, theme), areas[0]);
    if let Some((time, why)) = table.recent.silence(Instant::now()) {
        let text = format!("no answer for {}: {}", clock(time), plain(why));
        frame.render_widget(Line::styled(clipped(&text, width), theme.bad()), areas[1]);
    }
    table.page = areas[2].height.saturating_sub(1);
    let widget = widget(table, theme);
    frame.render_stateful_widget(widget, areas[2], &mut table.state);
    frame.render_widget(Text::from(below), areas[3]);
    let order = if table.reversed { ", reversed" } else { "" };
    let keys = format!("q quits, arrows move, s sorts (by {}{order}), r reverses", table.sorted.head());
    frame.render_widget(Line::styled(clipped(&keys, width), theme.faint()), areas[4]);
}

/// What is in force; how many rows there are at the right edge.
fn headline(table: &Table, width: usize, theme: Theme) -> Line<'static> {
    let rows = table.rows.len();
    let place = table
        .state
        .selected()
        .map_or_else(|| format!("{rows} rows"), |at| format!("{} of {rows}", at.min(rows.saturating_sub(1)) + 1));
    let text = clipped(&format!("serin top  {}", table.headline()), width.saturating_sub(place.len() + 1));
    let gap = width.saturating_sub(Line::raw(text.as_str()).width() + place.len());
    Line::from(vec![Span::styled(text, theme.strong()), Span::raw(" ".repeat(gap)), Span::raw(place)])
}

fn widget(table: &Table, theme: Theme) -> Widget<'static> {
    let cell = |column: Column, text: String| {
        let side = if column.is_text() { Alignment::Left } else { Alignment::Right };
        Cell::from(Text::from(text).alignment(side))
    };
    let heads = Column::ALL.map(|column| {
        let mark = match (column == table.sorted, column.is_text() != table.reversed) {
            (false, _) => "",
            (true, true) => "↑",
            (true, false) => "↓",
        };
        cell(column, format!("{}{mark}", column.head()))
    });
    let rows = table.rows.iter().map(|row| {
        let cells = Column::ALL.map(|column| {
            let made = cell(column, row.cell(column));
            if column == Column::Errors && row.errors > 0 { made.style(theme.bad()) } else { made }
        });
        Drawn::new(cells)
    });
    let widths = Column::ALL.map(|column| match column {
        Column::Route => Constraint::Fill(3),
        Column::Version => Constraint::Fill(2),
        Column::Flags => Constraint::Fill(1),
        Column::Wanted | Column::Got | Column::Rate => Constraint::Length(7),
        Column::Errors | Column::P50 | Column::P99 => Constraint::Length(7),
    });
    Widget::new(rows, widths)
        .header(Drawn::new(heads).style(theme.strong()))
        .row_highlight_style(theme.chosen())
        .column_spacing(1)
}

/// One line for each release: its share, its state, its evidence, what it waits for.
fn releases_below(releases: &[ReleaseStatus], width: usize, theme: Theme) -> Vec<Line<'static>> {
    if releases.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![Line::styled("releases", theme.strong())];
    lines.extend(releases.iter().take(RELEASES).map(|release| {
        let view = &release.view;
        let (test, progress) = strongest(release).unwrap_or(("errors", 0.0));
        let what = format!("{} {} %, {}  ", plain(&view.name), release.effective_weight, in_short(view.state));
        let [full, rest] = bar(progress, BAR, theme);
        let evidence = format!(" {:.0} % ({test})  ", progress * 100.0);
        let before = Line::from(vec![Span::raw(what), full, rest, Span::raw(evidence)]);
        let room = width.saturating_sub(before.width());
        let mut line = before;
        line.push_span(Span::styled(clipped(&plain(&view.waits), room), theme.faint()));
        line
    }));
    if releases.len() > RELEASES {
        lines.push(Line::raw(format!("and {} more", releases.len() - RELEASES)));
    }
    lines
}
