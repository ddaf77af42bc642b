//! Helps that take more than a sentence: the lines to add to a file.

use super::report::unknown;
use crate::config::diagnostic::Diagnostic;
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::destination_rule::Subset;
use crate::config::services::Service;

/// How many names a help lists.
const LISTED: usize = 12;

/// Names in backticks, not too many of them.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut quoted: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    quoted.dedup();
    let more = quoted.len().saturating_sub(LISTED);
    quoted.truncate(LISTED);
    if more > 0 {
        quoted.push(format!("and {more} more"));
    }
    quoted.join(", ")
}

/// A subset that requests are sent to and nobody is in: the lines that would fill it, and the flag.
pub(super) fn empty_subset(
    host: &str,
    subset: (&Spanned<String>, &Subset),
    service: Option<&Service>,
    all: &[&Subset],
) -> Diagnostic {
    let (written, declared) = subset;
    let message = format!("the subset `{}` of `{host}` has no endpoints", written.value);
    let port = service.and_then(|service| service.ports.first()).map_or("http", |port| port.name.as_str());
    let local = |subset: &Subset| 8081 + all.iter().position(|other| std::ptr::eq(*other, subset)).unwrap_or(0);
    let line = |subset: &Subset| {
        let labels: Vec<_> =
            subset.labels.iter().map(|(key, value)| format!("{}: {}", key.value, quoted(value))).collect();
        let labels = labels.join(", ");
        format!("  - {{address: 127.0.0.1, ports: {{{port}: {}}}, labels: {{{labels}}}}}", local(subset))
    };
    let flag = format!("or run with `--endpoint {host}/{}=127.0.0.1:{}`", written.value, local(declared));
    let lines = match service {
        Some(service) if service.place.line > 0 => {
            format!("add one to the ServiceEntry of `{host}`:\n  endpoints:\n{}", line(declared))
        }
        _ => format!(
            "say where it is:\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
             hosts: [{host}]\n  ports: [{{number: 80, name: {port}, protocol: HTTP}}]\n  resolution: STATIC\n  \
             endpoints:\n{}",
            all.iter().map(|subset| line(subset)).collect::<Vec<_>>().join("\n"),
            name = names::canonical(host).replace(['.', '*'], "-").trim_matches('-'),
        ),
    };
    unknown(written.place, message).help(format!("{lines}\n{flag}")).code("IST0173")
}

/// A label value as YAML takes it for text.
fn quoted(value: &str) -> String {
    if value.starts_with(|letter: char| letter.is_ascii_alphabetic()) && !is_word(value) {
        value.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// Words that YAML takes for something else than text.
fn is_word(value: &str) -> bool {
    ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&value.to_ascii_lowercase().as_str())
}
