//! One data-plane thread: its runtime, its listeners, and what its requests share. Nothing here is written by another thread
//! while a request is served.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::Method;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, interval};

use super::draw::Draws;
use super::limits::Limits;
use super::listener::{self, Bound, Room};
use super::watch::Watch;
use crate::shutdown::{Listen, Stage};
use crate::snapshot::{Destination, Snapshot, Snapshots};
use crate::telemetry::{Finished, Flag, RouteMetrics, Worker as Shard};
use crate::upstream::{ConnectError, Endpoint};

/// The same trouble is logged at most this often by one worker.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// What all workers of a process share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The configuration in force.
    pub snapshots: Arc<Snapshots>,
    /// Limits on clients.
    pub limits: Arc<Limits>,
    /// Randomness.
    pub draws: Arc<Draws>,
    /// Counters of requests that reach no destination.
    pub unrouted: Arc<RouteMetrics>,
    /// The end.
    pub shutdown: Listen,
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    shared: Shared,
    view: Mutex<Arc<View>>,
    watch: Watch,
    draining: AtomicBool,
    drained: Notify,
    logged: Mutex<HashMap<String, Instant>>,
}

/// One worker's hold on a snapshot: its count is touched by this worker's requests only.
#[derive(Debug)]
pub struct View(Arc<Snapshot>);

impl View {
    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.0
    }
}

/// A worker's thread.
#[derive(Debug)]
pub struct WorkerHandle {
    thread: JoinHandle<usize>,
}

impl WorkerHandle {
    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end. How many connections it had to cut off; none if it panicked.
    pub fn join(self) -> Option<usize> {
        self.thread.join().ok()
    }
}

impl Worker {
    /// Starts a worker's thread on sockets that are bound already. `ended` is called when the thread ends, however it does.
    ///
    /// # Errors
    /// No thread, no runtime, or a socket that cannot be polled.
    pub fn start(
        index: usize,
        shared: Shared,
        sockets: Vec<(Bound, StdListener)>,
        room: Arc<Room>,
    ) -> io::Result<WorkerHandle> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let view = Mutex::new(Arc::new(View(shared.snapshots.current())));
        let worker = Arc::new(Self {
            index,
            shared,
            view,
            watch: Watch::default(),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
            logged: Mutex::default(),
        });
        let listeners = {
            let _context = runtime.enter();
            let listener = |(bound, socket)| Ok((bound, TcpListener::from_std(socket)?));
            sockets.into_iter().map(listener).collect::<io::Result<Vec<_>>>()?
        };
        let thread = thread::Builder::new().name(format!("serin-worker-{index}")).spawn(move || {
            let cut_off = runtime.block_on(worker.run(listeners, room));
            runtime.shutdown_background();
            cut_off
        })?;
        Ok(WorkerHandle { thread })
    }

    /// Serves until told to stop; then until no connection is left, or the rest is to be cut off. Returns how many that is.
    async fn run(self: &Arc<Self>, listeners: Vec<(Bound, TcpListener)>, room: Arc<Room>) -> usize {
        let accept =
            |(bound, socket)| tokio::spawn(listener::accept(Arc::clone(self), bound, socket, Arc::clone(&room)));
        let accepting: Vec<_> = listeners.into_iter().map(accept).collect();
        let mut shutdown = self.shared.shutdown.clone();
        let mut ticker = interval(self.shared.limits.tick());
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticker.tick() => self.tick(&room),
                () = shutdown.reached(Stage::Draining) => break,
            }
        }
        self.draining.store(true, Ordering::Relaxed);
        self.drained.notify_waiters();
        self.watch.wake_all();
        let mut ticker = interval(Duration::from_millis(20));
        while shutdown.stage() < Stage::Aborted {
            ticker.tick().await;
            self.tick(&room);
            if shutdown.stage() >= Stage::Closing {
                self.watch.close_idle();
            }
            if self.watch.len() == 0 && accepting.iter().all(|task| task.is_finished()) {
                return 0;
            }
        }
        self.watch.len()
    }

    fn tick(&self, room: &Room) {
        let now = Instant::now();
        self.watch.tick(&self.shared.limits, now);
        if room.is_wanted() {
            // Perhaps by a worker whose own connections are all busy.
            self.watch.close_oldest_idle();
        }
        for cluster in self.view().snapshot().clusters() {
            cluster.evict_idle(self.index, now);
        }
    }

    /// Its number, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its shard of every counter.
    pub fn shard(&self) -> Shard {
        Shard(self.index)
    }

    /// Limits on clients.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Its connections.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Counters of requests that reach no destination.
    pub fn unrouted(&self) -> &RouteMetrics {
        &self.shared.unrouted
    }

    /// A uniform random number.
    pub fn draw(&self) -> u64 {
        self.shared.draws.next()
    }

    /// The configuration of this moment.
    pub fn view(&self) -> Arc<View> {
        let current = self.shared.snapshots.load();
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&view.0, &current) {
            *view = Arc::new(View(Arc::clone(&current)));
        }
        Arc::clone(&view)
    }

    /// Whether connections are to close after their request.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Waits for the drain to begin.
    pub async fn drained(&self) {
        let begun = self.drained.notified();
        if !self.is_draining() {
            begun.await;
        }
    }

    /// A request that hyper refused before it reached the handler.
    pub fn count_malformed(&self, error: &hyper::Error) {
        self.count_refused(if error.is_parse_too_large() { 431 } else { 400 }, Flag::DPE);
    }

    /// A request whose head did not arrive in time.
    pub fn count_slow(&self) {
        self.count_refused(408, Flag::SI);
    }

    fn count_refused(&self, status: u16, flag: Flag) {
        let unknown = Method::from_bytes(b"_OTHER").unwrap_or_default();
        let finished = Finished {
            method: &unknown,
            status,
            flag: Some(flag),
            duration: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        };
        self.shared.unrouted.finished(self.shard(), &finished);
    }

    /// Says that an endpoint cannot be reached, at most once a second for each.
    pub fn report_unreachable(&self, destination: &Destination, endpoint: &Endpoint, error: &ConnectError) {
        let name = destination.cluster.name();
        if self.may_log(&format!("{name} {}", endpoint.name())) {
            tracing::warn!(
                "cannot reach {name} at {}: {error} (declared at {})",
                endpoint.name(),
                destination.declared_at
            );
        }
    }

    /// Says that connections cannot be accepted, at most once a second.
    pub fn report_accept_error(&self, error: &io::Error) {
        if self.may_log("accept") {
            tracing::error!("cannot accept a connection: {error}; trying again");
        }
    }

    fn may_log(&self, what: &str) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        logged.retain(|_, last| now.duration_since(*last) < LOG_PERIOD);
        if logged.contains_key(what) {
            return false;
        }
        logged.insert(what.to_owned(), now);
        true
    }
}
