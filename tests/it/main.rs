//! Integration tests, one file per behaviour.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod canary;
mod config_fixtures;
mod config_robust;
mod connections;
mod demo;
mod drain;
mod http2;
mod limits;
mod listeners;
mod outlier;
mod pool_limits;
mod prometheus;
mod reload;
mod safe_retry;
mod start;
mod support;
mod tls;
mod truncation;
mod unix_sockets;
mod upgrades;
