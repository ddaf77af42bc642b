//! `kind: Canary` of serin.dev/v1alpha1: a release as the operator wrote it. Completed with its defaults and with what it names,
//! it is a [`Release`](crate::config::release::Release). Field by field: docs/canary.md.

use std::time::Duration;

use crate::config::place::{Place, Spanned};
use crate::config::value::Percent;

/// `spec` of a Canary.
#[derive(Clone, Debug, Default)]
pub struct Canary {
    /// `virtualService`: `NAME` or `NAMESPACE/NAME`; empty when absent.
    pub virtual_service: Spanned<String>,
    /// `route`: the rule of it, by its name or as `VIRTUALSERVICE/INDEX`.
    pub route: Option<Spanned<String>>,
    /// `stable`: the subset that serves now; empty when absent.
    pub stable: Spanned<String>,
    /// `canary`: the subset that is to take over; empty when absent.
    pub canary: Spanned<String>,
    /// `steps`, in the order in which they were written.
    pub steps: Vec<Step>,
    /// `analysis`; absent is the same as `{}`.
    pub analysis: Analysis,
    /// `mode`.
    pub mode: Option<Spanned<Mode>>,
    /// `start`.
    pub start: Option<Spanned<Start>>,
    /// `onFileChange`.
    pub on_file_change: Option<Spanned<OnFileChange>>,
    /// `shield`.
    pub shield: Option<Spanned<bool>>,
    /// `soak`.
    pub soak: Option<Soak>,
    /// `webhooks`.
    pub webhooks: Vec<Webhook>,
    /// Where `spec` stands.
    pub place: Place,
}

impl Canary {
    /// What names a VirtualService or a part of one, as far as it is there.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Spanned<String>> {
        let all = [&self.virtual_service].into_iter().chain(&self.route).chain([&self.stable, &self.canary]);
        all.filter(|name| !name.is_empty())
    }
}

/// One entry of `steps`: a number, or an object.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The number itself, or `weight`.
    pub weight: Option<Spanned<i64>>,
    /// `minDuration`.
    pub min_duration: Option<Spanned<Duration>>,
    /// `minRequests`.
    pub min_requests: Option<Spanned<i64>>,
    /// `approve`.
    pub approve: Option<Spanned<bool>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `analysis`.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// `falseRollbackRate`.
    pub false_rollback_rate: Option<Percent>,
    /// `tolerance`.
    pub tolerance: Option<Spanned<f64>>,
    /// `maxErrorRate`.
    pub max_error_rate: Option<Percent>,
    /// `latency.slowerThan`.
    pub slower_than: Option<Spanned<SlowerThan>>,
    /// `minDuration`.
    pub min_duration: Option<Spanned<Duration>>,
    /// `minRequests`.
    pub min_requests: Option<Spanned<i64>>,
    /// `warmUp`.
    pub warm_up: Option<Spanned<Duration>>,
    /// `maxStepDuration`.
    pub max_step_duration: Option<Spanned<Duration>>,
    /// `onInconclusive`.
    pub on_inconclusive: Option<Spanned<OnInconclusive>>,
    /// `prometheus`.
    pub prometheus: Vec<Gate>,
}

/// One entry of `analysis.prometheus`.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// `name`; empty when absent.
    pub name: Spanned<String>,
    /// `address`; empty when absent.
    pub address: Spanned<String>,
    /// `query`, with its placeholders; empty when absent.
    pub query: Spanned<String>,
    /// `max`.
    pub max: Option<Spanned<f64>>,
    /// `min`.
    pub min: Option<Spanned<f64>>,
    /// `interval`.
    pub interval: Option<Spanned<Duration>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `soak`.
#[derive(Clone, Debug, Default)]
pub struct Soak {
    /// `weight`.
    pub weight: Option<Spanned<i64>>,
    /// `duration`.
    pub duration: Option<Spanned<Duration>>,
    /// Where it begins.
    pub place: Place,
}

/// One entry of `webhooks`.
#[derive(Clone, Debug, Default)]
pub struct Webhook {
    /// `url`; empty when absent.
    pub url: Spanned<String>,
    /// `events`; none when absent.
    pub events: Option<Vec<Spanned<Event>>>,
    /// `secret`.
    pub secret: Option<Secret>,
    /// `timeout`.
    pub timeout: Option<Spanned<Duration>>,
    /// `retries`.
    pub retries: Option<Spanned<i64>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `secret` of a webhook.
#[derive(Clone, Debug, Default)]
pub struct Secret {
    /// `file`; empty when absent.
    pub file: Spanned<String>,
    /// Where it begins.
    pub place: Place,
}

/// From when on a request counts as slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowerThan {
    /// Chosen when the release starts, from what the stable version did in the last minutes.
    #[default]
    Auto,
    /// After this time, from the request sent to the head of the answer.
    Time(Duration),
    /// Never: latency is not judged.
    Off,
}

/// Whether a release moves weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    #[default]
    Run,
    /// It decides and says so, and the declared weights stay in force.
    Observe,
}

/// What starts a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// A person.
    #[default]
    Manual,
    /// The first endpoint of the canary's subset.
    OnSubset,
}

/// What becomes of a release when somebody edits the weights of its route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFileChange {
    /// The edited weight becomes the step.
    #[default]
    Adopt,
    /// The release ends.
    Abort,
}

/// What becomes of a step that was not decided in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInconclusive {
    /// It waits on.
    #[default]
    Hold,
    /// The canary goes back to 0.
    Rollback,
    /// The next step is taken.
    Advance,
}

/// What a webhook is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A release started, or was tried again.
    Started,
    /// It took a step.
    Advanced,
    /// It waits for something, or for somebody.
    Held,
    /// The canary was worse, and is back at 0.
    RolledBack,
    /// The canary has taken over.
    Promoted,
}

impl Mode {
    /// As it is written.
    pub const NAMES: [(&str, Self); 2] = [("run", Self::Run), ("observe", Self::Observe)];
}

impl Start {
    /// As it is written.
    pub const NAMES: [(&str, Self); 2] = [("manual", Self::Manual), ("onSubset", Self::OnSubset)];
}

impl OnFileChange {
    /// As it is written.
    pub const NAMES: [(&str, Self); 2] = [("adopt", Self::Adopt), ("abort", Self::Abort)];
}

impl OnInconclusive {
    /// As it is written.
    pub const NAMES: [(&str, Self); 3] =
        [("hold", Self::Hold), ("rollback", Self::Rollback), ("advance", Self::Advance)];
}

impl Event {
    /// As it is written.
    pub const NAMES: [(&str, Self); 5] = [
        ("started", Self::Started),
        ("advanced", Self::Advanced),
        ("held", Self::Held),
        ("rolledBack", Self::RolledBack),
        ("promoted", Self::Promoted),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, event)| *event == self).map_or("", |(name, _)| name)
    }
}
