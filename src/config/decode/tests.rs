use super::*;
use crate::config::diagnostic::Severity;
use crate::config::yaml;

fn decode(text: &str) -> Decoded {
    let mut decoder = Decoder::default();
    let broken = yaml::read(text, 0, &mut |node| decoder.document(&node));
    assert!(broken.is_empty(), "{broken:?}");
    decoder.finish()
}

fn messages(text: &str) -> Vec<String> {
    decode(text)
        .diagnostics
        .into_iter()
        .map(|one| format!("{}:{} {}", one.place.line, one.place.column, one.message))
        .collect()
}

fn document(kind: &str, spec: &str) -> String {
    format!("apiVersion: {}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n", api_version_of(kind))
}

/// Every field of every object, with the fields that lead to it.
fn fields(shape: &'static Shape, around: &str, found: &mut Vec<(String, &'static str)>) {
    for field in shape.fields {
        let inside = |value: &str| around.replace('@', &format!("{{{}: {value}}}", field.name));
        found.push((inside("[[1]]"), field.name));
        match field.holds {
            shape::Holds::Value => {}
            shape::Holds::One(inner) => fields(inner, &inside("@"), found),
            shape::Holds::Many(inner) => fields(inner, &inside("[@]"), found),
        }
    }
}

#[test]
fn no_field_is_silently_ignored() {
    let specs = [
        ("VirtualService", &virtual_service::VIRTUAL_SERVICE),
        ("DestinationRule", &destination_rule::DESTINATION_RULE),
        ("ServiceEntry", &service_entry::SERVICE_ENTRY),
        ("WorkloadEntry", &service_entry::WORKLOAD_ENTRY),
        ("Gateway", &gateway::GATEWAY),
        ("Canary", &canary::CANARY),
    ];
    let mut checked = 0;
    for (kind, shape) in specs {
        let mut all = Vec::new();
        fields(shape, "@", &mut all);
        for (spec, field) in all {
            let decoded = decode(&document(kind, &spec));
            let named =
                decoded.diagnostics.iter().any(|one| one.is_error() && one.message.contains(&format!("`{field}`")));
            assert!(named, "{kind} {spec}: {:?}", decoded.diagnostics);
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn all_problems_are_found_in_one_run() {
    let spec = "\n  hosts: a\n  http:\n  - route:\n    - destination: {hst: a}\n      weight: many\n    timeout: 5\n  gateway: []";
    assert_eq!(
        messages(&document("VirtualService", spec)),
        [
            "11:3 unknown field `gateway` in the `spec` of a VirtualService",
            "5:10 `hosts` must be a list, not `a`",
            "8:21 unknown field `hst` in a destination",
            "9:15 `weight` must be a whole number, not `many`",
            "10:14 `timeout` must be a duration such as `1.5s` or `250ms`, not the number `5`",
        ],
    );
}

#[test]
fn the_three_versions_and_the_envelope() {
    for version in VERSIONS {
        let text = document("VirtualService", "{hosts: [a]}").replace("/v1", &format!("/{version}"));
        let text = text.replace("{name: x}", "\n  name: x\n  namespace: shop\n  uid: 1\n  managedFields: [{manager: x}]\n  creationTimestamp: 2024-01-31T12:00:00Z\n  labels: {a: b}");
        let decoded = decode(&format!("{text}status: {{anything: 1}}\n"));
        assert!(decoded.diagnostics.is_empty(), "{:?}", decoded.diagnostics);
        let one = &decoded.resources.virtual_services[0];
        assert_eq!((one.metadata.name.as_str(), one.metadata.namespace.as_str()), ("x", "shop"));
        let since = one.metadata.created.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 1_706_702_400);
    }
    let decoded = decode(&document("Gateway", "{servers: []}"));
    assert_eq!(decoded.resources.gateways[0].metadata.namespace.as_str(), "default");
    assert_eq!(messages(&document("Gateway", "")), ["1:1 a Gateway needs a `spec`"]);
    assert_eq!(
        messages(&document("Gateway", "{}").replace("{name: x}", "{creationTimestamp: monday}")),
        ["3:31 `monday` is no time"]
    );
}

#[test]
fn lists_hold_resources() {
    let item = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, spec: {hosts: [a]}}";
    let decoded = decode(&format!("apiVersion: v1\nkind: List\nitems: [{item}, {item}]\n"));
    assert_eq!(decoded.resources.service_entries.len(), 2);
    let decoded = decode(&format!("apiVersion: networking.istio.io/v1\nkind: ServiceEntryList\nitems: [{item}]\n"));
    assert_eq!(decoded.resources.service_entries.len(), 1);
    let decoded = decode("apiVersion: v1\nkind: List\nitems:\n");
    assert!(decoded.diagnostics.is_empty());
}

#[test]
fn kinds_are_told_apart_by_group() {
    let judged = |api_version: &str, kind: &str| {
        let decoded = decode(&format!("apiVersion: {api_version}\nkind: {kind}\nspec: {{}}\n"));
        let found = decoded.diagnostics.first().map(|one| (one.severity, one.kind));
        (found, decoded.skipped.len())
    };
    let (error, warning) = (Severity::Error, Severity::Warning);
    for (api_version, kind, expected) in [
        ("networking.istio.io/v1", "Gateway", (None, 0)),
        ("gateway.networking.k8s.io/v1", "Gateway", (None, 1)),
        ("v1", "Service", (None, 1)),
        ("apps/v1", "Deployment", (None, 1)),
        ("appmesh.k8s.aws/v1beta2", "VirtualService", (None, 1)),
        ("security.istio.io/v1", "AuthorizationPolicy", (Some((error, Kind::Unsupported)), 0)),
        ("security.istio.io/v1", "NewPolicy", (Some((error, Kind::Unsupported)), 0)),
        ("networking.istio.io/v1alpha3", "EnvoyFilter", (Some((error, Kind::Unsupported)), 0)),
        ("serin.dev/v1alpha1", "Canary", (None, 0)),
        ("serin.dev/v1", "Canary", (Some((error, Kind::Field)), 0)),
        ("serin.dve/v1alpha1", "Canary", (Some((error, Kind::Field)), 0)),
        ("networking.istio.io/v1", "Canary", (Some((error, Kind::Field)), 0)),
        ("flagger.app/v1beta1", "Canary", (None, 1)),
        ("serin.dev/v1alpha1", "Canry", (Some((error, Kind::Field)), 0)),
        ("serin.dev/v1alpha1", "VirtualService", (Some((error, Kind::Field)), 0)),
        ("networking.istio.io/v1", "Sidecar", (Some((warning, Kind::NoEffect)), 0)),
        ("telemetry.istio.io/v1", "Telemetry", (Some((warning, Kind::NoEffect)), 0)),
        ("networking.istio.io/v2", "VirtualService", (Some((error, Kind::Field)), 0)),
        ("networking.istio.io/v1", "VirtualServce", (Some((error, Kind::Field)), 0)),
        ("networking.istio.oi/v1", "VirtualService", (Some((error, Kind::Field)), 0)),
        ("v1", "VirtualService", (Some((error, Kind::Field)), 0)),
    ] {
        assert_eq!(judged(api_version, kind), expected, "{api_version} {kind}");
    }
    assert_eq!(messages("kind: VirtualService\nspec: {}\n"), ["1:1 `apiVersion` is missing"]);
    assert_eq!(messages("a: 1\n"), ["1:1 this is no Kubernetes object: it has no `kind`"]);
    assert_eq!(messages("text\n---\n- 1\n").len(), 2);
}

#[test]
fn null_is_absent_except_as_a_match() {
    let spec = "\n  hosts: [a]\n  http:\n  - match:\n    - uri:\n      headers: {a: , b: {}}\n    -\n    route: ~\n    timeout: null";
    let decoded = decode(&document("VirtualService", spec));
    assert!(!decoded.diagnostics.iter().any(Diagnostic::is_error), "{:?}", decoded.diagnostics);
    let rule = &decoded.resources.virtual_services[0].spec.http[0];
    assert!(rule.matches[0].uri.is_none() && rule.timeout.is_none() && rule.route.is_empty());
    let headers: Vec<_> =
        rule.matches[0].headers.iter().map(|(name, value)| (name.as_str(), value.is_some())).collect();
    assert_eq!(headers, [("a", false), ("b", true)]);
    assert_eq!(rule.matches.len(), 2);
    assert_eq!(decoded.diagnostics[0].message, "an empty entry of `match` matches every request");
}

#[test]
fn protobuf_names_count_once() {
    let decoded = decode(&document("VirtualService", "{http: [{mirror_percentage: {value: 5}}]}"));
    assert_eq!(decoded.resources.virtual_services[0].spec.http[0].mirror_percentage.as_ref().unwrap().value, 5.0);
    let both = document("VirtualService", "{export_to: [a], exportTo: [b]}");
    assert_eq!(messages(&both), ["4:24 `exportTo` is there twice, under two spellings"]);
}

#[test]
fn oneofs_take_one_member() {
    for (kind, spec) in [
        ("VirtualService", "{http: [{match: [{uri: {exact: a, prefix: b}}]}]}"),
        ("VirtualService", "{http: [{fault: {abort: {httpStatus: 500, grpcStatus: ABORTED}}}]}"),
        ("VirtualService", "{http: [{redirect: {port: 80, derivePort: FROM_REQUEST_PORT}}]}"),
        (
            "DestinationRule",
            "{trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}}",
        ),
    ] {
        let found = decode(&document(kind, spec)).diagnostics;
        assert_eq!(found.iter().map(|one| one.kind).collect::<Vec<_>>(), [Kind::Conflict], "{spec}");
    }
}

#[test]
fn a_muddled_part_is_marked_and_no_more() {
    let spec = "\n  http:\n  - route:\n    - wieght: 1\n  - route:\n    - weight: 1\n  gatewys: []";
    let decoded = decode(&document("VirtualService", spec));
    let at = |line: u32, column| {
        let place = Place { file: 0, line, column, length: 1 };
        decoded.muddled.iter().any(|part| match part.last_line {
            None => part.place.line == line && part.place.column == column,
            Some(last) => (part.place.line..=last).contains(&place.line),
        })
    };
    assert!(at(6, 5) && at(7, 7) && at(4, 1));
    assert!(!at(8, 5) && !at(9, 7) && !at(5, 3));
    assert!(!decoded.doubtful);
    assert!(decode(&document("DestinationRule", "{hots: a}")).doubtful);
}
