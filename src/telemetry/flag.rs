//! Why a request ended unusually, in Envoy's letters, which Istio users know.
//!
//! The one place that says what each flag means and which status goes with it. It decides nothing: the proxy maps its
//! errors to flags.

use std::fmt;

/// Why a request did not simply get its destination's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flag {
    /// Client went away before the whole answer was sent.
    DC,
    /// Delay injected by configuration; the answer itself is the destination's.
    DI,
    /// Malformed request.
    DPE,
    /// Fault injected by configuration: the status is the configured one.
    FI,
    /// A mistake in Serin: its own letters, Envoy has none.
    IE,
    /// The route points at a destination that is not there.
    NC,
    /// No route for the request.
    NR,
    /// The request stalled: no byte for the stream idle time.
    SI,
    /// Upstream closed the connection before its answer was complete.
    UC,
    /// Could not connect upstream.
    UF,
    /// No healthy endpoint.
    UH,
    /// The request ran into its longest allowed duration.
    UMSDR,
    /// A limit of the destination, or of the whole process, was reached.
    UO,
    /// The upstream's answer was not HTTP.
    UPE,
    /// Upstream reset the connection or the stream.
    UR,
    /// All retries used up; the answer is the last attempt's.
    URX,
    /// The destination did not answer in time.
    UT,
}

impl Flag {
    /// How many flags there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// Every flag, in the order of its letters and of its discriminant.
    pub const ALL: [Self; 17] = [
        Self::DC,
        Self::DI,
        Self::DPE,
        Self::FI,
        Self::IE,
        Self::NC,
        Self::NR,
        Self::SI,
        Self::UC,
        Self::UF,
        Self::UH,
        Self::UMSDR,
        Self::UO,
        Self::UPE,
        Self::UR,
        Self::URX,
        Self::UT,
    ];

    /// The letters: the label value, the access log's field and `x-serin-flag`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.describe().0
    }

    /// The status of the answer Serin makes for it; `None` where the answer is somebody else's (the destination's, or
    /// the configured one). 499 is never sent: it is what is recorded when the client left.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        self.describe().1
    }

    /// A few words for a person: the beginning of the answer's one-line body.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.describe().2
    }

    fn describe(self) -> (&'static str, Option<u16>, &'static str) {
        match self {
            Self::DC => ("DC", Some(499), "client went away"),
            Self::DI => ("DI", None, "injected delay"),
            Self::DPE => ("DPE", Some(400), "malformed request"),
            Self::FI => ("FI", None, "injected fault"),
            Self::IE => ("IE", Some(500), "internal error"),
            Self::NC => ("NC", Some(503), "no such destination"),
            Self::NR => ("NR", Some(404), "no route"),
            Self::SI => ("SI", Some(408), "request idle too long"),
            Self::UC => ("UC", Some(503), "upstream closed the connection"),
            Self::UF => ("UF", Some(503), "could not connect upstream"),
            Self::UH => ("UH", Some(503), "no healthy endpoint"),
            Self::UMSDR => ("UMSDR", Some(504), "longest request duration reached"),
            Self::UO => ("UO", Some(503), "too many requests upstream"),
            Self::UPE => ("UPE", Some(502), "upstream answered with a protocol error"),
            Self::UR => ("UR", Some(503), "upstream reset the connection"),
            Self::URX => ("URX", None, "retries used up"),
            Self::UT => ("UT", Some(504), "upstream timed out"),
        }
    }
}

/// Several flags at once: an answer can be delayed on purpose and then time out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Puts one more in.
    pub fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u32;
    }

    /// Whether it is in.
    #[must_use]
    pub fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u32) != 0
    }

    /// All that are in, in the order of [`Flag::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let index = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            Flag::ALL.get(index).copied()
        })
    }
}

impl fmt::Display for Flags {
    /// The letters with commas between, as Envoy logs them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, flag) in self.iter().enumerate() {
            write!(f, "{}{}", if position == 0 { "" } else { "," }, flag.as_str())?;
        }
        Ok(())
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        let mut flags = Self::default();
        flags.insert(flag);
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_complete_ordered_and_indexes_itself() {
        for (index, flag) in Flag::ALL.iter().enumerate() {
            assert_eq!(*flag as usize, index);
        }
        assert!(Flag::ALL.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    }

    #[test]
    fn a_set_gives_back_what_was_put_in() {
        let mut flags = Flags::from(Flag::UT);
        flags.insert(Flag::DC);
        flags.insert(Flag::UT);
        assert_eq!(flags.iter().collect::<Vec<_>>(), [Flag::DC, Flag::UT]);
        assert!(flags.contains(Flag::DC) && !flags.contains(Flag::DI));
        assert_eq!(Flags::default().iter().next(), None);
        assert_eq!((flags.to_string(), Flags::default().to_string()), ("DC,UT".to_owned(), String::new()));
    }

    #[test]
    fn statuses_are_envoys() {
        let with =
            |status| Flag::ALL.into_iter().filter(|f| f.status() == Some(status)).map(Flag::as_str).collect::<Vec<_>>();
        assert_eq!(with(503), ["NC", "UC", "UF", "UH", "UO", "UR"]);
        assert_eq!(with(504), ["UMSDR", "UT"]);
        assert_eq!(with(502), ["UPE"]);
        assert_eq!(with(404), ["NR"]);
    }
}
