//! Annotations `serin.dev/…`: which there are, and what they may say.

use super::report::{Report, no_effect, wrong};
use super::virtual_service::WEIGHTS;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::Metadata;
use crate::config::sticky::{ANNOTATION as STICKY, FORMS, StickyBy};

/// What all of them begin with.
const PREFIX: &str = "serin.dev/";

/// Those that a VirtualService can have.
const OF_VIRTUAL_SERVICE: [&str; 2] = [WEIGHTS, STICKY];

/// Checks the annotations of a VirtualService.
pub(super) fn virtual_service(report: &mut Report, metadata: &Metadata) {
    for (name, value) in own(metadata) {
        match name.as_str() {
            WEIGHTS if value.value == "relative" => {}
            WEIGHTS => report.add(
                wrong(value.place, format!("`{WEIGHTS}` is `{}`, and can only be `relative`", value.value))
                    .help("without the annotation, the weights of a route must sum to 100"),
            ),
            STICKY => {
                if let Err(reason) = StickyBy::parse(value) {
                    report.add(wrong(value.place, reason).help(format!("write {FORMS}")));
                }
            }
            _ => report.add(unknown(name)),
        }
    }
}

/// Checks the annotations of any other kind, which has none.
pub(super) fn other(report: &mut Report, metadata: &Metadata, kind: &str) {
    for (name, _) in own(metadata) {
        report.add(if OF_VIRTUAL_SERVICE.contains(&name.as_str()) {
            no_effect(name.place, format!("`{}` has no effect on a {kind}", name.value))
                .help("annotate the VirtualService")
        } else {
            unknown(name)
        });
    }
}

fn own(metadata: &Metadata) -> impl Iterator<Item = &(Spanned<String>, Spanned<String>)> {
    metadata.annotations.iter().filter(|(name, _)| name.starts_with(PREFIX))
}

fn unknown(name: &Spanned<String>) -> Diagnostic {
    let found = Diagnostic::error(Kind::Field, name.place, format!("there is no annotation `{}`", name.value));
    match names::nearest(name, OF_VIRTUAL_SERVICE) {
        Some(meant) => found.help(format!("did you mean `{meant}`?")),
        None => found.help(format!("there are {}", OF_VIRTUAL_SERVICE.map(|name| format!("`{name}`")).join(" and "))),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{alone, findings, resource};

    fn annotated(kind: &str, annotation: &str) -> Vec<String> {
        let spec = match kind {
            "VirtualService" => "  hosts: [a]\n  http: [{redirect: {uri: /x}}]",
            _ => "  host: a",
        };
        let yaml = resource(kind, spec).replace("name: x", &format!("name: x\n  annotations: {{{annotation}}}"));
        findings(&yaml, &alone()).into_iter().map(|one| one.message).collect()
    }

    #[test]
    fn only_what_is_known_may_be_said() {
        for (annotation, wanted) in [
            ("serin.dev/weights: absolute", "can only be `relative`"),
            ("serin.dev/wieghts: relative", "there is no annotation"),
            ("serin.dev/sticky: cookie", "is no way to stick"),
            ("serin.dev/sticky: 'header=a b'", "is no name of a header"),
            ("serin.dev/sticky: 'header=a,ttl=1h'", "is no way to stick"),
            ("serin.dev/sticky: random", "is no way to stick"),
        ] {
            let found = annotated("VirtualService", annotation);
            assert!(found.iter().any(|message| message.contains(wanted)), "{annotation}: {found:?}");
        }
        for fine in [
            "serin.dev/weights: relative",
            "other.dev/x: y",
            "serin.dev/sticky: cookie=a",
            "serin.dev/sticky: 'cookie=a,ttl=24h'",
            "serin.dev/sticky: header=x-user",
            "serin.dev/sticky: source-ip",
        ] {
            assert_eq!(annotated("VirtualService", fine), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn they_belong_to_virtual_services() {
        assert!(
            annotated("DestinationRule", "serin.dev/weights: relative")[0].contains("no effect on a DestinationRule")
        );
        assert!(annotated("DestinationRule", "serin.dev/x: y")[0].contains("there is no annotation"));
    }
}
