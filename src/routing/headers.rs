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
