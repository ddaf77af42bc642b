//! The registry: where a configuration gets its handles from, and where the scraper finds them all again.
//!
//! Nothing here is called while a request is served; its one lock is between the control side and the scraper.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connections::ConnectionMetrics;
use super::destination::{DestinationMetrics, EndpointMetrics};
use super::dns::DnsMetrics;
use super::exposition::{self, sets};
use super::histogram::ClassicSum;
use super::identity::Identities;
use super::limit::{Limit, OTHER};
use super::overload::OverloadMetrics;
use super::reload::ReloadMetrics;
use super::report::{self, Tally, VersionSummary};
use super::rollout::RolloutMetrics;
use super::route::RouteMetrics;
use super::scale::{Buckets, Scale};
use super::stalls::WorkerStalls;
use super::trial::Trial;

/// The label value for requests that reach no destination (or no route).
pub const NONE: &str = "_none";

/// Every metric of the process. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workers: usize,
    scale: Arc<Scale>,
    reloads: ReloadMetrics,
    rollouts: RolloutMetrics,
    unrouted: Arc<RouteMetrics>,
    process: ProcessCollector,
    access_log_dropped: Arc<AtomicU64>,
    dns: Arc<DnsMetrics>,
    stalls: Arc<WorkerStalls>,
    connections: Arc<ConnectionMetrics>,
    overload: Arc<OverloadMetrics>,
    registry: Mutex<Registry>,
}

/// One destination of one route of the configuration in force.
#[derive(Debug, Clone)]
pub struct ActiveRoute {
    /// Its counters.
    pub metrics: Arc<RouteMetrics>,
    /// The share (0–1) of the route's requests that the configuration gives it.
    pub declared: f64,
    /// The share (0–1) it gets now.
    pub effective: f64,
}

/// The gauge of an endpoint, and the version it belongs to.
type EndpointGauge = (Arc<DestinationMetrics>, Weak<EndpointMetrics>);

/// Objects by name, and what the cap shows of them.
#[derive(Debug)]
pub(super) struct Registry {
    next: u64,
    pub(super) destinations: Identities<[Arc<str>; 2], DestinationMetrics>,
    pub(super) routes: Identities<[Arc<str>; 3], RouteMetrics>,
    pub(super) endpoints: BTreeMap<[Arc<str>; 3], EndpointGauge>,
    pub(super) active: Vec<ActiveRoute>,
    /// What the routes that are forgotten had added to each version, by its id.
    pub(super) gone: BTreeMap<u64, Tally>,
    pub(super) requests: Limit<u64>,
    pub(super) durations: Limit<ClassicSum>,
    pub(super) attempts: Limit<u64>,
    pub(super) flags: Limit<u64>,
    pub(super) grpc: Limit<u64>,
    pub(super) failures: Limit<u64>,
    /// Names that were folded before they had counters.
    pub(super) unnamed: u64,
}

impl Metrics {
    /// Metrics for a process with this many data-plane workers.
    #[must_use]
    pub fn new(workers: usize, buckets: Buckets) -> Self {
        let scale = Arc::new(Scale::new(buckets));
        let mut registry = Registry::new();
        let nowhere = registry.destination(NONE, NONE, &scale, workers);
        let unrouted = registry.route(NONE, nowhere, &scale, workers);
        Self(Arc::new(Inner {
            workers,
            reloads: ReloadMetrics::new(Arc::clone(&scale)),
            rollouts: RolloutMetrics::default(),
            scale,
            unrouted,
            process: ProcessCollector::for_self(),
            access_log_dropped: Arc::default(),
            dns: Arc::default(),
            stalls: Arc::new(WorkerStalls::new(workers)),
            connections: Arc::default(),
            overload: Arc::new(OverloadMetrics::new(workers)),
            registry: Mutex::new(registry),
        }))
    }

    /// The counters of a version: the same object for the same labels, across configurations. Beyond the cap, the
    /// one that all the rest share.
    #[must_use]
    pub fn destination(&self, app: &str, version: &str) -> Arc<DestinationMetrics> {
        self.lock().destination(app, version, &self.0.scale, self.0.workers)
    }

    /// The counters of a version reached through a route; [`NONE`] as `app` and `version` for a route that answers by
    /// itself. The same object for the same labels, across configurations. Beyond the cap, the one that all the rest
    /// of the version's routes share.
    #[must_use]
    pub fn route(&self, route: &str, app: &str, version: &str) -> Arc<RouteMetrics> {
        let mut registry = self.lock();
        let destination = registry.destination(app, version, &self.0.scale, self.0.workers);
        registry.route(route, destination, &self.0.scale, self.0.workers)
    }

    /// The same for a version whose counters are known already.
    #[must_use]
    pub fn route_to(&self, route: &str, to: &Arc<DestinationMetrics>) -> Arc<RouteMetrics> {
        self.lock().route(route, Arc::clone(to), &self.0.scale, self.0.workers)
    }

    /// The counters of requests that no route matches.
    #[must_use]
    pub fn unrouted(&self) -> &Arc<RouteMetrics> {
        &self.0.unrouted
    }

    /// The health gauge of one endpoint of a version; the endpoint keeps it. The same object for the same labels as
    /// long as somebody holds it.
    #[must_use]
    pub fn endpoint(&self, app: &str, version: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        let mut registry = self.lock();
        let destination = registry.destination(app, version, &self.0.scale, self.0.workers);
        let key = [Arc::clone(&destination.app), Arc::clone(&destination.version), endpoint.into()];
        if let Some(known) = registry.endpoints.get(&key).and_then(|(_, gauge)| gauge.upgrade()) {
            return known;
        }
        let gauge = Arc::new(EndpointMetrics::new());
        registry.endpoints.insert(key, (destination, Arc::downgrade(&gauge)));
        gauge
    }

    /// A step of a release in which the canary is drawn with `share`, 0 to 1; it is slow when an answer takes longer than
    /// `slower_than`. `bell` rings when something has gone wrong.
    #[must_use]
    pub fn trial(&self, share: f64, slower_than: Option<Duration>, bell: Arc<Notify>) -> Arc<Trial> {
        Arc::new(Trial::new(self.0.workers, Arc::clone(&self.0.scale), share, slower_than, bell))
    }

    /// The upper bounds of the duration buckets, in seconds; one more bucket has none.
    #[must_use]
    pub fn bucket_bounds(&self) -> &'static [f64] {
        self.0.scale.bounds()
    }

    /// Declares what the configuration in force consists of: all of it, each time it or its weights change.
    ///
    /// What is new exists at zero from now on; what is gone loses its gauges now and its counters in an hour.
    pub fn activate(&self, active: Vec<ActiveRoute>) {
        let now = Instant::now();
        let mut registry = self.lock();
        let routes: HashSet<u64> = active.iter().map(|r| r.metrics.id).collect();
        let destinations: HashSet<u64> = active.iter().map(|r| r.metrics.destination().id).collect();
        registry.active = active;
        registry.routes.configure(|r| routes.contains(&r.id), now);
        registry.destinations.configure(|d| destinations.contains(&d.id), now);
        registry.sweep(now);
    }

    /// Counts lines of the access log that were lost.
    #[must_use]
    pub fn access_log_dropped(&self) -> &Arc<AtomicU64> {
        &self.0.access_log_dropped
    }

    /// The metrics of look-ups of names.
    #[must_use]
    pub fn dns(&self) -> &Arc<DnsMetrics> {
        &self.0.dns
    }

    /// Counts how long workers were held up.
    #[must_use]
    pub fn worker_stalls(&self) -> &Arc<WorkerStalls> {
        &self.0.stalls
    }

    /// The counters of connections.
    #[must_use]
    pub fn connections(&self) -> &Arc<ConnectionMetrics> {
        &self.0.connections
    }

    /// What is turned away, and the memory that is counted.
    #[must_use]
    pub fn overload(&self) -> &Arc<OverloadMetrics> {
        &self.0.overload
    }

    /// The metrics of reloading the configuration.
    #[must_use]
    pub fn reloads(&self) -> &ReloadMetrics {
        &self.0.reloads
    }

    /// The metrics of releases.
    #[must_use]
    pub fn rollouts(&self) -> &RolloutMetrics {
        &self.0.rollouts
    }

    /// What each version did, ordered by labels; versions neither configured nor ever used are left out.
    #[must_use]
    pub fn versions(&self) -> Vec<VersionSummary> {
        report::versions(&self.lock())
    }

    /// Everything in Prometheus' text format (version 0.0.4), ordered by name and labels.
    #[must_use]
    pub fn render(&self) -> String {
        let mut registry = self.lock();
        registry.sweep(Instant::now());
        let lost = self.0.access_log_dropped.load(Relaxed);
        let Inner { reloads, rollouts, dns, connections, overload, stalls, .. } = &*self.0;
        let others = (reloads, rollouts, &**dns, (&**connections, &**overload), &**stalls, lost);
        exposition::render(&mut registry, others, &self.0.process, &self.0.scale)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn new() -> Self {
        Self {
            next: 0,
            destinations: Identities::new(),
            routes: Identities::new(),
            endpoints: BTreeMap::new(),
            active: Vec::new(),
            gone: BTreeMap::new(),
            requests: Limit::new(),
            durations: Limit::new(),
            attempts: Limit::new(),
            flags: Limit::new(),
            grpc: Limit::new(),
            failures: Limit::new(),
            unnamed: 0,
        }
    }

    fn destination(&mut self, app: &str, version: &str, scale: &Arc<Scale>, workers: usize) -> Arc<DestinationMetrics> {
        if self.destinations.should_sweep() {
            self.sweep(Instant::now());
        }
        self.next += 1;
        let id = self.next;
        let make = |app, version| DestinationMetrics::new(id, app, version, Arc::clone(scale), workers);
        if let Some(found) = self.destinations.get_or_insert([app.into(), version.into()], || make(app, version)) {
            return found;
        }
        self.unnamed += 1;
        self.destinations.get_or_force([OTHER.into(), OTHER.into()], || make(OTHER, OTHER))
    }

    fn route(
        &mut self,
        name: &str,
        to: Arc<DestinationMetrics>,
        scale: &Arc<Scale>,
        workers: usize,
    ) -> Arc<RouteMetrics> {
        if self.routes.should_sweep() {
            self.sweep(Instant::now());
        }
        self.next += 1;
        let id = self.next;
        let key = |name: &str| [Arc::clone(&to.app), Arc::clone(&to.version), name.into()];
        let make = |name| RouteMetrics::new(id, name, Arc::clone(&to), Arc::clone(scale), workers);
        if let Some(found) = self.routes.get_or_insert(key(name), || make(name)) {
            return found;
        }
        self.unnamed += 1;
        self.routes.get_or_force(key(OTHER), || make(OTHER))
    }

    /// Forgets what is over, without taking back what it had added to folded sums.
    fn sweep(&mut self, now: Instant) {
        self.endpoints.retain(|_, (_, gauge)| gauge.strong_count() > 0);
        for route in self.routes.sweep(RouteMetrics::touched, now) {
            self.requests.forget(route.id, sets::requests(&route, false));
            self.durations.forget(route.id, sets::durations(&route, false));
            self.grpc.forget(route.id, sets::grpc(&route, false));
            self.gone.entry(route.destination().id).or_default().add(&Tally::of(&route));
        }
        for destination in self.destinations.sweep(DestinationMetrics::touched, now) {
            self.gone.remove(&destination.id);
            self.requests.forget_destination(&destination, Vec::new());
            self.durations.forget_destination(&destination, Vec::new());
            self.grpc.forget_destination(&destination, Vec::new());
            self.attempts.forget_destination(&destination, sets::attempts(&destination, false));
            self.flags.forget_destination(&destination, sets::flags(&destination));
            self.failures.forget_destination(&destination, sets::failures(&destination));
        }
    }
}
