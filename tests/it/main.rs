//! Integration tests, one file per behaviour.

mod config_fixtures;
mod config_robust;
