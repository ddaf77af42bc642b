//! The admin port's resources of releases, as the commands use them.

use serde::Deserialize;
use serde_json::Value;

use crate::app::ReleaseStatus;
use crate::cli::admin_client::{Admin, Answer, segment};

/// Why a command has no answer to show.
#[derive(Debug, PartialEq)]
pub(super) enum Failure {
    /// Nobody answers.
    Unreachable(String),
    /// It cannot be done as it was typed.
    Unable(String),
    /// The release says no: the answer of the admin port.
    Refused(Value),
}

/// The releases of a running proxy.
pub(super) struct Releases(pub(super) Admin);

impl Releases {
    /// All of them: `{"rollouts": […]}`.
    pub(super) fn all(&self) -> Result<Value, Failure> {
        take(self.0.get("/api/v1/rollouts"))
    }

    /// One of them.
    pub(super) fn one(&self, name: &str) -> Result<Value, Failure> {
        take(self.0.get(&format!("/api/v1/rollouts/{}", segment(name))))
    }

    /// Says a verb; its new state.
    pub(super) fn say(&self, name: &str, verb: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let path = format!("/api/v1/rollouts/{}/{verb}", segment(name));
        take(body.map_or_else(|| self.0.post(&path), |body| self.0.post_json(&path, body)))
    }

    /// The name that was typed, or that of the only release.
    pub(super) fn resolve(&self, name: Option<&str>) -> Result<String, Failure> {
        if let Some(name) = name {
            return Ok(name.to_owned());
        }
        let names: Vec<String> = statuses(&self.all()?)?.into_iter().map(|status| status.view.name).collect();
        match &names[..] {
            [only] => Ok(only.clone()),
            [] => Err(Failure::Unable("there is no release: the configuration in force has no Canary".to_owned())),
            _ => Err(Failure::Unable(format!("there are several releases, say which: {}", names.join(", ")))),
        }
    }
}

/// What the admin port says of one release.
pub(super) fn status(answer: &Value) -> Result<ReleaseStatus, Failure> {
    ReleaseStatus::deserialize(answer).map_err(|error| {
        let help = "help: is it a serin of another version? --json prints the answer as it is";
        Failure::Unable(format!("the answer of the admin port makes no sense here: {error}\n  {help}"))
    })
}

/// What it says of all.
pub(super) fn statuses(answer: &Value) -> Result<Vec<ReleaseStatus>, Failure> {
    let list = answer["rollouts"].as_array();
    let list =
        list.ok_or_else(|| Failure::Unable("the answer of the admin port has no list of releases".to_owned()))?;
    list.iter().map(status).collect()
}

fn take(answer: Result<Answer, String>) -> Result<Value, Failure> {
    let answer = answer.map_err(Failure::Unreachable)?;
    match answer.status.as_u16() {
        200 => Ok(answer.body),
        409 => Err(Failure::Refused(answer.body)),
        404 if answer.body["error"] == "rollout_not_found" => {
            Err(Failure::Unable(answer.body["message"].as_str().unwrap_or_default().to_owned()))
        }
        _ => Err(Failure::Unable(answer.refusal())),
    }
}
