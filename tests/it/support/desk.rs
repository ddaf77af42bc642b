//! The admin port of this process with releases that do what a test says: everything real but what drives the releases.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use serin::admin::{AdminState, Board, Readiness, Reloaded, Token, serve};
use serin::control::Meant;
use serin::control::rollout::{CommandError, Desk, Status};
use serin::rollout::report::Report;
use serin::rollout::{Analysis, Mode, Phase, Plan, Refused, Rollout, State, Step, Totals, Verb};
use tempfile::NamedTempFile;
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

    fn say(&self, name: &str, verb: Verb, meant: &Meant) -> Result<Status, CommandError> {
        meant.check(1)?;
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

/// The report of a release that has just begun, as the pure core makes it.
pub(crate) fn begun(name: &str) -> Report {
    let mut rollout = Rollout::new(plan(name)).unwrap();
    rollout.apply(Verb::Start, Duration::ZERO).unwrap();
    rollout.totals(&Totals::default(), Duration::from_secs(11));
    rollout.decide(Duration::from_secs(11));
    Report::of(&rollout)
}

/// Two steps, errors and latency judged, nothing moved.
pub(crate) fn plan(name: &str) -> Plan {
    Plan {
        name: name.to_owned(),
        virtual_service: "vs".to_owned(),
        route: "vs/0".to_owned(),
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
        steps: vec![Step::new(10), Step::new(100)],
        analysis: Analysis { slower_than: Some(Duration::from_millis(300)), ..Analysis::default() },
        mode: Mode::Observe,
        latency_edges: vec![Duration::from_millis(300)],
    }
}

impl FakeAdmin {
    /// Shows these releases. Its `/config/dump` fails, and `/ready` says that it is draining.
    pub(crate) fn start(releases: Vec<Status>) -> Self {
        Self::with(releases, None)
    }

    /// Asks for a token, and has no release.
    pub(crate) fn locked(token: &str) -> Self {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), token).unwrap();
        Self::with(Vec::new(), Some(Token::read(file.path()).unwrap()))
    }

    fn with(releases: Vec<Status>, token: Option<Token>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Shown(Arc::new(Mutex::new(releases)));
        let (list, say, report) = (shown.clone(), shown.clone(), shown.clone());
        let desk = Desk {
            list: Box::new(move || list.all()),
            command: Box::new(move |name, verb, meant| say.say(name, verb, meant)),
            report: Box::new(move |name| {
                report.find(name).filter(|status| status.view.state != State::Idle)?;
                Some(json!(begun(name)))
            }),
        };
        let state = AdminState {
            metrics: Box::new(String::new),
            hosts: Vec::new(),
            token,
            readiness: Box::new(|| Readiness::Draining),
            versions: Board::new(Box::new(Vec::new)),
            status: Box::new(|| json!({ "generation": 1, "on_disk": { "state": "active" } })),
            dump: Box::new(|| panic!("on purpose")),
            reload: Box::new(|meant| {
                meant.check(1)?;
                Ok(Reloaded::InForce { generation: 1, changed: false })
            }),
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
