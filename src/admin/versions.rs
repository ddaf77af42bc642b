//! `/api/v1/versions`: exact counters of every version and route. A reset is a baseline kept here; no metric is touched.

use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::condition::IfMatch;
use super::reply::{Refusal, blocking};
use crate::telemetry::VersionSummary;

/// Reads the counters.
type Read = Box<dyn Fn() -> Vec<VersionSummary> + Send + Sync>;

/// The counters, and since when they count.
pub struct Board {
    read: Read,
    start: Moment,
    baseline: Mutex<Option<Baseline>>,
}

#[derive(Clone)]
struct Moment {
    /// RFC 3339.
    text: String,
    clock: Instant,
}

struct Baseline {
    from: Moment,
    versions: Vec<VersionSummary>,
}

/// From when on to count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    Start,
    Reset,
}

impl Board {
    /// `read` reads the counters, which began to count just now.
    #[must_use]
    pub fn new(read: Read) -> Self {
        Self { read, start: Moment::now(), baseline: Mutex::new(None) }
    }

    fn answer(&self, since: Since) -> Value {
        let baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
        let baseline = baseline.as_ref().filter(|_| since == Since::Reset);
        self.count(baseline, (self.read)(), &Moment::now())
    }

    /// What was since the last reset, unless it is forbidden. One reading is both its end and the next beginning, so that no request
    /// is lost between.
    fn reset<E>(&self, forbid: impl FnOnce() -> Result<(), E>) -> Result<Value, E> {
        let mut baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
        forbid()?;
        let (versions, now) = ((self.read)(), Moment::now());
        let answer = self.count(baseline.as_ref(), versions.clone(), &now);
        *baseline = Some(Baseline { from: now, versions });
        Ok(answer)
    }

    fn count(&self, baseline: Option<&Baseline>, versions: Vec<VersionSummary>, now: &Moment) -> Value {
        let (from, versions) = match baseline {
            Some(Baseline { from, versions: earlier }) => (from, VersionSummary::since(versions, earlier)),
            None => (&self.start, versions),
        };
        json!({
            "since": from.text,
            "reset": baseline.is_some(),
            "now": now.text,
            "seconds": now.clock.duration_since(from.clock).as_secs_f64(),
            "versions": versions,
        })
    }
}

impl Moment {
    fn now() -> Self {
        Self { text: format!("{:.3}", Timestamp::now()), clock: Instant::now() }
    }
}

pub(super) async fn versions(State(state): State<Shared>, RawQuery(query): RawQuery) -> Result<Json<Value>, Refusal> {
    let since = match query.as_deref() {
        None | Some("" | "since=start") => Since::Start,
        Some("since=reset") => Since::Reset,
        Some(_) => {
            let message = "wanted ?since=start or ?since=reset";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_query", message));
        }
    };
    blocking(move || in_force(&state, state.versions.answer(since))).await.map(Json)
}

pub(super) async fn reset(State(state): State<Shared>, IfMatch(meant): IfMatch) -> Result<Json<Value>, Refusal> {
    let counted = blocking(move || {
        let generation = || (state.status)()["generation"].as_u64().unwrap_or_default();
        state.versions.reset(|| meant.check(generation())).map(|counted| in_force(&state, counted))
    });
    Ok(Json(counted.await??))
}

/// Adds which configuration serves, and whether the one on disk is as good.
fn in_force(state: &Shared, mut answer: Value) -> Value {
    let status = (state.status)();
    answer["generation"] = status["generation"].clone();
    answer["onDisk"] = status["on_disk"]["state"].clone();
    answer
}
