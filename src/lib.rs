//! Serin.

pub mod cli;
pub mod config;
