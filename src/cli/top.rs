//! `serin top`: every route and version of a running proxy, live.

mod draw;
mod rows;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::widgets::TableState;
use tokio::time::Instant;

use self::rows::{Column, Row, rows, sort};
use super::admin_client::{Admin, AdminOption};
use super::release_view;
use super::values::parse_duration;
use super::view::poll::{Picture, poll};
use super::view::recent::Recent;
use super::view::show::{LiveView, show, watching};
use super::view::terminal::Theme;
use super::view::text::{clock, plain};

/// Watch every route and version of a running proxy: shares wanted and got, rates, errors, latency, releases
#[derive(Args, Debug)]
#[command(after_help = "\
Numbers are those of the last ten seconds, or of the time since the weights
changed. p50 and p99 are of answers below 500; flags are those of the version,
by whatever route. `*`: the share in force is not the file's.

Keys: q quits; arrows, PgUp, PgDn, Home, End move; s sorts by the next column,
r the other way round.

Without a terminal: one block of lines a second.
Exit status: 0 ended as asked, 2 no answer at the beginning.

Example:
  serin top
  serin top --admin 127.0.0.1:15001 --once
  serin top --for 10s | grep v2")]
pub struct Top {
    #[command(flatten)]
    proxy: AdminOption,

    /// End after this time [default: run until q or Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    time: Option<Duration>,

    /// Watch for a second, print one block, and end
    #[arg(long, conflicts_with = "time")]
    once: bool,
}

impl Top {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        watching(async |mut signals| {
            let admin = self.proxy.open()?;
            let mut table = Table::new(&admin);
            table.take(Ok(poll(&admin).await?));
            if !self.once {
                return show(&mut table, &admin, self.time, &mut signals).await;
            }
            tokio::time::sleep(super::view::poll::PERIOD).await;
            table.take(Ok(poll(&admin).await?));
            super::print(&table.lines());
            Ok(())
        })
    }
}

/// What is shown, and how.
#[derive(Debug)]
struct Table {
    admin: String,
    start: Instant,
    recent: Recent,
    rows: Vec<Row>,
    sorted: Column,
    reversed: bool,
    state: TableState,
    /// Rows that fit on the screen.
    page: u16,
    fresh: bool,
}

impl Table {
    fn new(admin: &Admin) -> Self {
        Self {
            admin: admin.to_string(),
            start: Instant::now(),
            recent: Recent::default(),
            rows: Vec::new(),
            sorted: Column::Route,
            reversed: false,
            state: TableState::default(),
            page: 1,
            fresh: false,
        }
    }

    fn sort(&mut self) {
        sort(&mut self.rows, self.sorted, self.reversed);
    }

    /// What is said above everything.
    fn headline(&self) -> String {
        let Some(picture) = self.recent.picture() else { return String::new() };
        let counted = &picture.counted;
        let disk = match counted.on_disk.as_str() {
            "active" => "",
            "missing" => ", the files are missing",
            _ => ", the files are refused",
        };
        let span = self.recent.span().as_secs();
        let over = if span == 0 { String::new() } else { format!(", last {span} s") };
        plain(&format!("{}: generation {} in force{disk}{over}", self.admin, counted.generation))
    }
}

impl LiveView for Table {
    fn take(&mut self, polled: Result<Picture, String>) {
        self.fresh = polled.is_ok();
        self.recent.take(polled);
        if self.fresh {
            self.rows = rows(&self.recent);
            self.sort();
        }
    }

    fn key(&mut self, key: KeyCode) {
        let page = self.page.max(1);
        match key {
            KeyCode::Down | KeyCode::Char('j') => self.state.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.state.select_previous(),
            KeyCode::PageDown | KeyCode::Char(' ') => self.state.scroll_down_by(page),
            KeyCode::PageUp => self.state.scroll_up_by(page),
            KeyCode::Home => self.state.select_first(),
            KeyCode::End => self.state.select_last(),
            KeyCode::Char('s') => self.sorted = self.sorted.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            _ => return,
        }
        self.sort();
    }

    fn draw(&mut self, frame: &mut Frame<'_>, theme: Theme) {
        draw::draw(self, frame, theme);
    }

    fn lines(&mut self) -> String {
        let mut text: String = self.recent.notices().into_iter().map(|notice| notice + "\n").collect();
        if !std::mem::take(&mut self.fresh) || self.recent.span().is_zero() {
            return text;
        }
        text.push_str(&format!("{}  {}\n", clock(self.start.elapsed()), self.headline()));
        text.push_str(&rows::text(&self.rows));
        for release in self.recent.picture().map_or(&[][..], |picture| &picture.releases) {
            let version = |version: &str| self.recent.version(release, version);
            let scene = release_view::Scene {
                release,
                stable: version(&release.view.stable.version),
                canary: version(&release.view.canary.version),
                generation: 0,
                notice: None,
                keys: "",
            };
            text.push_str(&format!("release {}\n", release_view::line(&scene)));
        }
        text + "\n"
    }

    fn is_over(&self) -> bool {
        false
    }
}
