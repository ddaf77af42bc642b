//! The metrics as a scraper sees them.

mod calls;
mod cap;
mod documented;
mod failures;
mod lifetime;
mod reloads;
mod requests;
mod rollouts;
mod scrape;
mod text;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use self::scrape::Scrape;
use super::*;

fn request(status: u16, millis: u64) -> Finished<'static> {
    let duration = Duration::from_millis(millis);
    Finished {
        method: &Method::GET,
        status,
        flags: Flags::default(),
        error: None,
        aborted: None,
        duration,
        bytes_in: 3,
        bytes_out: 64,
        grpc: None,
    }
}

fn active(metrics: &Arc<RouteMetrics>, share: f64) -> ActiveRoute {
    ActiveRoute { metrics: metrics.clone(), declared: share, effective: share }
}

const V1: [(&str, &str); 2] = [("app", "shop"), ("version", "v1")];
const V2: [(&str, &str); 2] = [("app", "shop"), ("version", "v2")];

/// A configuration that splits `shop` 90/10.
fn canary() -> (Metrics, [Arc<RouteMetrics>; 2]) {
    let metrics = Metrics::new(2, Buckets::Fine);
    let routes = ["v1", "v2"].map(|version| metrics.route("canary/0", "shop", version));
    metrics.activate(vec![active(&routes[0], 0.9), active(&routes[1], 0.1)]);
    (metrics, routes)
}
