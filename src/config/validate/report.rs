//! Where the checks put what they find, and the few shapes that their findings have.

use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::Place;

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<Diagnostic>,
}

impl Report {
    /// Adds one.
    pub(super) fn add(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// A value that is not allowed.
    pub(super) fn wrong(&mut self, place: Place, message: impl Into<String>) {
        self.add(wrong(place, message));
    }

    /// All of them, by place; at one place the refused fields come after what is wrong.
    pub(super) fn sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|found| (found.place, found.severity, found.kind));
        self.found
    }
}

/// An error: a value that is not allowed.
pub(super) fn wrong(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Kind::Value, place, message)
}

/// An error: a field that must be there.
pub(super) fn missing(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Kind::Field, place, message)
}

/// An error: two things that exclude each other.
pub(super) fn conflict(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Kind::Conflict, place, message)
}

/// An error: something that names what nothing declares.
pub(super) fn unknown(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Kind::Reference, place, message)
}

/// An error: a valid field that this proxy cannot honour.
pub(super) fn unsupported(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Kind::Unsupported, place, message)
}

/// A warning: a field that changes nothing here.
pub(super) fn no_effect(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(Kind::NoEffect, place, message)
}

/// A warning: a field that has a successor.
pub(super) fn deprecated(place: Place, old: &str, new: &str) -> Diagnostic {
    Diagnostic::warning(Kind::Field, place, format!("`{old}` is deprecated")).help(format!("use `{new}`"))
}

/// A warning: something that no request can reach.
pub(super) fn dead(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(Kind::DeadRule, place, message)
}
