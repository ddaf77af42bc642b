//! Annotations `serin.dev/…`: which there are, and what they may say.

use super::report::{Report, missing, no_effect, wrong};
use super::virtual_service::WEIGHTS;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::Metadata;

/// What all of them begin with.
const PREFIX: &str = "serin.dev/";

/// Keeps a client on the version that it once got.
const STICKY: &str = "serin.dev/sticky";

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
            STICKY => sticky(report, value),
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

/// `cookie=NAME[,ttl=24h]`, `header=NAME` or `source-ip`.
fn sticky(report: &mut Report, value: &Spanned<String>) {
    let (way, rest) = value.split_once('=').unwrap_or((value, ""));
    let name = rest.split(',').next().unwrap_or(rest);
    let options: Vec<_> = rest.split(',').skip(1).collect();
    let option_fits = |option: &&str| way == "cookie" && option.strip_prefix("ttl=").is_some_and(|ttl| !ttl.is_empty());
    let fits = match way {
        "source-ip" => value.value == "source-ip",
        "cookie" | "header" => options.len() <= 1 && options.iter().all(option_fits),
        _ => false,
    };
    if !fits {
        report.add(
            wrong(value.place, format!("`{}` is no way to stick to a version", value.value))
                .help("write `cookie=NAME`, `cookie=NAME,ttl=24h`, `header=NAME` or `source-ip`"),
        );
    } else if way != "source-ip" && !super::headers::is_token(name) {
        report.add(missing(value.place, format!("`{name}` is no name of a {way}")));
    }
}
