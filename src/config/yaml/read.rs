//! The documents of a text, one after the other: from the parser's events to whole trees, and on after what is broken.

mod nodes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScanError, Span};

use self::nodes::{Anchored, Held, Open};
use super::Node;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::Place;
use crate::config::text;

/// How many nodes a document may have, which is in memory as a whole, and how many a file.
/// 10 000 VirtualServices have about 600 000.
const MAX_DOCUMENT_NODES: usize = 1_000_000;
const MAX_NODES: usize = 4_000_000;
/// How many commas and opening brackets a file may have: the parser keeps a whole flow collection in memory.
const MAX_FLOW: usize = 300_000;
/// After so many broken documents a file is given up.
const MAX_BROKEN: usize = 20;

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
