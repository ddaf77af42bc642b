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

/// What is to be added so that a subset has an endpoint.
pub(super) enum Lacking {
    /// An entry of `endpoints`, in a ServiceEntry that is there or that was printed for another subset.
    Endpoint,
    /// The same; endpoints name the service port by this name.
    EndpointAt(String),
    /// The whole ServiceEntry.
    Service,
}

impl Lacking {
    /// What lacks, given what is declared.
    pub(super) fn of(service: Option<&Service>) -> Self {
        match service {
            Some(service) if service.place.line > 0 => match service.ports.first() {
                Some(port) => Self::EndpointAt(port.name.clone()),
                None => Self::Endpoint,
            },
            _ => Self::Service,
        }
    }
}

/// A subset that requests are sent to and nobody is in: the lines that would fill it, and the flag.
pub(super) fn empty_subset(
    host: &str,
    subset: (&Spanned<String>, &Subset),
    lacking: &Lacking,
    all: &[&Subset],
) -> Diagnostic {
    let (written, declared) = subset;
    let port = if let Lacking::EndpointAt(name) = lacking { name } else { "http" };
    let local = |subset: &Subset| 8081 + all.iter().position(|other| std::ptr::eq(*other, subset)).unwrap_or(0);
    let line = |subset: &Subset| {
        let pairs = subset.labels.iter().map(|(key, value)| format!("{}: {}", key.value, quoted(value)));
        let labels = pairs.collect::<Vec<_>>().join(", ");
        format!("  - {{address: 127.0.0.1, ports: {{{port}: {}}}, labels: {{{labels}}}}}", local(subset))
    };
    let lines = match lacking {
        Lacking::Endpoint | Lacking::EndpointAt(_) => {
            format!("add one to the ServiceEntry of `{host}`:\n  endpoints:\n{}", line(declared))
        }
        Lacking::Service => {
            let endpoints: Vec<_> = all.iter().map(|subset| line(subset)).collect();
            let name = names::canonical(host).replace(['.', '*'], "-");
            format!(
                "say where it is:\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {}}}\nspec:\n  \
                 hosts: [{host}]\n  ports: [{{number: 80, name: {port}, protocol: HTTP}}]\n  resolution: STATIC\n  \
                 endpoints:\n{}",
                name.trim_matches('-'),
                endpoints.join("\n"),
            )
        }
    };
    let message = format!("the subset `{}` of `{host}` has no endpoints", written.value);
    let flag = format!("or run with `--endpoint {host}/{}=127.0.0.1:{}`", written.value, local(declared));
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
