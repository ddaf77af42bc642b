//! Starting, serving and ending the process, in this order: listeners, configuration, workers, admin, watch; then back.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Options;
use super::notices::Notices;
use crate::admin::{self, AdminState, Readiness, Reloaded};
use crate::config::load::Loaded;
use crate::config::place::Place;
use crate::config::settings::{Listeners, Settings};
use crate::control::{FileWatch, Inputs, Outcome, Pace, Publisher, Trigger};
use crate::proxy::{Bound, Draws, Room, Scheme, Shared, Worker, WorkerHandle, bind};
use crate::shutdown::{Shutdown, Stage};
use crate::snapshot::{Builder, Destination, Snapshot, Snapshots};
use crate::telemetry::{ActiveRoute, Metrics};
use crate::upstream::Registry;
use crate::upstream::resolve::{Resolver, system_lookup};

/// After `/ready` says no, new connections are taken for this long: balancers need it to notice.
const ANNOUNCE: Duration = Duration::from_secs(5);
/// Connections that were idle when the drain began may bring one more request for this long.
const LAME_DUCK: Duration = Duration::from_secs(2);
/// How long the first look-up of names may delay the start.
const FIRST_LOOKUP: Duration = Duration::from_secs(1);

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub listeners: Vec<Bound>,
    /// The admin address.
    pub admin: SocketAddr,
    /// The one writer of the configuration.
    pub publisher: Publisher,
    /// Every metric.
    pub metrics: Metrics,
    snapshots: Arc<Snapshots>,
    shutdown: Arc<Shutdown>,
    workers: Vec<WorkerHandle>,
    admin_thread: JoinHandle<()>,
    watch: Option<FileWatch>,
}

/// Starts a proxy. When this returns, every listener accepts and `/ready` says yes (unless it waits for a configuration).
///
/// # Errors
/// What to tell the operator: the configuration is refused, an address is taken, or the system has no room.
pub fn start(options: Options) -> Result<Running, String> {
    let Options { inputs, settings, listeners, workers, .. } = &options;
    let metrics = Metrics::new(*workers, options.buckets);
    let registry = Arc::new(Registry::new(*workers));
    let resolver =
        Resolver::start(Arc::clone(&registry), system_lookup).map_err(|error| failed("start a thread", &error))?;
    let resolver = Arc::new(resolver);
    let sockets = bind_all(listeners, *workers)?;
    let admin_socket = StdListener::bind(options.admin).map_err(|error| taken(options.admin, &error))?;
    let admin = admin_socket.local_addr().map_err(|error| failed("read the admin address", &error))?;

    let settings = Settings { mesh_ports: ports(&sockets), ..settings.clone() };
    let builder = Builder { settings: settings.clone(), registry: Arc::clone(&registry), metrics: metrics.clone() };
    let snapshots = Arc::new(Snapshots::new(builder.empty()));
    let shutdown = Arc::new(Shutdown::default());
    let dump = Arc::new(Mutex::new(Value::Null));
    let install = Installer {
        builder,
        snapshots: Arc::clone(&snapshots),
        resolver: Arc::clone(&resolver),
        dump: Arc::clone(&dump),
        notices: Notices::default(),
    };
    let install = Box::new(move |loaded: &Loaded, generation| {
        install.install(loaded, generation);
        Ok(())
    });
    let publisher = Publisher::new(inputs.clone(), settings, metrics.clone(), install);
    if let Outcome::Rejected { .. } = publisher.start()
        && !options.wait_for_config
    {
        return Err(
            "error: there is no valid configuration to start with (--wait-for-config would wait for one)".to_owned()
        );
    }
    resolver.settle(FIRST_LOOKUP);

    let listeners = sockets.iter().map(|(bound, _)| *bound).collect();
    let shared = Shared {
        snapshots,
        limits: Arc::new(options.limits.clone()),
        draws: Arc::new(Draws::new(options.seed)),
        unrouted: Arc::clone(metrics.unrouted()),
        shutdown: shutdown.listen(),
    };
    let workers = start_workers(*workers, &shared, sockets, options.limits.max_connections)?;
    let snapshots = shared.snapshots;
    let shown = (metrics.clone(), Arc::clone(&snapshots));
    let state = AdminState { hosts: options.admin_hosts.clone(), ..admin_state(&publisher, shown, &shutdown, dump) };
    let mut end = shutdown.listen();
    let ended = async move { end.reached(Stage::Aborted).await };
    let admin_thread =
        admin::serve(admin_socket, state, ended).map_err(|error| failed("start the admin thread", &error))?;
    let watch = watch(inputs, &publisher)?;
    Ok(Running { listeners, admin, publisher, metrics, snapshots, shutdown, workers, admin_thread, watch })
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

/// Puts a valid configuration in force.
struct Installer {
    builder: Builder,
    snapshots: Arc<Snapshots>,
    resolver: Arc<Resolver>,
    dump: Arc<Mutex<Value>>,
    notices: Notices,
}

impl Installer {
    fn install(&self, loaded: &Loaded, generation: u64) {
        let place = |place: Place| match loaded.sources.get(place.file as usize) {
            Some(source) => format!("{}:{}", source.path.display(), place.line),
            None => "the command line".to_owned(),
        };
        let snapshot = self.builder.build(&loaded.resources, &place, generation);
        // Series exist before the first request can count in them.
        self.builder.metrics.activate(active_routes(&snapshot));
        self.snapshots.publish(snapshot);
        self.builder.registry.prune();
        self.resolver.wake();
        let sources = loaded.sources.iter().map(|source| json!({ "path": source.path, "text": &*source.text }));
        *self.dump.lock().unwrap_or_else(PoisonError::into_inner) =
            json!({ "generation": generation, "hash": loaded.hash, "sources": sources.collect::<Vec<_>>() });
        self.notices.give(&loaded.resources, &self.builder.settings);
    }
}

fn active_routes(snapshot: &Snapshot) -> Vec<ActiveRoute> {
    let active = |(to, share): (&Destination, f64)| ActiveRoute {
        metrics: Arc::clone(&to.metrics),
        declared: share,
        effective: share,
    };
    snapshot.destinations().map(active).collect()
}

impl Running {
    /// Whether every worker is alive.
    pub fn is_healthy(&self) -> bool {
        !self.workers.iter().any(WorkerHandle::is_finished)
    }

    /// Every destination of every rule in force, with its share.
    pub fn routes(&self) -> Vec<ActiveRoute> {
        active_routes(&self.snapshots.load())
    }

    /// Reads the configuration again, off this thread; the outcome is logged and counted.
    pub fn reload_soon(&self, trigger: Trigger) {
        let publisher = self.publisher.clone();
        // It ends by itself within one reload.
        let _ = std::thread::Builder::new().name("serin-reload".into()).spawn(move || publisher.reload(trigger));
    }

    /// Ends well: says so, takes what still comes, lets requests finish. `at_once` leaves out the time that balancers need.
    /// Returns how many connections had to be cut off after `limit`.
    pub async fn drain(self, limit: Duration, at_once: bool) -> usize {
        self.shutdown.enter(Stage::Announced);
        if !at_once {
            sleep(ANNOUNCE).await;
        }
        self.shutdown.enter(Stage::Draining);
        let deadline = Instant::now() + limit;
        let lame_duck = if at_once { Duration::ZERO } else { LAME_DUCK };
        self.wait_for_workers(Instant::now() + lame_duck).await;
        self.shutdown.enter(Stage::Closing);
        self.wait_for_workers(deadline).await;
        self.end()
    }

    async fn wait_for_workers(&self, until: Instant) {
        while Instant::now() < until && !self.workers.iter().all(WorkerHandle::is_finished) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn end(self) -> usize {
        self.shutdown.enter(Stage::Aborted);
        drop(self.watch);
        let cut_off = self.workers.into_iter().filter_map(WorkerHandle::join).sum();
        // The admin thread ends by the same signal; a panic in it was logged where it happened.
        let _ = self.admin_thread.join();
        cut_off
    }
}

fn start_workers(
    count: usize,
    shared: &Shared,
    sockets: Vec<(Bound, Vec<StdListener>)>,
    connections: usize,
) -> Result<Vec<WorkerHandle>, String> {
    let room = Arc::new(Room::new(connections));
    let mut of_worker: Vec<Vec<(Bound, StdListener)>> = (0..count).map(|_| Vec::new()).collect();
    for (bound, sockets) in sockets {
        of_worker.iter_mut().zip(sockets).for_each(|(all, socket)| all.push((bound, socket)));
    }
    let start = |(index, sockets)| Worker::start(index, shared.clone(), sockets, Arc::clone(&room));
    let started: io::Result<Vec<_>> = of_worker.into_iter().enumerate().map(start).collect();
    started.map_err(|error| failed("start a worker", &error))
}

fn admin_state(
    publisher: &Publisher,
    (metrics, snapshots): (Metrics, Arc<Snapshots>),
    shutdown: &Arc<Shutdown>,
    dump: Arc<Mutex<Value>>,
) -> AdminState {
    let (of_readiness, of_status, of_reload) = (publisher.clone(), publisher.clone(), publisher.clone());
    let stage = shutdown.listen();
    AdminState {
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
    }
}

/// Every mesh listener, bound on its local port once for each worker.
fn bind_all(listeners: &Listeners, workers: usize) -> Result<Vec<(Bound, Vec<StdListener>)>, String> {
    let mut bound = Vec::with_capacity(listeners.mesh.len());
    for wanted in &listeners.mesh {
        let local = listeners
            .port_map
            .iter()
            .find(|(port, _)| *port == wanted.port())
            .map_or(wanted.port(), |(_, local)| *local);
        let address = SocketAddr::new(wanted.ip(), local);
        let (local, sockets) = bind(address, workers).map_err(|error| taken(address, &error))?;
        let port = if wanted.port() == 0 { local.port() } else { wanted.port() };
        bound.push((Bound { local, port, scheme: Scheme::Http }, sockets));
    }
    Ok(bound)
}

fn ports(sockets: &[(Bound, Vec<StdListener>)]) -> Vec<u16> {
    let mut ports: Vec<u16> = sockets.iter().map(|(bound, _)| bound.port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn taken(address: SocketAddr, error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; choose another port with --listen, --admin or --port-map"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges; --port-map 80=8080 serves port 80 on 8080"
        }
        _ => "choose an address of this host with --listen or --admin",
    };
    format!("error: cannot listen on {address}: {error}\n  = help: {help}")
}

fn failed(what: &str, error: &io::Error) -> String {
    format!("error: cannot {what}: {error}")
}
