//! Starting, serving and ending the process, in this order: listeners, configuration, workers, admin, watch; then back.

mod end;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::end::Farewell;
use super::Options;
use super::admin::{AdminPort, admin_state, token};
use super::admin_socket::AdminSocket;
use super::inherited::Inherited;
use super::install::Installer;
use super::listeners::ListenerSet;
use super::memory;
use super::notices::Notices;
use super::service;
use crate::admin::{Address, AdminState};
use crate::config::load::Loaded;
use crate::config::settings::Settings;
use crate::control::rollout::Releases;
use crate::control::{FileWatch, Inputs, Outcome, Pace, Publisher, Trigger, give_way};
use crate::proxy::{Admission, Bound, Draws, Opened, Pulse, Room, Shared, Worker, WorkerHandle};
use crate::shutdown::Shutdown;
use crate::snapshot::{Builder, Snapshots, active_routes};
use crate::telemetry::access_log::{AccessLog, AccessLogThread};
use crate::telemetry::{ActiveRoute, Metrics};
use crate::upstream::resolve::{Resolver, system_lookup};
use crate::upstream::{Bodies, Registry};

/// How long the first look-up of names may delay the start.
const FIRST_LOOKUP: Duration = Duration::from_secs(1);

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect at the start.
    pub listeners: Vec<Bound>,
    /// The admin address.
    pub admin: Address,
    /// The one writer of the configuration.
    pub publisher: Publisher,
    /// Every metric.
    pub metrics: Metrics,
    snapshots: Arc<Snapshots>,
    admission: Arc<Admission>,
    shutdown: Arc<Shutdown>,
    workers: Vec<WorkerHandle>,
    admin_port: AdminPort,
    rollout_thread: JoinHandle<()>,
    releases: Releases,
    log_thread: Option<AccessLogThread>,
    watch: Option<FileWatch>,
    open: Arc<ListenerSet>,
    /// Whether nobody is to take over any more.
    going_on: Arc<AtomicBool>,
}

/// Starts a proxy. When this returns, every listener accepts and `/ready` says yes (unless it waits for a configuration).
///
/// # Errors
/// What to tell the operator: the configuration is refused, an address is taken, or the system has no room.
pub fn start(options: Options) -> Result<Running, String> {
    let Options { inputs, settings, workers, .. } = &options;
    let token = token(options.admin_token_file.as_deref(), &options.admin)?;
    let metrics = Metrics::new(*workers, options.buckets);
    let registry = Arc::new(Registry::new(*workers));
    let resolver = start_resolver(&registry, &metrics)?;
    let (senders, sockets): (Vec<_>, Vec<_>) = (0..*workers).map(|_| unbounded_channel()).unzip();
    let (listeners, admin_socket) = open_sockets(&options, senders)?;
    let admin = admin_socket.address().map_err(|error| failed("read the admin address", &error))?;
    let settings = Settings { mesh_ports: listeners.mesh_ports(), ..settings.clone() };
    let builder = Builder { settings: settings.clone(), registry: Arc::clone(&registry), metrics: metrics.clone() };
    let snapshots = Arc::new(Snapshots::new(builder.empty()));
    let folder = options.state_dir.as_deref();
    let (releases, rollout_thread) = Releases::start(Arc::clone(&snapshots), metrics.clone(), folder)
        .map_err(|error| failed("keep the states of releases", &error))?;
    let shutdown = Arc::new(Shutdown::default());
    let dump = Arc::new(Mutex::new(Value::Null));
    let install = Installer {
        builder,
        releases: releases.clone(),
        listeners: Arc::clone(&listeners),
        resolver: Arc::clone(&resolver),
        dump: Arc::clone(&dump),
        notices: Notices::default(),
    };
    let publisher = publish_first(install, &options, settings, &metrics)?;
    resolver.settle(FIRST_LOOKUP);

    let (log, log_thread) = open_log(&options, &metrics)?.unzip();
    let shared = shared(&options, &metrics, Arc::clone(&snapshots), (log, &shutdown));
    let shown = (metrics.clone(), Arc::clone(&snapshots));
    let state = admin_state(&publisher, shown, &shutdown, dump, releases.desk());
    let admin_port = AdminPort::start(admin_socket, AdminState { hosts: options.admin_hosts.clone(), token, ..state })?;
    let watch = watch(inputs, &publisher)?;
    // Last: whoever takes connections must not fail any more.
    let workers = start_workers(&shared, sockets, options.limits.max_connections)?;
    Ok(Running {
        listeners: listeners.started(),
        admin,
        publisher,
        metrics,
        snapshots,
        admission: shared.admission,
        shutdown,
        workers,
        admin_port,
        rollout_thread,
        releases,
        log_thread,
        watch,
        open: listeners,
        going_on: Arc::default(),
    })
}

fn shared(
    options: &Options,
    metrics: &Metrics,
    snapshots: Arc<Snapshots>,
    (log, shutdown): (Option<AccessLog>, &Shutdown),
) -> Shared {
    let limit = memory::limit(options.limits.max_memory);
    if let Some(bytes) = limit {
        metrics.overload().set_memory_limit(bytes);
    }
    let bodies = Bodies::new(memory::for_bodies(limit), Arc::clone(metrics.overload()));
    Shared {
        snapshots,
        limits: Arc::new(options.limits.clone()),
        draws: Arc::new(Draws::new(options.seed)),
        admission: Arc::new(Admission::new(options.limits.max_requests, options.workers)),
        unrouted: Arc::clone(metrics.unrouted()),
        connections: Arc::clone(metrics.connections()),
        log,
        stalls: Arc::clone(metrics.worker_stalls()),
        overload: Arc::clone(metrics.overload()),
        bodies: Arc::new(bodies),
        shutdown: shutdown.listen(),
    }
}

/// The listeners of the command line and the admin port: opened, or taken over.
fn open_sockets(
    options: &Options,
    workers: Vec<UnboundedSender<Opened>>,
) -> Result<(Arc<ListenerSet>, AdminSocket), String> {
    let mut inherited = Inherited::from_env().map_err(|error| failed("take over sockets", &error))?;
    let admin = AdminSocket::open(&options.admin, &mut inherited)?;
    let listeners = ListenerSet::new(&options.listeners, workers, inherited)?;
    Ok((Arc::new(listeners), admin))
}

fn start_resolver(registry: &Arc<Registry>, metrics: &Metrics) -> Result<Arc<Resolver>, String> {
    let started = Resolver::start(Arc::clone(registry), system_lookup, Arc::clone(metrics.dns()));
    started.map(Arc::new).map_err(|error| failed("start a thread", &error))
}

fn open_log(options: &Options, metrics: &Metrics) -> Result<Option<(AccessLog, AccessLogThread)>, String> {
    let Some(to) = &options.access_log else { return Ok(None) };
    let opened = AccessLog::start(to, Arc::clone(metrics.access_log_dropped()));
    let place = to.file.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    opened.map(Some).map_err(|error| failed(&format!("log requests to {place}"), &error))
}

/// Puts the configuration that is there at the start in force.
fn publish_first(
    install: Installer,
    options: &Options,
    settings: Settings,
    metrics: &Metrics,
) -> Result<Publisher, String> {
    let install = Box::new(move |loaded: &Loaded, generation| install.install(loaded, generation));
    let publisher = Publisher::new(options.inputs.clone(), settings, metrics.clone(), install);
    match publisher.start() {
        // Another process has one in force that it would give up for nothing.
        Outcome::Rejected { .. } if service::has_predecessor() => {
            Err("error: there is no valid configuration to take over with".to_owned())
        }
        Outcome::Rejected { .. } if !options.wait_for_config => {
            Err("error: there is no valid configuration to start with (--wait-for-config would wait for one)"
                .to_owned())
        }
        _ => Ok(publisher),
    }
}

/// What stands in no file cannot change.
fn watch(inputs: &Inputs, publisher: &Publisher) -> Result<Option<FileWatch>, String> {
    match inputs {
        Inputs::Paths { .. } => FileWatch::start(publisher.clone(), Pace::default())
            .map(Some)
            .map_err(|error| failed("watch the files", &error)),
        Inputs::Text(_) => Ok(None),
    }
}

impl Running {
    /// Looks after what runs, to be called about once a second: frees what earlier configurations held, and says whether every
    /// worker is alive.
    pub fn look_after(&self) -> bool {
        if self.snapshots.has_retired() {
            let snapshots = Arc::clone(&self.snapshots);
            let free = move || {
                give_way();
                snapshots.free_retired();
            };
            // If there is no thread now, there is one a second later.
            let _ = thread::Builder::new().name("serin-free".into()).spawn(free);
        }
        !self.workers.iter().any(WorkerHandle::is_finished)
    }

    /// The signs of life of the workers, in the order of their numbers.
    pub(super) fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.workers.iter().map(|worker| Arc::clone(worker.pulse())).collect()
    }

    /// The places for requests under way.
    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// The name of a thread that has ended too early, of those that know more than could be told another one.
    pub(super) fn missing(&self) -> Option<&'static str> {
        let threads = [("serin-rollout", &self.rollout_thread), ("admin", &self.admin_port.thread)];
        threads.into_iter().find(|(_, thread)| thread.is_finished()).map(|(name, _)| name)
    }

    /// Every destination of every rule in force, with its share.
    pub fn routes(&self) -> Vec<ActiveRoute> {
        active_routes(&self.snapshots.load())
    }

    /// Reads the configuration again, off this thread; the outcome is logged and counted.
    pub fn reload_soon(&self, trigger: Trigger) {
        let publisher = self.publisher.clone();
        // It ends by itself within one reload.
        let _ = thread::Builder::new().name("serin-reload".into()).spawn(move || publisher.reload(trigger));
    }

    /// Every listening socket under its name, for the process that takes this one's place.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn sockets(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        let mut sockets: Vec<_> =
            self.open.sockets()?.into_iter().map(|(name, socket)| (name, socket.into())).collect();
        if let Some(socket) = &self.admin_port.socket {
            sockets.push(socket.pass_on()?);
        }
        Ok(sockets)
    }
}

fn start_workers(
    shared: &Shared,
    sockets: Vec<UnboundedReceiver<Opened>>,
    connections: usize,
) -> Result<Vec<WorkerHandle>, String> {
    let room = Arc::new(Room::new(connections));
    let start = |(index, sockets)| Worker::start(index, shared.clone(), sockets, Arc::clone(&room));
    let started: io::Result<Vec<_>> = sockets.into_iter().enumerate().map(start).collect();
    started.map_err(|error| failed("start a worker", &error))
}

/// What to tell the operator of something that the system refuses.
pub(super) fn failed(what: &str, error: &io::Error) -> String {
    format!("error: cannot {what}: {error}")
}
