//! One data-plane thread: its runtime, its listeners, and what its requests share. Nothing here is written by another thread
//! while a request is served.

mod report;

use std::collections::HashMap;
use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::report::LONG_LOG_PERIOD;
use super::admission::{Admission, Memory};
use super::draw::Draws;
use super::limits::Limits;
use super::listener::{self, Opened, Room};
use super::mirror::Copies;
use super::pace::{BEAT, Pace};
use super::pulse::{Activity, LastWord, Pulse};
use super::watch::Watch;
use crate::failpoint;
use crate::shutdown::{Listen, Stage};
use crate::snapshot::{Snapshot, Snapshots};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{ConnectionMetrics, OverloadMetrics, RouteMetrics, Worker as Shard, WorkerStalls};
use crate::upstream::Bodies;

/// Clusters that are looked at before requests have their turn again: all of ten thousand services take milliseconds.
const CLUSTERS_AT_ONCE: usize = 128;

/// What all workers of a process share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The configuration in force.
    pub snapshots: Arc<Snapshots>,
    /// Limits on clients.
    pub limits: Arc<Limits>,
    /// Randomness.
    pub draws: Arc<Draws>,
    /// The places for requests under way.
    pub admission: Arc<Admission>,
    /// Counters of requests that reach no destination.
    pub unrouted: Arc<RouteMetrics>,
    /// Counters of connections.
    pub connections: Arc<ConnectionMetrics>,
    /// Where finished requests are logged, if they are.
    pub log: Option<AccessLog>,
    /// Counts how long each was held up.
    pub stalls: Arc<WorkerStalls>,
    /// Counts what is turned away.
    pub overload: Arc<OverloadMetrics>,
    /// All request bodies that are kept.
    pub bodies: Arc<Bodies>,
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
    copies: Copies,
    draining: AtomicBool,
    drained: Notify,
    pulse: Arc<Pulse>,
    /// What was logged, and until when it is not logged again.
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
    thread: thread::JoinHandle<usize>,
    pulse: Arc<Pulse>,
}

impl WorkerHandle {
    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Its sign of life.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Waits for its end. How many connections it had to cut off; none if it panicked.
    pub fn join(self) -> Option<usize> {
        self.thread.join().ok()
    }
}

impl Worker {
    /// Starts a worker's thread. It serves every socket that comes out of `sockets`, from then on.
    ///
    /// # Errors
    /// No thread or no runtime.
    pub fn start(
        index: usize,
        shared: Shared,
        sockets: UnboundedReceiver<Opened>,
        room: Arc<Room>,
    ) -> io::Result<WorkerHandle> {
        let pulse = Arc::new(Pulse::default());
        let resting = Arc::clone(&pulse);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || resting.does(Activity::Waiting))
            .build()?;
        let view = Mutex::new(Arc::new(View(shared.snapshots.current())));
        let worker = Arc::new(Self {
            index,
            shared,
            view,
            watch: Watch::default(),
            copies: Copies::default(),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
            pulse: Arc::clone(&pulse),
            logged: Mutex::default(),
        });
        let its = Arc::clone(&pulse);
        let thread = thread::Builder::new().name(format!("serin-worker-{index}")).spawn(move || {
            let _last_word = LastWord(&its);
            let cut_off = runtime.block_on(worker.run(sockets, room));
            runtime.shutdown_background();
            cut_off
        })?;
        Ok(WorkerHandle { thread, pulse })
    }

    /// Serves until told to stop; then until no connection is left, or the rest is to be cut off. Returns how many that is.
    async fn run(self: &Arc<Self>, mut sockets: UnboundedReceiver<Opened>, room: Arc<Room>) -> usize {
        let (mut accepting, mut shutdown) = (JoinSet::new(), self.shared.shutdown.clone());
        if !self.shared.limits.max_worker_delay.is_zero() {
            tokio::spawn(Arc::clone(self).keep_pace());
        }
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticker = interval(self.shared.limits.tick());
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticker.tick() => self.tick(&room).await,
                due = beat.tick() => self.beat(due),
                Some(opened) = sockets.recv() => self.open(opened, &room, &mut accepting),
                Some(ended) = accepting.join_next() => pass_on(ended),
                () = shutdown.reached(Stage::Draining) => break,
            }
        }
        drop(sockets);
        self.draining.store(true, Ordering::Relaxed);
        self.drained.notify_waiters();
        self.watch.wake_all();
        let mut ticker = interval(Duration::from_millis(20));
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.stage() < Stage::Aborted {
            let due = ticker.tick().await;
            self.beat(due);
            self.tick(&room).await;
            if shutdown.stage() >= Stage::Closing {
                self.watch.close_idle();
            }
            while let Some(ended) = accepting.try_join_next() {
                pass_on(ended);
            }
            if self.watch.len() == 0 && accepting.is_empty() {
                return 0;
            }
        }
        self.watch.len()
    }

    fn open(self: &Arc<Self>, opened: Opened, room: &Arc<Room>, accepting: &mut JoinSet<()>) {
        let Opened { listener, socket } = opened;
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                accepting.spawn(listener::accept(Arc::clone(self), listener, socket, Arc::clone(room)));
            }
            Err(error) => tracing::error!("a worker cannot listen on {}: {error}", listener.bound().local),
        }
    }

    /// It moves. Counts the time if it comes back late.
    fn beat(&self, due: Instant) {
        self.pulse.beat();
        let late = due.elapsed();
        if late >= BEAT {
            self.shared.stalls.add(self.shard(), late);
        }
    }

    /// Takes fewer requests while it cannot keep up. A task like those of connections, so that it waits as long as they do.
    async fn keep_pace(self: Arc<Self>) {
        let mut pace = Pace::new(self.shared.limits.max_worker_delay);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let late = beat.tick().await.elapsed();
            let passed = self.admission().take_passed(self.index);
            if passed.refused > 0 && self.may_log("late", LONG_LOG_PERIOD) {
                tracing::warn!("serin-worker-{} comes late to its work: it turns requests away", self.index);
            }
            self.admission().allow(self.index, pace.tick(late, passed));
        }
    }

    async fn tick(&self, room: &Room) {
        self.pulse.does(Activity::Tending);
        failpoint::reach("worker-tick");
        let now = Instant::now();
        self.watch.tick(&self.shared.limits, now);
        self.shared.admission.relax(self.index);
        if self.admission().memory() >= Memory::Scarce {
            self.watch.close_spare();
        }
        if room.is_wanted() {
            // Perhaps by a worker whose own connections are all busy.
            self.watch.close_oldest_idle(true);
        }
        for clusters in self.view().snapshot().clusters().chunks(CLUSTERS_AT_ONCE) {
            clusters.iter().for_each(|cluster| cluster.evict_idle(self.index, now));
            yield_now().await;
        }
    }

    /// Its sign of life.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
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

    /// Its copies of requests.
    pub(super) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The places for requests under way.
    pub(super) fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    /// All request bodies that are kept.
    pub(super) fn bodies(&self) -> &Arc<Bodies> {
        &self.shared.bodies
    }

    /// Counters of requests that reach no destination.
    pub fn unrouted(&self) -> &RouteMetrics {
        &self.shared.unrouted
    }

    /// Where finished requests are logged, if they are.
    pub fn log(&self) -> Option<&AccessLog> {
        self.shared.log.as_ref()
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

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether connections are to close after their request: at the end, and where memory is short.
    pub(super) fn is_parting(&self) -> bool {
        self.is_draining() || self.admission().memory() == Memory::Short
    }

    /// Waits for the drain to begin.
    pub async fn drained(&self) {
        let begun = self.drained.notified();
        if !self.is_draining() {
            begun.await;
        }
    }
}

/// A listener that nobody accepts on any more would leave its clients in the backlog: its panic is the worker's.
fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        resume_unwind(error.into_panic());
    }
}
