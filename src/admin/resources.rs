//! Every resource, declared once: the router and the list at `/` are made of this, and `docs/openapi.json` describes it.

use axum::routing::{MethodRouter, get, post};

use super::{Shared, config, index, metrics, probes, rollouts, versions};
use crate::rollout::Verb;

/// One method of one path.
pub(super) struct Resource {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// For people, in one line.
    pub(super) does: &'static str,
    pub(super) route: fn() -> MethodRouter<Shared>,
}

const fn read(path: &'static str, does: &'static str, route: fn() -> MethodRouter<Shared>) -> Resource {
    Resource { method: "GET", path, does, route }
}

const fn write(path: &'static str, does: &'static str, route: fn() -> MethodRouter<Shared>) -> Resource {
    Resource { method: "POST", path, does, route }
}

/// In the order of the list.
pub(super) const RESOURCES: &[Resource] = &[
    read("/", "this list", || get(async || index::text())),
    read("/metrics", "Prometheus metrics", metrics::route),
    read("/ready", "200 while taking traffic, 503 before that and while draining", || get(probes::ready)),
    read("/live", "200 while the process answers", || get(probes::live)),
    read("/config/status", "the configuration in force, and what is wrong with the one on disk", || {
        get(config::status)
    }),
    read("/config/dump", "the configuration in force in full", || get(config::dump)),
    write("/config/reload", "look at the configuration now: 200 with the generation, 422 with what is wrong", || {
        post(config::reload)
    }),
    read(
        "/api/v1/versions",
        "what every version and route did since the start; ?since=reset: since the last reset",
        || get(versions::versions),
    ),
    write("/api/v1/versions/reset", "what they did since the last reset, which is now", || post(versions::reset)),
    read("/api/v1/rollouts", "every release: state, steps, weights, evidence", || get(rollouts::list)),
    read("/api/v1/rollouts/{name}", "one release", || get(rollouts::status)),
    read("/api/v1/rollouts/{name}/report", "what it has done so far, in full", || get(rollouts::report)),
    write("/api/v1/rollouts/{name}/start", "begin with the first step", || rollouts::verb(Verb::Start)),
    write("/api/v1/rollouts/{name}/pause", "stay at the step; a worse canary is still rolled back", || {
        rollouts::verb(Verb::Pause)
    }),
    write("/api/v1/rollouts/{name}/resume", "go on after a pause", || rollouts::verb(Verb::Resume)),
    write("/api/v1/rollouts/{name}/promote", "take the next step now; {\"full\": true} goes to the end", || {
        post(rollouts::promote)
    }),
    write("/api/v1/rollouts/{name}/approve", "say the yes that the step waits for", || rollouts::verb(Verb::Approve)),
    write("/api/v1/rollouts/{name}/abort", "canary weight 0 now", || rollouts::verb(Verb::Abort)),
    write("/api/v1/rollouts/{name}/retry", "the same version again, after a rollback or an abort", || {
        rollouts::verb(Verb::Retry)
    }),
];
