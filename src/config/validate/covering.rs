//! Whether the requests that one match block takes are all among those of another: each condition of the wider block follows
//! from one of the narrower block's. What is not provable so (two regexes, say) is not claimed.

use std::collections::HashMap;

use crate::config::place::Spanned;
use crate::config::resource::virtual_service::HttpMatch;
use crate::config::value::StringMatch;

/// How many earlier blocks of one path a block is compared with: what a rule list needs to say, and a bound on the time.
const COMPARED: usize = 64;

type Conditions = Vec<(Spanned<String>, Option<Spanned<StringMatch>>)>;

/// An earlier block that covers one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covering {
    /// The number that its rule was added with.
    pub(super) rule: usize,
    /// Whether the two say the same.
    pub(super) exactly: bool,
}

/// The blocks so far, by the path that they ask for.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    by_path: HashMap<Path<'a>, Vec<(usize, &'a HttpMatch)>>,
    same: HashMap<String, usize>,
}

/// What a block asks of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Path<'a> {
    Any,
    Exact(&'a str),
    Prefix(&'a str),
    Regex(&'a str),
}

impl<'a> Path<'a> {
    fn of(block: &'a HttpMatch) -> Self {
        match block.uri.as_ref().map(|uri| &uri.value) {
            None | Some(StringMatch::Present) => Self::Any,
            Some(StringMatch::Prefix(prefix)) if prefix.is_empty() || prefix == "/" => Self::Any,
            Some(StringMatch::Regex(regex)) if regex.text == ".*" || regex.text == "/.*" => Self::Any,
            Some(StringMatch::Exact(path)) => Self::Exact(path),
            Some(StringMatch::Prefix(prefix)) => Self::Prefix(prefix),
            Some(StringMatch::Regex(regex)) => Self::Regex(&regex.text),
        }
    }

    /// The paths of earlier blocks that take every path that this one takes.
    fn wider(self) -> impl Iterator<Item = Self> {
        let text = match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Any | Self::Regex(_) => "",
        };
        let prefixes = text.char_indices().map(move |(at, letter)| Self::Prefix(&text[..at + letter.len_utf8()]));
        let same = matches!(self, Self::Exact(_) | Self::Regex(_)).then_some(self);
        [Self::Any].into_iter().chain(prefixes).chain(same)
    }
}

impl<'a> Seen<'a> {
    /// Adds a block of a rule.
    pub(super) fn add(&mut self, block: &'a HttpMatch, rule: usize) {
        self.same.entry(fingerprint(block)).or_insert(rule);
        self.by_path.entry(Path::of(block)).or_default().push((rule, block));
    }

    /// The block so far that takes everything which this one would.
    pub(super) fn covering(&self, block: &HttpMatch) -> Option<Covering> {
        if self.by_path.is_empty() {
            return None;
        }
        if let Some(rule) = self.same.get(&fingerprint(block)) {
            return Some(Covering { rule: *rule, exactly: true });
        }
        let candidates = Path::of(block).wider().filter_map(|path| self.by_path.get(&path));
        let found =
            candidates.flat_map(|blocks| blocks.iter().take(COMPARED)).find(|(_, earlier)| covers(earlier, block));
        found.map(|(rule, _)| Covering { rule: *rule, exactly: false })
    }
}

/// Text that two blocks share only if they match the same requests. Names of blocks do not count.
fn fingerprint(block: &HttpMatch) -> String {
    let mut text = String::with_capacity(64);
    for part in [&block.uri, &block.scheme, &block.method, &block.authority] {
        put(&mut text, part.as_ref());
    }
    for (sign, conditions) in [('h', &block.headers), ('w', &block.without_headers), ('q', &block.query_params)] {
        let mut sorted: Vec<_> = conditions.iter().collect();
        sorted.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in sorted {
            text.push(sign);
            text.push_str(name);
            text.push('\0');
            put(&mut text, value.as_ref());
        }
    }
    text.push(if block.ignore_uri_case.as_ref().is_some_and(|ignore| ignore.value) { 'i' } else { 'c' });
    if let Some(port) = &block.port {
        text.push_str(&port.value.to_string());
    }
    for gateway in &block.gateways {
        text.push('g');
        text.push_str(gateway);
    }
    for (key, value) in &block.source_labels {
        text.extend(["l", key.as_str(), "=", value.as_str()]);
    }
    if let Some(namespace) = &block.source_namespace {
        text.push('n');
        text.push_str(namespace);
    }
    text
}

fn put(text: &mut String, value: Option<&Spanned<StringMatch>>) {
    let (sign, written) = match value.map(|value| &value.value) {
        None => ("-", ""),
        Some(StringMatch::Exact(exact)) => ("=", exact.as_str()),
        Some(StringMatch::Prefix(prefix)) => ("^", prefix.as_str()),
        Some(StringMatch::Regex(regex)) => ("~", regex.text.as_str()),
        Some(StringMatch::Present) => ("*", ""),
    };
    text.extend([sign, written, "\0"]);
}

/// Whether a block takes every request of every client.
pub(super) fn takes_everything(block: &HttpMatch) -> bool {
    matches!(Path::of(block), Path::Any)
        && block.scheme.is_none()
        && block.method.is_none()
        && block.authority.is_none()
        && block.headers.is_empty()
        && block.without_headers.is_empty()
        && block.query_params.is_empty()
        && everywhere(block)
}

/// Whether a block holds on every listener and for every client.
fn everywhere(block: &HttpMatch) -> bool {
    block.port.as_ref().is_none_or(|port| port.value == 0)
        && block.gateways.is_empty()
        && block.source_labels.is_empty()
        && block.source_namespace.is_none()
}

/// Whether every request that `narrow` matches is one that `wide` matches.
fn covers(wide: &HttpMatch, narrow: &HttpMatch) -> bool {
    let case = |block: &HttpMatch| block.ignore_uri_case.as_ref().is_some_and(|ignore| ignore.value);
    // The path follows from where the blocks were found, as long as both compare it in the same way.
    (matches!(Path::of(wide), Path::Any) || case(wide) == case(narrow))
        && follows(wide.scheme.as_ref(), narrow.scheme.as_ref())
        && follows(wide.method.as_ref(), narrow.method.as_ref())
        && follows(wide.authority.as_ref(), narrow.authority.as_ref())
        && all_follow(&wide.headers, &narrow.headers, true)
        && all_follow(&wide.query_params, &narrow.query_params, false)
        && absent_follow(&wide.without_headers, &narrow.without_headers)
        && (everywhere(wide) || same_place(wide, narrow))
}

fn same_place(wide: &HttpMatch, narrow: &HttpMatch) -> bool {
    let port = |block: &HttpMatch| block.port.as_ref().map_or(0, |port| port.value);
    (port(wide) == 0 || port(wide) == port(narrow))
        && wide.gateways == narrow.gateways
        && wide.source_labels == narrow.source_labels
        && wide.source_namespace == narrow.source_namespace
}

/// Whether a condition holds wherever another one holds.
fn follows(wide: Option<&Spanned<StringMatch>>, narrow: Option<&Spanned<StringMatch>>) -> bool {
    let Some(wide) = wide else { return true };
    let Some(narrow) = narrow else { return false };
    match (&wide.value, &narrow.value) {
        (StringMatch::Present, _) => true,
        (StringMatch::Regex(wide), StringMatch::Regex(narrow)) => wide.text == narrow.text || wide.text == ".*",
        (StringMatch::Regex(wide), StringMatch::Exact(text)) => {
            wide.regex.as_ref().is_ok_and(|regex| regex.is_match(text.as_bytes()))
        }
        (StringMatch::Regex(wide), _) => wide.text == ".*",
        (StringMatch::Exact(wide), StringMatch::Exact(narrow)) => wide == narrow,
        (StringMatch::Prefix(wide), StringMatch::Exact(text) | StringMatch::Prefix(text)) => {
            text.starts_with(wide.as_str())
        }
        _ => false,
    }
}

fn same_name(one: &str, other: &str, ignore_case: bool) -> bool {
    if ignore_case { one.eq_ignore_ascii_case(other) } else { one == other }
}

/// Whether each condition of `wide` follows from one of `narrow` on the same name.
fn all_follow(wide: &Conditions, narrow: &Conditions, ignore_case: bool) -> bool {
    let present = Spanned::new(StringMatch::Present, crate::config::place::Place::default());
    wide.iter().all(|(name, wanted)| {
        narrow.iter().filter(|(own, _)| same_name(own, name, ignore_case)).any(|(_, given)| {
            follows(Some(wanted.as_ref().unwrap_or(&present)), Some(given.as_ref().unwrap_or(&present)))
        })
    })
}

/// Whether each header that `wide` wants absent, in one way or another, `narrow` wants absent in the same way.
fn absent_follow(wide: &Conditions, narrow: &Conditions) -> bool {
    let text = |value: &Option<Spanned<StringMatch>>| {
        let mut text = String::new();
        put(&mut text, value.as_ref());
        text
    };
    wide.iter().all(|(name, wanted)| {
        narrow.iter().any(|(own, given)| own.eq_ignore_ascii_case(name) && text(wanted) == text(given))
    })
}
