//! An independent reader of the text format.

use std::collections::BTreeMap;

use crate::telemetry::Metrics;

type Labels = BTreeMap<String, String>;

/// What was scraped. Reading is strict about what it accepts.
pub(super) struct Scrape {
    pub(super) types: BTreeMap<String, String>,
    pub(super) samples: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let text = metrics.render();
        assert!(text.ends_with('\n'));
        let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let mut helped = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split(' ').next().unwrap();
                assert!(help.len() > helped.len() + 10, "help says something: {line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "help before type");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else {
                let (key, value) = Self::sample(line);
                assert!(key.0.starts_with(helped), "{line} under {helped}");
                assert!(samples.insert(key, value).is_none(), "twice: {line}");
            }
        }
        assert!(types.keys().is_sorted());
        Self { types, samples }
    }

    fn sample(line: &str) -> ((String, Labels), f64) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let Some((name, rest)) = series.split_once('{') else {
            return ((series.to_owned(), Labels::new()), value.parse().unwrap());
        };
        let (mut labels, mut rest) = (Labels::new(), rest.strip_suffix('}').unwrap());
        while !rest.is_empty() {
            let (label, quoted) = rest.split_once("=\"").unwrap();
            let (mut text, mut characters) = (String::new(), quoted.char_indices());
            let end = loop {
                match characters.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => text.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => text.push(other),
                }
            };
            assert!(labels.insert(label.trim_start_matches(',').to_owned(), text).is_none());
            rest = &quoted[end + 1..];
        }
        ((name.to_owned(), labels), value.parse().unwrap())
    }

    /// The samples of a metric that carry these labels, among others.
    pub(super) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let carries = |found: &Labels| labels.iter().all(|(k, v)| found.get(*k).is_some_and(|f| f == v));
        self.samples.iter().filter(|((n, l), _)| n == name && carries(l)).map(|(_, value)| *value).collect()
    }

    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).into_iter().sum()
    }

    pub(super) fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.find(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0]
    }

    pub(super) fn sets(&self, name: &str) -> usize {
        self.find(name, &[]).len()
    }
}
