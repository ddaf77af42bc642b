//! One generation of the configuration as a request sees it: routes whose destinations are live clusters, with their
//! metrics. Built off the request path, then never changed; the only shared handle to it is [`Snapshots`].

mod clusters;
mod policy;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use crate::config::credentials::{Files, Named};
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::resource::Resources;
use crate::config::settings::Settings;
use crate::routing::{self, Action, RouteTable, Rule};
use crate::telemetry::{DestinationMetrics, EndpointMetrics, Metrics, NONE, RouteMetrics, SnapshotToken};
use crate::upstream::{Budget, Cluster, Registry};
use clusters::{Clusters, Known};

/// Where a weight points.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its endpoints.
    pub cluster: Arc<Cluster>,
    /// Its counters, for the route it is on.
    pub metrics: Arc<RouteMetrics>,
    /// How many retries its version may cost.
    pub budget: Arc<Budget>,
    /// File and line of the destination, for messages.
    pub declared_at: Arc<str>,
}

/// All that one request may consult.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configurations of this process, from 1.
    pub generation: u64,
    /// The decision.
    pub routes: RouteTable<Destination>,
    answers: Vec<Option<Arc<RouteMetrics>>>,
    clusters: Vec<Arc<Cluster>>,
    versions: Vec<Arc<DestinationMetrics>>,
    endpoints: Mutex<Vec<Arc<EndpointMetrics>>>,
    _alive: SnapshotToken,
}

impl Snapshot {
    /// Every cluster, once.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// The counters of what a rule of this snapshot answers by itself; `None` for one that only forwards.
    pub fn answering(&self, rule: &Rule<Destination>) -> Option<&Arc<RouteMetrics>> {
        self.answers.get(rule.number)?.as_ref()
    }

    /// Counts connections and looks at endpoints, for the gauges that are about to be shown.
    pub fn show_connections(&self, metrics: &Metrics) {
        let mut counts: HashMap<(&str, &str), (usize, usize)> = HashMap::new();
        let mut gauges = Vec::new();
        for (cluster, version) in self.clusters.iter().zip(&self.versions) {
            let (active, idle) = counts.entry((version.app(), version.version())).or_default();
            for endpoint in cluster.endpoints().endpoints() {
                *active += endpoint.active() as usize;
                *idle += endpoint.idle();
                let gauge = metrics.endpoint(version.app(), version.version(), endpoint.name());
                gauge.set_healthy(cluster.is_in_use(endpoint));
                gauges.push(gauge);
            }
            version.set_connections(*active, *idle);
        }
        *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }

    /// Every destination with its share, for each rule that forwards; mirrors with 0, because clients get nothing from them.
    pub fn destinations(&self) -> impl Iterator<Item = (&Destination, f64)> {
        self.routes.rules().flat_map(|(_, rule)| {
            let entries = match &rule.action {
                Action::Forward(split) => split.entries(),
                Action::Redirect(_) | Action::Respond(_) => &[],
            };
            let mirrors = rule.filters.iter().flat_map(|filters| &filters.mirrors).map(|mirror| (&mirror.to, 0.0));
            entries.iter().map(|entry| (&entry.value.to, entry.share)).chain(mirrors)
        })
    }
}

/// The configuration in force, for everybody.
#[derive(Debug)]
pub struct Snapshots(ArcSwap<Snapshot>);

impl Snapshots {
    /// Puts a first generation in force.
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// Puts the next generation in force: every request that begins after this sees it.
    pub fn publish(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }

    /// The generation of this moment, for a moment only.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// The generation of this moment, to be kept.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

/// Builds snapshots on top of what is alive.
#[derive(Debug)]
pub struct Builder {
    /// What the command line says.
    pub settings: Settings,
    /// Live clusters and endpoints.
    pub registry: Arc<Registry>,
    /// Live counters.
    pub metrics: Metrics,
}

impl Builder {
    /// A snapshot of resources that passed validation, with the certificate files that they name. `place` says where
    /// something stands, for messages.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn build(
        &self,
        resources: &Resources,
        files: Named<'_>,
        place: &dyn Fn(Place) -> String,
        generation: u64,
    ) -> Result<Snapshot, Vec<Diagnostic>> {
        let mut clusters = Clusters::new(self, resources, files);
        let options = routing::Options::new(resources, &self.settings);
        let routes = routing::compile(resources, &options, &mut |wanted| clusters.destination(wanted, place));
        let answers = self.answers(&routes);
        let version = |known: Known| (known.cluster, self.metrics.destination(&known.app, &known.version));
        let (clusters, versions) = clusters.known()?.map(version).unzip();
        let (endpoints, _alive) = (Mutex::default(), self.metrics.reloads().snapshot());
        Ok(Snapshot { generation, routes, answers, clusters, versions, endpoints, _alive })
    }

    /// The counters of every rule that may answer by itself, at the rule's number.
    fn answers(&self, routes: &RouteTable<Destination>) -> Vec<Option<Arc<RouteMetrics>>> {
        let mut answers = Vec::new();
        for (_, rule) in routes.rules() {
            let filters = rule.filters.iter().any(|filters| filters.cors.is_some() || filters.fault.is_some());
            if filters || matches!(rule.action, Action::Redirect(_) | Action::Respond(_)) {
                answers.resize(answers.len().max(rule.number + 1), None);
                answers[rule.number] = Some(self.metrics.route(&rule.label, NONE, NONE));
            }
        }
        answers
    }

    /// A snapshot without a route: what is in force before the first configuration.
    pub fn empty(&self) -> Snapshot {
        let files = Named { sources: &[], files: &Files::default() };
        let empty = self.build(&Resources::default(), files, &|_| String::new(), 0);
        empty.expect("no resource names a file")
    }
}
