//! Where the view goes: redrawn in place on a terminal, a line a second into anything else.

use std::io;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use super::view::{Event, Line, Look, View};
use crate::cli::view::terminal::{is_capable, put, wants_colours};

/// Between two lines in a pipe.
const LINE: Duration = Duration::from_secs(1);
/// Of a terminal that does not tell.
const SIZE: (usize, usize) = (80, 24);

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    colours: bool,
    /// How many lines of a terminal the view takes.
    drawn: usize,
    /// When the next line goes into a pipe.
    next: Duration,
}

impl Screen {
    /// A terminal unless standard output is none, or one that can do nothing.
    pub(super) fn new() -> Self {
        Self { terminal: is_capable(), colours: wants_colours(), drawn: 0, next: LINE }
    }

    /// Writes text that stays.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        self.drawn = 0;
        put(text)
    }

    /// Shows the state of this moment, and in a pipe what happened since the last.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(super) fn show(&mut self, view: &View, events: &[Event]) -> io::Result<()> {
        if self.terminal {
            let (width, height) = size();
            let text = frame(&view.table(width, height.saturating_sub(1).max(1)), self.drawn, self.colours);
            self.drawn = text.matches('\n').count();
            return put(&text);
        }
        let mut text: String = events.iter().map(|event| event.line() + "\n").collect();
        if view.elapsed >= self.next {
            text.push_str(&(view.line() + "\n"));
            while self.next <= view.elapsed {
                self.next += LINE;
            }
        }
        if text.is_empty() { Ok(()) } else { put(&text) }
    }

    /// Gives the cursor back; what was shown last stays.
    pub(super) fn close(&mut self) {
        if self.terminal {
            // The terminal may be gone.
            let _ = put(SHOW_CURSOR);
        }
    }
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    }
}

/// What draws these lines over the last so many.
fn frame(lines: &[Line], over: usize, colours: bool) -> String {
    let mut text = HIDE_CURSOR.to_owned();
    if over > 0 {
        text.push_str(&format!("\x1b[{over}A"));
    }
    // What the keyboard echoed stands at the beginning of the line.
    text.push('\r');
    for line in lines {
        let (on, off) = match (colours, line.look) {
            (false, _) | (true, Look::Plain) => ("", ""),
            (true, Look::Strong) => ("\x1b[1m", "\x1b[0m"),
            (true, Look::Bad) => ("\x1b[31m", "\x1b[0m"),
        };
        text.extend([on, &line.text, off, CLEAR_LINE, "\n"]);
    }
    text + CLEAR_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before() {
        let line = |text: &str, look| Line { text: text.to_owned(), look };
        let lines = [line("a", Look::Strong), line("b", Look::Plain), line("c", Look::Bad)];
        let first = frame(&lines[..2], 0, false);
        assert_eq!(first, "\x1b[?25l\ra\x1b[K\nb\x1b[K\n\x1b[J");
        let second = frame(&lines, 2, true);
        assert_eq!(second, "\x1b[?25l\x1b[2A\r\x1b[1ma\x1b[0m\x1b[K\nb\x1b[K\n\x1b[31mc\x1b[0m\x1b[K\n\x1b[J");
    }
}
