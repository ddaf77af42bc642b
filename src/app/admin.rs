//! What the admin port is told about the process.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::admin::{AdminState, Board, Readiness, Reloaded};
use crate::control::rollout::Desk;
use crate::control::{Outcome, Publisher, Trigger};
use crate::shutdown::{Shutdown, Stage};
use crate::snapshot::Snapshots;
use crate::telemetry::Metrics;

/// Everything that the admin server asks for.
pub(super) fn admin_state(
    publisher: &Publisher,
    (metrics, snapshots): (Metrics, Arc<Snapshots>),
    shutdown: &Arc<Shutdown>,
    dump: Arc<Mutex<Value>>,
    releases: Desk,
) -> AdminState {
    let (of_readiness, of_status, of_reload) = (publisher.clone(), publisher.clone(), publisher.clone());
    let stage = shutdown.listen();
    let counted = metrics.clone();
    AdminState {
        versions: Board::new(Box::new(move || counted.versions())),
        metrics: Box::new(move || {
            snapshots.current().show_connections(&metrics);
            metrics.render()
        }),
        hosts: Vec::new(),
        readiness: Box::new(move || match stage.stage() {
            Stage::Running if of_readiness.status().generation == 0 => Readiness::Starting,
            Stage::Running => Readiness::Serving,
            _ => Readiness::Draining,
        }),
        status: Box::new(move || json!(*of_status.status())),
        dump: Box::new(move || dump.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        reload: Box::new(move || match of_reload.reload(Trigger::Api) {
            Outcome::Applied { generation } => Reloaded::InForce { generation, changed: true },
            Outcome::Unchanged { generation } => Reloaded::InForce { generation, changed: false },
            Outcome::Rejected { generation, rejection } => {
                Reloaded::Rejected { generation, diagnostics: json!(rejection.problems) }
            }
        }),
        releases,
    }
}
