//! New paths for old: `rewrite.uri` and `rewrite.uriRegexRewrite`. The query is always kept, a fragment never sent on. No
//! slashes are repaired: Envoy does not either.

use regex::bytes::{Captures, Regex, RegexBuilder};

/// The part of a request's path that a match block matched, which is what a rewrite replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// So many bytes from the start.
    Prefix(usize),
    /// All of it.
    Whole,
}

/// How the path of a request is changed before it goes upstream.
#[derive(Clone, Debug)]
pub(super) enum PathRewrite {
    /// `uri`: takes the place of what matched.
    Replace(Box<str>),
    /// `uriRegexRewrite`: every occurrence is replaced.
    Regex(Box<(Regex, Substitution)>),
}

/// RE2's rewrite string: text with `\0` to `\9`.
#[derive(Clone, Debug)]
pub(super) struct Substitution(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
}

impl PathRewrite {
    /// A regular expression with its substitution; none if it is no regular expression.
    pub(super) fn regex(pattern: &str, substitution: &str) -> Option<Self> {
        // ASCII classes, as in RE2; the bound is the same as for match conditions.
        let regex = RegexBuilder::new(pattern).unicode(false).size_limit(1 << 20).build().ok()?;
        Some(Self::Regex(Box::new((regex, Substitution::new(substitution)))))
    }

    /// The new path and query, or none if they are as they were. Allocates only if they change.
    pub(super) fn apply(&self, path_and_query: &str, matched: Matched) -> Option<String> {
        let (path, query) = split(path_and_query);
        match self {
            Self::Replace(new) => replace(path, query, matched, new),
            Self::Regex(rewrite) => {
                let (regex, substitution) = &**rewrite;
                if !regex.is_match(path.as_bytes()) {
                    return None;
                }
                let new = regex.replace_all(path.as_bytes(), |groups: &Captures<'_>| substitution.expand(groups));
                let mut new = String::from_utf8(new.into_owned()).ok()?;
                if new == path {
                    return None;
                }
                new.push_str(query);
                Some(new)
            }
        }
    }
}

/// Puts `new` in place of what matched; none if that changes nothing.
pub(super) fn replace(path: &str, query: &str, matched: Matched, new: &str) -> Option<String> {
    let length = match matched {
        Matched::Prefix(length) => length,
        Matched::Whole => path.len(),
    };
    // A path that the block cannot have matched stays as it is.
    let (old, rest) = path.split_at_checked(length)?;
    if old == new {
        return None;
    }
    Some([new, rest, query].concat())
}

/// Path, and query with its `?`; a fragment belongs to neither.
pub(super) fn split(path_and_query: &str) -> (&str, &str) {
    let whole = path_and_query.split_once('#').map_or(path_and_query, |(whole, _)| whole);
    whole.split_at(whole.find('?').unwrap_or(whole.len()))
}

impl Substitution {
    fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                literal.push(byte);
                continue;
            }
            match bytes.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Group(usize::from(digit - b'0')));
                }
                Some(other) => literal.push(other),
                None => literal.push(b'\\'),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Self(parts)
    }

    fn expand(&self, groups: &Captures<'_>) -> Vec<u8> {
        let mut new = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => new.extend_from_slice(text),
                Part::Group(number) => new.extend_from_slice(groups.get(*number).map_or(b"", |group| group.as_bytes())),
            }
        }
        new
    }
}
