//! Header operations, made ready at compile time: names and values are built once, their order is Envoy's. Does not know what
//! a message is for, nor which headers belong to the connection.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::resource::virtual_service::HeaderOperations;
use crate::config::value::StringMap;

/// What is done to the headers of a message, in this order.
#[derive(Clone, Debug, Default)]
pub struct HeaderOps(Box<[Operation]>);

#[derive(Clone, Debug)]
enum Operation {
    Remove(HeaderName),
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
}

impl HeaderOps {
    /// One block of operations made from several: everything is removed first, then set, then added, and inside each of these
    /// in the order of the blocks. This is what Istio makes of a rule with one destination.
    pub(super) fn together(blocks: &[Option<&HeaderOperations>]) -> Self {
        let mut operations = Vec::new();
        append_block(&mut operations, blocks);
        Self(operations.into())
    }

    /// One block after the other. This is what Envoy does for a rule with several destinations: first the destination's
    /// block, then the rule's, which therefore wins.
    pub(super) fn in_turn(blocks: &[Option<&HeaderOperations>]) -> Self {
        let mut operations = Vec::new();
        for block in blocks {
            append_block(&mut operations, &[*block]);
        }
        Self(operations.into())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes the headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for operation in &self.0 {
            match operation {
                Operation::Remove(name) => {
                    headers.remove(name);
                }
                Operation::Set(name, value) => {
                    headers.insert(name, value.clone());
                }
                Operation::Add(name, value) => {
                    headers.append(name, value.clone());
                }
            }
        }
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

fn append_block(operations: &mut Vec<Operation>, blocks: &[Option<&HeaderOperations>]) {
    let blocks: Vec<_> = blocks.iter().flatten().collect();
    for name in blocks.iter().flat_map(|block| &block.remove) {
        operations.extend(header_name(name).map(Operation::Remove));
    }
    for block in &blocks {
        operations.extend(pairs(&block.set).map(|(name, value)| Operation::Set(name, value)));
    }
    for block in &blocks {
        operations.extend(pairs(&block.add).map(|(name, value)| Operation::Add(name, value)));
    }
}

/// The pairs that do something: an empty value does nothing, and the authority is not changed by header operations.
fn pairs(map: &StringMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    // Istio's order: maps have none of their own.
    let mut sorted: Vec<_> = map.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.value.cmp(&right.value));
    sorted.into_iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, value)| {
        let value = HeaderValue::from_bytes(value.replace("%%", "%").as_bytes()).ok()?;
        Some((header_name(name)?, value))
    })
}

fn header_name(name: &str) -> Option<HeaderName> {
    if is_authority(name) { None } else { HeaderName::from_bytes(name.as_bytes()).ok() }
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
        ops.apply(&mut map);
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
    fn a_doubled_percent_sign_is_one() {
        let ops = HeaderOps::together(&[Some(&operations(&[("x-a", "100%% or 50%%%%")], &[], &[]))]);
        assert_eq!(applied(&ops, &[]), pairs(&[("x-a", "100% or 50%%")]));
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
