//! Two tables side by side: hosts and rules that come, go or change.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::explain::percent;
use crate::cli::offline::{Place, retries};
use crate::routing::{Action, RouteTable, Rule, Split, Sticky, Target};

/// Points at which the owners of sticky clients are compared: their moves are exact to a hundredth of a percent.
const POINTS: u64 = 10_000;

/// Something that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// `added`, `removed` or `changed`.
    pub(super) change: &'static str,
    /// `host`, or `rule`.
    pub(super) what: &'static str,
    /// The label of the rule; none for a host.
    pub(super) rule: Option<String>,
    /// The listener's port.
    pub(super) port: u16,
    /// The hosts for which it is so.
    pub(super) hosts: Vec<String>,
    /// In words.
    pub(super) details: Vec<String>,
}

/// A rule of a virtual host.
struct Listed<'t> {
    label: &'t str,
    rule: &'t Rule<Place>,
    /// Its blocks, each in words; an empty one takes everything.
    blocks: Vec<String>,
}

/// The rules of a virtual host in their order, and whether plain requests are redirected.
struct Host<'t> {
    rules: Vec<Listed<'t>>,
    https_redirect: bool,
}

impl Change {
    /// The first line.
    pub(super) fn title(&self) -> String {
        let hosts = self.hosts.join(", ");
        match &self.rule {
            Some(rule) => format!("{} rule `{rule}` of {hosts} (port {})", self.change, self.port),
            None => format!("{} host {hosts} (port {})", self.change, self.port),
        }
    }
}

/// Every change, by port and host; what is the same for several hosts is said once.
pub(super) fn changes(old: &RouteTable<Place>, new: &RouteTable<Place>) -> Vec<Change> {
    let (old, new) = (hosts(old), hosts(new));
    let mut all: Vec<Change> = Vec::new();
    let mut say = |change: Change| {
        let same = |known: &&mut Change| Change { hosts: change.hosts.clone(), ..(*known).clone() } == change;
        match all.iter_mut().find(same) {
            Some(known) => known.hosts.extend(change.hosts),
            None => all.push(change),
        }
    };
    let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (port, host) = key;
        let blank = Change {
            change: "added",
            what: "host",
            rule: None,
            port: *port,
            hosts: vec![host.clone()],
            details: Vec::new(),
        };
        match (old.get(key), new.get(key)) {
            (None, Some(new)) => say(Change { details: new.rules.iter().map(Listed::line).collect(), ..blank }),
            (Some(old), None) => {
                let details = old.rules.iter().map(Listed::line).collect();
                say(Change { change: "removed", details, ..blank });
            }
            (Some(old), Some(new)) => within(old, new, &blank).into_iter().for_each(&mut say),
            (None, None) => {}
        }
    }
    all
}

fn hosts(table: &RouteTable<Place>) -> BTreeMap<(u16, String), Host<'_>> {
    let mut all = BTreeMap::new();
    for port in table.ports() {
        for described in table.listener(port).into_iter().flat_map(|hosts| hosts.describe()) {
            let mut rules: Vec<Listed<'_>> = Vec::new();
            for (route, words) in described.routes {
                let block = words.join(" and ");
                match rules.last_mut().filter(|last| std::ptr::eq(last.rule, &*route.rule)) {
                    Some(last) => last.blocks.push(block),
                    None => rules.push(Listed { label: &route.rule.label, rule: &route.rule, blocks: vec![block] }),
                }
            }
            let host = Host { rules, https_redirect: described.https_redirect };
            all.insert((port, described.host), host);
        }
    }
    all
}

/// The changes of one host.
fn within(old: &Host<'_>, new: &Host<'_>, blank: &Change) -> Vec<Change> {
    let mut found = Vec::new();
    if old.https_redirect != new.https_redirect {
        let detail = if new.https_redirect { "plain requests are sent to https" } else { "plain requests are served" };
        found.push(Change { change: "changed", details: vec![detail.to_owned()], ..blank.clone() });
    }
    let of_rule = |change, label: &str, details| Change {
        change,
        what: "rule",
        rule: Some(label.to_owned()),
        details,
        ..blank.clone()
    };
    let find = |list: &[Listed<'_>], label: &str| list.iter().position(|rule| rule.label == label);
    for rule in old.rules.iter().filter(|rule| find(&new.rules, rule.label).is_none()) {
        found.push(of_rule("removed", rule.label, vec![rule.line()]));
    }
    // Rules that both have, in either order: one that comes earlier than before has moved.
    let kept = |list: &[Listed<'_>], other: &[Listed<'_>]| -> Vec<String> {
        list.iter().filter(|rule| find(other, rule.label).is_some()).map(|rule| rule.label.to_owned()).collect()
    };
    let (before, after) = (kept(&old.rules, &new.rules), kept(&new.rules, &old.rules));
    for (number, rule) in new.rules.iter().enumerate() {
        let Some(earlier) = find(&old.rules, rule.label) else {
            let mut details = vec![rule.line()];
            details.extend(new.rules.get(number + 1).map(|next| format!("before `{}`", next.label)));
            found.push(of_rule("added", rule.label, details));
            continue;
        };
        let mut details = rule.compared(&old.rules[earlier]);
        let place = |list: &[String]| list.iter().position(|label| label == rule.label);
        if place(&after) < place(&before) {
            details.extend(new.rules.get(number + 1).map(|next| format!("now before `{}`", next.label)));
        }
        if !details.is_empty() {
            found.push(of_rule("changed", rule.label, details));
        }
    }
    found
}

impl Listed<'_> {
    /// What it takes and does, in one line.
    fn line(&self) -> String {
        format!("{} → {}", matched(&self.blocks), action(&self.rule.action))
    }

    /// What is different from what it was.
    fn compared(&self, old: &Self) -> Vec<String> {
        let mut details = Vec::new();
        if self.blocks != old.blocks {
            details.push(format!("matches {}, before: {}", matched(&self.blocks), matched(&old.blocks)));
        }
        match (&old.rule.action, &self.rule.action) {
            (Action::Forward(before), Action::Forward(after)) => shares(before, after, &mut details),
            (before, after) if action(before) != action(after) => {
                details.push(format!("{}, before: {}", action(after), action(before)));
            }
            _ => {}
        }
        stickiness(old.rule, self.rule, &mut details);
        let (old, new) = (old.rule, self.rule);
        for (what, before, after) in [
            ("timeout", timeout(old), timeout(new)),
            ("retries", retries(&old.retry), retries(&new.retry)),
            ("path rewritten to", old.rewrite(), new.rewrite()),
            ("headers", headers(old), headers(new)),
            ("mirrors", mirrors(old), mirrors(new)),
            ("fault", fault(old), fault(new)),
        ] {
            if before != after {
                let shown = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
                details.push(format!("{what} {} → {}", shown(before), shown(after)));
            }
        }
        if cors(old) != cors(new) {
            details.push("another CORS policy".to_owned());
        }
        details
    }
}

fn matched(blocks: &[String]) -> String {
    let words = |block: &String| if block.is_empty() { "everything".to_owned() } else { block.clone() };
    blocks.iter().map(words).collect::<Vec<_>>().join(" or ")
}

fn action(action: &Action<Place>) -> String {
    match action {
        Action::Forward(split) => {
            let shares =
                split.entries().iter().map(|entry| format!("{} {} %", entry.value.to.name(), percent(entry.share)));
            shares.collect::<Vec<_>>().join(", ")
        }
        Action::Redirect(redirect) => format!("redirect {redirect}"),
        Action::Respond(answer) => format!("answer {} ({} bytes)", answer.status.as_u16(), answer.body.len()),
    }
}

/// The share of each destination by name, in the order of the list.
fn by_name(split: &Split<Target<Place>>) -> Vec<(String, f64)> {
    let mut all: Vec<(String, f64)> = Vec::new();
    for entry in split.entries() {
        let name = entry.value.to.name();
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, share)) => *share += entry.share,
            None => all.push((name, entry.share)),
        }
    }
    all
}

fn shares(old: &Split<Target<Place>>, new: &Split<Target<Place>>, details: &mut Vec<String>) {
    let (before, after) = (by_name(old), by_name(new));
    let share =
        |list: &[(String, f64)], name: &str| list.iter().find(|(known, _)| known == name).map(|(_, share)| *share);
    let gone = before.iter().filter(|(name, _)| share(&after, name).is_none());
    for (name, _) in after.iter().chain(gone) {
        let (was, is) = (share(&before, name), share(&after, name));
        let shown =
            |share: Option<f64>| share.map_or_else(|| "none".to_owned(), |share| format!("{} %", percent(share)));
        // The same share may come from other weights.
        if shown(was) != shown(is) {
            details.push(format!("{name} {} → {}", shown(was), shown(is)));
        }
    }
}

fn stickiness(old: &Rule<Place>, new: &Rule<Place>, details: &mut Vec<String>) {
    let (before, after) = match (&old.sticky, &new.sticky) {
        (None, None) => return,
        (Some(before), None) => {
            return details.push(format!("clients are no longer kept by {before}: each request is drawn anew"));
        }
        (None, Some(after)) => return details.push(format!("clients are kept on their version by {after}")),
        (Some(before), Some(after)) => (before, after),
    };
    if before.to_string() != after.to_string() {
        details.push(format!("clients are kept by {after}, before: {before}; any of them may move"));
        return;
    }
    let moves = moves((before, &old.action), (after, &new.action));
    let shares_differ = matches!((&old.action, &new.action), (Action::Forward(old), Action::Forward(new)) if by_name(old) != by_name(new));
    if moves.is_empty() && shares_differ {
        details.push("no sticky client moves".to_owned());
    }
    let total: u64 = moves.values().sum();
    for ((from, to), points) in &moves {
        let share = percent(*points as f64 / POINTS as f64);
        details.push(format!("sticky clients: {share} % of all move from {from} to {to}"));
    }
    if total > 0 {
        details.push("nobody else moves".to_owned());
    }
}

/// How many of all points go from whom to whom.
fn moves(
    (before, old): (&Sticky, &Action<Place>),
    (after, new): (&Sticky, &Action<Place>),
) -> BTreeMap<(String, String), u64> {
    let mut moves = BTreeMap::new();
    let (Action::Forward(old), Action::Forward(new)) = (old, new) else { return moves };
    let names = |split: &Split<Target<Place>>| -> Vec<String> {
        split.entries().iter().map(|entry| entry.value.to.name()).collect()
    };
    let (old, new) = (names(old), names(new));
    let step = u64::MAX / POINTS;
    for number in 0..POINTS {
        let point = number * step + step / 2;
        let (from, to) = (&old[before.at(point)], &new[after.at(point)]);
        if from != to {
            *moves.entry((from.clone(), to.clone())).or_default() += 1;
        }
    }
    moves
}

fn timeout(rule: &Rule<Place>) -> Option<String> {
    rule.timeout.map(|timeout| format!("{timeout:?}"))
}

fn fault(rule: &Rule<Place>) -> Option<String> {
    Some(rule.filters.as_ref()?.fault.as_ref()?.to_string())
}

/// A text that is the same only for the same policy.
fn cors(rule: &Rule<Place>) -> Option<String> {
    rule.filters.as_ref()?.cors.as_ref().map(|cors| format!("{cors:?}"))
}

/// Who gets copies, in words; none if nobody does.
fn mirrors(rule: &Rule<Place>) -> Option<String> {
    let mirrors = &rule.filters.as_ref()?.mirrors;
    let words = mirrors.iter().map(|mirror| format!("{} {} %", mirror.to.name(), percent(mirror.chance.share())));
    Some(words.collect::<Vec<_>>().join(", ")).filter(|words| !words.is_empty())
}

/// Operations on headers in words; none if there are none.
fn headers(rule: &Rule<Place>) -> Option<String> {
    let mut words = Vec::new();
    if let Action::Forward(split) = &rule.action {
        for entry in split.entries() {
            let target = &entry.value;
            let host = target.host.as_ref().map(|host| format!("Host: {}", String::from_utf8_lossy(host.as_bytes())));
            let request = (!target.request_headers.is_empty()).then(|| target.request_headers.to_string());
            let response =
                (!target.response_headers.is_empty()).then(|| format!("in answers {}", target.response_headers));
            words.push([host, request, response].into_iter().flatten().collect::<Vec<_>>().join(", "));
        }
    } else if !rule.response_headers.is_empty() {
        words.push(rule.response_headers.to_string());
    }
    words.dedup();
    let words = words.join("; ");
    (!words.is_empty()).then_some(words)
}
