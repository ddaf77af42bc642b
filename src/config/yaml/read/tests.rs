//! Trees and problems of texts.

use super::*;
use crate::config::yaml::{Data, Entry};

fn read_all(text: &str) -> (Vec<String>, Vec<String>) {
    let mut documents = Vec::new();
    let mut visit = |node: Node<'_>| documents.push(shown(&node));
    let problems = read(text, 0, &mut visit);
    let problem = |one: Diagnostic| format!("{}:{} {}", one.place.line, one.place.column, one.message);
    (documents, problems.into_iter().map(problem).collect())
}

/// JSON-like, quoted text in quotes.
fn shown(node: &Node<'_>) -> String {
    match &node.data {
        Data::Scalar { text, plain: true } => text.to_string(),
        Data::Scalar { text, plain: false } => format!("{text:?}"),
        Data::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Data::Object(entries) => {
            let entry = |entry: &Entry<'_>| format!("{}={}", entry.key, shown(&entry.value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
        }
    }
}

fn documents(text: &str) -> Vec<String> {
    let (documents, found) = read_all(text);
    assert!(found.is_empty(), "{found:?}");
    documents
}

fn problems(text: &str) -> Vec<String> {
    read_all(text).1
}

#[test]
fn documents_styles_and_tags() {
    let text = "\u{feff}a: 90\nb: \"90\"\nc: !!str 1.0\nd: ! 1\n---\n---\n- |\n  x\n- !!int '1'\n...\n# end\n";
    let shown = documents(&text.replace("d: ! 1\n", ""));
    assert_eq!(shown, ["{a=90 b=\"90\" c=\"1.0\"}", "", "[\"x\\n\" 1]"]);
}

#[test]
fn places_count_characters_from_one() {
    let mut places = Vec::new();
    let mut visit = |node: Node<'_>| {
        let Data::Object(entries) = &node.data else { panic!() };
        for entry in entries {
            let value = &entry.value;
            places.push((
                entry.place.line,
                entry.place.column,
                entry.place.length,
                value.place.column,
                value.place.length,
                value.last_line,
            ));
        }
    };
    assert!(
        read("ä: 'öx'\nlist:\n- a: 1\n  b: 2\n\n# c\nflow: {x: 1,\n y: 2\n}\nempty:\nend: 1 # x\n", 0, &mut visit)
            .is_empty()
    );
    assert_eq!(places[0], (1, 1, 1, 4, 4, 1));
    assert_eq!((places[1].0, places[1].5), (2, 4));
    assert_eq!((places[2].0, places[2].3, places[2].5), (7, 7, 9));
    assert_eq!((places[3].0, places[3].5), (10, 10));
    assert_eq!(places[4], (11, 1, 3, 6, 1, 11));
}

#[test]
fn aliases_and_merges() {
    assert_eq!(documents("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n"), ["{a={p=1 q=2} b={p=1 q=2} c={q=3 p=1}}"]);
    assert_eq!(documents("{<<: [{a: 1}, {a: 2, b: 3}]}"), ["{a=1 b=3}"]);
    assert_eq!(documents("\"<<\": 1"), ["{<<=1}"]);
    assert_eq!(problems("<<: 1"), ["1:5 `<<` merges objects only"]);
    assert!(problems("a: &x [*x]")[0].starts_with("1:8 this alias"));
    assert!(problems("a: &x 1\n---\nb: *x\n")[0].starts_with("3:4 this alias"));
    assert_eq!(problems("b: *x\n"), ["1:4 found unknown anchor"]);
}

#[test]
fn double_and_wrong_keys_are_errors() {
    let (documents, found) = read_all("a: 1\nb: 2\na: 3\n");
    assert_eq!(
        (documents, found),
        (vec!["{a=1 b=2}".to_owned()], vec!["3:1 `a` is there twice, first in line 1".to_owned()])
    );
    let many: String = (0..40).map(|n| format!("k{n}: 1\n")).collect();
    assert_eq!(problems(&format!("{many}k7: 2\n")), ["41:1 `k7` is there twice, first in line 8"]);
    assert_eq!(problems("{[a]: 1}"), ["1:2 the name of a field must be text"]);
    assert_eq!(problems("? \n: 1"), ["2:1 the name of a field must be text"]);
    assert_eq!(
        problems("a: !secret x\nb: !!binary aGk="),
        ["1:4 the tag `!secret` has no meaning here", "2:4 the tag `!!binary` has no meaning here"]
    );
}

#[test]
fn a_broken_document_leaves_the_others() {
    let (documents, found) = read_all("a: 1\n---\nb: c: d\n---\ne: *x\n--- \nf: \"unfinished\n---\ng: 2\n");
    assert_eq!(documents, ["{a=1}", "{g=2}"]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("3:5 ") && found[1].starts_with("5:4 "), "{found:?}");
    let (documents, found) = read_all("--- *x\n---\na: 1\n");
    assert_eq!((documents.len(), found), (1, vec!["1:5 found unknown anchor".to_owned()]));
    assert_eq!(problems(&"--- *x\n".repeat(50)).len(), MAX_BROKEN);
}

#[test]
fn tabs_and_control_characters_are_named() {
    assert_eq!(problems("a: 1\nb: \0c\n"), ["2:4 control character U+0000 in the text"]);
    assert_eq!(problems("a:\n\tb: 1\n").len(), 1);
}

#[test]
fn bombs_are_defused() {
    let laughs: String =
        (1..9).map(|n| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 9].join(","))).collect();
    let found = problems(&format!("l0: &l0 x\n{laughs}"));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("stand for more than") || found[0].contains("hold more than"), "{found:?}");
    assert!(problems(&"[".repeat(100_000))[0].contains("nested too deep"));
    assert!(problems(&"- ".repeat(100_000))[0].contains("nested deeper than 64"));
    assert!(problems(&format!("[{}]", "a,".repeat(MAX_FLOW)))[0].contains("commas and brackets"));
    assert!(problems(&format!("a: &a 1\nb:\n{}", "- *a\n".repeat(1_001)))[0].contains("1000 aliases"));
    let nested: String = (1..40).map(|n| format!("l{n}: &l{n} [[*l{}]]\n", n - 1)).collect();
    assert!(problems(&format!("l0: &l0 x\n{nested}"))[0].contains("nested deeper than 64"));
    assert!(problems(&"- a\n".repeat(MAX_DOCUMENT_NODES + 1))[0].contains("values in one document"));
}
