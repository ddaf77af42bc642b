//! Serin: canary releases in front of any service.
//!
//! # The journey of a request
//!
//! A [`proxy::Worker`] accepts a connection and serves HTTP on it. For each request it takes hold of the one
//! [`snapshot::Snapshot`] in force, and asks its [`routing::RouteTable`] for the route: listener, then host, then the first rule that
//! matches. A rule that forwards holds a [`routing::Split`]; a random draw picks the destination, whose share of the requests is its
//! weight. The destination is an [`upstream::Cluster`], alive across configurations: it picks an endpoint and hands out a lease and a
//! kept-alive connection. The answer streams back with the request's record inside its body; when the last byte is gone, the
//! connection returns to its pool and the record to [`telemetry`].
//!
//! # The journey of a configuration
//!
//! [`control::FileWatch`] sees that a file may have changed, and asks the [`control::Publisher`]. It reads all files, and if their
//! content is new, [`config::load`] parses and judges it; a valid one is compiled into the next snapshot, which replaces the last with
//! one swap. Anything wrong leaves the last one in force and is told: log, metrics, [`admin`].
//!
//! [`app`] connects all this, [`cli`] is what a person types. Who may import whom is in ARCHITECTURE.md, and a test.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
mod failpoint;
pub mod proxy;
pub mod rollout;
pub mod routing;
pub mod shutdown;
pub mod snapshot;
pub mod telemetry;
pub mod upstream;
