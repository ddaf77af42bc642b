//! From the tree of a document to the resource it describes: envelope and kind here, one file for each `spec`.
//! Every problem is reported, none stops the rest from being read.

mod canary;
mod destination_rule;
mod gateway;
mod metadata;
mod object;
mod out;
mod pattern;
mod policy;
mod pool;
mod scalar;
mod service_entry;
mod shape;
mod virtual_service;

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Kind};
use super::place::{Place, Spanned};
use super::resource::{Metadata, Resource, Resources};
use super::yaml::{Data, Node};

use metadata::METADATA;
use object::{At, Object};
use out::Out;
use shape::{Shape, one, value};

pub(crate) use out::Muddled;
pub(crate) use scalar::go_duration;
pub(crate) use shape::nearest;

const NETWORKING: &str = "networking.istio.io";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];
const SERIN: &str = "serin.dev";
const SERIN_VERSIONS: [&str; 1] = ["v1alpha1"];
/// The kinds that are read. The last is Serin's own.
const READ: [&str; 6] = ["VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry", "Gateway", CANARY_KIND];
const CANARY_KIND: &str = "Canary";
/// Kinds of which the rest of the configuration does not depend.
const WITHOUT_EFFECT: [(&str, &str, &str); 4] = [
    (NETWORKING, "Sidecar", "namespace and workload visibility is not enforced"),
    (NETWORKING, "WorkloadGroup", "there are no pods to make WorkloadEntries of"),
    (NETWORKING, "ProxyConfig", "it configures Envoy"),
    ("telemetry.istio.io", "Telemetry", "metrics and logs are set on the command line"),
];
/// Kinds that must not be left out: the operator relies on what they refuse or rewrite.
const REFUSED: [(&str, &str, &str); 5] = [
    ("security.istio.io", "AuthorizationPolicy", "leaving it out would open access that it closes"),
    ("security.istio.io", "RequestAuthentication", "leaving it out would accept tokens that it refuses"),
    ("security.istio.io", "PeerAuthentication", "leaving it out could accept clients without a certificate"),
    (NETWORKING, "EnvoyFilter", "it patches the configuration of Envoy, and this proxy is not Envoy"),
    ("extensions.istio.io", "WasmPlugin", "there is no WebAssembly here, and it may be what refuses requests"),
];

static VIRTUAL_SERVICE: Shape = envelope(
    "a VirtualService",
    &[
        value("apiVersion"),
        value("kind"),
        one("metadata", &METADATA),
        one("spec", &virtual_service::VIRTUAL_SERVICE),
        value("status"),
    ],
);
static DESTINATION_RULE: Shape = envelope(
    "a DestinationRule",
    &[
        value("apiVersion"),
        value("kind"),
        one("metadata", &METADATA),
        one("spec", &destination_rule::DESTINATION_RULE),
        value("status"),
    ],
);
static SERVICE_ENTRY: Shape = envelope(
    "a ServiceEntry",
    &[
        value("apiVersion"),
        value("kind"),
        one("metadata", &METADATA),
        one("spec", &service_entry::SERVICE_ENTRY),
        value("status"),
    ],
);
static WORKLOAD_ENTRY: Shape = envelope(
    "a WorkloadEntry",
    &[
        value("apiVersion"),
        value("kind"),
        one("metadata", &METADATA),
        one("spec", &service_entry::WORKLOAD_ENTRY),
        value("status"),
    ],
);
static GATEWAY: Shape = envelope(
    "a Gateway",
    &[value("apiVersion"), value("kind"), one("metadata", &METADATA), one("spec", &gateway::GATEWAY), value("status")],
);
static CANARY: Shape = envelope(
    "a Canary",
    &[value("apiVersion"), value("kind"), one("metadata", &METADATA), one("spec", &canary::CANARY), value("status")],
);

const fn envelope(what: &'static str, fields: &'static [shape::Field]) -> Shape {
    shape::own(what, fields)
}

/// The group of a kind that is read, and its versions, the best first.
fn home(kind: &str) -> (&'static str, &'static [&'static str]) {
    if kind == CANARY_KIND { (SERIN, &SERIN_VERSIONS) } else { (NETWORKING, &VERSIONS) }
}

/// What to write for the `apiVersion` of a kind that is read.
fn api_version_of(kind: &str) -> String {
    let (group, versions) = home(kind);
    [group, versions[0]].join("/")
}

/// Reads documents one after another.
#[derive(Default)]
pub(crate) struct Decoder {
    out: Out,
    resources: Resources,
    skipped: Skipped,
    doubtful: bool,
    /// A VirtualService holds errors: what a Canary says of its rules is not to be judged.
    half_read: bool,
}

/// Kinds, with their group: how often each was there, and where first.
pub(crate) type Skipped = BTreeMap<String, (usize, Place)>;

/// What all documents together came to.
pub(crate) struct Decoded {
    /// What could be read. A document with errors is here too, as far as it was understood.
    pub(crate) resources: Resources,
    /// Problems, in the order found.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Parts of the text that later checks must leave alone.
    pub(crate) muddled: Vec<Muddled>,
    /// Kinds that mean nothing here.
    pub(crate) skipped: Skipped,
    /// Something that others may refer to was not understood.
    pub(crate) doubtful: bool,
}

impl Decoder {
    /// Reads one document. An empty one is nothing.
    pub(crate) fn document(&mut self, node: &Node<'_>) {
        if node.is_null() {
            return;
        }
        let Data::Object(_) = node.data else {
            let message = format!("a document must be an object, not {}", scalar::shown(node));
            self.refuse(node.place, message, "it begins with `apiVersion:` and `kind:`");
            return;
        };
        let kind = self.name(node, "kind");
        let api_version = self.name(node, "apiVersion");
        let Some(kind) = kind else {
            self.refuse(
                node.place,
                "this is no Kubernetes object: it has no `kind`".to_owned(),
                "add `kind: VirtualService`, say",
            );
            return;
        };
        let listed = kind.strip_suffix("List").filter(|of| of.is_empty() || READ.contains(of));
        if let (Some(_), Some(items)) = (listed, node.get("items")) {
            if let Data::List(items) = &items.data {
                items.iter().for_each(|item| self.document(item));
            }
            return;
        }
        let Some(api_version) = api_version else {
            let version = if READ.contains(&kind) { api_version_of(kind) } else { "…".to_owned() };
            self.refuse(node.place, "`apiVersion` is missing".to_owned(), &format!("add `apiVersion: {version}`"));
            self.resource(node, kind);
            return;
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.by_kind(node, group, version, kind);
    }

    /// Everything that was read.
    pub(crate) fn finish(mut self) -> Decoded {
        if self.half_read {
            let names = self.resources.canaries.iter().flat_map(|one| one.spec.names());
            let muddled = names.map(|name| Muddled { place: name.place, last_line: None });
            self.out.muddled.extend(muddled);
        }
        Decoded {
            resources: self.resources,
            diagnostics: self.out.diagnostics,
            muddled: self.out.muddled,
            skipped: self.skipped,
            doubtful: self.doubtful,
        }
    }

    fn refuse(&mut self, place: Place, message: String, help: &str) {
        self.out.error(Kind::Field, place, message, Some(help.to_owned()));
        self.doubtful = true;
    }

    fn name<'n>(&mut self, node: &'n Node<'_>, field: &str) -> Option<&'n str> {
        let value = node.get(field).filter(|value| !value.is_null())?;
        match scalar::text(value, field) {
            Ok(text) => Some(text),
            Err(wrong) => {
                self.out.error(Kind::Value, value.place, wrong.message, wrong.help);
                None
            }
        }
    }

    fn by_kind(&mut self, node: &Node<'_>, group: &str, version: &str, kind: &str) {
        let place = |field: &str| node.get(field).map_or(node.place, |value| value.place);
        let (own_group, versions) = home(kind);
        if group == own_group && READ.contains(&kind) {
            if !versions.contains(&version) {
                let message = format!("`{version}` is no version of {group}");
                self.refuse(place("apiVersion"), message, &format!("write `{}`", api_version_of(kind)));
            }
            return self.resource(node, kind);
        }
        if let Some((.., why)) = REFUSED.iter().find(|refused| (refused.0, refused.1) == (group, kind)) {
            let message = format!("`{kind}` is not supported: {why}");
            let help = instead_of(kind).to_owned();
            return self.out.error(Kind::Unsupported, place("kind"), message, Some(help));
        }
        if let Some((.., why)) = WITHOUT_EFFECT.iter().find(|ignored| (ignored.0, ignored.1) == (group, kind)) {
            let message = format!("`{kind}` has no effect: {why}");
            return self.out.diagnostics.push(Diagnostic::warning(Kind::NoEffect, place("kind"), message));
        }
        let known = group == NETWORKING || group == SERIN;
        if known && !READ.contains(&kind) {
            let names = READ.into_iter().chain(WITHOUT_EFFECT.iter().chain(&REFUSED).map(|one| one.1));
            let help = match nearest(kind, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the kinds that are read are {}", READ.join(", ")),
            };
            return self.refuse(place("kind"), format!("unknown kind `{}` of {group}", kind.escape_debug()), &help);
        }
        let near = || nearest(group, [own_group].into_iter()).is_some();
        let misspelt = known || group.is_empty() && kind != "Gateway" || near();
        if READ.contains(&kind) && misspelt {
            let message = format!("`{kind}` is no kind of `{}`", [group, version].join("/").trim_start_matches('/'));
            self.refuse(place("apiVersion"), message, &format!("write `apiVersion: {}`", api_version_of(kind)));
            return self.resource(node, kind);
        }
        if group == "security.istio.io" {
            let message = format!("`{kind}` is not supported: leaving it out could open access");
            let help = instead_of(kind).to_owned();
            return self.out.error(Kind::Unsupported, place("kind"), message, Some(help));
        }
        let name = if group.is_empty() { kind.to_owned() } else { format!("{kind} ({group})") };
        self.skipped.entry(name).or_insert((0, node.place)).0 += 1;
    }

    fn resource(&mut self, node: &Node<'_>, kind: &str) {
        let before = self.out.errors;
        let out = &mut self.out;
        let resources = &mut self.resources;
        match kind {
            "VirtualService" => {
                resources.virtual_services.extend(read(node, &VIRTUAL_SERVICE, out, virtual_service::virtual_service));
                self.half_read |= self.out.errors > before;
                return;
            }
            CANARY_KIND => {
                resources.canaries.extend(read(node, &CANARY, out, canary::canary));
                return;
            }
            "DestinationRule" => {
                resources.destination_rules.extend(read(
                    node,
                    &DESTINATION_RULE,
                    out,
                    destination_rule::destination_rule,
                ));
            }
            "ServiceEntry" => {
                resources.service_entries.extend(read(node, &SERVICE_ENTRY, out, service_entry::service_entry));
            }
            "WorkloadEntry" => {
                resources.workload_entries.extend(read(node, &WORKLOAD_ENTRY, out, service_entry::workload_entry));
            }
            "Gateway" => resources.gateways.extend(read(node, &GATEWAY, out, gateway::gateway)),
            _ => {}
        }
        self.doubtful |= self.out.errors > before;
    }
}

/// What to do instead of a kind that is refused.
fn instead_of(kind: &str) -> &'static str {
    match kind {
        "PeerAuthentication" => {
            "remove it from these files; a Gateway server of HTTPS with `tls.mode: MUTUAL` asks clients for a certificate"
        }
        "AuthorizationPolicy" | "RequestAuthentication" => {
            "enforce it before this proxy or behind it, and remove it from these files"
        }
        "EnvoyFilter" => {
            "say with a VirtualService or a DestinationRule what it is for, and remove it from these files"
        }
        _ => "remove it from these files",
    }
}

fn read<S>(
    node: &Node<'_>,
    shape: &'static Shape,
    out: &mut Out,
    spec: fn(At<'_>, &mut Out) -> S,
) -> Option<Resource<S>> {
    let at = At { node, place: node.place, name: "document", parent: None };
    let object = Object::open(at, shape, out);
    let metadata = object.one("metadata", out, metadata::metadata).unwrap_or_else(|| Metadata {
        name: Spanned::new(String::new(), node.place),
        namespace: Spanned::new("default".to_owned(), node.place),
        ..Metadata::default()
    });
    let Some(spec) = object.one("spec", out, spec) else {
        out.error(Kind::Field, node.place, format!("{} needs a `spec`", shape.what), None);
        return None;
    };
    Some(Resource { metadata, spec, place: node.place })
}

#[cfg(test)]
mod tests;
