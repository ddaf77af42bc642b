use super::*;
use crate::config::load::{Loaded, Read, load};
use crate::config::settings::Settings;

const RESOURCES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [edge]
  http:
  - match: [{uri: {prefix: /team}}]
    delegate: {name: inner, namespace: team}
  - name: own
    match: [{uri: {prefix: /own}}]
    route: [{destination: {host: shop, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inner, namespace: team}
spec:
  http:
  - match: [{uri: {prefix: /team/none}}]
    directResponse: {status: 204}
  - name: split
    route:
    - {destination: {host: shop.default.svc.cluster.local, subset: next}, weight: 0}
    - {destination: {host: shop.default.svc.cluster.local, subset: v1}, weight: 100}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  subsets: [{name: v1, labels: {tier: old}}, {name: next, labels: {version: '2'}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {http: 8081}, labels: {tier: old}}
  - {address: 127.0.0.1, ports: {http: 8082}, labels: {version: '2'}}
";

fn canary(namespace: &str, fields: &str) -> String {
    format!(
        "apiVersion: serin.dev/v1alpha1\nkind: Canary\nmetadata: {{name: r, namespace: {namespace}}}\nspec: {{stable: v1, canary: next, \
         {fields}}}\n"
    )
}

fn loaded(canary: &str) -> Loaded {
    let source = |name: &str, text: &str| Source { path: name.into(), text: text.into() };
    let sources = vec![source("conf/a.yaml", RESOURCES), source("conf/b/canary.yaml", canary)];
    load(Read { sources, ..Read::default() }, &Settings::default())
}

fn one(canary: &str) -> Release {
    let loaded = loaded(canary);
    assert!(loaded.is_valid(), "{canary}: {:?}", loaded.diagnostics);
    let mut all = releases(&loaded.resources, &loaded.sources);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn weights(fields: &str) -> Vec<(u32, u64, bool)> {
    let release = one(&canary("default", &format!("virtualService: edge, {fields}")));
    release.steps.iter().map(|step| (step.weight, step.min_duration.as_secs(), step.soak)).collect()
}

#[test]
fn a_delegated_rule_is_found_where_it_is_written() {
    let route =
        |label: &str| Route { namespace: "team".into(), virtual_service: "inner".into(), rule: 1, label: label.into() };
    for (namespace, fields, label) in [
        ("default", "virtualService: edge, steps: [100]", "split"),
        ("other", "virtualService: default/edge, steps: [100]", "split"),
        ("default", "virtualService: edge, route: split, steps: [100]", "split"),
        ("default", "virtualService: edge, route: inner/1, steps: [100]", "split"),
        ("team", "virtualService: inner, steps: [100]", "split"),
        ("default", "virtualService: team/inner, route: split, steps: [100]", "split"),
    ] {
        let release = one(&canary(namespace, fields));
        assert_eq!(release.route, route(label), "{fields}");
        let version = |subset: &str, version: &str, position| Version {
            subset: subset.into(),
            version: version.into(),
            position,
        };
        assert_eq!(release.declared, [0, 100], "{fields}");
        assert_eq!((release.stable, release.canary), (version("v1", "v1", 1), version("next", "2", 0)), "{fields}");
    }
}

#[test]
fn a_delegated_rule_may_be_called_as_metrics_call_it() {
    let named =
        RESOURCES.replace("  - match: [{uri: {prefix: /team}}]", "  - name: root\n    match: [{uri: {prefix: /team}}]");
    for route in ["root-split", "split", "inner/1"] {
        let text =
            format!("{named}---\n{}", canary("default", &format!("virtualService: edge, route: {route}, steps: [1]")));
        let sources = vec![Source { path: "a.yaml".into(), text: text.into() }];
        let loaded = load(Read { sources, ..Read::default() }, &Settings::default());
        let all = releases(&loaded.resources, &loaded.sources);
        assert_eq!(all[0].route.label, "root-split", "{route}: {:?}", loaded.diagnostics);
    }
}

#[test]
fn what_is_left_open_has_its_default() {
    for fields in ["steps: [10, 100]", "steps: [10, 100], analysis: {}", "steps: [10, 100], analysis: {latency: {}}"] {
        let release = one(&canary("default", &format!("virtualService: edge, {fields}")));
        let step = |weight| Step {
            weight,
            min_duration: Duration::from_secs(60),
            min_requests: 300,
            approve: false,
            soak: false,
        };
        let expected = Release {
            namespace: "default".into(),
            name: "r".into(),
            sticky: false,
            steps: vec![step(10), step(100)],
            analysis: Analysis {
                false_rollback_rate: 0.01,
                tolerance: 1.2,
                max_error_rate: 0.01,
                latency: Latency::Auto,
                warm_up: Duration::from_secs(10),
                max_step_duration: Duration::from_secs(3600),
                on_inconclusive: OnInconclusive::Hold,
                gates: Vec::new(),
            },
            mode: Mode::Run,
            start: Start::Manual,
            on_file_change: OnFileChange::Adopt,
            shield: false,
            webhooks: Vec::new(),
            ..release.clone()
        };
        assert_eq!(release, expected, "{fields}");
    }
}

#[test]
fn steps_end_at_100_and_the_soak_lies_before() {
    assert_eq!(weights("steps: [10, 100]"), [(10, 60, false), (100, 60, false)]);
    assert_eq!(weights("steps: [10, 50]"), [(10, 60, false), (50, 60, false), (100, 60, false)]);
    let soaked = [(10, 30, false), (95, 600, true), (100, 30, false)];
    assert_eq!(weights("steps: [10, 100], soak: {}, analysis: {minDuration: 30s}"), soaked);
    assert_eq!(weights("steps: [10], soak: {}, analysis: {minDuration: 30s}"), soaked);
    let late = [(10, 300, false), (99, 7200, true), (100, 60, false)];
    assert_eq!(weights("steps: [{weight: 10, minDuration: 5m}, 100], soak: {weight: 99, duration: 2h}"), late);
}

#[test]
fn a_step_has_what_it_says_and_else_what_the_analysis_says() {
    let fields =
        "virtualService: edge, steps: [10, {weight: 50, minRequests: 7, approve: true}], analysis: {minRequests: 1000}";
    let steps = one(&canary("default", fields)).steps;
    let parts: Vec<_> = steps.iter().map(|step| (step.weight, step.min_requests, step.approve)).collect();
    assert_eq!(parts, [(10, 1000, false), (50, 7, true), (100, 1000, false)]);
}

#[test]
fn everything_written_arrives() {
    let release = one(&canary(
        "default",
        "virtualService: edge, steps: [100], mode: observe, start: onSubset, onFileChange: abort, shield: true, analysis: {falseRollbackRate: 5%, tolerance: 2, maxErrorRate: 0.1%, latency: {slowerThan: off}, warmUp: 0s, maxStepDuration: 10m, onInconclusive: advance, prometheus: [{name: a, address: 'http://p:9090', query: 'up{v=\"{{canary}}\"} / up{v=\"{{ stable }}\"}', max: 1.5e3, min: -1}, {name: b, address: 'http://p:9090', query: up, min: 1, interval: 1m}]}, webhooks: [{url: 'http://h/'}, {url: 'http://h/', events: [held, promoted], secret: {file: keys/h}, timeout: 1s, retries: 0}]",
    ));
    assert_eq!((release.mode, release.start), (Mode::Observe, Start::OnSubset));
    assert_eq!((release.on_file_change, release.shield), (OnFileChange::Abort, true));
    let gate = |name: &str, query: &str, (min, max), seconds| Gate {
        name: name.into(),
        address: "http://p:9090".into(),
        query: query.into(),
        min,
        max,
        interval: Duration::from_secs(seconds),
    };
    let analysis = Analysis {
        false_rollback_rate: 0.05,
        tolerance: 2.0,
        max_error_rate: 0.001,
        latency: Latency::Off,
        warm_up: Duration::ZERO,
        max_step_duration: Duration::from_secs(600),
        on_inconclusive: OnInconclusive::Advance,
        gates: vec![
            gate("a", "up{v=\"2\"} / up{v=\"v1\"}", (Some(-1.0), Some(1500.0)), 15),
            gate("b", "up", (Some(1.0), None), 60),
        ],
    };
    assert_eq!(release.analysis, analysis);
    let hook = |events, secret_file, seconds, retries| Webhook {
        url: "http://h/".into(),
        events,
        secret_file,
        timeout: Duration::from_secs(seconds),
        retries,
    };
    let all = Event::NAMES.iter().map(|(_, event)| *event).collect();
    let some = vec![Event::Held, Event::Promoted];
    assert_eq!(release.webhooks, [hook(all, None, 5, 3), hook(some, Some("conf/b/keys/h".into()), 1, 0)]);
}

#[test]
fn a_threshold_between_two_edges_is_the_next_one() {
    for (written, used) in [("300ms", 300), ("350ms", 400), ("60s", 60_000), ("1s", 1_000)] {
        let fields = format!("virtualService: edge, steps: [100], analysis: {{latency: {{slowerThan: {written}}}}}");
        let release = one(&canary("default", &fields));
        assert_eq!(release.analysis.latency, Latency::Edge(Duration::from_millis(used)), "{written}");
        let warned = loaded(&canary("default", &fields)).diagnostics.iter().any(|one| one.message.contains("no edge"));
        assert_eq!(warned, written == "350ms", "{written}");
    }
}

#[test]
fn a_release_that_was_refused_is_none() {
    for fields in ["virtualService: none, steps: [10]", "virtualService: edge, route: own, steps: [10]"] {
        let loaded = loaded(&canary("default", fields));
        assert!(!loaded.is_valid());
        assert_eq!(releases(&loaded.resources, &loaded.sources), [], "{fields}");
    }
}
