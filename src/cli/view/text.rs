//! Numbers and sentences as people read them on a terminal. Pure.

use std::time::Duration;

use unicode_width::UnicodeWidthChar;

/// Stands where there is no number.
pub(in crate::cli) const NOTHING: &str = "-";

/// So much of a whole, in percent.
pub(in crate::cli) fn part(part: u64, whole: u64) -> String {
    if whole == 0 { NOTHING.to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// A share (0–1) with at most so many decimals.
pub(in crate::cli) fn percent(share: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", share * 100.0);
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short} %")
}

/// With as many digits as matter.
pub(in crate::cli) fn duration(duration: Option<Duration>) -> String {
    match duration.map(|duration| duration.as_secs_f64()) {
        None => NOTHING.to_owned(),
        Some(seconds) if seconds < 0.1 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

/// Minutes and seconds.
pub(in crate::cli) fn clock(elapsed: Duration) -> String {
    format!("{}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// Without control characters: text from files must not steer the terminal.
pub(in crate::cli) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Columns that it takes on a terminal.
pub(in crate::cli) fn width_of(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of it as fits.
pub(in crate::cli) fn clipped(text: &str, width: usize) -> String {
    let mut room = width;
    let fits = |c: &char| {
        let left = room.checked_sub(c.width().unwrap_or(0));
        room = left.unwrap_or(room);
        left.is_some()
    };
    text.chars().take_while(fits).collect()
}

/// Broken between words; what does not fit even so is left to be clipped. Later lines are indented.
pub(in crate::cli) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width_of(line) + 1 + width_of(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_and_durations() {
        let all = [0.9, 1.0, 0.0, 1.0 / 3.0, 0.1].map(|share| percent(share, 1));
        assert_eq!(all, ["90 %", "100 %", "0 %", "33.3 %", "10 %"]);
        let durations = [400, 99_940, 250_000, 1_250_000].map(|us| duration(Some(Duration::from_micros(us))));
        assert_eq!(durations, ["0.4 ms", "99.9 ms", "250 ms", "1.2 s"]);
    }
}
