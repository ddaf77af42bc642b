//! F1, the bytes of a configuration: loading always ends with the same answer, every problem is at a line of the text, and what
//! is accepted compiles to a table that can explain each of its routes.

use serin::config::load::{self, Loaded, Read, Source};
use serin::config::render;
use serin::config::settings::Settings;
use serin::routing::explain::{Described, Sample};
use serin::routing::table::Hosts;
use serin::routing::{Found, Options, RequestView, compile};

/// Checks all of it. Bytes that are no UTF-8 are what a text with replacement characters is.
pub(crate) fn check(bytes: &[u8]) {
    check_text(&String::from_utf8_lossy(bytes));
}

/// The same for a text.
pub(crate) fn check_text(text: &str) {
    let loaded = load_text(text);
    are_inside(&loaded, text, text.trim().is_empty());
    let said = render::text(&loaded, true);
    assert!(!said.contains('\r') && said.chars().all(|c| c == '\n' || c == '\x1b' || !c.is_control()), "{said:?}");
    let again = load_text(text);
    assert_eq!((&again.diagnostics, &again.hash), (&loaded.diagnostics, &loaded.hash));
    if loaded.is_valid() {
        routes_are_explained(&loaded);
    }
}

fn load_text(text: &str) -> Loaded {
    let sources = vec![Source { path: "vs.yaml".into(), text: text.into() }];
    load::load(Read { sources, ..Read::default() }, &Settings::default())
}

/// Lines as the parser counts them: `\n`, `\r\n` or `\r`.
fn lines(text: &str) -> Vec<String> {
    text.replace("\r\n", "\n").replace('\r', "\n").split('\n').map(str::to_owned).collect()
}

/// Every problem is at a line of the text; one of the file as a whole only if `whole`.
pub(crate) fn are_inside(loaded: &Loaded, text: &str, whole: bool) {
    let lines = lines(text);
    for diagnostic in &loaded.diagnostics {
        let place = diagnostic.place;
        if whole && place.line == 0 {
            continue;
        }
        let line = (place.line as usize).checked_sub(1).and_then(|index| lines.get(index));
        assert!(line.is_some(), "line {} of {}: {}", place.line, lines.len(), diagnostic.message);
        let length = line.map_or(0, |line| line.chars().count());
        assert!((1..=length + 1).contains(&(place.column as usize)), "{place:?}: {}", diagnostic.message);
        assert_eq!(place.file, 0);
        assert!(!diagnostic.message.is_empty());
    }
    let entries = render::entries(loaded);
    assert!(entries.iter().all(|entry| entry.file == "vs.yaml" || entry.file.ends_with("/vs.yaml")));
    assert_eq!(entries.len(), loaded.diagnostics.len());
}

fn routes_are_explained(loaded: &Loaded) {
    let options = Options::new(&loaded.resources, &Settings::default());
    let table = compile(&loaded.resources, &options, &mut |wanted| wanted.destination.host.value.clone());
    for port in table.ports() {
        let hosts = table.listener(port).unwrap();
        let mut samples = hosts.samples().into_iter();
        // What is shown is what was written, not the program that was made of it.
        let shown = hosts.describe().into_iter().flat_map(|described| described.routes).flat_map(|(_, words)| words);
        let shown: Vec<_> = shown.filter(|words| words.contains(r"\A(?:")).collect();
        assert!(shown.is_empty() || loaded.sources[0].text.contains(r"\A"), "{shown:?}");
        for described in hosts.describe() {
            // One for the pattern, and one for each block.
            for number in 0..=described.routes.len() {
                let (host, sample) = samples.next().expect("a sample for each block");
                is_explained(hosts, (port, &host, &sample), &described, number.checked_sub(1));
            }
        }
        assert_eq!(samples.next(), None);
    }
}

/// The explanation of a sample agrees with what a request would find; the block that it was made for is found, or one before it.
fn is_explained(
    hosts: &Hosts<String>,
    (port, host, sample): (u16, &str, &Sample),
    described: &Described<'_, String>,
    block: Option<usize>,
) {
    let authority = sample.authority.as_deref().unwrap_or(host);
    let Sample { method, scheme, path, headers, .. } = sample;
    let view = RequestView { method, scheme, authority, path, headers, port };
    let explained = hosts.explain(&view);
    let position = match (&explained.found, hosts.find(&view)) {
        (Found::Route(told), Found::Route(found)) => {
            assert!(std::ptr::eq(*told, found), "{sample:?}");
            assert!(explained.skipped.iter().all(|skipped| *skipped.rule != *found.rule.label), "{explained:?}");
            described.routes.iter().position(|(route, _)| std::ptr::eq(*route, found))
        }
        (Found::NoHost, Found::NoHost) => {
            assert_eq!(explained.host, None);
            None
        }
        (Found::NoRule, Found::NoRule) => {
            assert!(!explained.skipped.is_empty(), "no reason why {sample:?} has no rule");
            None
        }
        (told, found) => panic!("told {told:?}, found {found:?}"),
    };
    let Some(block) = block else { return };
    if explained.host.as_ref() == Some(&described.host)
        && is_plain(&described.routes[block].1)
        && !described.https_redirect
    {
        assert!(position.is_some_and(|position| position <= block), "{sample:?} does not reach block {block}");
    }
}

/// Whether a block asks for nothing but a path for which there surely is a request.
fn is_plain(conditions: &[String]) -> bool {
    let is_path = |words: &String| {
        let path = ["uri exact: ", "uri prefix: "].iter().find_map(|form| words.strip_prefix(form));
        path.is_some_and(|path| path.starts_with('/') && !path.contains(['?', '#']))
    };
    conditions.len() <= 1 && conditions.iter().all(is_path)
}
