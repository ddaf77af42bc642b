//! A release for the tests of the views.

use crate::app::ReleaseStatus;

/// At its second of five steps, as the admin port sends it.
pub(in crate::cli) fn held() -> ReleaseStatus {
    serde_json::from_str(include_str!("../../../tests/fixtures/rollouts/held.json")).unwrap()
}
