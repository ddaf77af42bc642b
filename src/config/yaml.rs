//! YAML text to a tree of nodes with places: the first step of reading. It knows YAML and nothing of what the fields mean.
//! It never stops at the first problem: after a broken document it goes on with the next one.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::diagnostic::{Diagnostic, Kind};
use super::place::Place;
use super::text;

/// How large a file may be, in bytes.
pub(crate) const MAX_BYTES: u64 = 16 << 20;
/// How deep lists and objects may be nested.
const MAX_DEPTH: usize = 64;
/// How many nodes a document may have, which is in memory as a whole, and how many a file.
/// 10 000 VirtualServices have about 600 000.
const MAX_DOCUMENT_NODES: usize = 1_000_000;
const MAX_NODES: usize = 4_000_000;
/// How many aliases a file may have, and how many nodes they may stand for.
const MAX_ALIASES: usize = 1_000;
const MAX_ALIASED_NODES: usize = 200_000;
/// How many commas and opening brackets a file may have: the parser keeps a whole flow collection in memory.
const MAX_FLOW: usize = 300_000;
/// After so many broken documents a file is given up.
const MAX_BROKEN: usize = 20;

/// One value in a document.
#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    /// Where it begins. A list or an object covers one character.
    pub(crate) place: Place,
    /// The last line that belongs to it.
    pub(crate) last_line: u32,
    /// What it is.
    pub(crate) data: Data<'t>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Data<'t> {
    /// Text as written, quotes and escapes resolved.
    Scalar {
        /// The text.
        text: Cow<'t, str>,
        /// Written without quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    List(Vec<Node<'t>>),
    /// An object, in the order written. No key is there twice.
    Object(Vec<Entry<'t>>),
}

/// One key of an object with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'t> {
    /// The key.
    pub(crate) key: Cow<'t, str>,
    /// Where the key stands.
    pub(crate) place: Place,
    /// Its value.
    pub(crate) value: Node<'t>,
}

impl Node<'_> {
    /// Whether it is null or empty, which Kubernetes treats as absent.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key, if this is an object that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Data::Object(entries) = &self.data else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }
}

/// Reads all documents of a text and hands each that is whole to `visit`. Answers what is wrong with the others.
pub(crate) fn read<'t>(source: &'t str, file: u32, visit: &mut dyn FnMut(Node<'t>)) -> Vec<Diagnostic> {
    let body = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut reader = Reader::new(file);
    if let Some(problem) = unreadable(body, file) {
        return vec![problem];
    }
    let mut rest = body;
    while let Err(stop) = reader.documents(rest, visit) {
        let Stop::Broken(line) = stop else { break };
        reader.broken += 1;
        let after = line.max(reader.document_line + 1) - reader.lines_before;
        let next = text::lines(rest).skip(1).find(|one| one.number >= after && begins_document(one.text));
        let (Some(next), true) = (next, reader.broken < MAX_BROKEN) else { break };
        reader.lines_before += next.number - 1;
        rest = &rest[next.start..];
    }
    reader.diagnostics
}

fn begins_document(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// What the parser would silently stop at, or need too much memory for.
fn unreadable(body: &str, file: u32) -> Option<Diagnostic> {
    let control = |byte: u8| byte == 0x7f || byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    if let Some(at) = body.bytes().position(control) {
        let (line, column) = text::position(body, at);
        let place = Place { file, line, column, length: 1 };
        let message = format!("control character U+{:04X} in the text", body.as_bytes()[at]);
        return Some(
            Diagnostic::error(Kind::Syntax, place, message)
                .help("remove it, or write it as an escape in double quotes"),
        );
    }
    let flow = body.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    (flow > MAX_FLOW).then(|| {
        let place = Place { file, line: 1, column: 1, length: 1 };
        Diagnostic::error(Kind::Syntax, place, format!("more than {MAX_FLOW} commas and brackets in one file"))
            .help("write lists and objects in lines of their own, or split the file")
    })
}

/// Why reading stops before the end.
enum Stop {
    /// This line is no YAML; the next document may be.
    Broken(u32),
    /// Over a limit: nothing more is read.
    Limit,
}

/// A list or an object that is not finished.
struct Open<'t> {
    place: Place,
    anchor: usize,
    /// Nodes in it, those that aliases stand for included.
    size: usize,
    /// Levels below it.
    height: usize,
    held: Held<'t>,
}

enum Held<'t> {
    List(Vec<Node<'t>>),
    Object { entries: Vec<Entry<'t>>, merges: Vec<Node<'t>>, key: Option<Key<'t>> },
}

enum Key<'t> {
    Named(Cow<'t, str>, Place),
    Merge,
    /// Something that is no name; it has been reported.
    Wrong,
}

struct Anchored<'t> {
    node: Node<'t>,
    size: usize,
    height: usize,
}

struct Reader<'t> {
    file: u32,
    lines_before: u32,
    document_line: u32,
    broken: usize,
    open: Vec<Open<'t>>,
    root: Option<Node<'t>>,
    anchors: HashMap<usize, Anchored<'t>>,
    nodes: usize,
    document_nodes: usize,
    aliases: usize,
    aliased_nodes: usize,
    diagnostics: Vec<Diagnostic>,
}

impl<'t> Reader<'t> {
    fn new(file: u32) -> Self {
        Self {
            file,
            lines_before: 0,
            document_line: 0,
            broken: 0,
            open: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            document_nodes: 0,
            aliases: 0,
            aliased_nodes: 0,
            diagnostics: Vec::new(),
        }
    }

    fn documents(&mut self, body: &'t str, visit: &mut dyn FnMut(Node<'t>)) -> Result<(), Stop> {
        self.open.clear();
        self.root = None;
        self.anchors.clear();
        for event in Parser::new_from_str(body) {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            match event {
                Event::DocumentStart(explicit) => {
                    self.anchors.clear();
                    self.document_nodes = 0;
                    if explicit {
                        self.document_line = self.place(span).line;
                    }
                    self.count(span)?;
                }
                Event::DocumentEnd => {
                    if let Some(root) = self.root.take() {
                        visit(root);
                    }
                }
                Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, (tag, span))?,
                Event::Alias(anchor) => self.alias(anchor, span)?,
                Event::SequenceStart(anchor, tag) => self.start(span, anchor, tag, Held::List(Vec::new()))?,
                Event::MappingStart(anchor, tag) => {
                    let held = Held::Object { entries: Vec::new(), merges: Vec::new(), key: None };
                    self.start(span, anchor, tag, held)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            }
        }
        Ok(())
    }

    fn place(&self, span: Span) -> Place {
        let length = if span.start.line() == span.end.line() { span.end.index() - span.start.index() } else { 1 };
        self.at(&span.start, length)
    }

    fn at(&self, marker: &Marker, length: usize) -> Place {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Place {
            file: self.file,
            line: number(marker.line()) + self.lines_before,
            column: number(marker.col()) + 1,
            length: number(length).max(1),
        }
    }

    fn error(&mut self, kind: Kind, place: Place, message: impl Into<String>, help: &str) {
        let diagnostic = Diagnostic::error(kind, place, message);
        self.diagnostics.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    fn limit(&mut self, place: Place, message: String) -> Stop {
        self.error(Kind::Syntax, place, message, "nothing after this place was read");
        Stop::Limit
    }

    fn scan_error(&mut self, error: &ScanError) -> Stop {
        let place = self.at(error.marker(), 1);
        let (message, help) = explain(error.info());
        self.error(Kind::Syntax, place, message, help);
        Stop::Broken(place.line)
    }

    fn count(&mut self, span: Span) -> Result<(), Stop> {
        self.nodes += 1;
        self.document_nodes += 1;
        let place = self.place(span);
        if self.nodes > MAX_NODES {
            return Err(self.limit(place, format!("more than {MAX_NODES} values in one file")));
        }
        if self.document_nodes > MAX_DOCUMENT_NODES {
            return Err(self.limit(place, format!("more than {MAX_DOCUMENT_NODES} values in one document")));
        }
        Ok(())
    }

    fn start(&mut self, span: Span, anchor: usize, tag: Option<Cow<'t, Tag>>, held: Held<'t>) -> Result<(), Stop> {
        self.count(span)?;
        let place = Place { length: 1, ..self.place(span) };
        if let Some(tag) = tag {
            let wanted = if matches!(held, Held::List(_)) { "seq" } else { "map" };
            if !tag.is_yaml_core_schema() || tag.suffix != wanted {
                self.unknown_tag(&tag, place);
            }
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.limit(place, format!("lists and objects are nested deeper than {MAX_DEPTH}")));
        }
        self.open.push(Open { place, anchor, size: 1, height: 1, held });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), Stop> {
        let Some(Open { place, anchor, size, height, held }) = self.open.pop() else { return Ok(()) };
        let data = match held {
            Held::List(items) => Data::List(items),
            Held::Object { entries, merges, .. } => Data::Object(self.object(entries, merges)),
        };
        // Only the end of a flow collection is written; a block ends with what is in it.
        let end = if span.is_empty() { place.line } else { self.place(span).line };
        let inner = match &data {
            Data::Scalar { .. } => None,
            Data::List(items) => items.iter().map(|item| item.last_line).max(),
            Data::Object(entries) => entries.iter().map(|entry| entry.value.last_line).max(),
        };
        let last_line = match &data {
            Data::Object(_) => end.max(inner.unwrap_or(0)),
            _ => inner.unwrap_or(end),
        };
        self.finish(Node { place, last_line, data }, anchor, size, height)
    }

    fn scalar(
        &mut self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        anchor: usize,
        (tag, span): (Option<Cow<'t, Tag>>, Span),
    ) -> Result<(), Stop> {
        self.count(span)?;
        let place = self.place(span);
        let plain = match tag {
            None => style == ScalarStyle::Plain,
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => false,
            Some(tag) if tag.is_yaml_core_schema() && matches!(&*tag.suffix, "int" | "float" | "bool" | "null") => true,
            Some(tag) => {
                self.unknown_tag(&tag, place);
                style == ScalarStyle::Plain
            }
        };
        let end = self.at(&span.end, 1);
        let last_line = if end.column == 1 && end.line > place.line { end.line - 1 } else { end.line };
        self.finish(Node { place, last_line, data: Data::Scalar { text, plain } }, anchor, 1, 0)
    }

    fn unknown_tag(&mut self, tag: &Tag, place: Place) {
        let name = if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
        self.error(Kind::Syntax, place, format!("the tag `{name}` has no meaning here"), "remove it");
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        self.count(span)?;
        let place = self.place(span);
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            return Err(self.limit(place, format!("more than {MAX_ALIASES} aliases in one file")));
        }
        let Some(found) = self.anchors.get(&anchor) else {
            let message = "this alias names an anchor that is not complete yet, or of another document";
            self.error(
                Kind::Syntax,
                place,
                message,
                "an alias stands for a value written before it in the same document",
            );
            let data = Data::Scalar { text: Cow::Borrowed(""), plain: true };
            return self.finish(Node { place, last_line: place.line, data }, 0, 1, 0);
        };
        let (size, height) = (found.size, found.height);
        self.aliased_nodes = self.aliased_nodes.saturating_add(size);
        if self.aliased_nodes > MAX_ALIASED_NODES {
            return Err(self.limit(place, format!("aliases stand for more than {MAX_ALIASED_NODES} values")));
        }
        if self.open.len() + height > MAX_DEPTH {
            return Err(self.limit(place, format!("lists and objects are nested deeper than {MAX_DEPTH}")));
        }
        let node = found.node.clone();
        self.finish(node, 0, size, height)
    }

    /// Puts a finished node where it belongs: into the list or object that is open, or at the root.
    fn finish(&mut self, node: Node<'t>, anchor: usize, size: usize, height: usize) -> Result<(), Stop> {
        if anchor > 0 {
            self.aliased_nodes = self.aliased_nodes.saturating_add(size);
            if self.aliased_nodes > MAX_ALIASED_NODES {
                return Err(self.limit(node.place, format!("anchors hold more than {MAX_ALIASED_NODES} values")));
            }
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, height });
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size = parent.size.saturating_add(size);
        parent.height = parent.height.max(height + 1);
        match &mut parent.held {
            Held::List(items) => items.push(node),
            Held::Object { entries, merges, key } => match key.take() {
                Some(Key::Named(name, place)) => entries.push(Entry { key: name, place, value: node }),
                Some(Key::Merge) => merges.push(node),
                Some(Key::Wrong) => {}
                None => {
                    let place = node.place;
                    *key = Some(match node.data {
                        Data::Scalar { text, plain: true } if text == "<<" => Key::Merge,
                        Data::Scalar { text, plain } if !(plain && text.is_empty()) => Key::Named(text, place),
                        _ => Key::Wrong,
                    });
                    if matches!(key, Some(Key::Wrong)) {
                        self.error(Kind::Syntax, place, "the name of a field must be text", "");
                    }
                }
            },
        }
        Ok(())
    }

    /// An object's entries without double keys, and with what `<<` merges into it.
    fn object(&mut self, mut entries: Vec<Entry<'t>>, merges: Vec<Node<'t>>) -> Vec<Entry<'t>> {
        self.drop_doubles(&mut entries);
        for merge in merges {
            let place = merge.place;
            let objects = match merge.data {
                Data::List(items) => items,
                data => vec![Node { data, ..merge }],
            };
            for object in objects {
                let Data::Object(more) = object.data else {
                    self.error(Kind::Syntax, place, "`<<` merges objects only", "");
                    continue;
                };
                let known: HashSet<String> = entries.iter().map(|entry| entry.key.to_string()).collect();
                entries.extend(more.into_iter().filter(|entry| !known.contains(&*entry.key)));
            }
        }
        entries
    }

    fn drop_doubles(&mut self, entries: &mut Vec<Entry<'t>>) {
        let double = if entries.len() < 16 {
            (1..entries.len()).any(|at| entries[..at].iter().any(|earlier| earlier.key == entries[at].key))
        } else {
            entries.iter().map(|entry| &*entry.key).collect::<HashSet<_>>().len() < entries.len()
        };
        if !double {
            return;
        }
        let mut first: HashMap<String, u32> = HashMap::new();
        entries.retain(|entry| {
            let Some(line) = first.get(&*entry.key) else {
                first.insert(entry.key.to_string(), entry.place.line);
                return true;
            };
            let message = format!("`{}` is there twice, first in line {line}", entry.key);
            self.diagnostics.push(Diagnostic::error(Kind::Field, entry.place, message).help("keep one of the two"));
            false
        });
    }
}

/// The parser's message in the words of this program, and what to do about it.
fn explain(info: &str) -> (String, &'static str) {
    let info = info.strip_prefix("while ").and_then(|rest| rest.split_once(", ")).map_or(info, |(_, what)| what);
    if info == "recursion limit exceeded" {
        return ("lists and objects are nested too deep".to_owned(), "");
    }
    let help = match info {
        "mapping values are not allowed in this context" => {
            "the line is indented too far, or the value before it holds `: ` and must be quoted"
        }
        "did not find expected key" | "simple key expected" | "simple key expect ':'" => {
            "check the indentation of this line and of those above it, and that each field has its `:`"
        }
        "found unexpected document indicator" | "found unexpected end of stream" => {
            "a quote or a bracket is not closed"
        }
        "did not find expected '-' indicator" => "the entries of a list must be indented alike",
        "found unknown anchor" => "an alias stands for a value written before it in the same document",
        _ if info.contains("tab") => "indent with spaces",
        _ if info.contains("flow") || info.contains("expected ','") => "a bracket, a brace or a comma is missing",
        _ => "",
    };
    (info.replace(['<', '>'], "`"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            documents("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n"),
            ["{a={p=1 q=2} b={p=1 q=2} c={q=3 p=1}}"]
        );
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
}
