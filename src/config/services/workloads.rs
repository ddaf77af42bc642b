//! Workloads as endpoints: those that a ServiceEntry lists, and those that it selects by their labels.

use foldhash::HashMap;

use super::number;
use super::service::Endpoint;
use crate::config::place::Spanned;
use crate::config::resource::Resource;
use crate::config::resource::service_entry::WorkloadEntry;
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
        candidates.iter().filter(carries).map(|entry| from_workload(&entry.spec, labels(entry))).collect()
    }
}

/// A label as it is written.
type Label = (Spanned<String>, Spanned<String>);

/// The labels of a workload: those of its `spec`, and those of its metadata, as in Istio.
fn labels(entry: &Resource<WorkloadEntry>) -> impl Iterator<Item = &Label> {
    entry.spec.labels.iter().chain(&entry.metadata.labels)
}

pub(super) fn from_workload<'e>(entry: &WorkloadEntry, labels: impl IntoIterator<Item = &'e Label>) -> Endpoint {
    let place = if entry.address.place.line == 0 { entry.place } else { entry.address.place };
    Endpoint {
        ports: entry.ports.iter().filter_map(|(name, port)| Some((name.value.clone(), number(port.value)?))).collect(),
        labels: labels.into_iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect(),
        weight: entry.weight.as_ref().and_then(|weight| u32::try_from(weight.value).ok()).unwrap_or(0).max(1),
        ..Endpoint::new(&entry.address, place)
    }
}
