//! The examples themselves: each starts with the command that stands in it.

use std::fs;

use super::folder;
use crate::support::proxy::{Proxy, serin};
use crate::tls::free_port;

/// The arguments of the command in a comment; a line that ends with `\` goes on in the next one.
fn arguments(text: &str) -> Vec<String> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("# serin run "));
    let mut command = String::new();
    loop {
        let line = lines.next().unwrap_or_default().trim_start_matches("# serin run ").trim_start_matches('#');
        match line.strip_suffix('\\') {
            Some(part) => command.push_str(part),
            None => return format!("{command}{line}").split_whitespace().map(str::to_owned).collect(),
        }
    }
}

#[test]
fn each_starts_with_the_command_that_stands_in_it() {
    let mut names: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 12, "{names:?}");
    for path in names {
        let text = fs::read_to_string(&path).unwrap();
        let mut arguments = arguments(&text);
        let own = path.file_name().unwrap().to_str().unwrap();
        assert!(arguments.iter().any(|argument| argument == own), "{own}: {arguments:?}");
        // The port of the example may be taken here.
        for argument in &mut arguments {
            if let Some((port, "8081")) = argument.split_once('=') {
                *argument = format!("{port}={}", free_port());
            }
        }
        let mut command = serin();
        command.current_dir(folder()).arg("run").args(arguments);
        let proxy = Proxy::spawn(tempfile::tempdir().unwrap(), &mut command);
        assert_eq!(proxy.ask("GET", "/ready").0, 200, "{own}");
    }
}
