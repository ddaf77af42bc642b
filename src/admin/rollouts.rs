//! `/api/v1/rollouts/…`: how the releases stand, and the verbs by which people move them.
//!
//! Each verb may be sent again: what is already so stays so. `promote` would take the next step each time; whoever says the step
//! that it has seen (`from`) moves the release once, however often the request arrives.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Shared;
use super::condition::IfMatch;
use super::reply::{Refusal, blocking};
use crate::control::Meant;
use crate::control::rollout::{CommandError, Status};
use crate::rollout::Verb;

/// The name of a release as it stands in the path: `namespace%2Fname` is one segment.
type Name = Result<Path<String>, PathRejection>;

/// The body of `promote`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Promotion {
    full: bool,
    from: Option<usize>,
}

/// The body of every other verb.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) async fn list(State(state): State<Shared>) -> Result<Json<Value>, Refusal> {
    blocking(move || json!({ "rollouts": (state.releases.list)() })).await.map(Json)
}

pub(super) async fn status(State(state): State<Shared>, name: Name) -> Result<Json<Status>, Refusal> {
    let name = named(name)?;
    blocking(move || {
        let (found, others): (Vec<_>, Vec<_>) = (state.releases.list)().into_iter().partition(|s| s.view.name == name);
        found.into_iter().next().ok_or_else(|| unknown(&name, others.into_iter().map(|s| s.view.name).collect()))
    })
    .await?
    .map(Json)
}

pub(super) async fn report(State(state): State<Shared>, name: Name) -> Result<Json<Value>, Refusal> {
    let name = named(name)?;
    blocking(move || {
        (state.releases.report)(&name).ok_or_else(|| {
            let known: Vec<_> = (state.releases.list)().into_iter().map(|status| status.view.name).collect();
            if !known.contains(&name) {
                return unknown(&name, known);
            }
            let message = format!("`{name}` has nothing to report: it has not begun");
            Refusal::new(StatusCode::NOT_FOUND, "report_not_found", message)
        })
    })
    .await?
    .map(Json)
}

/// A verb that needs no more words.
pub(super) fn verb(verb: Verb) -> MethodRouter<Shared> {
    post(async move |State(state): State<Shared>, name: Name, IfMatch(meant): IfMatch, body: Bytes| {
        read::<Nothing>(&body)?;
        say(state, name, verb, meant).await
    })
}

pub(super) async fn promote(
    State(state): State<Shared>,
    name: Name,
    IfMatch(meant): IfMatch,
    body: Bytes,
) -> Result<Json<Status>, Refusal> {
    let Promotion { full, from } = read(&body)?;
    say(state, name, Verb::Promote { full, from }, meant).await
}

async fn say(state: Shared, name: Name, verb: Verb, meant: Meant) -> Result<Json<Status>, Refusal> {
    let name = named(name)?;
    let said = blocking(move || (state.releases.command)(&name, verb, &meant)).await?;
    said.map(Json).map_err(|error| match error {
        CommandError::Unknown { name, known } => unknown(&name, known),
        CommandError::Outdated(outdated) => outdated.into(),
        CommandError::Refused(refused) => Refusal::new(StatusCode::CONFLICT, "refused", refused.to_string()),
        CommandError::Ending => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ending", error.to_string()),
    })
}

fn named(name: Name) -> Result<String, Refusal> {
    let Path(name) = name.map_err(|_| {
        let message = "the name in the path must be percent-encoded UTF-8";
        Refusal::new(StatusCode::BAD_REQUEST, "path_invalid", message)
    })?;
    Ok(name)
}

/// An absent body means every default.
fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        return Ok(T::default());
    }
    // Not into `T` at once, which would take an array of its fields as well.
    let fields = serde_json::from_slice::<Map<String, Value>>(body);
    fields.and_then(|fields| serde_json::from_value(fields.into())).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "body_invalid", format!("the body is not as documented: {error}"))
    })
}

fn unknown(name: &str, known: Vec<String>) -> Refusal {
    let error = CommandError::Unknown { name: name.to_owned(), known: Vec::new() };
    let list: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    let message = match &list[..] {
        [] => format!("{error}: the configuration in force has no Canary"),
        [only] => format!("{error}: the only one is {only}"),
        _ => format!("{error}: there are {}", list.join(", ")),
    };
    Refusal::new(StatusCode::NOT_FOUND, "rollout_not_found", message).knowing(known)
}
