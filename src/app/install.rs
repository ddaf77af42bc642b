//! Putting a valid configuration in force: listeners are opened, the snapshot is swapped, listeners are closed.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::listeners::ListenerSet;
use super::notices::Notices;
use crate::config::diagnostic::Diagnostic;
use crate::config::load::Loaded;
use crate::config::place::Place;
use crate::control::rollout::{Releases, orders};
use crate::snapshot::Builder;
use crate::upstream::resolve::Resolver;

/// Puts a valid configuration in force.
pub(super) struct Installer {
    /// Builds snapshots on what is alive.
    pub(super) builder: Builder,
    /// Puts it in force, with the weights of the releases that it orders.
    pub(super) releases: Releases,
    /// Open sockets.
    pub(super) listeners: Arc<ListenerSet>,
    /// Looks up names that are new.
    pub(super) resolver: Arc<Resolver>,
    /// What the admin port shows of it.
    pub(super) dump: Arc<Mutex<Value>>,
    /// What is said once about it.
    pub(super) notices: Notices,
}

impl Installer {
    /// Everything that can fail comes before the swap.
    ///
    /// # Errors
    /// Ports that cannot be had, and certificates that TLS to endpoints cannot use. Nothing has changed then.
    pub(super) fn install(&self, loaded: &Loaded, generation: u64) -> Result<(), Vec<Diagnostic>> {
        let listeners = self.listeners.prepare(loaded)?;
        let place = |place: Place| match loaded.sources.get(place.file as usize) {
            Some(source) => format!("{}:{}", source.path.display(), place.line),
            None => "the command line".to_owned(),
        };
        let snapshot = self.builder.build(&loaded.resources, loaded.named(), &place, generation)?;
        let clusters = snapshot.clusters().to_vec();
        self.releases.publish(snapshot, orders(loaded));
        self.listeners.commit(listeners);
        self.builder.registry.prune();
        self.resolver.wake();
        let sources = loaded.sources.iter().map(|source| json!({ "path": source.path, "text": &*source.text }));
        *self.dump.lock().unwrap_or_else(PoisonError::into_inner) = json!({
            "generation": generation,
            "hash": loaded.hash,
            "settings": self.builder.settings,
            "sources": sources.collect::<Vec<_>>(),
        });
        self.notices.give(&loaded.resources, &self.builder.settings);
        let sets: Vec<_> = clusters.iter().map(|cluster| cluster.endpoints()).collect();
        let endpoints = sets.iter().flat_map(|set| set.endpoints()).map(|endpoint| endpoint.name());
        self.notices.warn_of_loops(endpoints, &self.listeners.addresses());
        Ok(())
    }
}
