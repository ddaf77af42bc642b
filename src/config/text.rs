//! Lines and columns of a text, as the YAML parser counts them: a line ends with `\n`, `\r\n` or `\r`; columns are characters.

/// One line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'t> {
    /// From 1.
    pub(crate) number: u32,
    /// The byte at which it begins.
    pub(crate) start: usize,
    /// Without its end.
    pub(crate) text: &'t str,
}

impl Line<'_> {
    /// The byte in the whole text at which this column (from 1) begins; the line's end if it is shorter.
    pub(crate) fn byte(&self, column: u32) -> usize {
        let skip = column.saturating_sub(1) as usize;
        self.start + self.text.char_indices().nth(skip).map_or(self.text.len(), |(at, _)| at)
    }
}

/// All lines. An empty text has one, and so has the rest after the last line end.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut start = Some(0);
    let mut number = 0;
    std::iter::from_fn(move || {
        let from = start?;
        let rest = &text[from..];
        let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let ending = &rest[length..];
        start = match ending {
            "" => None,
            _ if ending.starts_with("\r\n") => Some(from + length + 2),
            _ => Some(from + length + 1),
        };
        number += 1;
        Some(Line { number, start: from, text: &rest[..length] })
    })
}

/// Line and column, from 1, of a byte.
pub(crate) fn position(text: &str, byte: usize) -> (u32, u32) {
    let line = lines(text).take_while(|line| line.start <= byte).last();
    line.map_or((1, 1), |line| {
        let before = text.get(line.start..byte).unwrap_or(line.text);
        (line.number, u32::try_from(before.chars().count()).unwrap_or(u32::MAX - 1) + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_end_counts() {
        let numbered: Vec<_> = lines("a\nb\r\nc\rd").map(|line| (line.number, line.start, line.text)).collect();
        assert_eq!(numbered, [(1, 0, "a"), (2, 2, "b"), (3, 5, "c"), (4, 7, "d")]);
        assert_eq!(lines("").count(), 1);
        assert_eq!(lines("a\n").count(), 2);
    }

    #[test]
    fn columns_are_characters() {
        assert_eq!(position("ü: x\nab", 3), (1, 3));
        assert_eq!(position("ü: x\nab", 7), (2, 2));
        let line = lines("üx").next().unwrap();
        assert_eq!((line.byte(1), line.byte(2), line.byte(9)), (0, 2, 3));
    }
}
