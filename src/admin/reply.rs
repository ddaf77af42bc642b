//! Answers that several resources share: errors as JSON, work that may block.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error as a person and a script can read it: `{"error": "<word>", "message": "<sentence>"}`, and `"known": [names]` where
/// a name was asked for that is none of them.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: &'static str,
    message: String,
    known: Option<Vec<String>>,
    /// Boxed: few have one, and whatever may be refused is as large as this.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), known: None, header: None }
    }

    /// The same, and these are the names that there are.
    pub(super) fn knowing(self, known: Vec<String>) -> Self {
        Self { known: Some(known), ..self }
    }

    /// The same, with a header.
    pub(super) fn with(self, header: (HeaderName, HeaderValue)) -> Self {
        Self { header: Some(Box::new(header)), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error, "message": self.message });
        if let Some(known) = self.known {
            body["known"] = json!(known);
        }
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().extend(self.header.map(|header| *header));
        response
    }
}

pub(super) async fn not_found(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("no resource at {}; GET / lists them", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    let message = format!("{} does not take {method}; the header allow says what it takes", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Runs `work` where it may block, so that probes are answered meanwhile.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "an admin request failed");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request failed; the log says more")
    })
}
