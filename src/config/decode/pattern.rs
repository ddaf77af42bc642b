//! `StringMatch`, from the tree to its type.

use crate::config::diagnostic::Kind;
use crate::config::place::Spanned;
use crate::config::re2;
use crate::config::value::{Pattern, StringMatch};
use crate::config::yaml::Data;

use super::object::{At, Object};
use super::out::Out;
use super::scalar::shown;
use super::shape::{Shape, value};

pub(super) static STRING_MATCH: Shape =
    Shape::new("a string match", &[value("exact"), value("prefix"), value("regex")]);

/// `StringMatch`. Its place is that of the text to compare with.
pub(super) fn string_match(at: At<'_>, out: &mut Out) -> Spanned<StringMatch> {
    if let Data::Scalar { text, .. } = &at.node.data
        && !at.node.is_null()
    {
        let message = format!("`{}` must say how to compare, not {}", at.name, shown(at.node));
        let help = format!("write `{}: {{exact: {text}}}`, or `prefix` or `regex`", at.name);
        out.error(Kind::Value, at.node.place, message, Some(help));
        return Spanned::new(StringMatch::Present, at.place);
    }
    let object = Object::open(at, &STRING_MATCH, out);
    object.only_one_of(&["exact", "prefix", "regex"], out);
    let given = [object.string("exact", out), object.string("prefix", out), object.string("regex", out)];
    match given {
        [Some(exact), ..] => Spanned::new(StringMatch::Exact(exact.value), exact.place),
        [_, Some(prefix), _] => Spanned::new(StringMatch::Prefix(prefix.value), prefix.place),
        [.., Some(regex)] => Spanned::new(StringMatch::Regex(pattern(regex.value, out)), regex.place),
        _ => Spanned::new(StringMatch::Present, object.place()),
    }
}

/// The pattern with its program; each text is compiled once.
fn pattern(text: String, out: &mut Out) -> Pattern {
    let regex = match out.patterns.get(&text) {
        Some(known) => known.clone(),
        None => {
            let compiled = re2::whole(&text);
            out.patterns.insert(text.clone(), compiled.clone());
            compiled
        }
    };
    Pattern { text, regex }
}
