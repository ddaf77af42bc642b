//! The way to a field in words: `spec.http[0].route[1].weight`, found from its place.

use std::collections::{HashMap, HashSet};

use super::place::Place;
use super::yaml::{self, Data, Node};

/// Finds what begins at these places of one file. A place at which nothing begins is left out.
pub(crate) fn find(text: &str, file: u32, places: &[Place], found: &mut HashMap<Place, String>) {
    let wanted: HashSet<Place> = places.iter().copied().filter(|place| place.file == file).collect();
    let mut search = Search { wanted, path: String::new(), found };
    yaml::read(text, file, &mut |root| search.node(&root));
}

struct Search<'f> {
    wanted: HashSet<Place>,
    path: String,
    found: &'f mut HashMap<Place, String>,
}

impl Search<'_> {
    fn here(&mut self, place: Place) {
        if !self.path.is_empty() && self.wanted.contains(&place) {
            self.found.entry(place).or_insert_with(|| self.path.clone());
        }
    }

    fn node(&mut self, node: &Node<'_>) {
        let length = self.path.len();
        if !matches!(node.data, Data::List(_)) {
            self.here(node.place);
        }
        match &node.data {
            Data::Scalar { .. } => {}
            Data::List(items) => {
                // A list begins where its first entry does.
                for (index, item) in items.iter().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    self.node(item);
                    self.path.truncate(length);
                }
                self.here(node.place);
            }
            Data::Object(entries) => {
                for entry in entries {
                    let plain =
                        entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
                    match (plain, length) {
                        (false, _) => self.path.push_str(&format!("[{:?}]", entry.key)),
                        (true, 0) => self.path.push_str(&entry.key),
                        (true, _) => {
                            self.path.push('.');
                            self.path.push_str(&entry.key);
                        }
                    }
                    self.here(entry.place);
                    self.node(&entry.value);
                    self.path.truncate(length);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_values_and_entries_are_found() {
        let text = "a:\n- b: x\n  c.d/e: y\n- [1, {f: 2}]\n";
        let place = |line, column, length| Place { file: 3, line, column, length };
        let wanted = [
            (place(1, 1, 1), Some("a")),
            (place(2, 3, 1), Some("a[0]")),
            (place(2, 6, 1), Some("a[0].b")),
            (place(3, 3, 5), Some("a[0][\"c.d/e\"]")),
            (place(4, 4, 1), Some("a[1][0]")),
            (place(4, 11, 1), Some("a[1][1].f")),
            (place(4, 2, 1), None),
        ];
        let places: Vec<Place> = wanted.iter().map(|(place, _)| *place).collect();
        let mut found = HashMap::new();
        find(text, 3, &places, &mut found);
        for (place, path) in wanted {
            assert_eq!(found.get(&place).map(String::as_str), path, "{place:?}");
        }
    }
}
