//! What operators ask: metrics, readiness, the configuration's state, the versions, the releases. HTTP on a thread of its own.
//!
//! The data plane does not know this module, and nothing here runs on a data-plane thread: a flood of requests there
//! cannot make the probes fail, and a flood here cannot slow a request down.

mod condition;
mod config;
mod guard;
mod index;
mod listener;
mod metrics;
mod probes;
mod reply;
mod resources;
mod rollouts;
mod server;
#[cfg(test)]
mod tests;
mod token;
mod versions;
mod write_limit;

use std::sync::Arc;

use axum::{Router, middleware};

pub use config::Reloaded;
pub use listener::{Address, Listener};
pub use probes::Readiness;
pub use server::serve;
pub use token::Token;
pub use versions::Board;

use crate::control::rollout::Desk;
use crate::control::{Meant, Outdated};

/// What the answers come from. The closures are called on the admin's own threads and may take their time.
pub struct AdminState {
    /// The body of `/metrics`.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Names, besides `localhost` and the address listened on, that a request's `Host` may carry.
    pub hosts: Vec<String>,
    /// What every request has to say, but those of `/ready` and `/live`; without it, changes are taken from this machine only.
    pub token: Option<Token>,
    /// Whether the process takes traffic now.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// What every version did: `/api/v1/versions`.
    pub versions: Board,
    /// The configuration in force and what became of the last one looked at: the body of `/config/status`.
    pub status: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The configuration in force in full: the body of `/config/dump`.
    pub dump: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Looks at the configuration now, if the change is meant for the generation in force, and returns when the result is in force.
    pub reload: Box<Reload>,
    /// The releases.
    pub releases: Desk,
}

/// See [`AdminState::reload`].
pub type Reload = dyn Fn(&Meant) -> Result<Reloaded, Outdated> + Send + Sync;

type Shared = Arc<AdminState>;

/// Every resource, behind the guard. `listen` is the address that requests come in at.
fn routes(state: Shared, listen: &Address) -> Router {
    let gate = Arc::new(guard::Gate::new(listen, &state));
    let router = Router::new();
    let router = resources::RESOURCES.iter().fold(router, |router, one| router.route(one.path, (one.route)()));
    router
        .fallback(reply::not_found)
        .method_not_allowed_fallback(reply::method_not_allowed)
        .with_state(state)
        .layer(middleware::from_fn_with_state(gate, guard::guard))
}
