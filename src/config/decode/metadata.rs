//! `metadata`: Kubernetes' fields are all known, few mean something here.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::config::diagnostic::Kind;
use crate::config::place::Spanned;
use crate::config::resource::Metadata;

use super::object::{At, Object};
use super::out::Out;
use super::shape::{Shape, value};

pub(super) static METADATA: Shape = Shape {
    what: "`metadata`",
    fields: &[
        value("name"),
        value("namespace"),
        value("labels"),
        value("annotations"),
        value("creationTimestamp"),
        value("generateName"),
        value("uid"),
        value("resourceVersion"),
        value("generation"),
        value("selfLink"),
        value("clusterName"),
        value("deletionTimestamp"),
        value("deletionGracePeriodSeconds"),
        value("finalizers"),
        value("ownerReferences"),
        value("managedFields"),
    ],
    proto: false,
};

pub(super) fn metadata(at: At<'_>, out: &mut Out) -> Metadata {
    let object = Object::open(at, &METADATA, out);
    let namespace = object.string("namespace", out);
    Metadata {
        name: object.text("name", out),
        namespace: namespace.unwrap_or_else(|| Spanned::new("default".to_owned(), object.place())),
        created: created(&object, out),
        labels: object.string_map("labels", out),
        annotations: object.string_map("annotations", out),
    }
}

fn created(object: &Object<'_>, out: &mut Out) -> Option<SystemTime> {
    let text = object.string("creationTimestamp", out)?;
    match text.parse::<Timestamp>() {
        Ok(time) => SystemTime::try_from(time).ok(),
        Err(_) => {
            let message = format!("`{}` is no time", text.value.escape_debug());
            out.error(Kind::Value, text.place, message, Some("write it as in `2024-01-31T12:00:00Z`".to_owned()));
            None
        }
    }
}
