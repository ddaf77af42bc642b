//! `serin explain`, `serin test` and `serin diff`: what they print, and with what status they exit.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::proxy::{Proxy, run, said, serin};

const CONFIG: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  annotations: {serin.dev/sticky: "cookie=serin"}
spec:
  hosts: [reviews]
  http:
  - name: jason
    match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /old}, method: {exact: GET}}, {uri: {exact: /older}}]
    redirect: {uri: /new, redirectCode: 308}
  - name: primary
    match: [{uri: {prefix: /api}}]
    timeout: 1500ms
    rewrite: {uri: /v1}
    headers: {request: {set: {x-path: "%REQ(:path)%"}, remove: [x-debug]}}
    route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http: [{directResponse: {status: 503, body: {string: closed}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com'], tls: {httpsRedirect: true}}
  - {port: {number: 8081, name: alt, protocol: HTTP}, hosts: ['*.example.com']}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {http: 9001}, labels: {version: v1}}
  - {address: 127.0.0.1, ports: {http: 9002}, labels: {version: v2}}
"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn explain(request: &[&str]) -> Output {
    let folder = folder(&[("config.yaml", CONFIG)]);
    run(&[&["explain", "config.yaml", "--"], request].concat(), folder.path())
}

fn explained(request: &[&str]) -> Value {
    let folder = folder(&[("config.yaml", CONFIG)]);
    let output = run(&[&["explain", "config.yaml", "--json", "--"], request].concat(), folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs with a text as standard input.
fn piped(arguments: &[&str], folder: &Path, input: &str) -> Output {
    let mut child = serin()
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn explain_says_where_a_request_goes_and_why_not_elsewhere() {
    let request = ["PUT", "http://reviews/api/x?y", "-H", "x-debug: 1", "-H", "Cookie: serin=0.950000000000"];
    let output = explain(&request);
    assert_eq!(output.status.code(), Some(0));
    let wanted = "\
PUT http://reviews/api/x?y
listener  8080
host      reviews
not       jason: headers.end-user must be `exact: jason`, and is not there
          reviews/1: uri must be `prefix: /old`, and is `/api/x`
          reviews/1: uri must be `exact: /older`, and is `/api/x`
rule      primary (http[2] of reviews)
to             90 %  reviews/v1:80  (127.0.0.1:9001)
               10 %  reviews/v2:80  (127.0.0.1:9002)
sticky    by cookie serin: this client gets reviews/v2
as        PUT /v1/x?y  Host: reviews
          - x-debug
          + x-path: /api/x?y
timeout   1.5s
retries   2 on connect-failure, refused-stream, cancelled, unavailable
";
    assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
}

#[test]
fn explain_in_json_has_its_documented_keys() {
    let answer = explained(&["GET", "http://reviews/api", "-H", "end-user: jason"]);
    let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    let documented =
        ["action", "destinations", "host", "listener", "mirrors", "request", "retries", "rule", "skipped", "timeout"];
    assert_eq!(keys, documented);
    assert_eq!(answer["rule"], json!({ "virtual_service": "reviews", "index": 0, "name": "jason" }));
    assert_eq!(
        (&answer["listener"], &answer["host"], &answer["action"]),
        (&json!(8080), &json!("reviews"), &json!("forward"))
    );
    let destination = json!({
        "host": "reviews", "subset": "v2", "port": 80, "share": 1.0, "endpoints": ["127.0.0.1:9002"],
    });
    assert_eq!(answer["destinations"], json!([destination]));
    let headers = json!({ "end-user": "jason" });
    assert_eq!(answer["request"], json!({ "method": "GET", "path": "/api", "host": "reviews", "headers": headers }));
    let skipped = explained(&["GET", "http://reviews/old/x"]);
    assert_eq!(
        skipped["skipped"],
        json!([{ "rule": "jason", "condition": "headers.end-user", "wanted": "exact: jason", "actual": null }])
    );
    assert_eq!((&skipped["action"], &skipped["rule"]["name"]), (&json!("redirect"), &Value::Null));
    assert_eq!(skipped["response"]["status"], 308);
    assert_eq!(skipped["response"]["headers"]["location"], "http://reviews/new");
}

#[test]
fn explain_finds_the_listener_of_a_gateway_by_port() {
    let plain = explained(&["GET", "http://shop.example.com/x"]);
    assert_eq!((&plain["listener"], &plain["rule"], &plain["action"]), (&json!(80), &Value::Null, &json!("redirect")));
    assert_eq!(plain["response"]["headers"]["location"], "https://shop.example.com/x");
    let other = explained(&["GET", "http://shop.example.com:8081/x"]);
    assert_eq!(
        (&other["listener"], &other["host"], &other["action"]),
        (&json!(8081), &json!("shop.example.com"), &json!("respond"))
    );
    assert_eq!(other["response"]["body"], "closed");
    let nobody = explained(&["GET", "http://nobody/x"]);
    assert_eq!((&nobody["host"], &nobody["rule"], &nobody["action"]), (&Value::Null, &Value::Null, &json!("none")));
}

#[test]
fn explain_tells_of_mirrors_faults_and_cors() {
    let filters = "    mirrors: [{destination: {host: reviews, subset: v1}, percentage: {value: 12.5}}]
    fault: {delay: {fixedDelay: 2s, percentage: {value: 50}}, abort: {httpStatus: 503, percentage: {value: 1}}}
    corsPolicy: {allowOrigins: [{exact: 'https://a'}], allowMethods: [PUT]}
";
    let config = CONFIG.replace("    timeout: 1500ms\n", filters);
    let folder = folder(&[("config.yaml", &config), ("old.yaml", CONFIG)]);
    let of = |request: &[&str]| {
        let output = run(&[&["explain", "config.yaml", "--json", "--"], request].concat(), folder.path());
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let answer = of(&["GET", "http://reviews/api"]);
    assert_eq!((&answer["mirrors"][0]["subset"], &answer["mirrors"][0]["share"]), (&json!("v1"), &json!(0.125)));
    assert_eq!(answer["fault"], "50 % delayed by 2s, 1 % aborted with 503");
    let preflight =
        of(&["OPTIONS", "http://reviews/api", "-H", "Origin: https://a", "-H", "Access-Control-Request-Method: PUT"]);
    assert_eq!(preflight["action"], "respond");
    assert_eq!(preflight["response"]["headers"]["access-control-allow-methods"], "PUT");
    let text = said(&run(&["diff", "old.yaml", "config.yaml"], folder.path()));
    for wanted in [
        "mirrors none → reviews/v1 12.5 %",
        "fault none → 50 % delayed by 2s",
        "another CORS policy",
        "timeout 1.5s → none",
    ] {
        assert!(text.contains(wanted), "{wanted}\nis not in\n{text}");
    }
}

#[test]
fn explain_asks_a_running_proxy() {
    // Without the Gateway, whose ports may be taken.
    let text: Vec<_> = CONFIG.split("---\n").collect();
    let files = folder(&[("config.yaml", &[text[0], text[3], text[4]].join("---\n"))]);
    let path = files.path().to_owned();
    let proxy = Proxy::spawn(files, serin().arg("run").arg(&path));
    let url = format!("http://anything:{}/api", proxy.listen.port());
    let admin = proxy.admin.to_string();
    let output = run(&["explain", "--admin", &admin, "--json", "--", "GET", &url], &path);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["rule"]["name"], &answer["listener"]), (&json!("primary"), &json!(proxy.listen.port())));
    let both = run(&["explain", ".", "--admin", &admin, "--", "GET", &url], &path);
    assert_eq!(both.status.code(), Some(2));
    let nobody = run(&["explain", "--admin", "127.0.0.1:1", "--", "GET", &url], &path);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains("cannot reach the admin port"), "{}", said(&nobody));
}

#[test]
fn explain_refuses_what_is_no_request_and_no_configuration() {
    let invalid = CONFIG.replace("weight: 10", "weight: 5");
    let folder = folder(&[("good.yaml", CONFIG), ("bad.yaml", &invalid)]);
    let of = |arguments: &[&str]| run(arguments, folder.path());
    let bad = of(&["explain", "bad.yaml", "--", "GET", "http://reviews/"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(said(&bad).contains("bad.yaml:22:58") && said(&bad).contains("95"), "{}", said(&bad));
    for (arguments, wanted) in [
        (&["explain", "good.yaml", "--", "GET"][..], "METHOD URL"),
        (&["explain", "good.yaml", "--", "GET", "ftp://a/"], "no scheme"),
        (&["explain", "good.yaml"], "required"),
        (&["explain", "none.yaml", "--", "GET", "/"], "no such file"),
    ] {
        let output = of(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(wanted), "{arguments:?}: {}", said(&output));
    }
    let output = piped(&["explain", "-", "--", "/api", "-H", "Host: reviews"], folder.path(), CONFIG);
    assert!(said(&output).contains("rule      primary"), "{}", said(&output));
}

const CASES: &str = r#"
- name: jason gets v2
  request: POST http://reviews/api
  headers: {end-user: jason}
  expect: {rule: jason, destination: reviews/v2, status: 200}
- request: GET http://reviews/api/x
  expect:
    rule: reviews/2
    destination: reviews/v2:80
    share: 10
    destinations: {reviews/v1: 90, reviews/v2: 10}
    path: /v1/x
    host: reviews
    headers: {x-path: /api/x, x-debug: null}
    timeout: 1.5s
- request: GET http://reviews/old
  expect: {rule: reviews/1, status: 308, location: http://reviews/new, destination: none}
- request: GET http://shop.example.com:8081/
  expect: {status: 503, body: closed, response: {content-type: text/plain}}
- request: GET http://reviews/nothing
  expect: {rule: none, status: 404, destination: none}
"#;

#[test]
fn a_table_of_requests_is_checked() {
    let wrong = CASES
        .replace("share: 10\n", "share: 20\n")
        .replace("timeout: 1.5s", "timeout: none")
        .replace("status: 404", "status: 200");
    let folder = folder(&[
        ("config.yaml", CONFIG),
        ("cases.yml", CASES),
        ("wrong.yml", &wrong),
        ("bad.yml", "- request: /\n  expect: {rul: x}\n"),
    ]);
    let of =
        |cases: &str, more: &[&str]| run(&[&["test", "config.yaml", "--cases", cases], more].concat(), folder.path());
    let good = of("cases.yml", &[]);
    assert_eq!((good.status.code(), said(&good).as_str()), (Some(0), "5 of 5 as expected\n"));
    let wrong = of("wrong.yml", &[]);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(
        said(&wrong),
        "wrong.yml:6: GET http://reviews/api/x\n  \
         destination: wanted reviews/v2:80 20 %, got reviews/v1 90 %, reviews/v2 10 %\n  \
         timeout: wanted none, got 1.5s\n\
         wrong.yml:20: GET http://reviews/nothing\n  \
         status: wanted 200, got 404\n\
         3 of 5 as expected\n"
    );
    let json = of("wrong.yml", &["--json"]);
    let verdicts: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(verdicts[1]["differences"][1], json!({ "what": "timeout", "wanted": "none", "got": "1.5s" }));
    assert_eq!((&verdicts[0]["passed"], &verdicts[1]["passed"]), (&json!(true), &json!(false)));
    let bad = of("bad.yml", &[]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(said(&bad).contains("bad.yml:1: unknown field `rul`"), "{}", said(&bad));
    assert_eq!(of("none.yml", &[]).status.code(), Some(2));
}

#[test]
fn what_changes_is_said_in_words() {
    let new = CONFIG
        .replace("weight: 90", "weight: 70")
        .replace("weight: 10", "weight: 30")
        .replace("timeout: 1500ms", "timeout: 2s")
        .replace("exact: jason", "exact: jane")
        .replace("  - match: [{uri: {prefix: /old}", "  - name: moved\n    match: [{uri: {prefix: /old}")
        .replace("hosts: [shop.example.com]", "hosts: [store.example.com]");
    let folder = folder(&[("old.yaml", CONFIG), ("new.yaml", &new)]);
    let output = run(&["diff", "old.yaml", "new.yaml"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    for wanted in [
        "removed host shop.example.com (port 80)\n",
        "added host store.example.com (port 8081)\n  everything → answer 503 (6 bytes)\n",
        "removed rule `reviews/1` of reviews (port 8080)\n  uri prefix: /old and method exact: GET or uri exact: /older → redirect 308 /new\n",
        "added rule `moved` of reviews (port 8080)\n",
        "  before `primary`\n",
        "changed rule `jason` of reviews (port 8080)\n  matches headers.end-user exact: jane, before: headers.end-user exact: jason\n",
        "changed rule `primary` of reviews (port 8080)\n  reviews/v1 90 % → 70 %\n  reviews/v2 10 % → 30 %\n  sticky clients: 20 % of all move from reviews/v1 to reviews/v2\n  nobody else moves\n  timeout 1.5s → 2s\n",
        "  GET http://reviews:8080/api\n    before  reviews/v1 90 %, reviews/v2 10 % as /v1\n    after   reviews/v1 70 %, reviews/v2 30 % as /v1\n",
        "  GET http://reviews:8080/ -H 'end-user: jane'\n    before  404\n    after   reviews/v2 100 %\n",
    ] {
        assert!(text.contains(wanted), "{wanted}\nis not in\n{text}");
    }
    let json = run(&["diff", "old.yaml", "new.yaml", "--json"], folder.path());
    let found: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(found["differs"], true);
    assert!(found["changes"].as_array().unwrap().iter().any(|change| change["rule"] == "primary"));
}

#[test]
fn what_means_the_same_is_no_difference() {
    let same = CONFIG
        .replace("weight: 90", "weight: 9")
        .replace("weight: 10", "weight: 1")
        .replace("  - {address: 127.0.0.1, ports: {http: 9001}, labels: {version: v1}}\n", "")
        + "  - {address: 127.0.0.1, ports: {http: 9001}, labels: {version: v1}}\n";
    let folder = folder(&[("old.yaml", CONFIG)]);
    let output = piped(&["diff", "old.yaml", "-", "--relative-weights"], folder.path(), &same);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), "nothing changes\n"));
    let invalid = piped(&["diff", "old.yaml", "-"], folder.path(), &same);
    assert_eq!(invalid.status.code(), Some(1));
}

#[test]
fn diff_says_which_releases_come_go_and_change() {
    let canary = |name: &str, fields: &str| {
        format!(
            "---\napiVersion: serin.dev/v1alpha1\nkind: Canary\nmetadata: {{name: {name}}}\n\
             spec: {{virtualService: reviews, route: primary, stable: v1, canary: v2, {fields}}}\n"
        )
    };
    let fields = "steps: [10, 30, 100], webhooks: [{url: 'http://h/', secret: {file: k}}]";
    let with = |canary: &str| format!("{CONFIG}{canary}");
    let (none, plain) = (CONFIG.to_owned(), with(&canary("reviews", fields)));
    let folder = folder(&[("none.yaml", &none), ("old.yaml", &plain)]);
    fs::create_dir(folder.path().join("other")).unwrap();
    let differences = |old: &str, new: &str| {
        fs::write(folder.path().join("other/new.yaml"), new).unwrap();
        let output = run(&["diff", old, "other/new.yaml"], folder.path());
        (output.status.code(), said(&output))
    };
    let line = "  primary of default/reviews: v1 → v2, 10 %, 30 %, 100 %\n";
    assert_eq!(differences("none.yaml", &plain), (Some(1), format!("added canary `default/reviews`\n{line}")));
    assert_eq!(differences("old.yaml", &none), (Some(1), format!("removed canary `default/reviews`\n{line}")));
    // The same in other words, in another folder.
    let same = with(&canary(
        "reviews",
        &fields.replace("10, ", "{weight: 10, minDuration: 1m}, ").replace(", 100]", "], mode: run"),
    ));
    assert_eq!(differences("old.yaml", &same), (Some(0), "nothing changes\n".to_owned()));
    let changed = "steps: [10, {weight: 30, minDuration: 5m, approve: true}, 50], soak: {}, shield: true, mode: observe, \
                   start: onSubset, onFileChange: abort, analysis: {falseRollbackRate: 0.29%, tolerance: 1.5, \
                   maxErrorRate: 2%, latency: {slowerThan: 300ms}, minRequests: 500, warmUp: 0s, maxStepDuration: 2h, \
                   onInconclusive: rollback, prometheus: [{name: cpu, address: 'http://p:9090', query: 'x{v=\"{{canary}}\"}', \
                   min: 1, max: 2.5}]}, webhooks: [{url: 'http://h/', events: [held, promoted]}]";
    let expected = "\
changed canary `default/reviews`
  steps 10 %, 30 %, 100 % → 10 %, 30 %, 50 %, 95 %, 100 %
  minDuration 1m → 1m, 5m, 1m, 1m
  minRequests 300 → 500
  approve none → 30 %
  soak none → 95 % for 10m
  falseRollbackRate 1% → 0.29%
  tolerance 1.2 → 1.5
  maxErrorRate 1% → 2%
  slowerThan auto → 300ms
  warmUp 10s → 0s
  maxStepDuration 1h → 2h
  onInconclusive hold → rollback
  prometheus none → 1 ≤ cpu ≤ 2.5 (`x{v=\"v2\"}` of http://p:9090 every 15s)
  mode run → observe
  start manual → onSubset
  onFileChange adopt → abort
  shield false → true
  webhooks http://h/ (started advanced held rolledBack promoted, signed with k, 5s and 3 retries) → http://h/ (held promoted, 5s and 3 retries)
";
    assert_eq!(differences("old.yaml", &with(&canary("reviews", changed))), (Some(1), expected.to_owned()));
    let renamed = run(&["diff", "none.yaml", "old.yaml", "--json"], folder.path());
    let found: Value = serde_json::from_slice(&renamed.stdout).unwrap();
    let details = ["primary of default/reviews: v1 → v2, 10 %, 30 %, 100 %"];
    let added = json!({ "change": "added", "canary": "default/reviews", "details": details });
    assert_eq!(found["canaries"], json!([added]));
    assert_eq!((&found["differs"], &found["changes"]), (&json!(true), &json!([])));
}
