//! The rule that a Canary is about: found by the name of its VirtualService and its own, through delegates.

use std::collections::HashMap;

use super::Route;
use crate::config::delegates::Delegates;
use crate::config::resource::virtual_service::HttpRoute;
use crate::config::resource::{Canary, Resource, Resources, VirtualService};

type Service<'a> = &'a Resource<VirtualService>;

/// Every rule there is, by the name of its VirtualService.
pub(in crate::config) struct Routes<'a> {
    services: HashMap<(&'a str, &'a str), Service<'a>>,
    delegates: Delegates<'a>,
}

/// A rule, and where it is written.
#[derive(Clone, Debug)]
pub(in crate::config) struct Found<'a> {
    /// Its VirtualService: for a delegated rule the delegate.
    pub(in crate::config) owner: Service<'a>,
    /// Its index there.
    pub(in crate::config) number: usize,
    /// The rule as written there.
    pub(in crate::config) rule: &'a HttpRoute,
    /// What metrics call it.
    pub(in crate::config) label: String,
}

/// Why a Canary has no rule.
#[derive(Debug)]
pub(in crate::config) enum Lost<'a> {
    /// There is no such VirtualService.
    Service,
    /// It has no rule of that name.
    Route(Vec<Found<'a>>),
    /// Several of its rules fit.
    Several(Vec<Found<'a>>),
    /// None of its rules has several destinations. The first that has one at all, if any.
    Unweighted(Option<Found<'a>>),
}

impl<'a> Routes<'a> {
    /// The rules of these resources.
    pub(in crate::config) fn new(resources: &'a Resources) -> Self {
        let services = resources.virtual_services.iter();
        let key = |service: Service<'a>| (service.metadata.namespace.as_str(), service.metadata.name.as_str());
        // A name that is there twice is an error of its own.
        let services = services.rev().map(|service| (key(service), service)).collect();
        Self { services, delegates: Delegates::new(resources) }
    }

    /// The rule that a Canary names, or the only weighted one of its VirtualService.
    pub(in crate::config) fn find(&self, canary: &Resource<Canary>) -> Result<Found<'a>, Lost<'a>> {
        let (namespace, name) = split(&canary.spec.virtual_service, &canary.metadata.namespace);
        let service = *self.services.get(&(namespace, name)).ok_or(Lost::Service)?;
        let mut all = self.rules(service);
        let fits = |rule: &Found<'_>| match &canary.spec.route {
            Some(wanted) => rule.is_called(wanted),
            None => rule.rule.route.len() > 1,
        };
        let mut fitting: Vec<_> = all.iter().filter(|rule| fits(rule)).cloned().collect();
        match (fitting.len(), &canary.spec.route) {
            (1, _) => Ok(fitting.remove(0)),
            (0, Some(_)) => Err(Lost::Route(all)),
            (0, None) => {
                all.retain(|rule| !rule.rule.route.is_empty());
                Err(Lost::Unweighted(all.into_iter().next()))
            }
            _ => Err(Lost::Several(fitting)),
        }
    }

    /// The names of the VirtualServices of a namespace, sorted.
    pub(in crate::config) fn names(&self, namespace: &str) -> Vec<&'a str> {
        let mut names: Vec<_> = self.services.keys().filter(|key| key.0 == namespace).map(|key| key.1).collect();
        names.sort_unstable();
        names
    }

    /// The namespaces with a VirtualService of that name, sorted.
    pub(in crate::config) fn namespaces(&self, name: &str) -> Vec<&'a str> {
        let mut namespaces: Vec<_> = self.services.keys().filter(|key| key.1 == name).map(|key| key.0).collect();
        namespaces.sort_unstable();
        namespaces
    }

    /// The rules in force of a VirtualService, each once; those of a delegate as it has written them.
    fn rules(&self, service: Service<'a>) -> Vec<Found<'a>> {
        let mut rules: Vec<Found<'a>> = Vec::new();
        if service.spec.hosts.is_empty() {
            let own = service.spec.http.iter().enumerate();
            rules.extend(own.map(|(number, rule)| Found::new(service, number, rule)));
            return rules;
        }
        for in_force in self.delegates.rules(service) {
            let (owner, number) = (in_force.owner, in_force.number);
            let known = |rule: &Found<'_>| rule.number == number && std::ptr::eq(rule.owner, owner);
            if rules.iter().any(known) {
                continue;
            }
            let mut found = Found::new(owner, number, &owner.spec.http[number]);
            if let Some(name) = in_force.rule.name.as_ref().filter(|name| !name.is_empty()) {
                found.label.clone_from(&name.value);
            }
            rules.push(found);
        }
        rules
    }
}

impl<'a> Found<'a> {
    fn new(owner: Service<'a>, number: usize, rule: &'a HttpRoute) -> Self {
        let name = rule.name.as_ref().filter(|name| !name.is_empty()).map(|name| name.value.clone());
        let label = name.unwrap_or_else(|| Self::by_index(owner, number));
        Self { owner, number, rule, label }
    }

    fn by_index(owner: Service<'_>, number: usize) -> String {
        format!("{}/{number}", owner.metadata.name.value)
    }

    /// By what metrics call it, by its own name, or by its index.
    fn is_called(&self, wanted: &str) -> bool {
        let own = self.rule.name.as_ref().filter(|name| !name.is_empty());
        self.label == wanted
            || own.is_some_and(|name| name.value == wanted)
            || Self::by_index(self.owner, self.number) == wanted
    }

    /// A name that no other rule has, if its label is not one already.
    pub(in crate::config) fn unique_name(&self) -> String {
        Self::by_index(self.owner, self.number)
    }

    /// The indices of its destinations of a subset.
    pub(in crate::config) fn positions(&self, subset: &str) -> Vec<usize> {
        let is_wanted = |index: &usize| self.subset(*index) == Some(subset);
        (0..self.rule.route.len()).filter(is_wanted).collect()
    }

    /// The subset of the destination with an index.
    pub(in crate::config) fn subset(&self, index: usize) -> Option<&'a str> {
        let subset = self.rule.route.get(index)?.destination.as_ref()?.subset.as_ref()?;
        Some(subset.as_str()).filter(|subset| !subset.is_empty())
    }

    pub(super) fn weights(&self) -> Vec<u64> {
        let weights = self.rule.route.iter().map(|entry| entry.weight.map_or(0, |weight| weight.value));
        weights.map(|weight| u64::try_from(weight).unwrap_or(0)).collect()
    }

    pub(super) fn route(&self) -> Route {
        Route {
            namespace: self.owner.metadata.namespace.value.clone(),
            virtual_service: self.owner.metadata.name.value.clone(),
            rule: self.number,
            label: self.label.clone(),
        }
    }
}

/// `NAME` or `NAMESPACE/NAME`, as Gateways are named.
pub(in crate::config) fn split<'n>(name: &'n str, own: &'n str) -> (&'n str, &'n str) {
    name.split_once('/').unwrap_or((own, name))
}
