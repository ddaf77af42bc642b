//! Which fields an object has: to know an unknown one, and to guess what was meant by it.

/// The fields of one sort of object.
#[derive(Debug)]
pub(super) struct Shape {
    /// What it is called in messages, with its article: `an entry of \`route\``.
    pub(super) what: &'static str,
    /// Its fields.
    pub(super) fields: &'static [Field],
    /// Whether the field's protobuf name (`prefix_rewrite`) is accepted too, as Istio does.
    pub(super) proto: bool,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its canonical name.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) holds: Holds,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Holds {
    /// A scalar, a list of scalars, or names of the operator's choice.
    Value,
    /// An object.
    One(&'static Shape),
    /// A list of objects.
    Many(&'static Shape),
}

impl Shape {
    /// An object of an Istio resource.
    pub(super) const fn new(what: &'static str, fields: &'static [Field]) -> Self {
        Self { what, fields, proto: true }
    }

    /// The canonical name of a field, if there is one.
    pub(super) fn canonical(&self, written: &str) -> Option<&'static str> {
        self.fields.iter().map(|field| field.name).find(|name| same(written, name, self.proto))
    }
}

/// An object of a resource of Serin's own: it has no other spellings.
pub(super) const fn own(what: &'static str, fields: &'static [Field]) -> Shape {
    Shape { what, fields, proto: false }
}

/// A field that holds a scalar, a list of scalars, or names of the operator's choice.
pub(super) const fn value(name: &'static str) -> Field {
    Field { name, holds: Holds::Value }
}

/// A field that holds an object.
pub(super) const fn one(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, holds: Holds::One(shape) }
}

/// A field that holds a list of objects.
pub(super) const fn many(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, holds: Holds::Many(shape) }
}

/// Whether a key as written is this field: its JSON name, or its protobuf name if that is accepted.
pub(super) fn same(written: &str, name: &str, proto: bool) -> bool {
    if written == name {
        return true;
    }
    if !proto || !written.contains('_') {
        return false;
    }
    let mut upper = false;
    let camel = written.bytes().filter_map(|byte| {
        if byte == b'_' {
            upper = true;
            return None;
        }
        Some(if std::mem::take(&mut upper) { byte.to_ascii_uppercase() } else { byte })
    });
    camel.eq(name.bytes())
}

/// What to do about a field that this object does not have. `parents` are the objects it lies in, the nearest first, with
/// the field under which each holds the next.
pub(super) fn advice(unknown: &str, shape: &'static Shape, parents: &[(&'static Shape, &str)]) -> Option<String> {
    if unknown == "websocketUpgrade" {
        return Some("Istio dropped this field: WebSockets need none, remove it".to_owned());
    }
    for (parent, holder) in parents {
        if let Some(name) = parent.canonical(unknown) {
            return Some(format!("`{name}` belongs beside `{holder}`, in {}: indent it less", parent.what));
        }
    }
    if let Some(path) = below(unknown, shape, 2) {
        return Some(format!("that field belongs under `{path}`: indent it more"));
    }
    let near = nearest(unknown, shape.fields.iter().map(|field| field.name));
    near.map(|name| format!("did you mean `{name}`?")).or_else(|| {
        let known = shape.fields.iter().map(|field| format!("`{}`", field.name)).collect::<Vec<_>>();
        (known.len() <= 8).then(|| format!("{} has {}", shape.what, known.join(", ")))
    })
}

/// The field of an object below this one in which a field of that name lies.
fn below(unknown: &str, shape: &'static Shape, levels: u8) -> Option<String> {
    let inner = |field: &Field| match field.holds {
        Holds::One(inner) | Holds::Many(inner) => Some(inner),
        Holds::Value => None,
    };
    let direct = shape.fields.iter().find(|field| inner(field).is_some_and(|inner| inner.canonical(unknown).is_some()));
    if let Some(field) = direct {
        return Some(field.name.to_owned());
    }
    if levels < 2 {
        return None;
    }
    shape.fields.iter().find_map(|field| {
        let path = below(unknown, inner(field)?, levels - 1)?;
        Some(format!("{}.{path}", field.name))
    })
}

/// The name that was probably meant, if one is near enough.
pub(crate) fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let plain =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let wanted = plain(written);
    let allowed = (wanted.chars().count() / 3).max(1);
    names
        .map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_names_are_the_same_field() {
        assert!(same("prefix_rewrite", "prefixRewrite", true));
        assert!(same("consecutive_5xx_errors", "consecutive5xxErrors", true));
        assert!(!same("creation_timestamp", "creationTimestamp", false));
        assert!(!same("prefixrewrite", "prefixRewrite", true));
        assert!(!same("prefix_", "prefixRewrite", true));
    }

    #[test]
    fn the_nearest_name_must_be_near() {
        let names = ["weight", "destination", "headers"];
        assert_eq!(nearest("wieght", names.into_iter()), Some("weight"));
        assert_eq!(nearest("Headers", names.into_iter()), Some("headers"));
        assert_eq!(nearest("timeout", names.into_iter()), None);
        assert_eq!(nearest("", names.into_iter()), None);
    }

    #[test]
    fn a_field_of_another_level_is_told_where_it_belongs() {
        static DESTINATION: Shape = Shape::new("`destination`", &[value("host"), value("subset")]);
        static ROUTE: Shape = Shape::new("an entry of `route`", &[one("destination", &DESTINATION), value("weight")]);
        static RULE: Shape = Shape::new("an http rule", &[many("route", &ROUTE), value("timeout")]);
        let parents = [(&ROUTE, "destination"), (&RULE, "route")];
        let help = advice("weight", &DESTINATION, &parents).unwrap();
        assert_eq!(help, "`weight` belongs beside `destination`, in an entry of `route`: indent it less");
        let help = advice("subset", &ROUTE, &parents[1..]).unwrap();
        assert_eq!(help, "that field belongs under `destination`: indent it more");
        let help = advice("host", &RULE, &[]).unwrap();
        assert_eq!(help, "that field belongs under `route.destination`: indent it more");
        assert_eq!(advice("timout", &RULE, &[]).unwrap(), "did you mean `timeout`?");
    }
}
