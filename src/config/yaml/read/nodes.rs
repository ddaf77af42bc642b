//! Events to nodes: what a list or an object holds, what an alias stands for, which of two equal keys counts.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{ScalarStyle, Span, Tag};

use super::{Reader, Stop};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::Place;
use crate::config::yaml::{Data, Entry, Node};

/// How deep lists and objects may be nested.
const MAX_DEPTH: usize = 64;
/// How many aliases a file may have, and how many nodes they may stand for.
const MAX_ALIASES: usize = 1_000;
const MAX_ALIASED_NODES: usize = 200_000;

/// A list or an object that is not finished.
pub(super) struct Open<'t> {
    place: Place,
    anchor: usize,
    /// Nodes in it, those that aliases stand for included.
    size: usize,
    /// Levels below it.
    height: usize,
    held: Held<'t>,
}

pub(super) enum Held<'t> {
    List(Vec<Node<'t>>),
    Object { entries: Vec<Entry<'t>>, merges: Vec<Node<'t>>, key: Option<Key<'t>> },
}

pub(super) enum Key<'t> {
    Named(Cow<'t, str>, Place),
    Merge,
    /// Something that is no name; it has been reported.
    Wrong,
}

pub(super) struct Anchored<'t> {
    node: Node<'t>,
    size: usize,
    height: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn start(
        &mut self,
        span: Span,
        anchor: usize,
        tag: Option<Cow<'t, Tag>>,
        held: Held<'t>,
    ) -> Result<(), Stop> {
        self.count(span)?;
        let place = Place { length: 1, ..self.place(span) };
        if let Some(tag) = tag {
            let wanted = if matches!(held, Held::List(_)) { "seq" } else { "map" };
            if core(&tag) != Some(wanted) {
                self.unknown_tag(&tag, place);
            }
        }
        self.nested(place, 1)?;
        self.open.push(Open { place, anchor, size: 1, height: 1, held });
        Ok(())
    }

    pub(super) fn end(&mut self, span: Span) -> Result<(), Stop> {
        let Some(Open { place, anchor, size, height, held }) = self.open.pop() else { return Ok(()) };
        // Only the end of a flow collection is written; a block ends with what is in it.
        let end = if span.is_empty() { place.line } else { self.place(span).line };
        let (last_line, data) = match held {
            Held::List(items) => (items.iter().map(|item| item.last_line).max().unwrap_or(end), Data::List(items)),
            Held::Object { entries, merges, .. } => {
                let entries = self.object(entries, merges);
                (entries.iter().map(|entry| entry.value.last_line).fold(end, u32::max), Data::Object(entries))
            }
        };
        self.finish(Node { place, last_line, data }, anchor, size, height)
    }

    pub(super) fn scalar(
        &mut self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        anchor: usize,
        (tag, span): (Option<Cow<'t, Tag>>, Span),
    ) -> Result<(), Stop> {
        self.count(span)?;
        let place = self.place(span);
        let plain = match tag.as_deref().map(|tag| (core(tag), tag)) {
            None => style == ScalarStyle::Plain,
            Some((Some("str"), _)) => false,
            Some((Some("int" | "float" | "bool" | "null"), _)) => true,
            Some((_, tag)) => {
                self.unknown_tag(tag, place);
                style == ScalarStyle::Plain
            }
        };
        let end = self.at(&span.end, 1);
        let last_line = if end.column == 1 && end.line > place.line { end.line - 1 } else { end.line };
        self.finish(Node { place, last_line, data: Data::Scalar { text, plain } }, anchor, 1, 0)
    }

    fn unknown_tag(&mut self, tag: &Tag, place: Place) {
        let name = core(tag).map_or_else(|| tag.to_string(), |name| format!("!!{name}"));
        self.error(Kind::Syntax, place, format!("the tag `{name}` has no meaning here"), "remove it");
    }

    pub(super) fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        self.count(span)?;
        let place = self.place(span);
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            return Err(self.limit(place, format!("more than {MAX_ALIASES} aliases in one file")));
        }
        let Some((size, height)) = self.anchors.get(&anchor).map(|found| (found.size, found.height)) else {
            let message = "this alias names an anchor that is not complete yet, or of another document";
            self.error(
                Kind::Syntax,
                place,
                message,
                "an alias stands for a value written before it in the same document",
            );
            let data = Data::Scalar { text: Cow::Borrowed(""), plain: true };
            return self.finish(Node { place, last_line: place.line, data }, 0, 1, 0);
        };
        self.aliased(place, size, "aliases stand for")?;
        self.nested(place, height)?;
        let node = self.anchors[&anchor].node.clone();
        self.finish(node, 0, size, height)
    }

    /// Over the limit where so many more levels are too many.
    fn nested(&mut self, place: Place, levels: usize) -> Result<(), Stop> {
        if self.open.len() + levels <= MAX_DEPTH {
            return Ok(());
        }
        Err(self.limit(place, format!("lists and objects are nested deeper than {MAX_DEPTH}")))
    }

    /// Counts nodes that are in memory once more.
    fn aliased(&mut self, place: Place, nodes: usize, who: &str) -> Result<(), Stop> {
        self.aliased_nodes = self.aliased_nodes.saturating_add(nodes);
        if self.aliased_nodes <= MAX_ALIASED_NODES {
            return Ok(());
        }
        Err(self.limit(place, format!("{who} more than {MAX_ALIASED_NODES} values")))
    }

    /// Puts a finished node where it belongs: into the list or object that is open, or at the root.
    fn finish(&mut self, node: Node<'t>, anchor: usize, size: usize, height: usize) -> Result<(), Stop> {
        if anchor > 0 {
            self.aliased(node.place, size, "anchors hold")?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, height });
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size = parent.size.saturating_add(size);
        parent.height = parent.height.max(height + 1);
        match &mut parent.held {
            Held::List(items) => items.push(node),
            Held::Object { entries, merges, key } => match key.take() {
                Some(Key::Named(name, place)) => entries.push(Entry { key: name, place, value: node }),
                Some(Key::Merge) => merges.push(node),
                Some(Key::Wrong) => {}
                None => {
                    let place = node.place;
                    *key = Some(match node.data {
                        Data::Scalar { text, plain: true } if text == "<<" => Key::Merge,
                        Data::Scalar { text, plain } if !(plain && text.is_empty()) => Key::Named(text, place),
                        _ => Key::Wrong,
                    });
                    if matches!(key, Some(Key::Wrong)) {
                        self.error(Kind::Syntax, place, "the name of a field must be text", "");
                    }
                }
            },
        }
        Ok(())
    }

    /// An object's entries without double keys, and with what `<<` merges into it.
    fn object(&mut self, mut entries: Vec<Entry<'t>>, merges: Vec<Node<'t>>) -> Vec<Entry<'t>> {
        self.drop_doubles(&mut entries);
        for merge in merges {
            let place = merge.place;
            let objects = match merge.data {
                Data::List(items) => items,
                data => vec![Node { data, ..merge }],
            };
            for object in objects {
                let Data::Object(more) = object.data else {
                    self.error(Kind::Syntax, place, "`<<` merges objects only", "");
                    continue;
                };
                let known: HashSet<String> = entries.iter().map(|entry| entry.key.to_string()).collect();
                entries.extend(more.into_iter().filter(|entry| !known.contains(&*entry.key)));
            }
        }
        entries
    }

    fn drop_doubles(&mut self, entries: &mut Vec<Entry<'t>>) {
        let double = if entries.len() < 16 {
            (1..entries.len()).any(|at| entries[..at].iter().any(|earlier| earlier.key == entries[at].key))
        } else {
            entries.iter().map(|entry| &*entry.key).collect::<HashSet<_>>().len() < entries.len()
        };
        if !double {
            return;
        }
        let mut first: HashMap<String, u32> = HashMap::new();
        entries.retain(|entry| {
            let Some(line) = first.get(&*entry.key) else {
                first.insert(entry.key.to_string(), entry.place.line);
                return true;
            };
            let message = format!("`{}` is there twice, first in line {line}", entry.key);
            self.diagnostics.push(Diagnostic::error(Kind::Field, entry.place, message).help("keep one of the two"));
            false
        });
    }
}

/// The name of a tag of YAML's own, such as `str` of `!!str`.
fn core(tag: &Tag) -> Option<&str> {
    tag.is_yaml_core_schema().then_some(&*tag.suffix)
}
