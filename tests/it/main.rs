//! Integration tests, one file per behaviour.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access_log;
mod architecture;
mod bad_canaries;
mod canary;
mod client_protocol;
mod commands_offline;
mod config_fixtures;
mod config_robust;
mod connections;
mod cors;
mod demo;
mod drain;
mod examples;
mod faults;
mod gates;
mod hashing;
mod header_values;
mod http2;
mod istio_tasks;
mod kills;
mod limits;
mod listeners;
mod mirrors;
mod openapi;
mod outlier;
mod pool_limits;
mod prometheus;
mod releases;
mod reload;
mod retries;
mod retry_budget;
mod rollout_commands;
mod safe_retry;
mod start;
mod startup;
mod sticky;
mod support;
mod tls;
mod truncation;
mod unix_sockets;
mod upgrades;
mod upstream_h2;
mod upstream_tls;
mod warmup;
