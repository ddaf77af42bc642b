//! What is counted for one version reached through one route.

use std::sync::Arc;

use super::destination::DestinationMetrics;
use super::histogram::{Classic, ClassicSum, Distribution, Exponential};
use super::record::{CLIENT_WENT_AWAY, Class, Finished, GRPC_STATUSES, METHODS, SWITCHED, grpc_index, method_index};
use super::scale::Scale;
use super::shard::{Cell, Lazy, Shards, Worker};

/// The counters of one version reached through one route (`app`, `version`, `route`).
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) id: u64,
    pub(super) route: Arc<str>,
    destination: Arc<DestinationMetrics>,
    scale: Arc<Scale>,
    shards: Shards<Shard>,
}

/// A page for each method and class, of the hundred codes of that class.
#[derive(Debug)]
struct Shard {
    requests: [[Lazy<[Cell; 100]>; Class::COUNT]; METHODS.len()],
    durations: [Lazy<Classic>; Class::COUNT],
    latency: Exponential,
    grpc: Lazy<[Cell; GRPC_STATUSES.len()]>,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| Default::default()),
            durations: Default::default(),
            latency: Exponential::default(),
            grpc: Lazy::default(),
        }
    }
}

impl RouteMetrics {
    pub(super) fn new(
        id: u64,
        route: &str,
        destination: Arc<DestinationMetrics>,
        scale: Arc<Scale>,
        workers: usize,
    ) -> Self {
        Self { id, route: route.into(), destination, scale, shards: Shards::new(workers) }
    }

    /// The label `route`.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The counters of the version behind this route.
    #[must_use]
    pub fn destination(&self) -> &Arc<DestinationMetrics> {
        &self.destination
    }

    /// Records a finished request: once each, when its body ends or is given up. The in-flight gauge is not touched.
    #[inline]
    pub fn finished(&self, worker: Worker, request: &Finished<'_>) {
        let class = Class::of(request.status) as usize;
        let place = self.scale.place(request.duration);
        let shard = self.shards.of(worker);
        let codes = shard.requests[method_index(request.method)][class].get_or_init(|| [const { Cell::new() }; 100]);
        let code = if class == Class::Other as usize { 0 } else { usize::from(request.status % 100) };
        codes[code].add(1);
        if request.status == SWITCHED {
            self.destination.tunnelled(worker, place);
        } else {
            shard.durations[class].get_or_init(Classic::default).record(place);
            if matches!(request.status, 100..500) && request.status != CLIENT_WENT_AWAY {
                shard.latency.record(place);
            }
        }
        if let Some(status) = request.grpc {
            shard.grpc.get_or_init(|| [const { Cell::new() }; GRPC_STATUSES.len()])[grpc_index(status)].add(1);
        }
        self.destination.finished(worker, request);
    }

    /// How long whole requests took whose answer was 1xx–4xx and whose client stayed (quick failures cannot make a version look
    /// fast), over all workers; tunnels are none. Not for the request path.
    #[must_use]
    pub fn latency(&self) -> Distribution {
        let mut sum = Distribution::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.latency));
        sum
    }

    pub(super) fn touched(&self) -> bool {
        self.shards.iter().next().is_some()
    }

    /// Requests by method and code, in that order, without those that never happened. A code outside 100–599 is 0.
    pub(super) fn requests(&self) -> Vec<(usize, u16, u64)> {
        let mut found = Vec::new();
        for method in 0..METHODS.len() {
            for class in 0..Class::COUNT {
                let mut sums = [0; 100];
                for page in self.shards.iter().filter_map(|s| s.requests[method][class].get()) {
                    sums.iter_mut().zip(page).for_each(|(sum, cell)| *sum += cell.get());
                }
                let first = if class == Class::Other as usize { 0 } else { 100 * (class as u16 + 1) };
                let counted = (first..).zip(sums).filter(|(_, sum)| *sum > 0);
                found.extend(counted.map(|(code, sum)| (method, code, sum)));
            }
        }
        found
    }

    /// Calls of gRPC that ended with the status of this label of [`GRPC_STATUSES`].
    pub(super) fn grpc(&self, index: usize) -> u64 {
        self.shards.sum(|shard| shard.grpc.get().map_or(0, |cells| cells[index].get()))
    }

    /// How long the requests of one class took; `None` when there were none.
    pub(super) fn durations(&self, class: Class) -> Option<ClassicSum> {
        let mut sum = None;
        for histogram in self.shards.iter().filter_map(|s| s.durations[class as usize].get()) {
            sum.get_or_insert_with(ClassicSum::default).add(histogram);
        }
        sum
    }
}
