//! Asking a running proxy once a second for everything that live views show.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, from_value};
use tokio::time::{Instant, timeout};

use crate::app::ReleaseStatus;
use crate::cli::admin_client::{Admin, Answer};
use crate::telemetry::VersionSummary;

/// Between two polls.
pub(in crate::cli) const PERIOD: Duration = Duration::from_secs(1);
/// How long the proxy may take before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the proxy said at one moment.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Picture {
    /// When it said so.
    pub at: Instant,
    /// Every counter.
    pub counted: Counted,
    /// Every release of the configuration in force.
    pub releases: Vec<ReleaseStatus>,
}

/// The answer to `/api/v1/versions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Counted {
    /// From when on it counts, as RFC 3339: for one process always the same, unless since a reset was asked for.
    pub since: String,
    /// Whether a reset is what it counts from.
    pub reset: bool,
    /// How long it has counted.
    pub seconds: f64,
    /// The configuration in force.
    pub generation: u64,
    /// `active`, or what is wrong with the one on disk.
    pub on_disk: String,
    /// The versions, ordered by labels.
    pub versions: Vec<VersionSummary>,
}

/// The answer to `/api/v1/rollouts`.
#[derive(Deserialize)]
struct Releases {
    rollouts: Vec<ReleaseStatus>,
}

/// Asks for everything.
///
/// # Errors
/// What to tell the reader; the first line says it in short.
pub(in crate::cli) async fn poll(admin: &Admin) -> Result<Picture, String> {
    let all = async {
        let counted = read(admin.fetch("/api/v1/versions").await?)?;
        let Releases { rollouts } = read(admin.fetch("/api/v1/rollouts").await?)?;
        Ok(Picture { at: Instant::now(), counted, releases: rollouts })
    };
    timeout(PATIENCE, all).await.unwrap_or_else(|_| Err(format!("no answer from the admin port within {PATIENCE:?}")))
}

/// The answer to `/api/v1/versions`, in the words of a program.
///
/// # Errors
/// The proxy refused, or is of another version.
pub(in crate::cli) fn read<T: for<'de> Deserialize<'de>>(answer: Answer) -> Result<T, String> {
    if !answer.status.is_success() {
        return Err(answer.refusal());
    }
    understood(answer.body)
}

fn understood<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, String> {
    let help = "is the serin that runs another version than this command?";
    from_value(body).map_err(|error| format!("the admin port's answer is not understood: {error}\n  help: {help}"))
}
