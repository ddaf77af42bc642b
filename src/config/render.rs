//! Diagnostics for people (the source line with a caret, as a compiler prints it) and for programs (`check --json`).

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthChar;

use super::diagnostic::{Diagnostic, Kind, Severity};
use super::load::{Loaded, Source};
use super::text;

/// How many columns of a source line are shown.
const WINDOW: usize = 120;
/// How many columns before the caret are kept of a longer line.
const BEFORE: usize = 40;

/// All diagnostics of a configuration as text, one paragraph each; `colours` for a terminal.
pub fn text(loaded: &Loaded, colours: bool) -> String {
    let mut out = String::new();
    for diagnostic in &loaded.diagnostics {
        out.push_str(&one(&loaded.sources, diagnostic, colours));
        out.push('\n');
    }
    out
}

/// One diagnostic as text, with a line end.
pub fn one(sources: &[Source], diagnostic: &Diagnostic, colours: bool) -> String {
    let paint = Paint { colours };
    let place = diagnostic.place;
    let (word, colour) = match diagnostic.severity {
        Severity::Error => ("error", "\x1b[1;31m"),
        Severity::Warning => ("warning", "\x1b[1;33m"),
    };
    let code = diagnostic.code.map_or_else(String::new, |code| format!("[{code}]"));
    let message = escaped(&diagnostic.message);
    let mut out = format!("{}: {}\n", paint.with(colour, &format!("{word}{code}")), paint.with("\x1b[1m", &message));
    let number = place.line.to_string();
    let margin = if place.line == 0 { 1 } else { number.len() };
    let source = file_of(sources, diagnostic);
    if let Some(source) = source {
        let path = escaped(&source.path.display().to_string()).into_owned();
        let at = if place.line > 0 { format!("{path}:{}:{}", place.line, place.column) } else { path };
        let _ = writeln!(out, "{:margin$}{} {at}", "", paint.with(GUTTER, "-->"));
    }
    let readable = source.filter(|source| !source.text.is_empty());
    let line = readable.and_then(|source| text::lines(&source.text).find(|line| line.number == place.line));
    if let Some(line) = line {
        let shown = Shown::of(line.text, place.column as usize - 1, place.length as usize);
        let bar = paint.with(GUTTER, "|");
        let caret = "^".repeat(shown.length.max(1));
        let caret = paint.with(colour, &caret);
        let _ = writeln!(out, "{:margin$} {bar}", "");
        let _ = writeln!(out, "{} {bar} {}", paint.with(GUTTER, &number), shown.text.trim_end());
        let _ = writeln!(out, "{:margin$} {bar} {:indent$}{caret}", "", "", indent = shown.before);
    }
    if let Some(help) = &diagnostic.help {
        let lead = format!("{:margin$} {} help: ", "", paint.with(GUTTER, "="));
        for (index, line) in help.lines().enumerate() {
            let lead = if index == 0 { lead.clone() } else { " ".repeat(margin + "  = help: ".len() - 1) };
            let _ = writeln!(out, "{}", format!("{lead}{}", escaped(line)).trim_end());
        }
    }
    out
}

/// The file that a diagnostic is about; what is about no file in particular has no line and is no syntax error.
fn file_of<'s>(sources: &'s [Source], diagnostic: &Diagnostic) -> Option<&'s Source> {
    let about = diagnostic.place.line > 0 || diagnostic.kind == Kind::Syntax;
    sources.get(diagnostic.place.file as usize).filter(|_| about)
}

const GUTTER: &str = "\x1b[1;34m";

struct Paint {
    colours: bool,
}

impl Paint {
    fn with<'t>(&self, colour: &str, text: &'t str) -> Cow<'t, str> {
        if self.colours { Cow::Owned(format!("{colour}{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }
}

/// A character as it may be shown: what would move the cursor or turn the direction of writing is written as an escape.
fn visible(c: char) -> (Cow<'static, str>, usize) {
    let hidden = c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    match c {
        '\t' => (Cow::Borrowed("    "), 4),
        _ if hidden => {
            let text = c.escape_default().to_string();
            let width = text.len();
            (Cow::Owned(text), width)
        }
        _ => (Cow::Owned(c.to_string()), c.width().unwrap_or(1)),
    }
}

fn escaped(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| !c.is_control() && visible(c).0.chars().eq([c])) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if c == '\t' { Cow::Borrowed("\\t") } else { visible(c).0 }).collect())
}

/// The part of a line that is shown, in columns of a terminal.
struct Shown {
    text: String,
    before: usize,
    length: usize,
}

impl Shown {
    fn of(line: &str, start: usize, length: usize) -> Self {
        // Only what is near the caret can be shown, and a line may have millions of characters.
        let count = line.chars().count();
        let start = start.min(count);
        let skipped = start.saturating_sub(WINDOW);
        let cells: Vec<_> = line.chars().skip(skipped).take(3 * WINDOW).map(visible).collect();
        let width = |range: &[(Cow<'_, str>, usize)]| range.iter().map(|(_, width)| width).sum::<usize>();
        let start = start - skipped;
        let end = start.saturating_add(length.max(1)).min(cells.len());
        let (mut from, mut to) = (0, cells.len());
        if skipped > 0 || width(&cells) > WINDOW {
            let mut used = 0;
            from = start;
            while from > 0 && used + cells[from - 1].1 <= BEFORE {
                from -= 1;
                used += cells[from].1;
            }
            to = start;
            while let Some((_, next)) = cells.get(to).filter(|(_, next)| used + next <= WINDOW) {
                used += next;
                to += 1;
            }
        }
        let lead = if skipped + from > 0 { "…" } else { "" };
        let tail = if skipped + to < count { "…" } else { "" };
        let middle: String = cells[from..to].iter().map(|(text, _)| text.as_ref()).collect();
        Self {
            text: format!("{lead}{middle}{tail}"),
            before: lead.chars().count() + width(&cells[from..start]),
            length: width(&cells[start..end.min(to).max(start)]),
        }
    }
}

/// One diagnostic in `check --json`, `GET /config/status` and the answer to a refused reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// `error` or `warning`.
    pub severity: Severity,
    /// Its sort.
    pub kind: Kind,
    /// The code that `istioctl analyze` gives it.
    pub code: Option<&'static str>,
    /// The file, if it is about one.
    pub file: String,
    /// From 1; null if it is about a file as a whole.
    pub line: Option<u32>,
    /// From 1; null if it is about a file as a whole.
    pub column: Option<u32>,
    /// The field, such as `spec.http[0].route[1].weight`; empty if it is about none.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Entry {
    /// `file:line:column: error[code]: message`, then the help on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })?;
        self.code.iter().try_for_each(|code| write!(f, "[{code}]"))?;
        write!(f, ": {}", self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "\n  help: {help}"))
    }
}

/// All diagnostics of a configuration for programs. Parses the files that have some again, to name the fields.
pub fn entries(loaded: &Loaded) -> Vec<Entry> {
    let places: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| diagnostic.place).collect();
    let paths = loaded.paths_of(&places);
    let entry = |(diagnostic, path): (&Diagnostic, Option<String>)| {
        let place = diagnostic.place;
        let source = file_of(&loaded.sources, diagnostic);
        Entry {
            severity: diagnostic.severity,
            kind: diagnostic.kind,
            code: diagnostic.code,
            file: source.map_or_else(String::new, |source| source.path.display().to_string()),
            line: (place.line > 0).then_some(place.line),
            column: (place.line > 0).then_some(place.column),
            path: path.unwrap_or_default(),
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    };
    loaded.diagnostics.iter().zip(paths).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::place::Place;

    fn render(text: &str, place: (u32, u32, u32), help: Option<&str>) -> String {
        let sources = [Source { path: "vs.yaml".into(), text: text.into() }];
        let (line, column, length) = place;
        let mut diagnostic =
            Diagnostic::error(Kind::Value, Place { file: 0, line, column, length }, "no").code("IST0101");
        diagnostic.help = help.map(str::to_owned);
        one(&sources, &diagnostic, false)
    }

    #[test]
    fn the_caret_stands_under_the_value() {
        let expected = "error[IST0101]: no\n --> vs.yaml:2:10\n  |\n2 | weight:  90 # x\n  |          ^^\n  = help: a\n          b\n";
        assert_eq!(render("a: 1\nweight:  90 # x\n", (2, 10, 2), Some("a\nb")), expected);
    }

    #[test]
    fn tabs_wide_and_hidden_characters_keep_the_caret_right() {
        let caret = |text: &str, column, length| {
            let shown = render(text, (1, column, length), None);
            let line = shown.lines().nth(3).unwrap().to_owned();
            let caret = shown.lines().nth(4).unwrap().to_owned();
            (line, caret)
        };
        assert_eq!(caret("이름: 값", 5, 1), ("1 | 이름: 값".to_owned(), "  |       ^^".to_owned()));
        assert_eq!(caret("\ta: b", 5, 1), ("1 |     a: b".to_owned(), "  |        ^".to_owned()));
        assert_eq!(caret("a\u{1b}[31m: b", 9, 1), ("1 | a\\u{1b}[31m: b".to_owned(), "  |              ^".to_owned()));
        assert_eq!(caret("a: \u{202e}b", 5, 1).0, "1 | a: \\u{202e}b");
    }

    #[test]
    fn a_long_line_is_cut_round_the_caret() {
        let long = format!("a: {}X{}", "b".repeat(500), "c".repeat(500));
        let shown = render(&long, (1, 504, 1), None);
        let line = shown.lines().nth(3).unwrap();
        let caret = shown.lines().nth(4).unwrap();
        assert!(line.chars().count() <= WINDOW + 8 && line.starts_with("1 | …b") && line.ends_with("c…"));
        assert_eq!(line.chars().position(|c| c == 'X'), caret.find('^'));
        let whole = render(&long, (1, 1, 1004), None);
        assert_eq!(whole.lines().nth(4).unwrap().matches('^').count(), WINDOW);
    }

    #[test]
    fn a_place_past_the_end_of_a_line_is_shown_there() {
        assert_eq!(render("ab", (1, 9, 3), None).lines().nth(4), Some("  |   ^"));
    }

    #[test]
    fn a_line_of_megabytes_is_shown_near_the_caret() {
        for start in [0, 60, 1_500_000, 2_999_999] {
            let line: String = ('a'..='z').cycle().take(3_000_000).collect();
            let shown = Shown::of(&line, start, 1);
            let at = shown.text.chars().nth(shown.before).unwrap();
            assert_eq!(Some(at), line.chars().nth(start), "{start}");
            assert_eq!(shown.length, 1);
            assert!(shown.text.chars().count() <= WINDOW + 2 && shown.before <= BEFORE + 1);
        }
    }
}
