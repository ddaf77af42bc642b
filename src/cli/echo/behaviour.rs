//! How an echo behaves: how long its answers take, and how many of them are errors. As typed, as drawn, as printed.

use std::fmt;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::cli::values::{parse_duration_range, parse_percentage};

/// How long answers take: each takes a time drawn evenly from `from` to `to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// The shortest.
    pub from: Duration,
    /// The longest, at least `from`.
    pub to: Duration,
}

impl Latency {
    /// Every answer takes as long.
    pub fn always(duration: Duration) -> Self {
        Self { from: duration, to: duration }
    }

    /// `5ms`, or `5ms..80ms`.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_duration_range(text).map(|(from, to)| Self { from, to })
    }

    fn draw(self, random: &mut impl Rng) -> Duration {
        self.from + (self.to - self.from).mul_f64(random.random::<f64>())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |duration: Duration| match duration.as_micros() {
            microseconds if microseconds.is_multiple_of(1000) => format!("{}ms", microseconds / 1000),
            microseconds => format!("{microseconds}us"),
        };
        formatter.write_str(&shown(self.from))?;
        if self.from == self.to { Ok(()) } else { write!(formatter, "..{}", shown(self.to)) }
    }
}

/// `2%` or `0.5%`, as a share from 0 to 1. The sign may be left out, or be percent-encoded as in a query.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    parse_percentage(text.strip_suffix("25").filter(|rest| rest.ends_with('%')).unwrap_or(text))
}

/// How an echo behaves. The default answers at once and never errs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// How long answers take.
    pub latency: Latency,
    /// The share of answers that are a 500, from 0 to 1.
    pub error_rate: f64,
}

impl Behaviour {
    /// This behaviour with what a query such as `latency=5ms..80ms&error_rate=2%` changes in it.
    pub fn changed(self, query: &str) -> Result<Self, String> {
        let mut changed = self;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("latency", value)) => {
                    changed.latency = Latency::parse(value).map_err(|error| format!("latency: {error}"))?
                }
                Some(("error_rate", value)) => {
                    changed.error_rate = parse_rate(value).map_err(|error| format!("error_rate: {error}"))?
                }
                _ => return Err(format!("unknown setting `{pair}`: wanted latency=… or error_rate=…")),
            }
        }
        Ok(changed)
    }

    /// What the next answer does: how long it takes, and whether it is an error.
    pub(super) fn draw(self, random: &mut impl Rng) -> (Duration, bool) {
        (self.latency.draw(random), random.random::<f64>() < self.error_rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn latencies_are_printed_as_they_are_typed() {
        for text in ["0ms", "0ms..1ms", "250us..1500ms"] {
            assert_eq!(Latency::parse(text).unwrap().to_string(), text);
        }
    }

    fn milliseconds(from: u64, to: u64) -> Latency {
        Latency { from: Duration::from_millis(from), to: Duration::from_millis(to) }
    }

    #[test]
    fn latencies_are_one_duration_or_a_range() {
        assert_eq!(Latency::parse("5ms"), Ok(milliseconds(5, 5)));
        assert_eq!(Latency::parse("5ms..1s"), Ok(milliseconds(5, 1000)));
        for bad in ["", "..", "5ms..", "..5ms", "80ms..5ms", "5ms...80ms", "5..80", "fast"] {
            assert!(Latency::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_percentages() {
        for (text, rate) in [("2%", 0.02), ("2", 0.02), ("0.5%", 0.005), ("2%25", 0.02), ("0%", 0.0), ("100%", 1.0)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for bad in ["", "%", "-1%", "101%", "NaN", "inf", "2%%"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_changes_what_it_names_and_nothing_when_any_of_it_is_wrong() {
        let before = Behaviour { latency: milliseconds(1, 2), error_rate: 0.5 };
        assert_eq!(before.changed(""), Ok(before));
        assert_eq!(before.changed("error_rate=2%"), Ok(Behaviour { error_rate: 0.02, ..before }));
        assert_eq!(
            before.changed("latency=3ms&error_rate=0%"),
            Ok(Behaviour { latency: milliseconds(3, 3), error_rate: 0.0 })
        );
        for bad in ["error_rate", "error_rate=x", "latency=9ms&colour=blue", "latency=9"] {
            assert!(before.changed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_and_everything_errs() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut errors = |error_rate| {
            (0..1000).filter(|_| Behaviour { error_rate, ..Behaviour::default() }.draw(&mut random).1).count()
        };
        assert_eq!((errors(0.0), errors(1.0)), (0, 1000));
        let tenth = errors(0.1);
        assert!((60..140).contains(&tenth), "{tenth}");
    }

    proptest! {
        #[test]
        fn what_is_drawn_lies_within_the_range(from in 0u64..5000, more in 0u64..5000, seed: u64) {
            let latency = milliseconds(from, from + more);
            let (drawn, _) = Behaviour { latency, error_rate: 0.0 }.draw(&mut SmallRng::seed_from_u64(seed));
            prop_assert!(latency.from <= drawn && drawn <= latency.to);
        }
    }
}
