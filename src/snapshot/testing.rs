//! Snapshots of what a test writes; nothing listens, and no name is looked up.

use std::sync::Arc;

use super::{Builder, Snapshot};
use crate::config::load::{self, Loaded, Read, Source};
use crate::config::settings::Settings;
use crate::telemetry::Metrics;
use crate::upstream::Registry;

/// `shop` with `v1` at 100 and `v2` at 0.
pub(crate) const TWO_VERSIONS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
    - route:
        - {destination: {host: shop, subset: v1}, weight: 100}
        - {destination: {host: shop, subset: v2}, weight: 0}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
    - {address: 127.0.0.1, labels: {version: v1}}
    - {address: 127.0.0.2, labels: {version: v2}}
";

/// A valid configuration as a snapshot, and as it was read.
pub(crate) fn snapshot(yaml: &str, metrics: &Metrics) -> (Snapshot, Loaded) {
    let sources = vec![Source { path: "test.yaml".into(), text: yaml.into() }];
    let settings = Settings::default();
    let loaded = load::load(Read { sources, ..Read::default() }, &settings);
    assert!(loaded.is_valid(), "{:#?}", loaded.diagnostics);
    let builder = Builder { settings, registry: Arc::new(Registry::new(1)), metrics: metrics.clone() };
    let snapshot = builder.build(&loaded.resources, loaded.named(), &|_| String::new(), 1).expect("it names no file");
    (snapshot, loaded)
}

/// The share in force of each destination, rule by rule.
pub(crate) fn shares(snapshot: &Snapshot) -> Vec<f64> {
    snapshot.destinations().map(|placed| placed.effective).collect()
}
