//! `serin man`: the manual pages, made of what `--help` says.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_mangen::{Man as Page, generate_to};

use super::{Cli, fail, print};

/// Print the manual page, or write one for each command
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin man | man -l -
  serin man --dir /usr/local/share/man/man1

Exit status: 0 done, 2 the pages cannot be written.")]
pub struct Man {
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    /// Prints or writes.
    pub fn run(self) -> ExitCode {
        let written = match &self.dir {
            Some(dir) => fs::create_dir_all(dir).and_then(|()| generate_to(Cli::command(), dir)),
            None => {
                let mut page = Vec::new();
                let rendered = Page::new(Cli::command()).render(&mut page);
                print(&String::from_utf8_lossy(&page));
                rendered
            }
        };
        match written {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let to = self.dir.unwrap_or_default();
                fail(&format!("cannot write manual pages to {}: {error}", to.display()))
            }
        }
    }
}
