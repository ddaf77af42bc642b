//! YAML text to a tree of nodes with places: the first step of reading. It knows YAML and nothing of what the fields mean.
//! [`read()`] never stops at the first problem: after a broken document it goes on with the next one.

mod read;

use std::borrow::Cow;

pub(crate) use self::read::read;
use super::place::Place;

/// How large a file may be, in bytes.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

/// One value in a document.
#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    /// Where it begins. A list or an object covers one character.
    pub(crate) place: Place,
    /// The last line that belongs to it.
    pub(crate) last_line: u32,
    /// What it is.
    pub(crate) data: Data<'t>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Data<'t> {
    /// Text as written, quotes and escapes resolved.
    Scalar {
        /// The text.
        text: Cow<'t, str>,
        /// Written without quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    List(Vec<Node<'t>>),
    /// An object, in the order written. No key is there twice.
    Object(Vec<Entry<'t>>),
}

/// One key of an object with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'t> {
    /// The key.
    pub(crate) key: Cow<'t, str>,
    /// Where the key stands.
    pub(crate) place: Place,
    /// Its value.
    pub(crate) value: Node<'t>,
}

impl Node<'_> {
    /// Whether it is null or empty, which Kubernetes treats as absent.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key, if this is an object that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Data::Object(entries) = &self.data else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }
}
