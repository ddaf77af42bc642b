//! From the Host of a request to its virtual host: exact name, then the longest wildcard, then `*`. The cost does not depend
//! on how many hosts there are. Knows nothing about rules.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// The longest name DNS allows. A longer Host can only be answered by `*`.
const LONGEST: usize = 255;

/// Host patterns with a value each; the first value given for a pattern stays.
#[derive(Clone, Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<Box<[u8]>, u32, FixedState>,
    suffixes: HashMap<Box<[u8]>, u32, FixedState>,
    /// Lengths of the suffixes that begin with a dot (`*.example.com`): only tried where the host has a dot.
    after_label: Lengths,
    /// Lengths of the others (`*-canary.example.com`).
    within_label: Lengths,
    any: Option<u32>,
}

/// A pattern in the form in which it is stored.
enum Pattern {
    Exact(Box<[u8]>),
    Suffix(Box<[u8]>),
    Any,
}

impl Pattern {
    fn new(written: &str) -> Self {
        let plain = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(written);
        let plain = without_final_dot(plain).to_ascii_lowercase();
        match plain.strip_prefix('*') {
            Some("") => Self::Any,
            Some(suffix) => Self::Suffix(suffix.as_bytes().into()),
            None => Self::Exact(plain.into_bytes().into()),
        }
    }
}

impl HostIndex {
    /// Whether a pattern (`example.com`, `*.example.com`, `*`, an address) has a value.
    pub(super) fn contains(&self, pattern: &str) -> bool {
        match Pattern::new(pattern) {
            Pattern::Exact(name) => self.exact.contains_key(&name),
            Pattern::Suffix(suffix) => self.suffixes.contains_key(&suffix),
            Pattern::Any => self.any.is_some(),
        }
    }

    /// Gives a pattern its value, unless it has one.
    pub(super) fn insert(&mut self, pattern: &str, value: u32) {
        match Pattern::new(pattern) {
            Pattern::Exact(name) => {
                self.exact.entry(name).or_insert(value);
            }
            Pattern::Suffix(suffix) => {
                let lengths = if suffix[0] == b'.' { &mut self.after_label } else { &mut self.within_label };
                lengths.insert(suffix.len());
                self.suffixes.entry(suffix).or_insert(value);
            }
            Pattern::Any => {
                self.any.get_or_insert(value);
            }
        }
    }

    /// The value of the most specific pattern for an authority as a client sent it, port and all.
    pub(super) fn find(&self, authority: &str) -> Option<u32> {
        let host = host_of(authority);
        if host.is_empty() || host.len() > LONGEST {
            return self.any;
        }
        let mut buffer = [0; LONGEST];
        let host = lower_case(host.as_bytes(), &mut buffer);
        self.exact.get(host).copied().or_else(|| self.longest_suffix(host)).or(self.any)
    }

    /// The pattern that [`find`](Self::find) finds.
    pub(super) fn pattern(&self, authority: &str) -> Option<String> {
        let number = self.find(authority)?;
        let host = host_of(authority).to_ascii_lowercase();
        if self.exact.contains_key(host.as_bytes()) {
            return Some(host);
        }
        let endings = host.char_indices().skip(1).map(|(at, _)| &host[at..]);
        let ending = endings
            .filter(|ending| self.suffixes.get(ending.as_bytes()) == Some(&number))
            .max_by_key(|ending| ending.len());
        Some(format!("*{}", ending.unwrap_or_default()))
    }

    /// Every pattern with its value, in the order of the alphabet.
    pub(super) fn patterns(&self) -> Vec<(String, u32)> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let exact = self.exact.iter().map(|(name, value)| (text(name), *value));
        let suffixes = self.suffixes.iter().map(|(suffix, value)| (format!("*{}", text(suffix)), *value));
        let any = self.any.map(|value| ("*".to_owned(), value));
        let mut all: Vec<_> = exact.chain(suffixes).chain(any).collect();
        all.sort();
        all
    }

    fn longest_suffix(&self, host: &[u8]) -> Option<u32> {
        if self.suffixes.is_empty() {
            return None;
        }
        // From 1: the wildcard stands for at least one character.
        (1..host.len()).find_map(|start| {
            let length = host.len() - start;
            let possible =
                (host[start] == b'.' && self.after_label.contains(length)) || self.within_label.contains(length);
            if possible { self.suffixes.get(&host[start..]).copied() } else { None }
        })
    }
}

/// The host in an authority: without port, without the brackets of an IPv6 address, without a final dot.
fn host_of(authority: &str) -> &str {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    without_final_dot(host)
}

fn without_final_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The host itself if it is lower-case, which nearly every Host is; else a copy in the buffer.
fn lower_case<'a>(host: &'a [u8], buffer: &'a mut [u8; LONGEST]) -> &'a [u8] {
    if !host.iter().any(u8::is_ascii_uppercase) {
        return host;
    }
    let copy = &mut buffer[..host.len()];
    copy.copy_from_slice(host);
    copy.make_ascii_lowercase();
    copy
}

/// A set of lengths up to [`LONGEST`].
#[derive(Clone, Copy, Debug, Default)]
struct Lengths([u64; 4]);

impl Lengths {
    fn insert(&mut self, length: usize) {
        if length <= LONGEST {
            self.0[length / 64] |= 1 << (length % 64);
        }
    }

    fn contains(&self, length: usize) -> bool {
        self.0[length / 64] & (1 << (length % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(patterns: &[&str]) -> HostIndex {
        let mut index = HostIndex::default();
        for (value, pattern) in patterns.iter().enumerate() {
            index.insert(pattern, value as u32);
        }
        index
    }

    #[test]
    fn exact_beats_the_longest_wildcard_beats_the_shorter_beats_any() {
        let index = index(&["*", "*.example.com", "*.b.example.com", "a.b.example.com"]);
        assert_eq!(index.find("a.b.example.com"), Some(3));
        assert_eq!(index.find("x.y.b.example.com"), Some(2));
        assert_eq!(index.find("b.example.com"), Some(1));
        assert_eq!(index.find("example.com"), Some(0));
        assert_eq!(index.find(""), Some(0));
    }

    #[test]
    fn a_wildcard_stands_for_at_least_one_character() {
        let index = index(&["*.example.com", "*-v2.example.org", "*foo.net"]);
        assert_eq!(index.find("example.com"), None);
        assert_eq!(index.find(".example.com"), None);
        assert_eq!(index.find("a.example.com"), Some(0));
        assert_eq!(index.find("aexample.com"), None);
        assert_eq!(index.find("-v2.example.org"), None);
        assert_eq!(index.find("a-v2.example.org"), Some(1));
        assert_eq!(index.find("a.b-v2.example.org"), Some(1));
        assert_eq!(index.find("foo.net"), None);
        assert_eq!(index.find("a.foo.net"), Some(2));
        assert_eq!(index.find("xfoo.net"), Some(2));
    }

    #[test]
    fn the_longer_suffix_wins_whether_or_not_it_begins_a_label() {
        let index = index(&["*.example.com", "*a.example.com", "*.aa.example.com"]);
        assert_eq!(index.find("ba.example.com"), Some(1));
        assert_eq!(index.find("x.aa.example.com"), Some(2));
        assert_eq!(index.find("bb.example.com"), Some(0));
    }

    #[test]
    fn ports_case_and_the_final_dot_do_not_matter() {
        let index = index(&["Example.COM", "*.Example.org."]);
        for host in
            ["example.com", "EXAMPLE.com:80", "example.com:12345", "example.com.", "example.com.:80", "example.com:"]
        {
            assert_eq!(index.find(host), Some(0), "{host}");
        }
        assert_eq!(index.find("A.example.ORG:1"), Some(1));
        assert_eq!(index.find("example.co"), None);
        assert_eq!(index.find("example.com.."), None);
    }

    #[test]
    fn addresses_are_hosts_too() {
        let index = index(&["::1", "[fe80::A]", "10.0.0.1"]);
        assert_eq!(index.find("[::1]:8080"), Some(0));
        assert_eq!(index.find("[::1]"), Some(0));
        assert_eq!(index.find("[FE80::a]:80"), Some(1));
        assert_eq!(index.find("10.0.0.1:80"), Some(2));
        assert_eq!(index.find("[::2]"), None);
        assert_eq!(index.find("[::1"), None);
    }

    #[test]
    fn what_was_found_can_be_named() {
        let index = index(&["a.x", "*.x", "*a.x", "*"]);
        for (host, wanted) in [("A.x:80", "a.x"), ("b.x", "*.x"), ("b.a.x", "*a.x"), ("b", "*"), ("", "*")] {
            assert_eq!(index.pattern(host).as_deref(), Some(wanted), "{host}");
        }
        let names: Vec<_> = index.patterns().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["*", "*.x", "*a.x", "a.x"]);
        assert_eq!(HostIndex::default().pattern("a"), None);
    }

    #[test]
    fn the_first_value_of_a_pattern_stays() {
        let mut index = index(&["a", "*.a", "*"]);
        assert!(index.contains("A.") && index.contains("*.a") && index.contains("*") && !index.contains("b"));
        for pattern in ["a", "*.a", "*"] {
            index.insert(pattern, 9);
        }
        assert_eq!((index.find("a"), index.find("x.a"), index.find("x")), (Some(0), Some(1), Some(2)));
    }

    #[test]
    fn a_host_longer_than_any_name_is_answered_by_any_only() {
        let long = "a".repeat(LONGEST) + ".example.com";
        assert_eq!(index(&["*.example.com"]).find(&long), None);
        assert_eq!(index(&["*.example.com", "*"]).find(&long), Some(1));
        assert_eq!(index(&[long.as_str(), &format!("*{long}")]).find(&long), None);
    }
}
