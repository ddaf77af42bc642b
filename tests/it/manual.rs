//! `serin completions` and `serin man`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::support::proxy::{run, said, serin};

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments, Path::new("."));
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_shell_learns_commands_and_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        for word in ["set-weight", "rollout", "strict-hosts"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let refused = run(&["completions", "csh"], Path::new("."));
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("csh"));
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    assert!(printed(&["man"]).contains(".TH serin 1"));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    printed(&["man", "--dir", pages.to_str().unwrap()]);
    for command in ["serin", "serin-run", "serin-set-weight", "serin-rollout-simulate"] {
        let page = fs::read_to_string(pages.join(format!("{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = run(&["man", "--dir", file.to_str().unwrap()], Path::new("."));
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("cannot write manual pages"), "{}", said(&refused));
}

/// A reader that has seen enough is no failure.
#[test]
fn a_pipe_that_closes_early_is_no_mistake() {
    let mut child = serin().args(["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
}
