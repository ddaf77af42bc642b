//! Serin.

pub mod config;
pub mod upstream;
