//! What is counted for one version of one service, by whichever route it is reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::failure::{Blame, ProxyError};
use super::flag::Flag;
use super::histogram::{Classic, ClassicSum, Distribution, Exponential};
use super::record::{AttemptResult, Finished, MirrorResult};
use super::scale::{Place, Scale};
use super::shard::{Cell, Lazy, Shards, Worker};

/// The counters of one version of one service (`app`, `version`).
///
/// Everything here is called on the request path by the worker named, and costs a few additions.
#[derive(Debug)]
pub struct DestinationMetrics {
    pub(super) id: u64,
    pub(super) app: Arc<str>,
    pub(super) version: Arc<str>,
    scale: Arc<Scale>,
    shards: Shards<Shard>,
    active: AtomicUsize,
    idle: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    in_flight: Cell,
    bytes_in: Cell,
    bytes_out: Cell,
    upstream: Classic,
    attempts: [Cell; AttemptResult::COUNT],
    flags: [Cell; Flag::COUNT],
    errors: [Cell; ProxyError::COUNT],
    aborted: [Cell; Blame::COUNT],
    mirrors: [Cell; MirrorResult::ALL.len()],
    retries_refused: Cell,
    upstream_latency: Exponential,
    tunnels: Lazy<Classic>,
}

/// What an upstream connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// Carrying a request.
    Active,
    /// Kept alive for the next one.
    Idle,
}

impl DestinationMetrics {
    pub(super) fn new(id: u64, app: &str, version: &str, scale: Arc<Scale>, workers: usize) -> Self {
        let (active, idle) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { id, app: app.into(), version: version.into(), scale, shards: Shards::new(workers), active, idle }
    }

    /// The label `app`.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The label `version`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A request was given to this version: one more in flight.
    #[inline]
    pub fn started(&self, worker: Worker) {
        self.shards.of(worker).in_flight.shift(1);
    }

    /// The request that [`started`](Self::started) ended, however it did.
    #[inline]
    pub fn ended(&self, worker: Worker) {
        self.shards.of(worker).in_flight.shift(-1);
    }

    /// One attempt ended; every try of a request counts, so that retries cannot hide a bad version.
    #[inline]
    pub fn attempt(&self, worker: Worker, result: AttemptResult) {
        self.shards.of(worker).attempts[result.index()].add(1);
    }

    /// A copy of a request that was meant for this version ended.
    pub fn mirrored(&self, worker: Worker, result: MirrorResult) {
        self.shards.of(worker).mirrors[result as usize].add(1);
    }

    /// A request was not tried again because the version's retry budget is empty.
    pub fn retry_refused(&self, worker: Worker) {
        self.shards.of(worker).retries_refused.add(1);
    }

    /// How many attempts were made in all, over all workers. Not for every request.
    #[must_use]
    pub fn attempts_made(&self) -> u64 {
        self.shards.sum(|s| s.attempts.iter().map(Cell::get).sum())
    }

    /// An attempt got its response headers this long after its request was sent.
    #[inline]
    pub fn upstream_duration(&self, worker: Worker, duration: Duration) {
        let place = self.scale.place(duration);
        let shard = self.shards.of(worker);
        shard.upstream.record(place);
        shard.upstream_latency.record(place);
    }

    /// Sets the numbers of upstream connections. Not for the request path: whoever shows metrics counts them first.
    pub fn set_connections(&self, active: usize, idle: usize) {
        self.active.store(active, Relaxed);
        self.idle.store(idle, Relaxed);
    }

    /// Request sent to response headers, every attempt that got an answer, over all workers. Not for the request path.
    #[must_use]
    pub fn upstream_latency(&self) -> Distribution {
        let mut sum = Distribution::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.upstream_latency));
        sum
    }

    #[inline]
    pub(super) fn finished(&self, worker: Worker, request: &Finished<'_>) {
        let shard = self.shards.of(worker);
        shard.bytes_in.add(request.bytes_in);
        shard.bytes_out.add(request.bytes_out);
        for flag in request.flags.iter() {
            shard.flags[flag as usize].add(1);
        }
        if let Some(error) = request.error {
            shard.errors[error as usize].add(1);
        }
        if let Some(side) = request.aborted {
            shard.aborted[side as usize].add(1);
        }
    }

    /// A tunnel was open for so long.
    #[cold]
    pub(super) fn tunnelled(&self, worker: Worker, place: Place) {
        self.shards.of(worker).tunnels.get_or_init(Classic::default).record(place);
    }

    pub(super) fn touched(&self) -> bool {
        self.shards.iter().next().is_some()
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.shards.level(|s| s.in_flight.get())
    }

    pub(super) fn connections_in(&self, state: Connection) -> usize {
        match state {
            Connection::Active => self.active.load(Relaxed),
            Connection::Idle => self.idle.load(Relaxed),
        }
    }

    pub(super) fn bytes_in(&self) -> u64 {
        self.shards.sum(|s| s.bytes_in.get())
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.shards.sum(|s| s.bytes_out.get())
    }

    /// Attempts by [`AttemptResult::index`].
    pub(super) fn attempts(&self, index: usize) -> u64 {
        self.shards.sum(|s| s.attempts[index].get())
    }

    pub(super) fn mirrors(&self, result: MirrorResult) -> u64 {
        self.shards.sum(|s| s.mirrors[result as usize].get())
    }

    pub(super) fn retries_refused(&self) -> u64 {
        self.shards.sum(|s| s.retries_refused.get())
    }

    pub(super) fn flags(&self, flag: Flag) -> u64 {
        self.shards.sum(|s| s.flags[flag as usize].get())
    }

    pub(super) fn tunnels(&self) -> ClassicSum {
        let mut sum = ClassicSum::default();
        self.shards.iter().filter_map(|shard| shard.tunnels.get()).for_each(|tunnels| sum.add(tunnels));
        sum
    }

    pub(super) fn errors(&self, error: ProxyError) -> u64 {
        self.shards.sum(|s| s.errors[error as usize].get())
    }

    pub(super) fn aborted(&self, by: Blame) -> u64 {
        self.shards.sum(|s| s.aborted[by as usize].get())
    }

    pub(super) fn upstream(&self) -> ClassicSum {
        let mut sum = ClassicSum::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.upstream));
        sum
    }
}

/// Whether one endpoint of a version may get requests: the gauge `serin_upstream_healthy`, shown while somebody holds
/// this and its version is configured.
#[derive(Debug)]
pub struct EndpointMetrics {
    healthy: AtomicBool,
}

impl EndpointMetrics {
    pub(super) fn new() -> Self {
        Self { healthy: AtomicBool::new(true) }
    }

    /// Says that the endpoint is healthy (as it is assumed to be at first) or not.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Relaxed);
    }

    pub(super) fn healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }
}
