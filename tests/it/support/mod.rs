//! What the tests of behaviour have in common: the built binary as a child process, upstreams and clients that do exactly
//! what a test says, step by step. Nothing here waits for luck: every wait is for a condition, and fails after [`PATIENCE`].

pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod config;
pub(crate) mod desk;
pub(crate) mod echo;
pub(crate) mod frames;
pub(crate) mod h2;
pub(crate) mod load;
pub(crate) mod network;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod release;
pub(crate) mod sandbox;
pub(crate) mod slow;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::thread;
use std::time::{Duration, Instant};

/// The longest that any single step may take, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `hits` of `draws` is within four standard deviations of a share.
pub(crate) fn is_share(hits: usize, draws: usize, share: f64) -> bool {
    let draws = draws as f64;
    (hits as f64 - draws * share).abs() <= 4.0 * (draws * share * (1.0 - share)).sqrt()
}
