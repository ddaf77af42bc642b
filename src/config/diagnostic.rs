//! What is wrong with a configuration, in a form that both a person and a program can read.

use serde::Serialize;

use super::place::Place;

/// Whether a configuration with this diagnostic may be put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The whole configuration is refused.
    Error,
    /// It is accepted, and this is said.
    Warning,
}

/// What sort of problem it is. The names are part of `serin check --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The text is no YAML.
    Syntax,
    /// A field that does not exist, is there twice, or is missing.
    Field,
    /// A field whose value is not allowed.
    Value,
    /// Something that names what no resource declares.
    Reference,
    /// A valid Istio field that this proxy cannot honour.
    Unsupported,
    /// Two resources, or two fields, that exclude each other.
    Conflict,
    /// A rule that no request can reach.
    DeadRule,
    /// A field that is accepted and changes nothing here.
    NoEffect,
}

/// One problem, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Its sort.
    pub kind: Kind,
    /// The code of the same finding in `istioctl analyze`, such as `IST0101`.
    pub code: Option<&'static str>,
    /// Where.
    pub place: Place,
    /// What is wrong: lower case, no full stop, backticks round what the operator typed.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where the other one is, if two contradict each other. Loading writes it into `help`, by the name of its file.
    pub other: Option<Place>,
}

impl Diagnostic {
    /// An error of this kind.
    pub fn error(kind: Kind, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, kind, code: None, place, message: message.into(), help: None, other: None }
    }

    /// A warning of this kind.
    pub fn warning(kind: Kind, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(kind, place, message) }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, contradicting what is at another place.
    #[must_use]
    pub fn contradicting(mut self, other: Place) -> Self {
        self.other = Some(other).filter(|other| other.line > 0);
        self
    }

    /// The same, with the code that `istioctl analyze` gives this finding.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Whether it keeps the configuration out of force.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
