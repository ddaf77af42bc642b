//! What is shown, as text: a table for a terminal, one line for a pipe. Pure.

use std::time::Duration;

use crate::cli::view::text::{NOTHING, clipped, clock, duration, part, percent, plain, width_of, wrapped};
use crate::cli::view::window::expected;

/// Below so many requests a share is a matter of luck: it is said what luck allows.
const SMALL: u64 = 500;
/// Columns for the names of rows.
const NAMES: usize = 22;
/// Columns for a version: as many as there are, within these.
const NARROWEST: usize = 12;
const WIDEST: usize = 26;
/// Problems that are shown.
const PROBLEMS: usize = 2;

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Since the start.
    pub elapsed: Duration,
    /// The time over which the columns count.
    pub span: Duration,
    /// One for each version.
    pub columns: Vec<Column>,
    /// Requests that reached no version within that time.
    pub unrouted: u64,
    /// The configuration in force.
    pub generation: u64,
    /// Why the files as they are now are not in force; empty if they are.
    pub problems: Vec<String>,
    /// What happened lately, oldest first.
    pub events: Vec<Event>,
}

/// What one version did.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// The version.
    pub name: String,
    /// Its share (0–1) of the requests; none if each rule has another.
    pub wanted: Option<f64>,
    /// Its requests …
    pub got: u64,
    /// … of so many.
    pub of: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// How long half of the others took at most.
    pub p50: Option<Duration>,
    /// How long 99 of 100 took at most.
    pub p99: Option<Duration>,
    /// Its requests since the start.
    pub total: u64,
}

/// Something that happened to the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Since the start.
    pub at: Duration,
    /// What.
    pub text: String,
}

/// How a line of the table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Like any other.
    Plain,
    /// A headline.
    Strong,
    /// Something is wrong.
    Bad,
}

/// One line of the table, no wider than asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Without control characters.
    pub text: String,
    /// How it looks.
    pub look: Look,
}

impl Event {
    /// On one line, for a pipe.
    pub(super) fn line(&self) -> String {
        format!("{}  {}", clock(self.at), plain(&self.text))
    }
}

impl View {
    /// On one line, for a pipe.
    pub(super) fn line(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| column.sentence(self.span)).collect();
        let state = if self.problems.is_empty() { "" } else { ", files refused" };
        let shown = if columns.is_empty() { "no rule has a destination".to_owned() } else { columns.join(" | ") };
        plain(&format!("{}  {shown} | generation {}{state}{}", clock(self.elapsed), self.generation, self.astray()))
    }

    /// As a table of at most this many columns and lines. A low terminal loses old events first, and never what is wrong.
    pub(super) fn table(&self, width: usize, height: usize) -> Vec<Line> {
        let mut lines = vec![Line::new(Look::Strong, format!("serin demo, {}", clock(self.elapsed)))];
        lines.extend(self.rows(width));
        lines.push(Line::plain(""));
        let state = self.state(width);
        lines.truncate(height.saturating_sub(state.len()).max(1));
        lines.extend(state);
        lines.extend(self.events.iter().rev().map(|event| Line::plain(event.line())));
        lines.truncate(height);
        lines.iter_mut().for_each(|line| line.text = clipped(&line.text, width));
        lines
    }

    /// What is in force, and what is wrong with the files.
    fn state(&self, width: usize) -> Vec<Line> {
        let (generation, astray) = (self.generation, self.astray());
        if self.problems.is_empty() {
            return vec![Line::plain(format!("configuration: generation {generation} is in force{astray}"))];
        }
        let stays = format!("the files are refused; generation {generation} stays in force{astray}");
        let shown = self.problems.iter().take(PROBLEMS).flat_map(|problem| problem.lines());
        let more = self.problems.len().saturating_sub(PROBLEMS);
        let more = (more > 0).then(|| format!("and {more} more"));
        let texts = std::iter::once(stays).chain(shown.flat_map(|line| wrapped(line, width))).chain(more);
        texts.map(|text| Line::new(Look::Bad, text)).collect()
    }

    fn rows(&self, width: usize) -> Vec<Line> {
        if self.columns.is_empty() {
            return vec![Line::plain("no rule has a destination")];
        }
        let room = width.saturating_sub(NAMES).max(NARROWEST);
        let wide = (room / self.columns.len()).clamp(NARROWEST, WIDEST);
        let shown = &self.columns[..self.columns.len().min(room / wide)];
        let row = |look, name: &str, value: &dyn Fn(&Column) -> String| {
            let mut text = format!("{name:NAMES$}");
            for column in shown {
                let value = clipped(&value(column), wide - 1);
                text.push_str(&value);
                text.push_str(&" ".repeat(wide - width_of(&value)));
            }
            Line::new(look, text.trim_end().to_owned())
        };
        let span = format!("share got, last {} s", self.span.as_secs());
        let mut rows = vec![
            row(Look::Strong, "", &|column| column.name.clone()),
            row(Look::Plain, "share wanted", &Column::wanted),
            row(Look::Plain, &span, &Column::share),
            row(Look::Plain, "95 % of runs give", &Column::range),
            row(Look::Plain, "requests/s", &|column| column.rate(self.span)),
            row(Look::Plain, "5xx", &Column::failed),
            row(Look::Plain, "p50", &|column| duration(column.p50)),
            row(Look::Plain, "p99", &|column| duration(column.p99)),
            row(Look::Plain, "requests in all", &|column| column.total.to_string()),
        ];
        if shown.len() < self.columns.len() {
            rows.push(Line::plain(format!("and {} more versions", self.columns.len() - shown.len())));
        }
        rows
    }

    fn astray(&self) -> String {
        match self.unrouted {
            0 => String::new(),
            1 => "; 1 request reached no version".to_owned(),
            count => format!("; {count} requests reached no version"),
        }
    }
}

impl Line {
    fn new(look: Look, text: impl Into<String>) -> Self {
        Self { text: plain(&text.into()), look }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self::new(Look::Plain, text)
    }
}

impl Column {
    fn wanted(&self) -> String {
        self.wanted.map_or_else(|| "by rule".to_owned(), |share| percent(share, 1))
    }

    /// The share it got: a number, or, while that would be a matter of luck, whether it is what luck allows.
    fn share(&self) -> String {
        match self.luck() {
            Some((wanted, true)) => format!("consistent with {}", percent(wanted, 1)),
            _ => part(self.got, self.of),
        }
    }

    fn range(&self) -> String {
        match self.wanted {
            Some(wanted) if self.of > 0 => range(self.of, wanted),
            _ => NOTHING.to_owned(),
        }
    }

    fn rate(&self, span: Duration) -> String {
        if span.is_zero() { NOTHING.to_owned() } else { format!("{:.1}", self.got as f64 / span.as_secs_f64()) }
    }

    fn failed(&self) -> String {
        part(self.failures, self.got)
    }

    /// While there are few requests: the share that was wanted, and whether the requests got are within what luck allows.
    fn luck(&self) -> Option<(f64, bool)> {
        let wanted = self.wanted.filter(|wanted| *wanted > 0.0 && *wanted < 1.0)?;
        let (low, high) = expected(self.of, wanted);
        (0 < self.of && self.of < SMALL).then_some((wanted, (low..=high).contains(&self.got)))
    }

    fn sentence(&self, span: Duration) -> String {
        let got = match self.luck() {
            Some((wanted, lucky)) => {
                let word = if lucky { format!(": consistent with {}", percent(wanted, 1)) } else { String::new() };
                format!("{} of {}{word} (95 % of runs give {})", self.got, self.of, range(self.of, wanted))
            }
            None => part(self.got, self.of),
        };
        format!(
            "{} wanted {}, got {got}, {}/s, 5xx {}, p50 {}, p99 {}, total {}",
            self.name,
            self.wanted(),
            self.rate(span),
            self.failed(),
            duration(self.p50),
            duration(self.p99),
            self.total
        )
    }
}

/// Shares (in percent) between which 95 % of runs of `draws` requests end.
fn range(draws: u64, chance: f64) -> String {
    let (low, high) = expected(draws, chance);
    let decimals = usize::from(draws >= SMALL);
    let of = |count: u64| 100.0 * count as f64 / draws as f64;
    if low == high { percent(chance, 1) } else { format!("{:.decimals$}–{:.decimals$} %", of(low), of(high)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(name: &str, wanted: f64, got: u64, of: u64) -> Column {
        Column { name: name.to_owned(), wanted: Some(wanted), got, of, total: got + 5, ..Column::default() }
    }

    fn view(got: u64, of: u64) -> View {
        let latency = |ms| Some(Duration::from_micros(ms));
        View {
            elapsed: Duration::from_secs(72),
            span: Duration::from_secs(10),
            columns: vec![
                Column { p50: latency(6_260), p99: latency(7_900), ..column("v1", 0.9, of - got, of) },
                Column { failures: 1, p50: latency(9_100), p99: latency(110_400), ..column("v2", 0.1, got, of) },
            ],
            generation: 1,
            ..View::default()
        }
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_table() {
        let mut view = view(104, 1000);
        view.events = vec![
            Event { at: Duration::ZERO, text: "generation 1: in force".to_owned() },
            Event { at: Duration::from_secs(60), text: "later".to_owned() },
        ];
        assert_eq!(
            texts(&view.table(80, 50)),
            [
                "serin demo, 1:12",
                "                      v1                        v2",
                "share wanted          90 %                      10 %",
                "share got, last 10 s  89.6 %                    10.4 %",
                "95 % of runs give     88.1–91.8 %               8.2–11.9 %",
                "requests/s            89.6                      10.4",
                "5xx                   0.0 %                     1.0 %",
                "p50                   6.3 ms                    9.1 ms",
                "p99                   7.9 ms                    110 ms",
                "requests in all       901                       109",
                "",
                "configuration: generation 1 is in force",
                "1:00  later",
                "0:00  generation 1: in force",
            ]
        );
        assert_eq!(view.table(80, 3).len(), 3);
    }

    #[test]
    fn a_small_sample_says_what_luck_allows_instead_of_a_number() {
        let table = view(12, 100).table(80, 50);
        assert_eq!(table[3].text, "share got, last 10 s  consistent with 90 %      consistent with 10 %");
        assert_eq!(table[4].text, "95 % of runs give     84–95 %                   5–16 %");
        let line = view(12, 100).line();
        assert!(
            line.contains("v2 wanted 10 %, got 12 of 100: consistent with 10 % (95 % of runs give 5–16 %), "),
            "{line}"
        );
        let line = view(20, 100).line();
        assert!(line.contains("v2 wanted 10 %, got 20 of 100 (95 % of runs give 5–16 %), "), "{line}");
        assert!(view(20, 100).table(80, 50)[3].text.ends_with("20.0 %"));
    }

    #[test]
    fn a_line() {
        assert_eq!(
            view(104, 1000).line(),
            "1:12  v1 wanted 90 %, got 89.6 %, 89.6/s, 5xx 0.0 %, p50 6.3 ms, p99 7.9 ms, total 901 | \
             v2 wanted 10 %, got 10.4 %, 10.4/s, 5xx 1.0 %, p50 9.1 ms, p99 110 ms, total 109 | generation 1"
        );
        let nothing = View { columns: vec![column("v1", 1.0, 0, 0)], unrouted: 3, ..View::default() };
        assert_eq!(
            nothing.line(),
            "0:00  v1 wanted 100 %, got -, -/s, 5xx -, p50 -, p99 -, total 5 | generation 0; 3 requests reached no version"
        );
        assert_eq!(View::default().line(), "0:00  no rule has a destination | generation 0");
    }

    #[test]
    fn nothing_is_left_to_luck_at_either_end() {
        let columns = vec![column("v1", 0.0, 0, 40), column("v2", 1.0, 40, 40)];
        let view = View { columns, span: Duration::from_secs(1), ..View::default() };
        assert!(
            view.line().contains("v1 wanted 0 %, got 0.0 %, ")
                && view.line().contains("v2 wanted 100 %, got 100.0 %, ")
        );
        assert_eq!(view.table(80, 50)[4].text, "95 % of runs give     0 %                       100 %");
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        let problem = "serin-demo/product-service-vs.yaml:17:19: error: the weights sum to 120, not 100\n  help: make them sum to 100";
        let mut view = view(104, 1000);
        view.problems = vec![problem.to_owned(), "second".to_owned(), "third".to_owned()];
        let table = view.table(60, 50);
        let bad: Vec<_> = table.iter().filter(|line| line.look == Look::Bad).map(|line| line.text.as_str()).collect();
        assert_eq!(
            bad,
            [
                "the files are refused; generation 1 stays in force",
                "serin-demo/product-service-vs.yaml:17:19: error: the weights",
                "  sum to 120, not 100",
                "  help: make them sum to 100",
                "second",
                "and 1 more",
            ]
        );
        assert!(view.line().ends_with("| generation 1, files refused"));
        let low = view.table(60, 8);
        assert_eq!((low.len(), low[2].text.as_str()), (8, bad[0]), "a low terminal still shows it");
    }

    #[test]
    fn more_versions_than_fit_are_counted() {
        let columns = (1..=9).map(|number| column(&format!("v{number}"), 1.0 / 9.0, 100, 900)).collect();
        let view = View { columns, ..View::default() };
        let table = view.table(80, 50);
        assert_eq!(table[1].text, "                      v1          v2          v3          v4");
        assert_eq!(table[2].text, "share wanted          11.1 %      11.1 %      11.1 %      11.1 %");
        assert!(texts(&table).contains(&"and 5 more versions"));
    }

    #[test]
    fn text_cannot_steer_the_terminal() {
        let event = Event { at: Duration::ZERO, text: "a\u{1b}[2Jb\n".to_owned() };
        assert_eq!(event.line(), "0:00  a\u{fffd}[2Jb\u{fffd}");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(width in 1usize..130, height in 1usize..40, problem in ".{0,200}", names in prop::collection::vec(".{0,30}", 0..12)) {
            let columns: Vec<_> = names.iter().map(|name| column(name, 0.5, 3, 7)).collect();
            let view = View { columns, problems: vec![problem.clone()], events: vec![Event { at: Duration::ZERO, text: problem }], ..View::default() };
            let table = view.table(width, height);
            prop_assert!(table.len() <= height);
            for line in table {
                prop_assert!(width_of(&line.text) <= width);
                prop_assert!(!line.text.contains(char::is_control));
            }
        }
    }
}
