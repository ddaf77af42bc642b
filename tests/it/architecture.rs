//! The shape of the house: who may import whom, and how long files and functions may be. Reads `src` as it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Item, ItemMod, ItemUse, Macro, Meta, Signature, UseTree};

/// Each module under `src` with the modules it may import. `*` is every module.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("failpoint", &[]),
    ("telemetry", &["failpoint"]),
    ("shutdown", &[]),
    ("rollout", &[]),
    ("routing", &["config"]),
    ("upstream", &["failpoint", "telemetry"]),
    ("snapshot", &["config", "telemetry", "routing", "upstream"]),
    ("proxy", &["failpoint", "telemetry", "routing", "upstream", "snapshot", "shutdown"]),
    ("control", &["config", "failpoint", "telemetry", "rollout", "snapshot", "shutdown"]),
    ("admin", &["telemetry", "rollout", "snapshot", "control", "shutdown"]),
    ("app", &["*"]),
    ("cli", &["app", "config", "routing", "rollout", "telemetry"]),
    ("main", &["cli", "app", "config", "routing", "rollout", "telemetry"]),
    ("lib", &[]),
];

/// Lines of a file before its tests.
const LONGEST_FILE: usize = 500;
/// Lines of a function, from `fn` to its last brace.
const LONGEST_FUNCTION: usize = 60;

#[test]
fn the_source_keeps_to_the_architecture() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(!files.is_empty(), "no source below {}", source.display());
    let mut offences = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        offences.extend(check(file.strip_prefix(&source).unwrap(), &text));
    }
    let list: Vec<String> = offences.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

/// Every source file below a folder, sorted within each.
pub(crate) fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

/// Something that the architecture does not allow.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Everything wrong with one file; its path is relative to `src`.
fn check(file: &Path, text: &str) -> Vec<Offence> {
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let first = file.components().next().unwrap().as_os_str();
    let module = Path::new(first).file_stem().unwrap().to_str().unwrap().to_owned();
    let is_root = file.components().count() == 1 || file.ends_with("mod.rs") && file.components().count() == 2;
    let mut checker = Checker {
        allowed: MAY_IMPORT.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed),
        super_is_crate: is_root,
        file,
        module,
        tests: 0,
        offences: Vec::new(),
    };
    if checker.allowed.is_none() {
        checker.report(Span::call_site(), "this module is not in the import table".to_owned());
    }
    checker.visit_file(&parsed);
    let tests = parsed.items.iter().find_map(|item| match item {
        Item::Mod(tests) if tests.content.is_some() && is_for_tests(&tests.attrs) => Some(tests.span().start().line),
        _ => None,
    });
    let length = tests.map_or(text.lines().count(), |line| line - 1);
    if length > LONGEST_FILE {
        let what = format!("the file has {length} lines before its tests, more than {LONGEST_FILE}");
        checker.offences.push(Offence { file: file.to_owned(), line: LONGEST_FILE + 1, what });
    }
    checker.offences.dedup();
    checker.offences
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
        list.path.is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

struct Checker<'f> {
    file: &'f Path,
    /// The module under `src` that the file belongs to.
    module: String,
    /// What it may import; none if it is not in the table.
    allowed: Option<&'static [&'static str]>,
    /// Whether `super` is the crate itself here.
    super_is_crate: bool,
    /// How many test modules and functions surround this place.
    tests: usize,
    offences: Vec<Offence>,
}

impl Checker<'_> {
    fn report(&mut self, span: Span, what: String) {
        self.offences.push(Offence { file: self.file.to_owned(), line: span.start().line, what });
    }

    /// Judges the first names of a path. An asterisk is a glob.
    fn path(&mut self, names: &[String], span: Span) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match names[..] {
            ["super", "super", ..] => self.report(span, "`super::super`: name it from the crate instead".to_owned()),
            ["crate", target, ..] | ["serin", target, ..] => self.import(target, span),
            ["super", target, ..] if self.super_is_crate => self.import(target, span),
            _ => {}
        }
    }

    fn import(&mut self, target: &str, span: Span) {
        if matches!(target, "*" | "self") {
            return self.report(span, "the whole crate is imported: name what is needed".to_owned());
        }
        // Macros, and items of lib.rs, are no modules.
        let is_module = MAY_IMPORT.iter().any(|(name, _)| *name == target);
        let allowed = self.allowed.is_none_or(|allowed| allowed.contains(&target) || allowed.contains(&"*"));
        if is_module && target != self.module && !allowed {
            self.report(span, format!("`{}` must not import `{target}`", self.module));
        }
    }

    fn use_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.use_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, before)),
            UseTree::Name(name) => self.use_leaf(name.ident.to_string(), before, tree.span()),
            UseTree::Rename(rename) => self.use_leaf(rename.ident.to_string(), before, tree.span()),
            UseTree::Glob(_) => self.use_leaf("*".to_owned(), before, tree.span()),
        }
    }

    fn use_leaf(&mut self, name: String, before: &mut Vec<String>, span: Span) {
        // `use crate as this` is the whole crate, too.
        let whole = before.is_empty() && name == "crate";
        before.push(name);
        if whole {
            before.push("self".to_owned());
        }
        self.path(before, span);
        before.truncate(before.len() - 1 - usize::from(whole));
    }

    /// Paths inside the arguments of a macro, which are tokens only.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut start = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    if path.is_empty() {
                        start = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                other => {
                    self.path(&path, start);
                    path.clear();
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => {
                            start = ident.span();
                            path.push(ident.to_string());
                        }
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.path(&path, start);
    }

    fn function(&mut self, signature: &Signature, block: &Block) {
        let lines = block.span().end().line + 1 - signature.span().start().line;
        if lines > LONGEST_FUNCTION && self.tests == 0 {
            let what = format!("`{}` has {lines} lines, more than {LONGEST_FUNCTION}", signature.ident);
            self.report(signature.span(), what);
        }
    }
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let outer = self.super_is_crate;
        // Inside an inline module `super` is the file's own module; the declaration of a file has nothing inside.
        self.super_is_crate = false;
        self.tests += usize::from(is_for_tests(&module.attrs));
        visit::visit_item_mod(self, module);
        self.tests -= usize::from(is_for_tests(&module.attrs));
        self.super_is_crate = outer;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&names, path.span());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.tokens(invocation.tokens.clone());
        visit::visit_macro(self, invocation);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.tests += usize::from(is_for_tests(&item.attrs));
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
        self.tests -= usize::from(is_for_tests(&item.attrs));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// What is said about a file, by line.
fn said(file: &str, text: &str) -> Vec<(usize, String)> {
    check(Path::new(file), text).into_iter().map(|offence| (offence.line, offence.what)).collect()
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for line in [
        "use crate::proxy::worker::Worker;",
        "use crate::{config::value, proxy};",
        "pub use crate::proxy as other;",
        "fn f(worker: &crate::proxy::Worker) {}",
        "fn f() { let x = vec![Some(1), crate::proxy::count(2)]; }",
        "fn f() { println!(\"{}\", a::b(crate::proxy::NAME)); }",
        "impl crate::proxy::Trait for X {}",
        "mod tests { use crate::proxy::Worker; }",
        "use serin::proxy::Worker;",
    ] {
        let text = format!("//! A file.\n\n{line}\n");
        let wanted = (3, "`routing` must not import `proxy`".to_owned());
        assert_eq!(said("routing/host.rs", &text), [wanted], "{line}");
    }
}

#[test]
fn super_counts_where_it_is_the_crate() {
    let text = "use super::proxy::Worker;\n";
    let wanted = [(1, "`routing` must not import `proxy`".to_owned())];
    assert_eq!(said("routing/mod.rs", text), wanted);
    assert_eq!(said("snapshot.rs", text), [(1, "`snapshot` must not import `proxy`".to_owned())]);
    assert_eq!(said("routing/host.rs", text), []);
    assert_eq!(said("routing/mod.rs", "mod tests { use super::proxy::Worker; }\n"), []);
}

#[test]
fn climbing_and_taking_everything_are_found() {
    for line in
        ["use super::super::host::X;", "fn f() { super::super::g(); }", "fn f() { assert!(super::super::g()); }"]
    {
        assert!(said("routing/host.rs", line)[0].1.contains("super::super"), "{line}");
    }
    for line in ["use crate::*;", "use crate as all;", "use crate::{self as all};"] {
        assert!(said("routing/host.rs", line)[0].1.contains("whole crate"), "{line}");
    }
}

#[test]
fn what_is_allowed_is_silent() {
    let text = "use crate::config::value::StringMatch;\nuse super::split::*;\nuse std::proxy::X;\n\
                fn f() { assert_eq!(crate::routing::a(), proxy::b()); }\n";
    assert_eq!(said("routing/host.rs", text), []);
    assert_eq!(said("app.rs", "use crate::{admin, proxy};\n"), []);
}

#[test]
fn a_module_without_a_place_in_the_table_is_found() {
    assert!(said("helper/mod.rs", "//! Helps.\n")[0].1.contains("import table"));
}

#[test]
fn the_table_has_no_cycle() {
    let order: Vec<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    for (position, (name, allowed)) in MAY_IMPORT.iter().enumerate() {
        for target in allowed.iter().filter(|target| **target != "*") {
            let found = order.iter().position(|other| other == target);
            assert!(found.is_some_and(|found| found < position), "`{name}` imports `{target}`, which comes after it");
        }
    }
}

#[test]
fn long_files_and_functions_are_found_unless_they_are_tests() {
    let lines = |count: usize| "let x = 1;\n".repeat(count);
    let function = |count: usize| format!("fn f() {{\n{}}}\n", lines(count - 2));
    assert_eq!(said("routing/host.rs", &function(60)), []);
    assert_eq!(said("routing/host.rs", &function(61)), [(1, "`f` has 61 lines, more than 60".to_owned())]);
    assert_eq!(said("routing/host.rs", &format!("impl X {{\n{}}}\n", function(61)))[0].0, 2);
    assert_eq!(said("routing/host.rs", &format!("#[test]\n{}", function(61))), []);
    let constants = |count: usize| "const X: u8 = 1;\n".repeat(count);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}{}}}\n", constants(600), function(80));
    assert_eq!(said("routing/host.rs", &(constants(500) + &tests)), []);
    assert_eq!(said("routing/host.rs", &(constants(501) + &tests))[0].0, 501);
    assert_eq!(said("routing/host.rs", &constants(501))[0].0, 501);
}
