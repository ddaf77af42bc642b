//! `/metrics`: Prometheus' text format.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tokio::sync::Mutex;

use super::Shared;
use super::reply::{Refusal, blocking};

/// One scrape is rendered at a time: it takes as much time as there are series, and many at once would leave other resources no
/// thread. The others wait without one; nothing is held while an answer is being sent.
pub(super) fn route() -> MethodRouter<Shared> {
    let turn = Arc::new(Mutex::new(()));
    get(async move |State(state): State<Shared>| render(state, turn).await)
}

async fn render(state: Shared, turn: Arc<Mutex<()>>) -> Result<Response, Refusal> {
    let turn = turn.lock_owned().await;
    // A client that goes away ends nothing that has begun, so the turn ends with the work.
    let text = blocking(move || {
        let _turn = turn;
        (state.metrics)()
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.await?).into_response())
}
