//! `serin completions`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, print};

/// Print the completions of a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin completions bash > /etc/bash_completion.d/serin
  serin completions zsh > ~/.zfunc/_serin

Exit status: 0 done, 2 no such shell.")]
pub struct Completions {
    /// Of which shell
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(self) -> ExitCode {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "serin", &mut script);
        print(&String::from_utf8_lossy(&script));
        ExitCode::SUCCESS
    }
}
