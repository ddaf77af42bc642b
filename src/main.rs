//! The command `serin`: arguments, logging, and the exit code of what was asked for.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use serin::cli::Cli;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
