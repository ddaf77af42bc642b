//! What decoding leaves behind besides the resources: problems, and which parts of the text they spoil.

use std::collections::HashMap;

use regex::bytes::Regex;

use super::scalar::Wrong;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::Place;

/// Everything that is reported while decoding.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Problems, in the order found.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Parts of the text that hold errors: what is checked later must say nothing about them.
    pub(super) muddled: Vec<Muddled>,
    /// Patterns already compiled: the same one often comes back.
    pub(super) patterns: HashMap<String, Result<Regex, String>>,
    /// How many of the diagnostics are errors.
    pub(super) errors: usize,
}

impl Out {
    /// Reports an error.
    pub(super) fn error(&mut self, kind: Kind, place: Place, message: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::error(kind, place, message);
        diagnostic.help = help;
        self.diagnostics.push(diagnostic);
        self.errors += 1;
    }

    /// Reports an error in the object that begins at `object`, of which later checks must then say nothing.
    pub(super) fn wrong(&mut self, object: Place, place: Place, wrong: Wrong) {
        self.error(Kind::Value, place, wrong.message, wrong.help);
        self.muddled.push(Muddled { place: object, last_line: None });
    }
}

/// A part of a file that was not read as it was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Muddled {
    /// Where it begins.
    pub(crate) place: Place,
    /// Its last line; none: only the object that begins at this place, without what lies in it.
    pub(crate) last_line: Option<u32>,
}
