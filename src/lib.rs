//! Serin.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod proxy;
pub mod routing;
pub mod shutdown;
pub mod snapshot;
pub mod telemetry;
pub mod upstream;
