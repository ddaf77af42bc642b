//! Values for tests, without a place.

use super::place::{Place, Spanned};
use super::value::StringMap;

/// A value.
pub(crate) fn at<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Place::default())
}

/// Text.
pub(crate) fn text(value: &str) -> Spanned<String> {
    at(value.to_owned())
}

/// Text by name.
pub(crate) fn map(pairs: &[(&str, &str)]) -> StringMap {
    pairs.iter().map(|(name, value)| (text(name), text(value))).collect()
}
