//! The admin port: whether it takes a token, what it is told about the process, and its end.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::admin_socket::AdminSocket;
use super::serve::failed;
use crate::admin::{self, Address, AdminState, Board, Readiness, Reloaded, Token};
use crate::control::rollout::Desk;
use crate::control::{Outcome, Publisher, Trigger};
use crate::shutdown::{Shutdown, Stage};
use crate::snapshot::Snapshots;
use crate::telemetry::Metrics;

/// The admin port. It may end before the rest: where another process has taken over.
#[derive(Debug)]
pub(super) struct AdminPort {
    /// None once another process has it.
    pub(super) socket: Option<AdminSocket>,
    end: Shutdown,
    pub(super) thread: JoinHandle<()>,
}

impl AdminPort {
    /// Serves it on a thread of its own.
    ///
    /// # Errors
    /// What to tell the operator: the system has no room.
    pub(super) fn start(socket: AdminSocket, state: AdminState) -> Result<Self, String> {
        let end = Shutdown::default();
        let mut told = end.listen();
        let ended = async move { told.reached(Stage::Aborted).await };
        let served = socket.listener().map_err(|error| failed("serve the admin port", &error))?;
        let thread = admin::serve(served, state, ended).map_err(|error| failed("start the admin thread", &error))?;
        Ok(Self { socket: Some(socket), end, thread })
    }

    /// Takes no more connections.
    pub(super) fn close(&self) {
        self.end.enter(Stage::Aborted);
    }

    /// From here on the file of a Unix socket stays or goes with it.
    pub(super) fn keep_file(&mut self, keep: bool) {
        self.socket.iter_mut().for_each(|socket| socket.keep_file(keep));
    }

    /// Another process serves it: should that one end, nobody may find the port taken because of this one.
    pub(super) fn hand_over(&mut self) {
        self.close();
        self.socket = None;
    }
}

/// The token that the admin port asks for: none is needed where only this machine can ask, or whoever may open a Unix socket.
///
/// # Errors
/// What to tell the operator: there is no good one in the file, or none where there must be one.
pub(super) fn token(file: Option<&Path>, listen: &Address) -> Result<Option<Token>, String> {
    match (file, listen) {
        (Some(file), _) => Token::read(file).map(Some).map_err(|message| format!("error: {message}")),
        (None, Address::Unix(_)) => Ok(None),
        (None, Address::Network(listen)) if listen.ip().to_canonical().is_loopback() => Ok(None),
        (None, Address::Network(listen)) => Err(format!(
            "error: --admin {listen} can be reached from other machines, so it takes a token\n  \
             help: `openssl rand -hex 32 >FILE`, and --admin-token-file FILE for this and the commands that ask it; \
             or --admin 127.0.0.1:{}, or unix:PATH",
            listen.port()
        )),
    }
}

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
        token: None,
        readiness: Box::new(move || match stage.stage() {
            Stage::Running if of_readiness.status().generation == 0 => Readiness::Starting,
            Stage::Running => Readiness::Serving,
            _ => Readiness::Draining,
        }),
        status: Box::new(move || json!(*of_status.status())),
        dump: Box::new(move || dump.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        reload: Box::new(move |meant| {
            Ok(match of_reload.reload_meant(Trigger::Api, meant)? {
                Outcome::Applied { generation } => Reloaded::InForce { generation, changed: true },
                Outcome::Unchanged { generation } => Reloaded::InForce { generation, changed: false },
                Outcome::Rejected { generation, rejection } => {
                    Reloaded::Rejected { generation, diagnostics: json!(rejection.problems) }
                }
            })
        }),
        releases,
    }
}
