//! Header operations, made ready at compile time: names and values are built once, their order is Envoy's. Does not know what
//! a message is for, nor which headers belong to the connection.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::template::{Answered, Facts, Kept, Template, Values};
use crate::config::names;
use crate::config::resource::virtual_service::HeaderOperations;
use crate::config::value::StringMap;

/// What is done to the headers of a message, in this order.
#[derive(Clone, Debug, Default)]
pub struct HeaderOps(Box<[Block]>);

/// Operations that do not see each other's results, except that what is removed is gone for the others.
#[derive(Clone, Debug, Default)]
struct Block {
    remove: Box<[HeaderName]>,
    change: Box<[Change]>,
    /// Whether any value has variables.
    variables: bool,
}

#[derive(Clone, Debug)]
struct Change {
    name: HeaderName,
    value: Value,
    /// Whether it takes the place of what is there.
    overwrite: bool,
}

#[derive(Clone, Debug)]
enum Value {
    Fixed(HeaderValue),
    Variable(Template),
}

impl fmt::Display for HeaderOps {
    /// `remove x-a, set x-b: 1, add x-c: 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        for block in &self.0 {
            words.extend(block.remove.iter().map(|name| format!("remove {name}")));
            words.extend(block.change.iter().map(|change| {
                let value = match &change.value {
                    Value::Fixed(value) => String::from_utf8_lossy(value.as_bytes()),
                    Value::Variable(template) => template.written().into(),
                };
                format!("{} {}: {value}", if change.overwrite { "set" } else { "add" }, change.name)
            }));
        }
        f.write_str(&words.join(", "))
    }
}

impl HeaderOps {
    /// One block of operations made from several: everything is removed first, then set, then added, and inside each of these
    /// in the order of the blocks. This is what Istio makes of a rule with one destination.
    pub(super) fn together(blocks: &[Option<&HeaderOperations>]) -> Self {
        Self(Block::new(blocks).into_iter().collect())
    }

    /// One block after the other. This is what Envoy does for a rule with several destinations: first the destination's
    /// block, then the rule's, which therefore wins.
    pub(super) fn in_turn(blocks: &[Option<&HeaderOperations>]) -> Self {
        Self(blocks.iter().filter_map(|block| Block::new(&[*block])).collect())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes the headers of a request. `facts` is asked only if a value has variables.
    pub fn apply_to_request<'f>(&self, headers: &mut HeaderMap, facts: impl FnOnce() -> Facts<'f>) {
        if self.has_variables() {
            self.apply(headers, &mut Some(Values::Request(facts())));
        } else {
            self.apply(headers, &mut None);
        }
    }

    /// What an answer will have to know of its request, which has these headers; none if nothing. `facts` is asked only then.
    pub fn keep<'f>(&self, headers: &HeaderMap, facts: impl FnOnce() -> Facts<'f>) -> Option<Box<Kept>> {
        if !self.has_variables() {
            return None;
        }
        let (mut kept, facts) = (Kept::default(), facts());
        for change in self.0.iter().flat_map(|block| &block.change) {
            if let Value::Variable(template) = &change.value {
                template.keep(headers, &facts, &mut kept);
            }
        }
        Some(Box::new(kept))
    }

    /// Changes the headers of an answer. `kept` is what [`keep`](Self::keep) gave for its request.
    pub fn apply_to_response(&self, headers: &mut HeaderMap, kept: Option<&Kept>, answered: Answered<'_>) {
        self.apply(headers, &mut kept.map(|kept| Values::Answer(kept.values(), answered)));
    }

    fn has_variables(&self) -> bool {
        self.0.iter().any(|block| block.variables)
    }

    fn apply(&self, headers: &mut HeaderMap, values: &mut Option<Values<'_>>) {
        for block in &self.0 {
            for name in &block.remove {
                headers.remove(name);
            }
            let mut made = match values {
                Some(values) if block.variables => block.fill(headers, values),
                _ => Vec::new(),
            }
            .into_iter();
            for change in &block.change {
                let value = match &change.value {
                    Value::Fixed(value) => Some(value.clone()),
                    Value::Variable(_) => made.next().flatten(),
                };
                match value {
                    Some(value) if change.overwrite => drop(headers.insert(&change.name, value)),
                    Some(value) => drop(headers.append(&change.name, value)),
                    None => {}
                }
            }
        }
    }
}

impl Block {
    /// None if it does nothing.
    fn new(written: &[Option<&HeaderOperations>]) -> Option<Self> {
        let written: Vec<_> = written.iter().flatten().collect();
        let remove: Box<[_]> =
            written.iter().flat_map(|block| &block.remove).filter_map(|name| header_name(name)).collect();
        let set = written.iter().flat_map(|block| changes(&block.set, true));
        let add = written.iter().flat_map(|block| changes(&block.add, false));
        let change: Box<[_]> = set.chain(add).collect();
        let variables = change.iter().any(|change| matches!(change.value, Value::Variable(_)));
        (!remove.is_empty() || !change.is_empty()).then_some(Self { remove, change, variables })
    }

    /// The values with variables, all of them before anything is changed.
    fn fill(&self, headers: &HeaderMap, values: &mut Values<'_>) -> Vec<Option<HeaderValue>> {
        let templates = self.change.iter().filter_map(|change| match &change.value {
            Value::Variable(template) => Some(template),
            Value::Fixed(_) => None,
        });
        templates.map(|template| template.fill(headers, values)).collect()
    }
}

/// The Host that a block gives to a request: `set` before `add`.
pub(super) fn host(block: Option<&HeaderOperations>) -> Option<HeaderValue> {
    let block = block?;
    let last = |map: &StringMap| {
        let found = map.iter().rev().find(|(name, value)| is_authority(name) && !value.is_empty());
        found.and_then(|(_, value)| HeaderValue::from_bytes(value.as_bytes()).ok())
    };
    last(&block.set).or_else(|| last(&block.add))
}

/// The pairs that do something: an empty value does nothing, and the authority is not changed by header operations.
fn changes(map: &StringMap, overwrite: bool) -> impl Iterator<Item = Change> {
    // Istio's order: maps have none of their own.
    let mut sorted: Vec<_> = map.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.value.cmp(&right.value));
    sorted.into_iter().filter(|(_, value)| !value.is_empty()).filter_map(move |(name, value)| {
        let value = match Template::new(value) {
            Some(template) => Value::Variable(template),
            None => Value::Fixed(HeaderValue::from_bytes(value.replace("%%", "%").as_bytes()).ok()?),
        };
        Some(Change { name: header_name(name)?, value, overwrite })
    })
}

/// None for what is no name, and for what is not changed by header operations: the authority, and the fields that say where a body
/// ends. A length that is not the body's would let a part of it pass for the next message.
fn header_name(name: &str) -> Option<HeaderName> {
    if is_authority(name) || names::frames_a_body(name) { None } else { HeaderName::from_bytes(name.as_bytes()).ok() }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::operations;

    fn applied(ops: &HeaderOps, headers: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        ops.apply_to_request(&mut map, || panic!("there are no variables"));
        map.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
        wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_block_removes_then_sets_then_adds() {
        let block = operations(&[("X-A", "s")], &[("x-a", "d"), ("x-b", "n")], &["x-A", "x-c"]);
        let ops = HeaderOps::together(&[Some(&block)]);
        let got = applied(&ops, &[("x-a", "1"), ("x-a", "2"), ("x-c", "1"), ("x-c", "2"), ("x-d", "k")]);
        assert_eq!(got, pairs(&[("x-d", "k"), ("x-a", "s"), ("x-a", "d"), ("x-b", "n")]));
    }

    #[test]
    fn together_the_later_block_wins_but_nothing_added_is_removed() {
        let rule = operations(&[("x-a", "rule")], &[("x-b", "rule")], &["x-c"]);
        let destination = operations(&[("x-a", "destination")], &[("x-b", "destination")], &["x-a", "x-b"]);
        let ops = HeaderOps::together(&[Some(&rule), None, Some(&destination)]);
        let got = applied(&ops, &[("x-a", "1"), ("x-b", "1"), ("x-c", "1")]);
        assert_eq!(got, pairs(&[("x-a", "destination"), ("x-b", "rule"), ("x-b", "destination")]));
    }

    #[test]
    fn in_turn_the_later_block_undoes_the_earlier() {
        let destination = operations(&[("x-a", "destination")], &[("x-b", "destination")], &[]);
        let rule = operations(&[("x-a", "rule")], &[], &["x-b"]);
        let ops = HeaderOps::in_turn(&[Some(&destination), Some(&rule)]);
        assert_eq!(applied(&ops, &[]), pairs(&[("x-a", "rule")]));
    }

    #[test]
    fn empty_values_and_the_authority_are_left_alone() {
        let block =
            operations(&[("x-a", ""), ("Host", "h"), (":authority", "h")], &[("x-a", "")], &["host", ":authority"]);
        let ops = HeaderOps::together(&[Some(&block)]);
        assert!(ops.is_empty());
        assert_eq!(applied(&ops, &[("x-a", "1"), ("host", "b")]), pairs(&[("x-a", "1"), ("host", "b")]));
    }

    #[test]
    fn the_end_of_a_body_is_left_alone() {
        let block = operations(
            &[("Content-Length", "5"), ("x-a", "1")],
            &[("transfer-encoding", "chunked")],
            &["content-length", "Transfer-Encoding"],
        );
        let ops = HeaderOps::together(&[Some(&block)]);
        assert_eq!(applied(&ops, &[("content-length", "3")]), pairs(&[("content-length", "3"), ("x-a", "1")]));
    }

    #[test]
    fn a_doubled_percent_sign_is_one() {
        let ops = HeaderOps::together(&[Some(&operations(&[("x-a", "100%% or 50%%%%")], &[], &[]))]);
        assert_eq!(applied(&ops, &[]), pairs(&[("x-a", "100% or 50%%")]));
    }

    #[test]
    fn variables_see_what_is_left_after_removals_and_nothing_that_is_set() {
        let block = operations(
            &[("x-a", "new"), ("x-b", "%REQ(x-a)%"), ("x-c", "%REQ(x-c)%")],
            &[("x-b", "%REQ(x-gone)%"), ("x-b", "<%REQ(x-b)%>")],
            &["x-gone"],
        );
        let before = [("x-a", "old"), ("x-b", "b"), ("x-gone", "g"), ("x-c", "c")];
        let mut map: HeaderMap = before
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let facts = || Facts {
            method: "GET",
            scheme: "http",
            authority: None,
            path: "/",
            protocol: "HTTP/1.1",
            peer: ([127, 0, 0, 1], 1).into(),
            port: 80,
            started: std::time::SystemTime::UNIX_EPOCH,
        };
        HeaderOps::together(&[Some(&block)]).apply_to_request(&mut map, facts);
        let got: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(got, [("x-a", "new"), ("x-b", "old"), ("x-b", "<b>"), ("x-c", "c")]);
        let first = operations(&[("x-b", "1")], &[], &[]);
        let second = operations(&[("x-a", "%REQ(x-b)%"), ("x-d", "%RESPONSE_CODE%")], &[], &[]);
        let ops = HeaderOps::in_turn(&[Some(&first), Some(&second)]);
        ops.apply_to_request(&mut map, facts);
        assert_eq!((map["x-a"].to_str().unwrap(), map.get("x-d")), ("1", None), "the later block sees the earlier");
        let kept = ops.keep(&map, facts).unwrap();
        let mut answer = HeaderMap::new();
        ops.apply_to_response(&mut answer, Some(&kept), Answered { status: 404, upstream: None });
        assert_eq!((&answer["x-a"], &answer["x-d"]), (&HeaderValue::from(1), &HeaderValue::from(404)));
        assert!(HeaderOps::together(&[Some(&first)]).keep(&map, facts).is_none());
    }

    #[test]
    fn names_and_values_that_are_none_do_nothing() {
        let block = operations(&[("x a", "1"), ("x-b", "a\nb"), (":path", "/")], &[], &["", ":path"]);
        assert!(HeaderOps::together(&[Some(&block)]).is_empty());
    }

    #[test]
    fn the_host_is_set_rather_than_added() {
        assert_eq!(host(None), None);
        assert_eq!(host(Some(&operations(&[("Host", "")], &[], &[]))), None);
        assert_eq!(host(Some(&operations(&[], &[("hOst", "added")], &[]))).unwrap(), "added");
        assert_eq!(host(Some(&operations(&[(":authority", "set")], &[("host", "added")], &[]))).unwrap(), "set");
    }
}
