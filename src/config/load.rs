//! From paths to checked resources: the only part of `config` that touches the disk.
//! Reading and understanding are apart, so that whoever watches files can compare contents before doing any work.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::credentials::{self, Files, Named};
use super::decode::{Decoded, Decoder, Muddled, Skipped};
use super::diagnostic::{Diagnostic, Kind};
use super::path;
use super::place::Place;
use super::resource::Resources;
use super::settings::Settings;
use super::{text, validate, yaml};

pub use super::files::{Read, read};

/// How many http rules a configuration may have.
const MAX_ROUTES: usize = 100_000;

/// One file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path as the operator would write it; `<stdin>` for standard input.
    pub path: PathBuf,
    /// Its content, without a byte order mark. Empty if it could not be read.
    pub text: Arc<str>,
}

/// A whole configuration, understood and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The files, sorted by path. `Place::file` counts them.
    pub sources: Vec<Source>,
    /// The resources. If a diagnostic is an error they are incomplete and must not be put in force.
    pub resources: Resources,
    /// Everything that is wrong, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// What the operator should know and nothing is wrong with: kinds that were skipped.
    pub notices: Vec<String>,
    /// The certificate files that the resources name.
    pub files: Files,
    /// BLAKE3 over all paths and contents, those of certificate files included, in hexadecimal.
    pub hash: String,
}

impl Loaded {
    /// Whether it may be put in force.
    pub fn is_valid(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// The first 12 digits of the hash, for people.
    pub fn short_hash(&self) -> &str {
        self.hash.get(..12).unwrap_or(&self.hash)
    }

    /// Its certificate files, for who wants to know what they hold.
    pub fn named(&self) -> Named<'_> {
        Named { sources: &self.sources, files: &self.files }
    }

    /// The field that stands at a place, such as `spec.http[0].route[1].weight`. Parses the file again.
    pub fn path_of(&self, place: Place) -> Option<String> {
        self.paths_of(&[place]).pop().flatten()
    }

    /// The same for many places: each file is parsed once.
    pub fn paths_of(&self, places: &[Place]) -> Vec<Option<String>> {
        let mut found = HashMap::new();
        let files: HashSet<u32> = places.iter().filter(|place| place.line > 0).map(|place| place.file).collect();
        for file in files {
            if let Some(source) = self.sources.get(file as usize) {
                path::find(&source.text, file, places, &mut found);
            }
        }
        places.iter().map(|place| found.get(place).cloned()).collect()
    }
}

/// Understands sources, without checking rules between fields and resources.
pub fn parse(sources: Vec<Source>) -> Loaded {
    let read = Read { sources, ..Read::default() };
    check(read, false, |_, _| Vec::new())
}

/// Understands and checks what was read.
pub fn load(read: Read, settings: &Settings) -> Loaded {
    check(read, settings.references, |resources, whole| {
        let references = settings.references && whole;
        validate::check(resources, &Settings { references, ..settings.clone() })
    })
}

/// Understands what was read, then lets `rules` look at it (and whether references may be judged), and puts both together.
fn check(mut read: Read, reads_files: bool, rules: impl FnOnce(&Resources, bool) -> Vec<Diagnostic>) -> Loaded {
    let unread: HashSet<u32> = read.problems.iter().map(|problem| problem.place.file).collect();
    let mut decoder = Decoder::default();
    let mut diagnostics = read.problems.clone();
    let mut doubtful = !diagnostics.is_empty();
    for (file, source) in (0..).zip(&read.sources).filter(|(file, _)| !unread.contains(file)) {
        if source.text.trim().is_empty() {
            let place = Place { file, ..Place::default() };
            let help = "it is being written, or was emptied by mistake; delete it if nothing is to be served";
            diagnostics.push(Diagnostic::error(Kind::Syntax, place, "empty file").help(help));
            doubtful = true;
            continue;
        }
        let broken = yaml::read(&source.text, file, &mut |node| decoder.document(&node));
        doubtful |= broken.iter().any(|problem| problem.kind == Kind::Syntax);
        diagnostics.extend(broken);
    }
    let decoded = decoder.finish();
    let notices = notices(&decoded, &read.sources);
    let Decoded { resources, diagnostics: found, muddled, skipped, doubtful: half_understood } = decoded;
    diagnostics.extend(found);
    if diagnostics.is_empty() {
        diagnostics.extend(nothing(&resources, &skipped, &read.sources));
    }
    diagnostics.extend(limits(&resources));
    let named = if reads_files { credentials::named(&resources, &read.sources) } else { BTreeSet::new() };
    read.files = std::mem::take(&mut read.files).exactly(named);
    let hash = read.hash();
    let Read { sources, files, .. } = read;
    let mut judged = rules(&resources, !(doubtful || half_understood));
    if reads_files {
        judged.extend(credentials::check(&resources, Named { sources: &sources, files: &files }));
    }
    diagnostics.extend(judged.into_iter().filter(|one| !is_muddled(one.place, &muddled)));
    diagnostics.sort_by_key(|diagnostic| (diagnostic.place, diagnostic.severity));
    diagnostics.dedup();
    keep_inside(&mut diagnostics, &sources);
    name_others(&mut diagnostics, &sources);
    Loaded { sources, resources, diagnostics, notices, files, hash }
}

/// About no file in particular.
const NOWHERE: Place = Place { file: u32::MAX, line: 0, column: 0, length: 0 };

fn limits(resources: &Resources) -> Option<Diagnostic> {
    let routes = || resources.virtual_services.iter().flat_map(|one| &one.spec.http);
    let over = routes().nth(MAX_ROUTES)?;
    let message = format!("{} http rules, more than {MAX_ROUTES}", routes().count());
    Some(Diagnostic::error(Kind::Value, over.place, message))
}

/// Files without a single resource, or with none but of other kinds.
fn nothing(resources: &Resources, skipped: &Skipped, sources: &[Source]) -> Option<Diagnostic> {
    let empty = resources.virtual_services.is_empty()
        && resources.destination_rules.is_empty()
        && resources.service_entries.is_empty()
        && resources.workload_entries.is_empty()
        && resources.gateways.is_empty()
        && resources.canaries.is_empty();
    let place = skipped.values().map(|(_, first)| *first).min().or_else(|| begin(sources)).unwrap_or(NOWHERE);
    let help = match skipped.keys().any(|kind| is_of_the_gateway_api(kind)) {
        true => {
            "write a VirtualService of networking.istio.io/v1 instead of the HTTPRoute: it says which requests go where"
        }
        false => "a VirtualService of networking.istio.io/v1 says which requests go where",
    };
    empty.then(|| Diagnostic::error(Kind::Reference, place, "no resource that means anything here").help(help))
}

/// The first line with anything on it.
fn begin(sources: &[Source]) -> Option<Place> {
    let lines = (0..).zip(sources).flat_map(|(file, source)| text::lines(&source.text).map(move |line| (file, line)));
    let (file, line) = lines.into_iter().find(|(_, line)| !line.text.trim().is_empty())?;
    Some(Place { file, line: line.number, column: 1, length: 1 })
}

fn is_of_the_gateway_api(kind: &str) -> bool {
    kind.ends_with("(gateway.networking.k8s.io)")
}

fn notices(decoded: &Decoded, sources: &[Source]) -> Vec<String> {
    let skipped = decoded.skipped.iter().map(|(kind, (count, first))| {
        let path =
            sources.get(first.file as usize).map_or_else(String::new, |source| source.path.display().to_string());
        let times = if *count == 1 { String::new() } else { format!("{count} times, first ") };
        let why = if is_of_the_gateway_api(kind) { "the Gateway API is not read" } else { "it means nothing here" };
        format!("skipped {kind}: {why} ({times}at {path}:{})", first.line)
    });
    skipped.collect()
}

/// Whether a problem lies in a part that was not read as it was meant: it would only follow from what is already said.
fn is_muddled(place: Place, muddled: &[Muddled]) -> bool {
    muddled.iter().any(|part| match part.last_line {
        None => part.place == place,
        Some(last) => part.place.file == place.file && (part.place.line..=last).contains(&place.line),
    })
}

/// Says where the other one is of two that contradict each other.
fn name_others(diagnostics: &mut [Diagnostic], sources: &[Source]) {
    for diagnostic in diagnostics {
        let Some(other) = diagnostic.other else { continue };
        let Some(source) = sources.get(other.file as usize) else { continue };
        let at = format!("the other one is at {}:{}", source.path.display(), other.line);
        let help = diagnostic.help.take().map_or_else(String::new, |help| format!("; {help}"));
        diagnostic.help = Some(format!("{at}{help}"));
    }
}

/// The parser may point behind the last line; a person can only look at one that is there.
fn keep_inside(diagnostics: &mut [Diagnostic], sources: &[Source]) {
    let mut last: HashMap<u32, (u32, u32)> = HashMap::new();
    for diagnostic in diagnostics.iter_mut().filter(|diagnostic| diagnostic.place.line > 0) {
        let place = &mut diagnostic.place;
        // The place in a file that is not text is right, and only the text is not there.
        let Some(source) = sources.get(place.file as usize).filter(|source| !source.text.is_empty()) else { continue };
        let (line, column) = *last.entry(place.file).or_insert_with(|| {
            let written = text::lines(&source.text).filter(|line| !line.text.trim().is_empty()).last();
            written.map_or((1, 1), |line| (line.number, u32::try_from(line.text.chars().count()).unwrap_or(0) + 1))
        });
        if place.line > line {
            *place = Place { file: place.file, line, column, length: 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - name: a
    route:
    - {destination: {host: shop}, weight: 90}
    - {destination: {host: shop}, weight: 10}
";

    fn sources(texts: &[&str]) -> Vec<Source> {
        let name = |index: usize| PathBuf::from(format!("{index}.yaml"));
        texts.iter().enumerate().map(|(index, text)| Source { path: name(index), text: (*text).into() }).collect()
    }

    /// Loads, with rules that complain about every weight, about every rule and, if they may, about a reference.
    fn judged(texts: &[&str]) -> Vec<String> {
        let read = Read { sources: sources(texts), ..Read::default() };
        let loaded = check(read, false, |resources, references| {
            let mut found = Vec::new();
            for rule in resources.virtual_services.iter().flat_map(|one| &one.spec.http) {
                found.push(Diagnostic::error(Kind::Value, rule.place, "rule"));
                let weights = rule.route.iter().filter_map(|entry| entry.weight.as_ref());
                found.extend(weights.map(|weight| Diagnostic::error(Kind::Value, weight.place, "weight")));
            }
            found.extend(
                references
                    .then(|| Diagnostic::error(Kind::Reference, Place { line: 1, ..Place::default() }, "reference")),
            );
            found
        });
        loaded.diagnostics.iter().map(|one| format!("{}:{} {}", one.place.file, one.place.line, one.message)).collect()
    }

    #[test]
    fn what_follows_from_a_mistake_is_not_said_again() {
        assert_eq!(judged(&[RULE]), ["0:1 reference", "0:7 rule", "0:9 weight", "0:10 weight"]);
        let typo = RULE.replace("weight: 10", "wieght: 10");
        let two = format!("{typo}{}", &RULE[RULE.find("  - name").unwrap()..]);
        assert_eq!(
            judged(&[&two]),
            [
                "0:1 reference",
                "0:10 unknown field `wieght` in an entry of `route`",
                "0:11 rule",
                "0:13 weight",
                "0:14 weight"
            ]
        );
        let misread = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nspec: {hots: a}\n";
        assert!(!judged(&[RULE, misread]).contains(&"0:1 reference".to_owned()));
        assert!(!judged(&[RULE, "a: b: c"]).contains(&"0:1 reference".to_owned()));
        assert!(!judged(&[RULE, ""]).contains(&"0:1 reference".to_owned()));
    }

    #[test]
    fn nothing_to_serve_is_an_error() {
        let messages = |texts: &[&str]| -> Vec<String> {
            parse(sources(texts)).diagnostics.into_iter().map(|one| one.message).collect()
        };
        assert_eq!(messages(&[" \n"]), ["empty file"]);
        assert_eq!(messages(&["# nothing\n---\n"]), ["no resource that means anything here"]);
        assert_eq!(messages(&[]), ["no resource that means anything here"]);
        assert_eq!(messages(&[RULE, "# nothing\n"]), [""; 0]);
        let many = "  - {redirect: {uri: /}}\n".repeat(MAX_ROUTES + 1);
        assert_eq!(messages(&[&format!("{}{many}", &RULE[..RULE.find("  - name").unwrap()])]).len(), 1);
    }

    #[test]
    fn what_contradicts_names_the_file_of_the_other() {
        let read = |texts: &[&str]| Read { sources: sources(texts), ..Read::default() };
        let mut found = load(read(&[RULE, RULE]), &Settings::default()).diagnostics;
        found.retain(|one| one.kind == Kind::Conflict);
        assert_eq!(found.len(), 1, "one name, and so one host: {found:?}");
        let help = "the other one is at 0.yaml:1; give them different names, or remove one of them";
        assert_eq!((found[0].place.file, found[0].help.as_deref()), (1, Some(help)));
    }

    #[test]
    fn the_gateway_api_is_not_passed_over_in_silence() {
        let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\n";
        let loaded = parse(sources(&["# none\n", &format!("---\n{route}")]));
        assert_eq!(
            loaded.notices,
            ["skipped HTTPRoute (gateway.networking.k8s.io): the Gateway API is not read (at 1.yaml:2)"]
        );
        let found = &loaded.diagnostics[0];
        assert_eq!((found.place.file, found.place.line, loaded.diagnostics.len()), (1, 2, 1));
        assert!(found.help.as_ref().unwrap().starts_with("write a VirtualService of"));
    }

    #[test]
    fn skipped_kinds_are_noted_once() {
        let service = "apiVersion: v1\nkind: Service\n---\napiVersion: v1\nkind: Service\n---\n";
        let loaded = parse(sources(&[RULE, &format!("{service}apiVersion: apps/v1\nkind: Deployment\n")]));
        assert!(loaded.is_valid());
        assert_eq!(
            loaded.notices,
            [
                "skipped Deployment (apps): it means nothing here (at 1.yaml:7)",
                "skipped Service: it means nothing here (2 times, first at 1.yaml:1)",
            ]
        );
    }

    #[test]
    fn problems_are_sorted_and_inside_the_text() {
        let loaded = parse(sources(&["a: \"\n", "b: {\n\n\n"]));
        let places: Vec<_> = loaded.diagnostics.iter().map(|one| (one.place.file, one.place.line)).collect();
        assert_eq!(places, [(0, 1), (1, 1)]);
    }

    #[test]
    fn a_place_leads_back_to_its_field() {
        let loaded = parse(sources(&["---\n", RULE]));
        let weight = loaded.resources.virtual_services[0].spec.http[0].route[1].weight.as_ref().unwrap();
        assert_eq!(loaded.path_of(weight.place).unwrap(), "spec.http[0].route[1].weight");
        assert_eq!(loaded.path_of(Place { column: 1, ..weight.place }), None);
        assert_eq!(loaded.short_hash().len(), 12);
    }
}
