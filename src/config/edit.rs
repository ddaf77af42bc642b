//! Changing weights in the operator's file: only their digits change, so that comments, order, quoting and line ends stay.

use std::ops::Range;

use super::decode::nearest;
use super::load::{self, Loaded, Source};
use super::place::Place;
use super::resource::virtual_service::{HttpRoute, HttpRouteDestination};
use super::text;
use super::yaml::{self, Data, Node};

/// A file with other weights, not yet written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// Index of the source that changes.
    pub file: usize,
    /// Its new text.
    pub text: String,
    /// The route whose weights change: its name, or `virtualservice/index`.
    pub route: String,
    /// The weights that were asked for, in that order.
    pub changes: Vec<Change>,
}

/// One weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The destination as it was asked for.
    pub destination: String,
    /// What was there; none if there was no weight.
    pub from: Option<i64>,
    /// What is there now.
    pub to: u32,
    /// Line of the new text.
    pub line: u32,
}

/// Sets the weights of one route. `route` may be left out if only one has several destinations; a destination is named by its
/// subset, its host, or `host/subset`. The result is not checked for what weights must sum to.
pub fn set_weights(loaded: &Loaded, route: Option<&str>, weights: &[(String, u32)]) -> Result<Edited, String> {
    let (name, rule) = choose(loaded, route)?;
    let file = rule.place.file as usize;
    let source = loaded.sources.get(file).ok_or("the route is in no file")?;
    let mut targets = Vec::new();
    for (wanted, weight) in weights {
        let entry = destination(&name, rule, wanted)?;
        if targets.iter().any(|(other, _): &(&HttpRouteDestination, u32)| std::ptr::eq(*other, entry)) {
            return Err(format!("`{wanted}` is there twice"));
        }
        targets.push((entry, *weight));
    }
    let mut edits = Vec::new();
    for (entry, weight) in &targets {
        edits.push(edit(&source.text, rule.place.file, entry, *weight)?);
    }
    let mut order: Vec<_> = edits.iter().collect();
    order.sort_by_key(|edit| std::cmp::Reverse(edit.0.start));
    let mut text = source.text.to_string();
    for (range, digits) in order {
        text.replace_range(range.clone(), digits);
    }
    verify(loaded, (file, &text), rule, &targets)?;
    let shifted = |at: usize| {
        // Inserted lines above move a weight down.
        let before = edits
            .iter()
            .filter(|(range, _)| range.start < at)
            .map(|(_, digits)| digits.matches('\n').count())
            .sum::<usize>();
        text::position(&source.text, at).0 + u32::try_from(before).unwrap_or(0)
    };
    let changes =
        weights.iter().zip(&targets).zip(&edits).map(|(((wanted, to), (entry, _)), (range, digits))| Change {
            destination: wanted.clone(),
            from: entry.weight.as_ref().map(|weight| weight.value),
            to: *to,
            line: shifted(range.start) + u32::from(digits.starts_with('\n') || digits.starts_with("\r\n")),
        });
    let changes = changes.collect();
    Ok(Edited { file, text, route: name, changes })
}

/// Every route with its name, as `--route` takes it.
fn routes(loaded: &Loaded) -> impl Iterator<Item = (String, String, &HttpRoute)> {
    loaded.resources.virtual_services.iter().flat_map(|one| {
        let service = one.metadata.name.value.clone();
        one.spec.http.iter().enumerate().map(move |(index, rule)| {
            let by_index = format!("{service}/{index}");
            (rule.name.as_ref().map_or_else(|| by_index.clone(), |name| name.value.clone()), by_index, rule)
        })
    })
}

fn choose<'l>(loaded: &'l Loaded, wanted: Option<&str>) -> Result<(String, &'l HttpRoute), String> {
    let weighted: Vec<_> = routes(loaded).filter(|(.., rule)| rule.route.len() > 1).collect();
    let service = |by_index: &str| by_index.rsplit_once('/').map(|(service, _)| service.to_owned());
    let list = || {
        weighted
            .iter()
            .map(|(name, by_index, _)| match name == by_index {
                true => format!("\n  --route {name}"),
                false => format!("\n  --route {name} (or {by_index})"),
            })
            .collect::<String>()
    };
    let mut matching: Vec<_> = match wanted {
        None => weighted.iter().collect(),
        Some(wanted) => weighted.iter().filter(|(name, by_index, _)| name == wanted || by_index == wanted).collect(),
    };
    if let (Some(wanted), true) = (wanted, matching.is_empty()) {
        matching = weighted.iter().filter(|(_, by_index, _)| service(by_index).as_deref() == Some(wanted)).collect();
    }
    match (matching.as_slice(), wanted) {
        ([(name, _, rule)], _) => Ok((name.clone(), rule)),
        _ if weighted.is_empty() => Err("no route here has several destinations".to_owned()),
        ([], Some(wanted)) => {
            Err(format!("no route with several destinations is called `{wanted}`; there are{}", list()))
        }
        _ => Err(format!("several routes have several destinations; say which with one of{}", list())),
    }
}

fn destination<'r>(route: &str, rule: &'r HttpRoute, wanted: &str) -> Result<&'r HttpRouteDestination, String> {
    let names = |entry: &HttpRouteDestination| -> Vec<String> {
        let Some(destination) = &entry.destination else { return Vec::new() };
        let host = destination.host.value.clone();
        match &destination.subset {
            Some(subset) => vec![subset.value.clone(), format!("{host}/{}", subset.value)],
            None => vec![host],
        }
    };
    let found: Vec<_> = rule.route.iter().filter(|entry| names(entry).iter().any(|name| name == wanted)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let known: Vec<String> = rule.route.iter().flat_map(|entry| names(entry).into_iter().next()).collect();
            let hint = nearest(wanted, known.iter().map(String::as_str))
                .map_or_else(|| format!("it has {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
            Err(format!("route `{route}` has no destination `{wanted}`: {hint}"))
        }
        _ => Err(format!(
            "route `{route}` has several destinations `{wanted}`: write HOST/SUBSET, and merge those that are alike"
        )),
    }
}

/// What to put where, in bytes of the text.
type Edit = (Range<usize>, String);

fn edit(source: &str, file: u32, entry: &HttpRouteDestination, weight: u32) -> Result<Edit, String> {
    let mut found = None;
    yaml::read(source, file, &mut |root| {
        if found.is_none() {
            found = search(&root, entry.place, &mut |node| in_entry(source, node, weight));
        }
    });
    found.unwrap_or_else(|| Err(format!("cannot find the destination in line {} again", entry.place.line)))
}

/// Looks for the object that begins at a place, and answers what `then` makes of it.
fn search<T>(node: &Node<'_>, place: Place, then: &mut dyn FnMut(&Node<'_>) -> T) -> Option<T> {
    match &node.data {
        Data::Object(_) if node.place == place => Some(then(node)),
        Data::Object(entries) => entries.iter().find_map(|entry| search(&entry.value, place, then)),
        Data::List(items) => items.iter().find_map(|item| search(item, place, then)),
        Data::Scalar { .. } => None,
    }
}

fn in_entry(source: &str, node: &Node<'_>, weight: u32) -> Result<Edit, String> {
    let Data::Object(entries) = &node.data else { return Err("a destination must be an object".to_owned()) };
    let Some(entry) = entries.iter().find(|entry| entry.key == "weight") else {
        return insert(source, node, weight);
    };
    let key = byte(source, entry.place);
    let value = byte(source, entry.value.place);
    let empty = matches!(&entry.value.data, Data::Scalar { text, .. } if text.is_empty());
    if empty {
        let colon = source[key..].find(':').map(|colon| key + colon + 1).ok_or("`weight` has no colon")?;
        return Ok((colon..colon, format!(" {weight}")));
    }
    let written = source[value..].chars().take(entry.value.place.length as usize).map(char::len_utf8).sum::<usize>();
    // An anchor or a tag may stand before the number.
    let before = source[value..value + written].rfind([' ', '\t']).map_or(0, |blank| blank + 1);
    Ok((value + before..value + written, weight.to_string()))
}

/// A new `weight` where there was none: behind the destination, or first in a flow object.
fn insert(source: &str, node: &Node<'_>, weight: u32) -> Result<Edit, String> {
    let start = byte(source, node.place);
    let flow = source[start..].find('{').filter(|_| source[start..].starts_with(['{', '&', '!']));
    if let Some(brace) = flow {
        let at = start + brace + 1;
        return Ok((at..at, format!("weight: {weight}, ")));
    }
    let Data::Object(entries) = &node.data else { return Err("a destination must be an object".to_owned()) };
    let destination = entries.iter().find(|entry| entry.key == "destination").ok_or("there is no `destination`")?;
    let last = text::lines(source).find(|line| line.number == destination.value.last_line);
    let last = last.ok_or("the destination ends outside the text")?;
    let end = last.start + last.text.len();
    let ending = if source[end..].starts_with("\r\n") || source.contains("\r\n") { "\r\n" } else { "\n" };
    let indent = " ".repeat(destination.place.column.saturating_sub(1) as usize);
    Ok((end..end, format!("{ending}{indent}weight: {weight}")))
}

fn byte(source: &str, place: Place) -> usize {
    text::lines(source).find(|line| line.number == place.line).map_or(source.len(), |line| line.byte(place.column))
}

/// Reads the new text and makes sure that the wanted weights changed and nothing else did.
fn verify(
    loaded: &Loaded,
    (file, text): (usize, &str),
    rule: &HttpRoute,
    targets: &[(&HttpRouteDestination, u32)],
) -> Result<(), String> {
    let mut sources = loaded.sources.clone();
    sources[file] = Source { path: sources[file].path.clone(), text: text.into() };
    let after = load::parse(sources);
    let changed = |entry: &HttpRouteDestination| targets.iter().find(|(target, _)| std::ptr::eq(*target, entry));
    let expected = routes(loaded).flat_map(|(.., one)| {
        one.route.iter().map(move |entry| match changed(entry).filter(|_| std::ptr::eq(one, rule)) {
            Some((_, weight)) => Some(i64::from(*weight)),
            None => entry.weight.as_ref().map(|weight| weight.value),
        })
    });
    let found = routes(&after)
        .flat_map(|(.., one)| one.route.iter().map(|entry| entry.weight.as_ref().map(|weight| weight.value)));
    let same = expected.eq(found) && (after.is_valid() || !loaded.is_valid());
    if same {
        Ok(())
    } else {
        Err("a weight here is shared through a YAML alias or otherwise not plain: edit it by hand".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\nspec:\n  hosts: [shop]\n  http:\n";

    fn set(rules: &str, route: Option<&str>, weights: &[(&str, u32)]) -> Result<String, String> {
        let text = format!("{HEAD}{rules}");
        let loaded = load::parse(vec![Source { path: "vs.yaml".into(), text: text.as_str().into() }]);
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        let weights: Vec<_> = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        let edited = set_weights(&loaded, route, &weights)?;
        for change in &edited.changes {
            let line = text::lines(&edited.text).find(|line| line.number == change.line).unwrap();
            assert!(line.text.contains(&format!("weight: {}", change.to)), "{} {:?}", line.text, change);
        }
        Ok(edited.text[HEAD.len()..].to_owned())
    }

    const BLOCK: &str = "\
  # the split
  - route:
    - destination:
        host: shop   # stable
        subset: v1
      weight: 90     # nine of ten
    - weight: 10
      destination: {host: shop, subset: v2}
";

    #[test]
    fn only_the_digits_change() {
        let expected = BLOCK.replace("90 ", "100 ").replace("weight: 10\n", "weight: 0\n");
        assert_eq!(set(BLOCK, None, &[("v2", 0), ("v1", 100)]).unwrap(), expected);
        let windows = BLOCK.replace('\n', "\r\n");
        assert_eq!(set(&windows, None, &[("v1", 5)]).unwrap(), windows.replace("90 ", "5 "));
    }

    #[test]
    fn a_missing_weight_is_put_behind_its_destination() {
        let rules = "  - route:\n    - destination:\n        host: shop\n        subset: v1\n      # note\n      headers: {}\n    - destination: {host: shop, subset: v2}";
        let expected = "  - route:\n    - destination:\n        host: shop\n        subset: v1\n      weight: 70\n      # note\n      headers: {}\n    - destination: {host: shop, subset: v2}\n      weight: 30";
        assert_eq!(set(rules, None, &[("v1", 70), ("v2", 30)]).unwrap(), expected);
        assert_eq!(
            set(&rules.replace('\n', "\r\n"), None, &[("v1", 70), ("v2", 30)]).unwrap(),
            expected.replace('\n', "\r\n")
        );
    }

    #[test]
    fn flow_style_stays_flow_style() {
        let rules = "  - {route: [{destination: {host: a}, weight: 1}, {destination: {host: b}}, { \"weight\": 2 , destination: {host: c}}]}\n";
        let expected = "  - {route: [{destination: {host: a}, weight: 50}, {weight: 20, destination: {host: b}}, { \"weight\": 30 , destination: {host: c}}]}\n";
        let text = format!("{HEAD}{rules}");
        let loaded = load::parse(vec![Source { path: "vs.yaml".into(), text: text.as_str().into() }]);
        let weights = [("a".to_owned(), 50), ("b".to_owned(), 20), ("c".to_owned(), 30)];
        let edited = set_weights(&loaded, None, &weights).unwrap();
        assert_eq!(&edited.text[HEAD.len()..], expected);
    }

    #[test]
    fn empty_weights_are_filled() {
        let rules = "  - route:\n    - destination: {host: a}\n      weight:   # later\n    - destination: {host: b}\n      weight: ~\n    - destination: {host: c}\n      weight: &w 9\n";
        let expected = rules.replace("weight:   #", "weight: 1   #").replace('~', "2").replace("&w 9", "&w 97");
        let text = format!("{HEAD}{rules}");
        let loaded = load::parse(vec![Source { path: "vs.yaml".into(), text: text.as_str().into() }]);
        let weights = [("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 97)];
        assert_eq!(&set_weights(&loaded, None, &weights).unwrap().text[HEAD.len()..], expected);
    }

    #[test]
    fn a_shared_weight_is_refused() {
        let rules = "  - route:\n    - destination: {host: a}\n      weight: &half 50\n    - destination: {host: b}\n      weight: *half\n";
        assert!(set(rules, None, &[("a", 60), ("b", 40)]).unwrap_err().contains("alias"));
        assert!(set(rules, None, &[("a", 60)]).unwrap_err().contains("alias"));
    }

    #[test]
    fn the_route_must_be_clear() {
        let two = format!("{BLOCK}{}", BLOCK.replace("- route:", "- name: second\n    route:"));
        let error = set(&two, None, &[("v1", 1)]).unwrap_err();
        assert!(error.contains("--route shop/0") && error.contains("--route second (or shop/1)"), "{error}");
        let changed = set(&two, Some("second"), &[("v1", 1)]).unwrap();
        assert_eq!(changed, format!("{BLOCK}{}", two[BLOCK.len()..].replace("90 ", "1 ")));
        assert_eq!(set(&two, Some("shop/1"), &[("v1", 1)]).unwrap(), changed);
        assert!(set(&two, Some("third"), &[("v1", 1)]).unwrap_err().contains("third"));
        assert_eq!(set(BLOCK, Some("shop"), &[("v1", 1)]).unwrap(), BLOCK.replace("90 ", "1 "));
    }

    #[test]
    fn the_destination_must_be_clear() {
        assert!(set(BLOCK, None, &[("v3", 1)]).unwrap_err().contains("did you mean `v1`?"));
        assert!(set(BLOCK, None, &[("v1", 1), ("shop/v1", 2)]).unwrap_err().contains("twice"));
        let alike = BLOCK.replace("v2", "v1");
        assert!(set(&alike, None, &[("v1", 1)]).unwrap_err().contains("several destinations"));
    }
}
