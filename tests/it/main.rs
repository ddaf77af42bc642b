//! Integration tests, one file per behaviour.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod demo;
mod prometheus;
mod start;
