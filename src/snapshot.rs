//! One generation of the configuration as a request sees it: routes whose destinations are live clusters, with their
//! metrics. Built off the request path, then never changed; the only shared handle to it is [`Snapshots`].

mod clusters;
mod policy;
mod release;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};

use crate::config::credentials::{Files, Named};
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::resource::Resources;
use crate::config::settings::Settings;
use crate::routing::{self, Action, Entry, RouteTable, Rule, Target};
use crate::telemetry::{ActiveRoute, DestinationMetrics, EndpointMetrics, Metrics, NONE, RouteMetrics, SnapshotToken};
use crate::upstream::{Budget, Cluster, Registry};
use clusters::{Clusters, Known};
pub use release::{Exposed, Overlay};

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
    compiled: Arc<Compiled>,
    /// What releases put over rules; usually nothing.
    exposed: Box<[Exposed]>,
}

/// What was compiled from one configuration.
#[derive(Debug)]
struct Compiled {
    routes: RouteTable<Destination>,
    answers: Vec<Option<Arc<RouteMetrics>>>,
    clusters: Vec<Arc<Cluster>>,
    versions: Vec<Arc<DestinationMetrics>>,
    endpoints: Mutex<Vec<Arc<EndpointMetrics>>>,
    _alive: SnapshotToken,
}

/// One destination of one rule, with its share of the rule's requests, 0 to 1; a mirror has 0, because clients get nothing of it.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'s> {
    /// Where.
    pub to: &'s Destination,
    /// What the configuration gives it.
    pub declared: f64,
    /// What it gets.
    pub effective: f64,
}

impl Snapshot {
    /// The decision.
    pub fn routes(&self) -> &RouteTable<Destination> {
        &self.compiled.routes
    }

    /// What a release has put over a rule of this snapshot.
    #[inline]
    pub fn exposed(&self, rule: &Rule<Destination>) -> Option<&Exposed> {
        self.exposed.iter().find(|exposed| exposed.number() == rule.number)
    }

    /// The destinations of the rule with this number in a VirtualService; none if it is not there or does not forward.
    pub fn split(
        &self,
        namespace: &str,
        virtual_service: &str,
        number: usize,
    ) -> Option<&[Entry<Target<Destination>>]> {
        let mut rules = self.compiled.routes.rules().map(|(_, rule)| rule);
        let rule = rules
            .find(|rule| rule.origin.as_ref().is_some_and(|origin| origin.is(namespace, virtual_service, number)))?;
        match &rule.action {
            Action::Forward(split) => Some(split.entries()),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }

    /// The same configuration with these overlays instead of those it has. Takes no longer than looking at each rule once.
    #[must_use]
    pub fn with_overlays(&self, overlays: &[Overlay]) -> Self {
        let compiled = Arc::clone(&self.compiled);
        let exposed = Exposed::all(overlays, &compiled.routes);
        Self { generation: self.generation, compiled, exposed }
    }

    /// Every cluster, once.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.compiled.clusters
    }

    /// The counters of what a rule of this snapshot answers by itself; `None` for one that only forwards.
    pub fn answering(&self, rule: &Rule<Destination>) -> Option<&Arc<RouteMetrics>> {
        self.compiled.answers.get(rule.number)?.as_ref()
    }

    /// Counts connections and looks at endpoints, for the gauges that are about to be shown.
    pub fn show_connections(&self, metrics: &Metrics) {
        let mut counts: HashMap<(&str, &str), (usize, usize)> = HashMap::new();
        let mut gauges = Vec::new();
        for (cluster, version) in self.compiled.clusters.iter().zip(&self.compiled.versions) {
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
        *self.compiled.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }

    /// Every destination with its share, for each rule that forwards.
    pub fn destinations(&self) -> impl Iterator<Item = Placed<'_>> {
        self.compiled.routes.rules().flat_map(|(_, rule)| {
            let exposed = self.exposed(rule);
            let entries = match &rule.action {
                Action::Forward(split) => split.entries(),
                Action::Redirect(_) | Action::Respond(_) => &[],
            };
            let entries = entries.iter().enumerate().map(move |(index, entry)| {
                let effective = exposed.and_then(|exposed| exposed.share(index)).unwrap_or(entry.share);
                Placed { to: &entry.value.to, declared: entry.share, effective }
            });
            let mirrors = rule.filters.iter().flat_map(|filters| &filters.mirrors);
            entries.chain(mirrors.map(|mirror| Placed { to: &mirror.to, declared: 0.0, effective: 0.0 }))
        })
    }
}

/// Every pair of rule and destination, with its shares: what [`Metrics::activate`] wants to know.
pub fn active_routes(snapshot: &Snapshot) -> Vec<ActiveRoute> {
    let active = |Placed { to, declared, effective }: Placed<'_>| ActiveRoute {
        metrics: Arc::clone(&to.metrics),
        declared,
        effective,
    };
    snapshot.destinations().map(active).collect()
}

/// The configuration in force, for everybody.
#[derive(Debug)]
pub struct Snapshots {
    current: ArcSwap<Snapshot>,
    /// What was in force before, until nobody else holds it. Whoever lets go of it last would have to free it, and ten
    /// thousand hosts take longer than the requests of a worker may wait.
    retired: Mutex<Vec<Arc<Compiled>>>,
}

impl Snapshots {
    /// Puts a first generation in force.
    pub fn new(first: Snapshot) -> Self {
        Self { current: ArcSwap::from_pointee(first), retired: Mutex::default() }
    }

    /// Puts a snapshot in force: every request that begins after this sees it. What was in force is kept until
    /// [`free_retired`](Self::free_retired).
    pub fn publish(&self, next: Snapshot) {
        let compiled = Arc::clone(&next.compiled);
        let before = self.current.swap(Arc::new(next));
        if !Arc::ptr_eq(&before.compiled, &compiled) {
            self.retired().push(Arc::clone(&before.compiled));
        }
    }

    /// Frees what was in force before and no request holds any more. Takes its time: not for a data-plane thread.
    pub fn free_retired(&self) {
        let unheld: Vec<_> = self.retired().extract_if(.., |one| is_unheld(one)).collect();
        drop(unheld);
    }

    /// Whether [`free_retired`](Self::free_retired) would find something.
    pub fn has_retired(&self) -> bool {
        self.retired().iter().any(is_unheld)
    }

    /// The generation of this moment, for a moment only.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The generation of this moment, to be kept.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<Compiled>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody can get hold of it again, once the list of what is retired is the only one that has it.
fn is_unheld(compiled: &Arc<Compiled>) -> bool {
    Arc::strong_count(compiled) == 1
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
        let (clusters, versions) = clusters.known()?.map(|Known { cluster, version, .. }| (cluster, version)).unzip();
        let (endpoints, _alive) = (Mutex::default(), self.metrics.reloads().snapshot());
        let compiled = Arc::new(Compiled { routes, answers, clusters, versions, endpoints, _alive });
        Ok(Snapshot { generation, compiled, exposed: Box::default() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Buckets;

    #[test]
    fn who_held_a_retired_snapshot_last_does_not_free_it() {
        let (registry, metrics) = (Arc::new(Registry::new(1)), Metrics::new(1, Buckets::Fine));
        let builder = Builder { settings: Settings::default(), registry, metrics };
        let snapshots = Snapshots::new(builder.empty());
        let alive = || builder.metrics.reloads().snapshots();
        let held = snapshots.current();
        snapshots.publish(builder.empty());
        snapshots.free_retired();
        assert_eq!(alive(), 2, "it is held");
        assert!(!snapshots.has_retired());
        drop(held);
        assert!(snapshots.has_retired());
        assert_eq!(alive(), 2, "that freed nothing");
        snapshots.free_retired();
        assert_eq!(alive(), 1);
        let reweighted = snapshots.current().with_overlays(&[]);
        snapshots.publish(reweighted);
        snapshots.free_retired();
        assert_eq!(alive(), 1, "what is in force is not retired with its overlays");
        assert_eq!(snapshots.load().routes().ports().count(), 1);
    }
}
