//! The terminal of a live view: taken over as a whole while it is shown, and its keys.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier, Style};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How soon the thread that reads keys notices that it is to end.
const KEYS: Duration = Duration::from_millis(50);

/// Whether standard output is a terminal that can do more than print lines.
pub(in crate::cli) fn is_capable() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !dumb
}

/// Whether colours are wanted: `NO_COLOR` says no.
pub(in crate::cli) fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes text to standard output, at once.
///
/// # Errors
/// Nobody reads any more.
pub(in crate::cli) fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// How things look. Without colours, what is strong or bad still differs.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Theme {
    colours: bool,
}

impl Theme {
    /// As the environment wants it.
    pub(in crate::cli) fn new() -> Self {
        Self { colours: wants_colours() }
    }

    /// Headlines.
    pub(in crate::cli) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is of less interest.
    pub(in crate::cli) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// As it should be.
    pub(in crate::cli) fn good(self) -> Style {
        self.coloured(Color::Green, Style::new())
    }

    /// To be watched.
    pub(in crate::cli) fn warning(self) -> Style {
        self.coloured(Color::Yellow, Style::new())
    }

    /// Wrong.
    pub(in crate::cli) fn bad(self) -> Style {
        self.coloured(Color::Red, self.strong())
    }

    /// Where the cursor stands.
    pub(in crate::cli) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn coloured(self, colour: Color, plain: Style) -> Style {
        if self.colours { plain.fg(colour) } else { plain }
    }
}

/// What a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Pressed {
    /// q, Esc or Ctrl-C; or the keyboard is gone.
    Quit,
    /// Another key.
    Key(KeyCode),
    /// None: the terminal has another size.
    Resized,
}

/// The whole terminal. Given back by [`close`](Self::close), and by a panic.
#[derive(Debug)]
pub(in crate::cli) struct FullScreen {
    terminal: DefaultTerminal,
    pressed: UnboundedReceiver<Pressed>,
    end: Arc<AtomicBool>,
    keys: JoinHandle<()>,
}

impl FullScreen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// It does not let itself be.
    pub(in crate::cli) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let (sender, pressed) = unbounded_channel();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let keys = thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&sender, &ended));
        match keys {
            Ok(keys) => Ok(Self { terminal, pressed, end, keys }),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }

    /// Draws what is to be seen now.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(in crate::cli) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// The next key; to be given up by dropping it.
    pub(in crate::cli) async fn pressed(&mut self) -> Pressed {
        self.pressed.recv().await.unwrap_or(Pressed::Quit)
    }

    /// Gives the terminal back as it was.
    pub(in crate::cli) fn close(self) {
        self.end.store(true, Relaxed);
        // A panic in it was printed where it happened.
        let _ = self.keys.join();
        ratatui::restore();
    }
}

fn read_keys(sender: &UnboundedSender<Pressed>, end: &AtomicBool) {
    while !end.load(Relaxed) {
        let pressed = match event::poll(KEYS) {
            Ok(false) => continue,
            Ok(true) => event::read().map_or(Some(Pressed::Quit), meaning),
            Err(_) => Some(Pressed::Quit),
        };
        let Some(pressed) = pressed else { continue };
        if sender.send(pressed).is_err() || pressed == Pressed::Quit {
            return;
        }
    }
}

fn meaning(event: Event) -> Option<Pressed> {
    match event {
        Event::Resize(..) => Some(Pressed::Resized),
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) => {
            let control_c = code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL);
            let quit = control_c || matches!(code, KeyCode::Char('q') | KeyCode::Esc);
            Some(if quit { Pressed::Quit } else { Pressed::Key(code) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_end_a_view() {
        let press = |code, modifiers| meaning(Event::Key(KeyEvent::new(code, modifiers)));
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(code, KeyModifiers::NONE), Some(Pressed::Quit));
        }
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Pressed::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), Some(Pressed::Key(KeyCode::Char('c'))));
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(meaning(Event::Key(released)), None);
        assert_eq!(meaning(Event::Resize(80, 24)), Some(Pressed::Resized));
    }

    #[test]
    fn without_colours_what_is_bad_is_still_seen() {
        let theme = Theme { colours: false };
        for style in [theme.strong(), theme.faint(), theme.good(), theme.warning(), theme.bad(), theme.chosen()] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
        assert_ne!(theme.bad(), Style::new());
        assert_eq!(Theme { colours: true }.bad().fg, Some(Color::Red));
    }
}
