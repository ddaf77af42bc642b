//! Serin.

pub mod config;
