//! The admin port of this process with releases that do what a test says: everything real but what drives the releases.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::json;
use serin::admin::{AdminState, Board, Readiness, Reloaded, serve};
use serin::control::rollout::{CommandError, Desk, Status};
use serin::rollout::{Phase, Refused, State, Verb};
use tokio::sync::oneshot;

/// A release of this name refuses every verb.
pub(crate) const STUBBORN: &str = "stubborn";
/// What is said to a release of this name comes too late.
pub(crate) const ENDING: &str = "ending";

/// An admin port, which ends with the test.
pub(crate) struct FakeAdmin {
    pub(crate) address: SocketAddr,
    /// The releases; a test may move them.
    pub(crate) releases: Shown,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the admin port shows.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<Vec<Status>>>);

impl Shown {
    pub(crate) fn all(&self) -> Vec<Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Status> {
        self.all().into_iter().find(|status| status.view.name == name)
    }

    /// Replaces the release of this name.
    pub(crate) fn put(&self, status: &Status) {
        for shown in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if shown.view.name == status.view.name {
                shown.clone_from(status);
            }
        }
    }

    fn say(&self, name: &str, verb: Verb) -> Result<Status, CommandError> {
        let known = || self.all().into_iter().map(|status| status.view.name).collect();
        let mut status =
            self.find(name).ok_or_else(|| CommandError::Unknown { name: name.to_owned(), known: known() })?;
        if name == ENDING {
            return Err(CommandError::Ending);
        }
        if name == STUBBORN {
            return Err(Refused { verb: verb.to_string(), because: "it does not want to".to_owned() }.into());
        }
        status.view.state = moved(status.view.state, verb);
        if status.view.state == State::Aborted {
            (status.view.weight, status.effective_weight) = (Some(0), 0);
        }
        self.put(&status);
        Ok(status)
    }
}

/// As much of the rules as a client can see.
fn moved(state: State, verb: Verb) -> State {
    let phase = Phase::Warming;
    match (verb, state) {
        (Verb::Start, State::Idle) | (Verb::Retry, State::RolledBack | State::Aborted) => {
            State::Running { step: 0, phase }
        }
        (Verb::Pause, State::Running { step, phase }) => State::Paused { step, phase },
        (Verb::Resume, State::Paused { step, phase }) => State::Running { step, phase },
        (Verb::Promote { full: true, .. }, _) => State::Promoted,
        (Verb::Promote { from, .. }, State::Running { step, .. }) if from.is_none_or(|seen| seen == step) => {
            State::Running { step: step + 1, phase }
        }
        (Verb::Abort, _) => State::Aborted,
        _ => state,
    }
}

/// `shop/product-service`, held at its second step.
pub(crate) fn held() -> Status {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rollouts/held.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The same under another name and in another state.
pub(crate) fn release(name: &str, state: State) -> Status {
    let mut release = held();
    (release.view.name, release.view.state) = (name.to_owned(), state);
    release
}

impl FakeAdmin {
    /// Shows these releases. Its `/config/dump` fails, and `/ready` says that it is draining.
    pub(crate) fn start(releases: Vec<Status>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Shown(Arc::new(Mutex::new(releases)));
        let (list, say, report) = (shown.clone(), shown.clone(), shown.clone());
        let desk = Desk {
            list: Box::new(move || list.all()),
            command: Box::new(move |name, verb| say.say(name, verb)),
            report: Box::new(move |name| {
                let begun = report.find(name).filter(|status| status.view.state != State::Idle)?;
                Some(json!({ "name": begun.view.name }))
            }),
        };
        let state = AdminState {
            metrics: Box::new(String::new),
            hosts: Vec::new(),
            readiness: Box::new(|| Readiness::Draining),
            versions: Board::new(Box::new(Vec::new)),
            status: Box::new(|| json!({ "generation": 1, "on_disk": { "state": "active" } })),
            dump: Box::new(|| panic!("on purpose")),
            reload: Box::new(|| Reloaded::InForce { generation: 1, changed: false }),
            releases: desk,
        };
        let (stop, stopped) = oneshot::channel();
        let thread = serve(listener, state, async move { stopped.await.unwrap_or(()) }).unwrap();
        Self { address, releases: shown, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for FakeAdmin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
