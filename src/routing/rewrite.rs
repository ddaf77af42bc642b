//! New paths for old: `rewrite.uri` and `rewrite.uriRegexRewrite`. The query is always kept, a fragment never sent on. No
//! slashes are repaired: Envoy does not either.

use std::fmt;

use regex::bytes::{Captures, Regex};

use crate::config::re2;

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

impl fmt::Display for PathRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replace(new) => f.write_str(new),
            Self::Regex(rewrite) => write!(f, "{} for {}", rewrite.1, rewrite.0),
        }
    }
}

impl fmt::Display for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
            Part::Group(number) => write!(f, "\\{number}"),
        })
    }
}

impl PathRewrite {
    /// A regular expression of RE2 with its substitution; none if it is no regular expression.
    pub(super) fn regex(pattern: &str, substitution: &str) -> Option<Self> {
        let regex = re2::search(pattern).ok()?;
        Some(Self::Regex(Box::new((regex, Substitution::new(substitution)))))
    }

    /// The new path and query, or none if they are as they were. Allocates only if they change.
    pub(super) fn apply(&self, target: &str, matched: Matched) -> Option<String> {
        let (path, query) = path_and_query(target);
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
pub(super) fn path_and_query(target: &str) -> (&str, &str) {
    let whole = target.split_once('#').map_or(target, |(whole, _)| whole);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replaced(matched: Matched, new: &str, path: &str) -> String {
        PathRewrite::Replace(new.into()).apply(path, matched).unwrap_or_else(|| format!("unchanged {path}"))
    }

    fn substituted(pattern: &str, new: &str, path: &str) -> Option<String> {
        PathRewrite::regex(pattern, new).unwrap().apply(path, Matched::Whole)
    }

    #[test]
    fn a_prefix_is_replaced_without_repairing_slashes() {
        let foo = Matched::Prefix("/foo".len());
        for (new, path, wanted) in [
            ("/", "/foo/bar", "//bar"),
            ("/", "/foo", "/"),
            ("/x", "/foobar?a=b", "/xbar?a=b"),
            ("/bar", "/FoO/x", "/bar/x"),
        ] {
            assert_eq!(replaced(foo, new, path), wanted);
        }
        assert_eq!(replaced(Matched::Prefix("/foo/".len()), "/x", "/foo/bar"), "/xbar");
        assert_eq!(replaced(Matched::Prefix(1), "/v1", "/foo"), "/v1foo", "no condition is the prefix /");
        assert_eq!(replaced(Matched::Prefix(0), "/v1", "/foo"), "/v1/foo", "an empty prefix");
    }

    #[test]
    fn an_exact_or_regex_match_gives_up_the_whole_path_and_keeps_the_query() {
        assert_eq!(replaced(Matched::Whole, "/b", "/a/c/d?e=f?g"), "/b?e=f?g");
        assert_eq!(replaced(Matched::Whole, "/b", "/a#part"), "/b");
        assert_eq!(replaced(Matched::Whole, "/b", "/a?key=value#part"), "/b?key=value");
    }

    #[test]
    fn what_changes_nothing_gives_nothing() {
        assert_eq!(replaced(Matched::Prefix(1), "/", "/a?b"), "unchanged /a?b");
        assert_eq!(replaced(Matched::Prefix(9), "/", "/a"), "unchanged /a", "a block that cannot have matched");
        assert_eq!(replaced(Matched::Prefix(2), "/", "/é"), "unchanged /é");
        assert_eq!(substituted("x", "y", "/a?x"), None);
        assert_eq!(substituted("a", "a", "/a?x"), None);
    }

    #[test]
    fn a_regex_replaces_every_occurrence_with_groups() {
        let instance = substituted("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api?q=/service/");
        assert_eq!(instance.as_deref(), Some("/v1/api/instance/foo?q=/service/"));
        assert_eq!(substituted("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb").as_deref(), Some("/aaa/yyy/bbb"));
        assert_eq!(substituted("one", "two", "/one/one").as_deref(), Some("/two/two"));
        assert_eq!(substituted("a(b)?", r"[\0\1\\]", "/ab/a").as_deref(), Some(r"/[abb\]/[a\]"));
        assert_eq!(substituted("a", r"\7\", "/a").as_deref(), Some(r"/\"), "a group that is not there is empty");
        assert_eq!(substituted("x*", "-", "/a").as_deref(), Some("-/-a-"), "empty matches too");
    }

    #[test]
    fn a_regex_that_would_break_a_character_changes_nothing() {
        assert_eq!(substituted("é", "e", "/é/é").as_deref(), Some("/e/e"));
        assert_eq!(substituted(r"\xC3", "x", "/é"), None);
        assert!(PathRewrite::regex("(", "x").is_none());
    }

    #[test]
    fn a_regex_is_one_of_re2() {
        // `\C` is any byte there and unknown to the crate; `\d` is ASCII; `&&` within a class is two characters.
        assert_eq!(substituted(r"^/a\Cb", "/x", "/a.b/c").as_deref(), Some("/x/c"));
        assert_eq!(substituted(r"\d", "x", "/1٣").as_deref(), Some("/x٣"));
        assert_eq!(substituted("[a&&b]", "x", "/a&").as_deref(), Some("/xx"));
    }

    proptest! {
        /// Nothing is decoded or repaired between the match and the endpoint, so that no rule is passed by writing a path differently.
        #[test]
        fn what_is_behind_a_prefix_is_sent_on_as_it_came(
            prefix in "/[a%2f/.]{0,4}",
            rest in "[a-c%0-9A-F/.;\\\\|]{0,12}",
            query in "([?][a-c%=&/?]{0,8})?",
        ) {
            let target = format!("{prefix}{rest}{query}");
            let new = PathRewrite::Replace("/new".into()).apply(&target, Matched::Prefix(prefix.len()));
            prop_assert_eq!(new.unwrap_or(target), format!("/new{rest}{query}"));
        }
    }
}
