//! Rules of `http` that no request can reach, because an earlier one takes everything they would match.
//! A block covers a later one if each of its conditions follows from one of the later block's. What is not provable so
//! (two regexes, say) is not said.

use std::collections::HashMap;

use super::report::{Report, dead};
use crate::config::place::Spanned;
use crate::config::resource::virtual_service::{HttpMatch, HttpRoute};
use crate::config::value::StringMatch;

/// How many earlier blocks of one path a block is compared with: what a rule list needs to say, and a bound on the time.
const COMPARED: usize = 64;

type Conditions = Vec<(Spanned<String>, Option<Spanned<StringMatch>>)>;

/// Warns of rules and blocks that are never reached.
pub(super) fn check(report: &mut Report, routes: &[HttpRoute]) {
    if routes.len() < 2 && routes.first().is_none_or(|route| route.matches.len() < 2) {
        return;
    }
    let mut seen = Seen::default();
    let mut catch_all: Option<usize> = None;
    for (index, route) in routes.iter().enumerate() {
        if let Some(earlier) = catch_all {
            let message = format!(
                "{} is never reached: {} takes everything",
                name(route, index),
                name(&routes[earlier], earlier)
            );
            report
                .add(dead(route.place, message).help("move the rule that takes everything to the end").code("IST0130"));
            continue;
        }
        if route.matches.is_empty() {
            catch_all = Some(index);
            continue;
        }
        let mut covered = 0;
        for block in &route.matches {
            if let Some(earlier) = seen.covering(block) {
                covered += 1;
                let who = match earlier.rule {
                    own if own == index => "an earlier match of this rule".to_owned(),
                    other => name(&routes[other], other),
                };
                let (what, help) = match earlier.exactly {
                    true => ("the same requests", "remove one of the two"),
                    false => ("all of its requests", "put the more specific match first"),
                };
                let message = format!("this match never matters: {who} already takes {what}");
                report.add(dead(block.place, message).help(help).code("IST0131"));
            } else {
                seen.add(block, index);
            }
            if catch_all.is_none() && takes_everything(block) {
                catch_all = Some(index);
            }
        }
        if covered == route.matches.len() {
            let message = format!("{} is never reached: earlier rules take all of its matches", name(route, index));
            report.add(dead(route.place, message).code("IST0130"));
        }
    }
}

fn name(route: &HttpRoute, index: usize) -> String {
    match route.name.as_ref().filter(|name| !name.is_empty()) {
        Some(name) => format!("rule `{}`", name.value),
        None => format!("rule {index}"),
    }
}

/// An earlier block that covers one.
struct Covering {
    rule: usize,
    exactly: bool,
}

/// The blocks so far, by the path that they ask for.
#[derive(Default)]
struct Seen<'a> {
    by_path: HashMap<Path<'a>, Vec<(usize, &'a HttpMatch)>>,
    same: HashMap<String, usize>,
}

/// What a block asks of the path.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
    fn add(&mut self, block: &'a HttpMatch, rule: usize) {
        self.same.entry(fingerprint(block)).or_insert(rule);
        self.by_path.entry(Path::of(block)).or_default().push((rule, block));
    }

    fn covering(&self, block: &HttpMatch) -> Option<Covering> {
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

fn takes_everything(block: &HttpMatch) -> bool {
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

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::warnings;

    fn dead(blocks: &[&str]) -> Vec<String> {
        let rules: Vec<_> =
            blocks.iter().map(|block| format!("  - match: [{block}]\n    redirect: {{uri: /x}}")).collect();
        warnings("VirtualService", &format!("  hosts: [a]\n  http:\n{}", rules.join("\n")))
    }

    #[test]
    fn a_wider_condition_before_a_narrower_one_takes_everything() {
        for (wide, narrow) in [
            ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}"),
            ("{uri: {prefix: /a}}", "{uri: {exact: /ab}}"),
            ("{uri: {exact: /a}}", "{name: other, uri: {exact: /a}}"),
            ("{uri: {regex: '/[a-c]'}}", "{uri: {regex: '/[a-c]'}, method: {exact: GET}}"),
            ("{uri: {prefix: /a}}", "{uri: {prefix: /a}, headers: {x: {exact: b}}}"),
            ("{headers: {x: {prefix: b}}}", "{uri: {prefix: /a}, headers: {X: {exact: bc}}}"),
            ("{headers: {x: {}}}", "{headers: {x: {regex: 'a|b'}}}"),
            ("{headers: {x: {regex: 'a|b'}}}", "{headers: {x: {exact: b}, y: {}}}"),
            ("{method: {exact: GET}}", "{uri: {prefix: /a}, method: {exact: GET}}"),
            ("{withoutHeaders: {x: {}}}", "{uri: {prefix: /a}, withoutHeaders: {x: {}}}"),
            ("{queryParams: {q: {exact: a}}}", "{queryParams: {q: {exact: a}, r: {}}}"),
            ("{uri: {prefix: /}, port: 80}", "{uri: {prefix: /a}, port: 80}"),
        ] {
            assert!(dead(&[wide, narrow]).iter().any(|message| message.contains("never reached")), "{wide} {narrow}");
            if !narrow.contains("name: other") {
                assert_eq!(dead(&[narrow, wide]), Vec::<String>::new(), "{narrow} {wide}");
            }
        }
    }

    #[test]
    fn rules_that_can_be_reached_are_left_alone() {
        for (first, second) in [
            ("{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}"),
            ("{uri: {prefix: /a}, method: {exact: GET}}", "{uri: {prefix: /a}}"),
            ("{uri: {prefix: /a}, port: 80}", "{uri: {prefix: /a}, port: 81}"),
            ("{uri: {prefix: /a}, gateways: [mesh]}", "{uri: {prefix: /a}}"),
            ("{uri: {prefix: /A}}", "{uri: {prefix: /a}, ignoreUriCase: true}"),
            ("{queryParams: {Q: {}}}", "{queryParams: {q: {}}}"),
            ("{withoutHeaders: {x: {}}}", "{withoutHeaders: {y: {}}}"),
            ("{headers: {x: {regex: 'a+'}}}", "{headers: {x: {prefix: a}}}"),
        ] {
            assert_eq!(dead(&[first, second]), Vec::<String>::new(), "{first} {second}");
        }
    }

    #[test]
    fn everything_after_a_rule_without_conditions_is_dead() {
        for all in ["{}", "{uri: {prefix: /}}", "{uri: {regex: '.*'}}"] {
            let found = dead(&[all, "{uri: {prefix: /a}}", "{uri: {prefix: /b}}"]);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.iter().all(|message| message.contains("never reached: rule 0 takes everything")));
        }
    }

    #[test]
    fn rules_are_called_by_their_names() {
        let found = warnings(
            "VirtualService",
            "  hosts: [a]\n  http:\n  - name: all\n    redirect: {uri: /x}\n  - name: some\n    match: [{uri: {prefix: /a}}]\n    \
             redirect: {uri: /y}",
        );
        assert_eq!(found, ["rule `some` is never reached: rule `all` takes everything"]);
    }
}
