//! Workloads as endpoints: those that a ServiceEntry lists, and those that it selects by their labels.

use foldhash::HashMap;

use super::number;
use super::service::{Address, Endpoint};
use crate::config::place::Spanned;
use crate::config::resource::service_entry::WorkloadEntry;
use crate::config::resource::{Metadata, Resource};
use crate::config::value::StringMap;

/// WorkloadEntry resources by namespace, and by one label, so that a selector looks at few of them.
pub(super) struct Workloads<'a> {
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<&'a Resource<WorkloadEntry>>>,
}

impl<'a> Workloads<'a> {
    pub(super) fn new(entries: &'a [Resource<WorkloadEntry>]) -> Self {
        let mut by_label: HashMap<_, Vec<_>> = HashMap::default();
        for entry in entries.iter().filter(|entry| !entry.spec.address.is_empty()) {
            for (key, value) in labels(entry) {
                let namespace = entry.metadata.namespace.as_str();
                by_label.entry((namespace, key.as_str(), value.as_str())).or_default().push(entry);
            }
        }
        Self { by_label }
    }

    /// Those of a namespace that carry every label of the selector; an empty selector selects nothing.
    pub(super) fn select(&self, namespace: &str, selector: &StringMap) -> Vec<Endpoint> {
        let candidates = selector
            .iter()
            .map(|(key, value)| {
                self.by_label.get(&(namespace, key.as_str(), value.as_str())).map_or(&[][..], Vec::as_slice)
            })
            .min_by_key(|entries| entries.len())
            .unwrap_or_default();
        let carries = |entry: &&&Resource<WorkloadEntry>| {
            selector.iter().all(|(key, value)| labels(entry).any(|(own, held)| own == key && held == value))
        };
        candidates.iter().filter(carries).map(|entry| from_workload(&entry.spec, Some(&entry.metadata))).collect()
    }
}

/// The labels of a workload: those of its `spec`, and those of its metadata, as in Istio.
fn labels(entry: &Resource<WorkloadEntry>) -> impl Iterator<Item = &(Spanned<String>, Spanned<String>)> {
    entry.spec.labels.iter().chain(&entry.metadata.labels)
}

pub(super) fn from_workload(entry: &WorkloadEntry, metadata: Option<&Metadata>) -> Endpoint {
    let more = metadata.map_or(&[][..], |metadata| metadata.labels.as_slice());
    let owned = |(key, value): &(Spanned<String>, Spanned<String>)| (key.value.clone(), value.value.clone());
    Endpoint {
        address: Address::parse(&entry.address),
        ports: entry.ports.iter().filter_map(|(name, port)| Some((name.value.clone(), number(port.value)?))).collect(),
        port: None,
        subset: None,
        every_subset: false,
        labels: entry.labels.iter().chain(more).map(owned).collect(),
        weight: entry.weight.as_ref().and_then(|weight| u32::try_from(weight.value).ok()).unwrap_or(0).max(1),
        place: if entry.address.place.line == 0 { entry.place } else { entry.address.place },
    }
}
