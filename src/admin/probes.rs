//! `/ready` and `/live`: what load balancers and orchestrators ask.

use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;

/// Whether the process takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not so far: no configuration in force, or listeners not bound.
    Starting,
    /// Yes.
    Serving,
    /// Not any more: what is still coming is served, but it should go elsewhere.
    Draining,
}

/// 200 exactly while traffic should be sent here. A rejected configuration does not change it: the old one serves.
pub(super) async fn ready(State(state): State<Shared>) -> (StatusCode, &'static str) {
    match (state.readiness)() {
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Serving => (StatusCode::OK, "ready\n"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

/// 200 as long as the process can answer at all.
pub(super) async fn live() -> &'static str {
    "live\n"
}
