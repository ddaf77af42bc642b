//! Delegation between VirtualServices: the rules that are in force once each rule with a `delegate` has been replaced by those
//! of the VirtualService it names. Istio's merge, one level deep.

use std::collections::HashMap;
use std::ops::Deref;

use super::names;
use super::place::Spanned;
use super::resource::virtual_service::{Destination, HttpMatch, HttpRoute};
use super::resource::{Resource, Resources, VirtualService};
use super::value::{StringMap, StringMatch};

/// The VirtualServices that others may delegate to: those without hosts.
#[derive(Debug, Default)]
pub struct Delegates<'a>(HashMap<(&'a str, &'a str), &'a Resource<VirtualService>>);

/// A rule as it is in force.
#[derive(Clone, Debug)]
pub struct RuleInForce<'a> {
    /// What it says.
    pub rule: Written<'a>,
    /// Where its destinations are written: in the VirtualService itself, or in its delegate.
    pub owner: &'a Resource<VirtualService>,
    /// Its number there, from 0.
    pub number: usize,
}

/// A rule that is as it was written, or that was made of two.
#[derive(Clone, Debug)]
pub enum Written<'a> {
    /// As it was written.
    Own(&'a HttpRoute),
    /// Made of two.
    Merged(Box<HttpRoute>),
}

impl Deref for Written<'_> {
    type Target = HttpRoute;

    fn deref(&self) -> &HttpRoute {
        match self {
            Self::Own(rule) => rule,
            Self::Merged(rule) => rule,
        }
    }
}

impl<'a> Delegates<'a> {
    /// Those of these resources.
    pub fn new(resources: &'a Resources) -> Self {
        let without_hosts = resources.virtual_services.iter().filter(|resource| resource.spec.hosts.is_empty());
        let key = |resource: &'a Resource<VirtualService>| {
            (resource.metadata.namespace.as_str(), resource.metadata.name.as_str())
        };
        Self(without_hosts.map(|resource| (key(resource), resource)).collect())
    }

    /// The VirtualService that a rule of `root` delegates to, if it is there.
    pub fn of(&self, root: &Resource<VirtualService>, rule: &HttpRoute) -> Option<&'a Resource<VirtualService>> {
        let delegate = rule.delegate.as_ref()?;
        let namespace = delegate.namespace.as_ref().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or(&root.metadata.namespace).as_str();
        self.0.get(&(namespace, delegate.name.as_str())).copied()
    }

    /// The rules of a VirtualService with hosts. A rule whose delegate is missing is left out, and so is a rule of a delegate
    /// that contradicts the rule which leads to it, or delegates further.
    pub fn rules(&self, root: &'a Resource<VirtualService>) -> Vec<RuleInForce<'a>> {
        let mut rules = Vec::with_capacity(root.spec.http.len());
        for (number, written) in root.spec.http.iter().enumerate() {
            if written.delegate.is_none() {
                rules.push(RuleInForce { rule: Written::Own(written), owner: root, number });
                continue;
            }
            let Some(owner) = self.of(root, written) else { continue };
            for (number, own) in owner.spec.http.iter().enumerate().filter(|(_, own)| own.delegate.is_none()) {
                let elsewhere = root.metadata.namespace != owner.metadata.namespace;
                let namespace = elsewhere.then_some(root.metadata.namespace.as_str());
                if let Some(rule) = merge(written, own, namespace) {
                    rules.push(RuleInForce { rule: Written::Merged(Box::new(rule)), owner, number });
                }
            }
        }
        rules
    }
}

/// The rule of a delegate with what it leaves open taken from the rule that leads to it, each object whole; none if their
/// conditions contradict. `namespace` is where short names of `root` mean something else than in the delegate.
pub fn merge(root: &HttpRoute, own: &HttpRoute, namespace: Option<&str>) -> Option<HttpRoute> {
    let mut merged = own.clone();
    merged.matches = all_blocks(&root.matches, &own.matches)?;
    merged.name = joined(root.name.as_ref(), own.name.as_ref());
    fill(&mut merged.rewrite, &root.rewrite);
    fill(&mut merged.direct_response, &root.direct_response);
    fill(&mut merged.timeout, &root.timeout);
    fill(&mut merged.retries, &root.retries);
    fill(&mut merged.fault, &root.fault);
    if merged.mirror.is_none() {
        merged.mirror = root.mirror.as_ref().map(|destination| Box::new(seen_from(destination, namespace)));
    }
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
        for mirror in &mut merged.mirrors {
            mirror.destination = mirror.destination.as_ref().map(|destination| seen_from(destination, namespace));
        }
    }
    fill(&mut merged.mirror_percent, &root.mirror_percent);
    fill(&mut merged.mirror_percentage, &root.mirror_percentage);
    fill(&mut merged.cors_policy, &root.cors_policy);
    fill(&mut merged.headers, &root.headers);
    Some(merged)
}

fn fill<T: Clone>(own: &mut Option<T>, root: &Option<T>) {
    if own.is_none() {
        own.clone_from(root);
    }
}

fn seen_from(destination: &Destination, namespace: Option<&str>) -> Destination {
    let mut destination = destination.clone();
    if let Some(long) = namespace.and_then(|namespace| names::expand(&destination.host, namespace)) {
        destination.host.value = long;
    }
    destination
}

/// `root-own`, or the one of them that is there.
fn joined(root: Option<&Spanned<String>>, own: Option<&Spanned<String>>) -> Option<Spanned<String>> {
    let root = root.filter(|name| !name.is_empty());
    let own = own.filter(|name| !name.is_empty());
    match (root, own) {
        (Some(root), Some(own)) => Some(Spanned::new(format!("{}-{}", root.value, own.value), own.place)),
        (one, other) => other.or(one).cloned(),
    }
}

/// Each block of the delegate with each of the root that it lies within; none if one of them lies within none.
fn all_blocks(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || own.is_empty() {
        return Some(if root.is_empty() { own } else { root }.to_vec());
    }
    let mut blocks = Vec::new();
    for inner in own {
        let before = blocks.len();
        blocks.extend(root.iter().filter(|outer| !contradict(outer, inner)).map(|outer| block(outer, inner)));
        if blocks.len() == before {
            return None;
        }
    }
    Some(blocks)
}

type Conditions = Vec<(Spanned<String>, Option<Spanned<StringMatch>>)>;

fn block(root: &HttpMatch, own: &HttpMatch) -> HttpMatch {
    let mut block = own.clone();
    block.name = joined(root.name.as_ref(), own.name.as_ref());
    fill(&mut block.uri, &root.uri);
    fill(&mut block.scheme, &root.scheme);
    fill(&mut block.method, &root.method);
    fill(&mut block.authority, &root.authority);
    let add = |own: &mut Conditions, root: &Conditions| {
        let new = root.iter().filter(|(name, _)| own.iter().all(|(known, _)| known.value != name.value));
        let new: Vec<_> = new.cloned().collect();
        own.extend(new);
    };
    add(&mut block.headers, &root.headers);
    add(&mut block.without_headers, &root.without_headers);
    add(&mut block.query_params, &root.query_params);
    if block.port.is_none_or(|port| port.value == 0) {
        block.port = root.port;
    }
    if block.gateways.is_empty() {
        block.gateways.clone_from(&root.gateways);
    }
    let labels: StringMap =
        root.source_labels.iter().filter(|(key, _)| label(&own.source_labels, key).is_none()).cloned().collect();
    block.source_labels.extend(labels);
    fill(&mut block.source_namespace, &root.source_namespace);
    block
}

fn label<'m>(labels: &'m StringMap, key: &str) -> Option<&'m str> {
    labels.iter().find(|(known, _)| known.value == key).map(|(_, value)| value.as_str())
}

/// Whether the requests that `own` matches are not all among those that `root` matches, as far as Istio looks.
fn contradict(root: &HttpMatch, own: &HttpMatch) -> bool {
    let differ = |root: &Option<Spanned<StringMatch>>, own: &Option<Spanned<StringMatch>>| {
        outside(root.as_deref(), own.as_deref())
    };
    let lists = |root: &Conditions, own: &Conditions| {
        own.iter().any(|(name, inner)| {
            let outer = root.iter().find(|(known, _)| known.value == name.value);
            outer.is_some_and(|(_, outer)| outside(outer.as_deref(), inner.as_deref()))
        })
    };
    let folds = |block: &HttpMatch| block.ignore_uri_case.is_some_and(|flag| flag.value);
    let port = |block: &HttpMatch| block.port.map_or(0, |port| port.value);
    let namespace = |block: &HttpMatch| block.source_namespace.as_ref().map_or("", |name| name.as_str()).to_owned();
    let gateways = !root.gateways.is_empty() && own.gateways.iter().any(|name| !root.gateways.contains(name));
    let labels = own
        .source_labels
        .iter()
        .any(|(key, value)| label(&root.source_labels, key).is_some_and(|outer| outer != value.as_str()));
    differ(&root.uri, &own.uri)
        || differ(&root.scheme, &own.scheme)
        || differ(&root.method, &own.method)
        || differ(&root.authority, &own.authority)
        || lists(&root.headers, &own.headers)
        || lists(&root.without_headers, &own.without_headers)
        || lists(&root.query_params, &own.query_params)
        || folds(root) != folds(own)
        || (port(root) > 0 && port(own) > 0 && port(root) != port(own))
        || (!namespace(root).is_empty() && !namespace(own).is_empty() && namespace(root) != namespace(own))
        || gateways
        || labels
}

/// Whether a condition of a delegate does not lie within that of the rule that leads to it. Regexes lie within nothing, and
/// nothing lies within them: whether they do cannot be seen.
fn outside(root: Option<&StringMatch>, own: Option<&StringMatch>) -> bool {
    use StringMatch::{Exact, Prefix};
    match (root, own) {
        (None, _) | (_, None) => false,
        (Some(Exact(root)), Some(Exact(own))) => own != root,
        (Some(Prefix(root)), Some(Prefix(own) | Exact(own))) => !own.starts_with(root.as_str()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::place::Place;
    use crate::config::resource::Metadata;
    use crate::config::resource::virtual_service::{Delegate, HttpMirror, HttpRouteDestination};
    use crate::config::testing::{at, text};
    use crate::config::value::Pattern;

    fn on_path(uri: StringMatch) -> HttpMatch {
        HttpMatch { uri: Some(at(uri)), ..Default::default() }
    }

    fn prefix(value: &str) -> StringMatch {
        StringMatch::Prefix(value.to_owned())
    }

    fn exact(value: &str) -> StringMatch {
        StringMatch::Exact(value.to_owned())
    }

    fn regex(value: &str) -> StringMatch {
        let regex = regex::bytes::Regex::new(value).map_err(|error| error.to_string());
        StringMatch::Regex(Pattern { text: value.to_owned(), regex })
    }

    fn destination(host: &str) -> Destination {
        Destination { host: text(host), ..Default::default() }
    }

    fn rule(name: &str, matches: Vec<HttpMatch>) -> HttpRoute {
        let route = vec![HttpRouteDestination { destination: Some(destination(name)), ..Default::default() }];
        HttpRoute { name: Some(text(name)), matches, route, ..Default::default() }
    }

    fn delegating(name: &str, matches: Vec<HttpMatch>, to: &str, namespace: Option<&str>) -> HttpRoute {
        let delegate = Delegate { name: text(to), namespace: namespace.map(text), ..Default::default() };
        HttpRoute { delegate: Some(delegate.into()), route: Vec::new(), ..rule(name, matches) }
    }

    fn service(name: &str, namespace: &str, hosts: &[&str], http: Vec<HttpRoute>) -> Resource<VirtualService> {
        Resource {
            metadata: Metadata { name: text(name), namespace: text(namespace), ..Default::default() },
            spec: VirtualService { hosts: hosts.iter().map(|host| text(host)).collect(), http, ..Default::default() },
            place: Place::default(),
        }
    }

    fn in_force(services: Vec<Resource<VirtualService>>) -> Vec<(String, String, usize)> {
        let resources = Resources { virtual_services: services, ..Default::default() };
        let rules = Delegates::new(&resources).rules(&resources.virtual_services[0]);
        let name = |rule: &RuleInForce<'_>| rule.rule.name.as_ref().map_or("", |name| name.as_str()).to_owned();
        rules.iter().map(|rule| (name(rule), rule.owner.metadata.name.value.clone(), rule.number)).collect()
    }

    #[test]
    fn a_delegate_takes_the_place_of_the_rule_that_leads_to_it() {
        let root = vec![
            rule("first", vec![]),
            delegating("r", vec![], "d", None),
            delegating("gone", vec![], "missing", None),
            delegating("far", vec![], "d", Some("other")),
            rule("last", vec![]),
        ];
        let got = in_force(vec![
            service("root", "shop", &["a"], root),
            service(
                "d",
                "shop",
                &[],
                vec![rule("one", vec![]), delegating("two", vec![], "d", None), rule("", vec![])],
            ),
            service("d", "other", &[], vec![rule("three", vec![])]),
            service("missing", "shop", &["b"], vec![rule("hosts", vec![])]),
        ]);
        let wanted =
            [("first", "root", 0), ("r-one", "d", 0), ("r", "d", 2), ("far-three", "d", 0), ("last", "root", 4)];
        assert_eq!(got, wanted.map(|(name, owner, number)| (name.to_owned(), owner.to_owned(), number)));
    }

    #[test]
    fn a_condition_must_lie_within_that_of_the_root() {
        for (root, own, fits) in [
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), prefix("/a"), true),
            (prefix("/a/b"), prefix("/a"), false),
            (prefix("/a"), exact("/ab"), true),
            (prefix("/a"), exact("/b"), false),
            (exact("/a"), exact("/a"), true),
            (exact("/a"), exact("/b"), false),
            (exact("/a"), prefix("/a"), false),
            (regex("/a"), exact("/a"), false),
            (prefix("/a"), regex("/a"), false),
            (regex("/a"), regex("/a"), false),
            (StringMatch::Present, exact("/a"), false),
        ] {
            let merged = merge(&rule("r", vec![on_path(root.clone())]), &rule("d", vec![on_path(own.clone())]), None);
            assert_eq!(merged.is_some(), fits, "{root:?} {own:?}");
            if let Some(merged) = merged {
                assert_eq!(format!("{:?}", merged.matches[0].uri), format!("{:?}", Some(at(own))));
            }
        }
    }

    #[test]
    fn blocks_are_combined_and_one_that_fits_nowhere_drops_the_rule() {
        let header = |name: &str, value: StringMatch| (text(name), Some(at(value)));
        let root = HttpMatch {
            name: Some(text("r")),
            headers: vec![header("x-a", exact("1")), header("x-b", prefix("2"))],
            port: Some(at(80)),
            ..on_path(prefix("/a"))
        };
        let own = HttpMatch { name: Some(text("d")), headers: vec![header("x-b", exact("2b"))], ..Default::default() };
        let roots = rule("r", vec![root.clone(), on_path(prefix("/b"))]);
        let merged = merge(&roots, &rule("d", vec![own.clone()]), None).unwrap();
        assert_eq!(merged.matches.len(), 2);
        let first = &merged.matches[0];
        let names: Vec<_> = first.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, first.port.map(|port| port.value)), (vec!["x-b", "x-a"], Some(80)));
        assert_eq!(first.name.as_ref().map(|name| name.as_str()), Some("r-d"));
        assert!(matches!(&first.headers[0].1.as_deref(), Some(StringMatch::Exact(value)) if value == "2b"));
        let nowhere = rule("d", vec![own, on_path(prefix("/c"))]);
        assert!(merge(&roots, &nowhere, None).is_none());
        assert_eq!(merge(&roots, &rule("d", vec![]), None).unwrap().matches.len(), 2);
        assert_eq!(merge(&rule("r", vec![]), &nowhere, None).unwrap().matches.len(), 2);
        let other_port = HttpMatch { port: Some(at(81)), ..on_path(prefix("/a")) };
        assert!(merge(&rule("r", vec![root.clone()]), &rule("d", vec![other_port]), None).is_none());
        let folding = HttpMatch { ignore_uri_case: Some(at(true)), ..on_path(prefix("/a")) };
        assert!(merge(&rule("r", vec![root]), &rule("d", vec![folding]), None).is_none());
    }

    #[test]
    fn what_the_delegate_leaves_open_is_the_roots() {
        let timeout = |seconds| Some(at(Duration::from_secs(seconds)));
        let mirrors = vec![HttpMirror { destination: Some(destination("m")), ..Default::default() }];
        let root = HttpRoute {
            timeout: timeout(1),
            mirror: Some(destination("far.example.com").into()),
            mirrors,
            ..delegating("r", vec![], "d", None)
        };
        let merged = merge(&root, &rule("d", vec![]), Some("shop")).unwrap();
        assert_eq!(merged.timeout, timeout(1));
        assert_eq!(merged.mirror.unwrap().host.value, "far.example.com");
        assert_eq!(merged.mirrors[0].destination.as_ref().unwrap().host.value, "m.shop.svc.cluster.local");
        assert!(merged.delegate.is_none() && merged.route.len() == 1);
        let own = HttpRoute { timeout: timeout(2), ..rule("d", vec![]) };
        assert_eq!(merge(&root, &own, None).unwrap().timeout, timeout(2));
    }
}
