//! `If-Match`: a change that is meant for what its sender has seen, and for nothing else.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use tokio::sync::{Mutex, MutexGuard};

use super::Shared;
use super::reply::Refusal;

/// Those who say what they have seen take turns, so that of two who have seen the same the second is told.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<()>);

impl Turns {
    /// Goes on if the generation in force is one of those that the request names; to be held until the change is made. None:
    /// the request names none.
    pub(super) async fn take(
        &self,
        headers: &HeaderMap,
        state: &Shared,
    ) -> Result<Option<MutexGuard<'_, ()>>, Refusal> {
        if !headers.contains_key(header::IF_MATCH) {
            return Ok(None);
        }
        let turn = self.0.lock().await;
        let current = tag(&(state.status)());
        let named = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut named = named.flat_map(|value| value.split(',')).map(str::trim);
        if named.any(|tag| tag == "*" || current.as_ref().is_some_and(|current| current == tag)) {
            return Ok(Some(turn));
        }
        let current = current.as_ref().and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        let message = format!("the generation in force is {current}: look again at what is to be changed");
        Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "outdated", message))
    }
}

/// The entity tag of a configuration's status: its generation in quotes.
pub(super) fn tag(status: &serde_json::Value) -> Option<HeaderValue> {
    let generation = status["generation"].as_u64()?;
    HeaderValue::from_str(&format!("\"{generation}\"")).ok()
}
