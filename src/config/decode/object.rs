//! Reading an object's fields by name. Each getter reports what is wrong and answers what can still be used, so that one
//! run finds every problem.

use std::time::Duration;

use crate::config::diagnostic::Kind;
use crate::config::place::{Place, Spanned};
use crate::config::value::StringMap;
use crate::config::yaml::{Data, Entry, Node};

use super::out::{Muddled, Out};
use super::scalar::{self, Wrong, shown};
use super::shape::{self, Shape, nearest, same};

const INT32: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const UINT32: (i64, i64) = (0, u32::MAX as i64);
const UINT64: (i64, i64) = (0, i64::MAX);

/// A node with the way to it.
#[derive(Clone, Copy)]
pub(super) struct At<'t> {
    /// The node.
    pub(super) node: &'t Node<'t>,
    /// Where what it stands for begins: the key of a field, or the node itself in a list.
    pub(super) place: Place,
    /// The field that holds it.
    pub(super) name: &'t str,
    /// The object that has the field.
    pub(super) parent: Option<&'t Object<'t>>,
}

/// An object being read.
pub(super) struct Object<'t> {
    entries: &'t [Entry<'t>],
    shape: &'static Shape,
    at: At<'t>,
}

impl<'t> Object<'t> {
    /// Opens an object and reports fields that it must not have. Something else than an object is reported and read as an empty one.
    pub(super) fn open(at: At<'t>, shape: &'static Shape, out: &mut Out) -> Self {
        let entries = match &at.node.data {
            Data::Object(entries) => entries.as_slice(),
            _ if at.node.is_null() => &[],
            data => {
                let help = match data {
                    Data::List(items) if items.len() == 1 => Some("leave out the `-`".to_owned()),
                    _ => Some(format!("write its fields in lines of their own below `{}:`", at.name)),
                };
                let message = format!("`{}` must be an object, not {}", at.name, shown(at.node));
                out.wrong(at.place, at.node.place, Wrong { message, help });
                &[]
            }
        };
        let object = Self { entries, shape, at };
        object.check_names(out);
        object
    }

    fn check_names(&self, out: &mut Out) {
        let mut seen = 0_u64;
        for entry in self.entries {
            let Some(index) = self.shape.fields.iter().position(|field| same(&entry.key, field.name, self.shape.proto))
            else {
                self.unknown(entry, out);
                continue;
            };
            if seen & 1 << index != 0 {
                let message = format!("`{}` is there twice, under two spellings", self.shape.fields[index].name);
                out.error(Kind::Field, entry.place, message, Some("keep one of the two".to_owned()));
            }
            seen |= 1 << index;
        }
    }

    fn unknown(&self, entry: &Entry<'_>, out: &mut Out) {
        let mut parents = Vec::new();
        let mut here = self;
        while let Some(parent) = here.at.parent {
            parents.push((parent.shape, here.at.name));
            here = parent;
        }
        let message = format!("unknown field `{}` in {}", entry.key.escape_debug(), self.shape.what);
        out.error(Kind::Field, entry.place, message, shape::advice(&entry.key, self.shape, &parents));
        out.muddled.push(Muddled { place: self.place(), last_line: None });
    }

    /// Where it begins.
    pub(super) fn place(&self) -> Place {
        self.at.place
    }

    /// The entry of a field; null is absent.
    pub(super) fn field(&self, name: &str) -> Option<&'t Entry<'t>> {
        debug_assert!(
            self.shape.fields.iter().any(|field| field.name == name),
            "{name} is no field of {}",
            self.shape.what
        );
        let entry = self.entries.iter().find(|entry| same(&entry.key, name, self.shape.proto))?;
        (!entry.value.is_null()).then_some(entry)
    }

    fn below<'s>(&'s self, entry: &'s Entry<'s>, name: &'s str) -> At<'s> {
        At { node: &entry.value, place: entry.place, name, parent: Some(self) }
    }

    fn item<'s>(&'s self, node: &'s Node<'s>, name: &'s str) -> At<'s> {
        At { node, place: node.place, name, parent: Some(self) }
    }

    /// A scalar that is read in a way of its own.
    pub(super) fn scalar<T>(
        &self,
        name: &str,
        out: &mut Out,
        read: impl FnOnce(&Node<'_>, &str) -> Result<T, Wrong>,
    ) -> Option<Spanned<T>> {
        let node = &self.field(name)?.value;
        match read(node, name) {
            Ok(value) => Some(Spanned::new(value, node.place)),
            Err(wrong) => {
                out.wrong(self.place(), node.place, wrong);
                None
            }
        }
    }

    /// Text.
    pub(super) fn string(&self, name: &str, out: &mut Out) -> Option<Spanned<String>> {
        self.scalar(name, out, |node, name| scalar::text(node, name).map(str::to_owned))
    }

    /// Text; empty, at the object's place, when absent.
    pub(super) fn text(&self, name: &str, out: &mut Out) -> Spanned<String> {
        self.string(name, out).unwrap_or_else(|| Spanned::new(String::new(), self.place()))
    }

    /// A boolean.
    pub(super) fn boolean(&self, name: &str, out: &mut Out) -> Option<Spanned<bool>> {
        self.scalar(name, out, scalar::boolean)
    }

    /// A duration.
    pub(super) fn duration(&self, name: &str, out: &mut Out) -> Option<Spanned<Duration>> {
        self.scalar(name, out, scalar::duration)
    }

    /// A number.
    pub(super) fn double(&self, name: &str, out: &mut Out) -> Option<Spanned<f64>> {
        self.scalar(name, out, scalar::double)
    }

    /// A protobuf `int32`.
    pub(super) fn int32(&self, name: &str, out: &mut Out) -> Option<Spanned<i64>> {
        self.field(name).and_then(|entry| self.whole(&entry.value, name, INT32, out))
    }

    /// A protobuf `uint32`.
    pub(super) fn uint32(&self, name: &str, out: &mut Out) -> Option<Spanned<i64>> {
        self.field(name).and_then(|entry| self.whole(&entry.value, name, UINT32, out))
    }

    /// A protobuf `uint64`, up to the largest `i64`.
    pub(super) fn uint64(&self, name: &str, out: &mut Out) -> Option<Spanned<i64>> {
        self.field(name).and_then(|entry| self.whole(&entry.value, name, UINT64, out))
    }

    /// One of these names.
    pub(super) fn choice<T: Copy>(&self, name: &str, names: &[(&str, T)], out: &mut Out) -> Option<Spanned<T>> {
        chosen(&self.string(name, out)?, name, names, out)
    }

    /// A list of these names.
    pub(super) fn choices<T: Copy>(&self, name: &str, names: &[(&str, T)], out: &mut Out) -> Vec<Spanned<T>> {
        let written = self.strings(name, out);
        written.iter().filter_map(|written| chosen(written, name, names, out)).collect()
    }

    /// An object.
    pub(super) fn one<T>(&self, name: &str, out: &mut Out, decode: fn(At<'_>, &mut Out) -> T) -> Option<T> {
        let entry = self.field(name)?;
        Some(decode(self.below(entry, name), out))
    }

    /// An object that is rare or large.
    pub(super) fn boxed<T>(&self, name: &str, out: &mut Out, decode: fn(At<'_>, &mut Out) -> T) -> Option<Box<T>> {
        self.one(name, out, decode).map(Box::new)
    }

    fn items(&self, name: &str, out: &mut Out) -> &'t [Node<'t>] {
        let Some(entry) = self.field(name) else { return &[] };
        let Data::List(items) = &entry.value.data else {
            let help = match &entry.value.data {
                Data::Scalar { text, .. } if !text.contains('\n') => format!("write `{name}: [{text}]`"),
                _ => format!("begin each entry of `{name}` with `- `"),
            };
            self.misfit(&entry.value, (name, "a list"), help, out);
            return &[];
        };
        items
    }

    /// A list of objects; a null entry is read as an empty one.
    pub(super) fn many<T>(&self, name: &str, out: &mut Out, decode: fn(At<'_>, &mut Out) -> T) -> Vec<T> {
        let items = self.items(name, out).iter();
        items.map(|node| decode(self.item(node, name), out)).collect()
    }

    /// The same, and each entry that holds an error is marked as muddled by itself.
    pub(super) fn rules<T>(&self, name: &str, out: &mut Out, decode: fn(At<'_>, &mut Out) -> T) -> Vec<T> {
        let items = self.items(name, out);
        let mut read = Vec::with_capacity(items.len());
        for node in items {
            let before = out.errors;
            read.push(decode(self.item(node, name), out));
            if out.errors > before {
                out.muddled.push(Muddled { place: node.place, last_line: Some(node.last_line) });
            }
        }
        read
    }

    /// A list of objects; a null entry is `None`.
    pub(super) fn many_or_null<T>(
        &self,
        name: &str,
        out: &mut Out,
        decode: fn(At<'_>, &mut Out) -> T,
    ) -> Vec<Option<T>> {
        let items = self.items(name, out).iter();
        items.map(|node| (!node.is_null()).then(|| decode(self.item(node, name), out))).collect()
    }

    /// A list of text.
    pub(super) fn strings(&self, name: &str, out: &mut Out) -> Vec<Spanned<String>> {
        let mut read = Vec::new();
        for node in self.items(name, out) {
            if let Some(address) = open_address(node) {
                read.push(Spanned::new(address, node.place));
                continue;
            }
            match scalar::text(node, name) {
                Ok(text) => read.push(Spanned::new(text.to_owned(), node.place)),
                Err(mut wrong) => {
                    wrong.message = wrong.message.replacen(&format!("`{name}`"), &format!("an entry of `{name}`"), 1);
                    out.wrong(self.place(), node.place, wrong);
                }
            }
        }
        read
    }

    /// A list of `uint32`.
    pub(super) fn numbers(&self, name: &str, out: &mut Out) -> Vec<Spanned<i64>> {
        self.items(name, out).iter().filter_map(|node| self.whole(node, name, UINT32, out)).collect()
    }

    fn names(&self, name: &str, out: &mut Out) -> &'t [Entry<'t>] {
        let Some(entry) = self.field(name) else { return &[] };
        let Data::Object(entries) = &entry.value.data else {
            let help = format!("write `name: value` in lines of their own below `{name}:`");
            self.misfit(&entry.value, (name, "an object of names and values"), help, out);
            return &[];
        };
        entries
    }

    /// Text by name.
    pub(super) fn string_map(&self, name: &str, out: &mut Out) -> StringMap {
        let mut read = Vec::new();
        for entry in self.names(name, out) {
            match scalar::text(&entry.value, &entry.key) {
                Ok(text) => read.push((key(entry), Spanned::new(text.to_owned(), entry.value.place))),
                Err(mut wrong) => {
                    let place = if entry.value.is_null() { entry.place } else { entry.value.place };
                    let empty = || "write `\"\"` if it is to be empty".to_owned();
                    wrong.help = wrong.help.or_else(|| entry.value.is_null().then(empty));
                    out.wrong(self.place(), place, wrong);
                }
            }
        }
        read
    }

    /// `uint32` by name.
    pub(super) fn number_map(&self, name: &str, out: &mut Out) -> Vec<(Spanned<String>, Spanned<i64>)> {
        let entries = self.names(name, out).iter();
        entries.filter_map(|entry| Some((key(entry), self.whole(&entry.value, &entry.key, UINT32, out)?))).collect()
    }

    /// Objects by name; a null one is `None`.
    pub(super) fn object_map<T>(
        &self,
        name: &str,
        out: &mut Out,
        decode: fn(At<'_>, &mut Out) -> T,
    ) -> Vec<(Spanned<String>, Option<T>)> {
        let entries = self.names(name, out).iter();
        entries
            .map(|entry| {
                let at = At { name: &entry.key, ..self.below(entry, name) };
                (key(entry), (!entry.value.is_null()).then(|| decode(at, out)))
            })
            .collect()
    }

    /// Reports that more than one of these fields is there, if so: they are members of one `oneof`.
    pub(super) fn only_one_of(&self, names: &[&str], out: &mut Out) {
        let mut given = names.iter().filter_map(|name| Some((*name, self.field(name)?)));
        let Some((first, _)) = given.next() else { return };
        for (second, entry) in given {
            let message = format!("`{first}` and `{second}` exclude each other");
            out.error(Kind::Conflict, entry.place, message, Some("keep one of the two".to_owned()));
        }
    }

    fn whole(&self, node: &Node<'_>, name: &str, bounds: (i64, i64), out: &mut Out) -> Option<Spanned<i64>> {
        match scalar::whole(node, name, bounds) {
            Ok(number) => Some(Spanned::new(number, node.place)),
            Err((wrong, usable)) => {
                out.wrong(self.place(), node.place, wrong);
                usable.map(|number| Spanned::new(number, node.place))
            }
        }
    }

    /// Reports a value of the wrong sort.
    fn misfit(&self, node: &Node<'_>, (name, wanted): (&str, &str), help: String, out: &mut Out) {
        let message = format!("`{name}` must be {wanted}, not {}", shown(node));
        out.wrong(self.place(), node.place, Wrong { message, help: Some(help) });
    }
}

/// What one of these names stands for.
fn chosen<T: Copy>(written: &Spanned<String>, name: &str, names: &[(&str, T)], out: &mut Out) -> Option<Spanned<T>> {
    if let Some((_, value)) = names.iter().find(|(known, _)| *known == written.value) {
        return Some(Spanned::new(*value, written.place));
    }
    let help = match nearest(written, names.iter().map(|(known, _)| *known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!("it may be {}", names.iter().map(|(known, _)| format!("`{known}`")).collect::<Vec<_>>().join(", "))
        }
    };
    let message = format!("`{}` is no value of `{name}`", written.value.escape_debug());
    out.error(Kind::Value, written.place, message, Some(help));
    None
}

/// YAML takes an unquoted `fd00::` at the end of a flow list for a field `fd00:` without a value; Kubernetes does not.
fn open_address(node: &Node<'_>) -> Option<String> {
    let Data::Object(entries) = &node.data else { return None };
    let [entry] = entries.as_slice() else { return None };
    (entry.value.is_null() && entry.key.ends_with(':')).then(|| format!("{}:", entry.key))
}

fn key(entry: &Entry<'_>) -> Spanned<String> {
    Spanned::new(entry.key.to_string(), entry.place)
}
