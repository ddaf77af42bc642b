//! Where a value stands in the operator's files. Every value that a diagnostic may point at carries its place.

use std::fmt;
use std::ops::Deref;

/// A position in one source file. Lines and columns count from 1, in characters; `length` is what a caret underlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index into the list of sources that were loaded together.
    pub file: u32,
    /// Line, from 1. 0 means that the problem has no place (a missing file, say).
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// How many characters of the line it covers, at least 1.
    pub length: u32,
}

/// A value with the place it was read from.
#[derive(Clone, Copy, Default)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    /// Two values are equal wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
