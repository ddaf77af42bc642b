//! `/config/…`: what is in force, what is on disk, and taking the latter into effect.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::condition::IfMatch;
use super::reply::{Refusal, blocking};
use super::{Shared, condition};

/// What became of a reload that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Reloaded {
    /// What is on disk is in force: every request that begins from now on obeys it.
    InForce {
        /// Its generation.
        generation: u64,
        /// Whether it was not in force before.
        changed: bool,
    },
    /// What is on disk is invalid; what was in force stays.
    Rejected {
        /// The generation that stays.
        generation: u64,
        /// What is wrong, as `check --json` says it.
        diagnostics: Value,
    },
}

pub(super) async fn status(State(state): State<Shared>) -> Result<Response, Refusal> {
    let status = blocking(move || (state.status)()).await?;
    let tag = condition::tag(&status).map(|tag| (header::ETAG, tag));
    let mut response = Json(status).into_response();
    response.headers_mut().extend(tag);
    Ok(response)
}

pub(super) async fn dump(State(state): State<Shared>) -> Result<Json<Value>, Refusal> {
    blocking(move || (state.dump)()).await.map(Json)
}

pub(super) async fn reload(State(state): State<Shared>, IfMatch(meant): IfMatch) -> Result<Response, Refusal> {
    let (status, body) = match blocking(move || (state.reload)(&meant)).await?? {
        Reloaded::InForce { generation, changed } => {
            let result = if changed { "applied" } else { "unchanged" };
            (StatusCode::OK, json!({ "result": result, "generation": generation }))
        }
        Reloaded::Rejected { generation, diagnostics } => (
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "result": "rejected", "generation": generation, "diagnostics": diagnostics }),
        ),
    };
    Ok((status, Json(body)).into_response())
}
