//! `docs/openapi.json` against the admin port: every documented answer is really given and has the documented shape, and
//! everything that is served is documented.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use serin::rollout::{Phase, Reason, Rollout, State};

use super::support::config::Config;
use super::support::desk::{ENDING, FakeAdmin, STUBBORN, begun, held, plan, release};
use super::support::proxy::{Proxy, serin};
use super::support::upstream::Upstream;
use super::support::wire::{Message, Wire};

/// The release that the fake desk shows, as it stands in a path.
const NAME: &str = "shop%2Fproduct-service";
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The document, and which of its answers were seen.
struct Document {
    root: Value,
    seen: BTreeSet<(String, String, String)>,
}

/// A method of a path, both as documented.
type Operation = (String, String);

impl Document {
    fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let root = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        Self { root, seen: BTreeSet::new() }
    }

    fn paths(&self) -> &Map<String, Value> {
        self.root["paths"].as_object().unwrap()
    }

    fn operations(&self) -> BTreeSet<Operation> {
        let of = |(path, item): (&String, &Value)| {
            let methods = METHODS.into_iter().filter(|method| item.get(method).is_some());
            methods.map(|method| (method.to_owned(), path.clone())).collect::<Vec<_>>()
        };
        self.paths().iter().flat_map(of).collect()
    }

    /// What stands at the end of a `$ref`, or the value itself.
    fn resolve<'d>(&'d self, value: &'d Value) -> &'d Value {
        let Some(to) = value["$ref"].as_str() else { return value };
        let found = self.root.pointer(to.strip_prefix('#').unwrap());
        found.unwrap_or_else(|| panic!("there is no {to}"))
    }

    /// What is wrong with a value by a schema of the document.
    fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": self.root["components"],
            "allOf": [schema],
        });
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    /// Judges one answer.
    #[track_caller]
    fn judge(&mut self, (method, path): (&str, &str), answer: &Message) {
        let what = format!("{method} {path}: {} {}", answer.status(), answer.text());
        let responses = &self.root["paths"][path][method]["responses"];
        let exact = answer.status().to_string();
        let status = if responses.get(&exact).is_some() { exact } else { "default".to_owned() };
        // What a client must be ready for has a place of its own.
        assert!(status != "default" || matches!(answer.status(), 400 | 408 | 500), "not documented: {what}");
        let response = self.resolve(&responses[&status]);
        let kind = answer.head.get("content-type").split(';').next().unwrap();
        let schema = &response["content"][kind]["schema"];
        assert!(schema.is_object(), "{kind} is not documented for {what}");
        let value = if kind == "application/json" {
            serde_json::from_str(&answer.text()).unwrap()
        } else {
            json!(answer.text())
        };
        let errors = self.errors(schema, &value);
        assert!(errors.is_empty(), "{what}\n{}", errors.join("\n"));
        self.seen.insert((method.to_owned(), path.to_owned(), status));
    }

    /// Asks and judges.
    #[track_caller]
    fn ask(&mut self, server: SocketAddr, (method, path): (&str, &str), name: &str, rest: &str) -> u16 {
        let answer = ask(server, method, &path.replace("{name}", name), rest);
        self.judge((method, path), &answer);
        answer.status()
    }
}

/// One request; `rest` is more header lines, and behind an empty one the body.
fn ask(server: SocketAddr, method: &str, path: &str, rest: &str) -> Message {
    let (lines, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
    let host = if lines.contains("host: ") { "" } else { "host: localhost\r\n" };
    let length = if lines.contains("-encoding: ") || lines.contains("-length: ") {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    let mut wire = Wire::new(TcpStream::connect(server).unwrap());
    let method = method.to_uppercase();
    let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
    wire.send(format!("{method} {path} HTTP/1.1\r\n{host}{lines}{length}connection: close\r\n\r\n{body}"));
    wire.answer().unwrap()
}

/// A release in each state, among them one as the pure core makes it, and one that trouble befell.
fn releases() -> FakeAdmin {
    let mut fresh = held();
    fresh.view = Rollout::new(plan("fresh")).unwrap().view(Duration::ZERO, 0.0);
    (fresh.since, fresh.trouble) = (None, Some("no space left on device".to_owned()));
    let mut list = vec![held(), fresh, release(STUBBORN, State::Idle), release(ENDING, State::Promoted)];
    list.extend([State::RolledBack, State::Aborted].map(|state| release(state.name(), state)));
    let phases = [Phase::Warming, Phase::Gathering, Phase::Held, Phase::AwaitingApproval];
    list.extend(phases.map(|phase| release(phase.name(), State::Paused { step: 0, phase })));
    FakeAdmin::start(list)
}

/// Every answer of the resources of releases.
fn ask_releases(document: &mut Document, server: SocketAddr) {
    assert_eq!(document.ask(server, ("get", "/api/v1/rollouts"), "", ""), 200);
    for (method, path) in document.operations() {
        let Some(verb) = path.strip_prefix("/api/v1/rollouts/{name}") else { continue };
        let mut ask = |name: &str, rest: &str| document.ask(server, (&method, &path), name, rest);
        assert_eq!(ask(NAME, ""), 200);
        assert_eq!(ask("nobody", ""), 404);
        assert_eq!(ask("%ff", ""), 400);
        if method == "post" {
            assert_eq!(ask(STUBBORN, ""), 409);
            assert_eq!(ask(ENDING, ""), 503);
            assert_eq!(ask(NAME, "content-type: application/json\r\n\r\n{\"surprise\": 1}"), 400);
        }
        if verb == "/report" {
            assert_eq!(ask("fresh", ""), 404);
        }
    }
}

/// The bodies of the document do what is documented, and others do not.
fn send_bodies(document: &Document, server: SocketAddr) {
    for (method, path) in document.operations().into_iter().filter(|(method, _)| method == "post") {
        let content = &document.root["paths"][&path]["post"]["requestBody"]["content"]["application/json"];
        if content.is_null() {
            continue;
        }
        let examples = content["examples"].as_object().into_iter().flat_map(Map::values);
        let bodies = examples.map(|example| example["value"].clone());
        for body in bodies.chain([json!({}), json!({ "full": 1 }), json!({ "from": -1 }), json!({ "x": 1 }), json!([])])
        {
            let valid = document.errors(&content["schema"], &body).is_empty();
            let rest = format!("content-type: application/json\r\n\r\n{body}");
            let status = ask(server, &method, &path.replace("{name}", NAME), &rest).status();
            assert_eq!(status == 200, valid, "{path} {body}: {status}");
        }
    }
}

/// What the guard refuses wherever it comes in.
fn be_refused(document: &mut Document, server: SocketAddr) {
    for (method, path) in document.operations() {
        let mut ask = |rest: &str| document.ask(server, (&method, &path), NAME, rest);
        assert_eq!(ask("host: evil.test"), 403);
        if method == "post" {
            assert_eq!(ask("origin: http://evil.test"), 403);
            assert_eq!(ask("content-type: text/plain"), 415);
            assert_eq!(ask("content-length: 1048577"), 413);
            assert_eq!(ask("if-match: \"999\""), 412);
        }
    }
    for path in document.paths().keys() {
        let documented = &document.paths()[path];
        for method in METHODS.into_iter().filter(|method| documented.get(method).is_none()) {
            let answer = ask(server, method, &path.replace("{name}", NAME), "");
            let body = serde_json::from_str(&answer.text()).unwrap();
            assert_eq!(answer.status(), 405, "{method} {path} is not documented");
            assert!(document.errors(&json!({ "$ref": "#/components/schemas/Error" }), &body).is_empty(), "{body}");
        }
    }
}

/// What the guard refuses without the token, and after ten wrong ones.
fn be_locked_out(document: &mut Document, server: SocketAddr) {
    let wrong = "authorization: Bearer this-is-not-the-token";
    for (said, status) in [("", 401), (wrong, 429)] {
        if status == 429 {
            (0..10).for_each(|_| assert_eq!(ask(server, "get", "/metrics", said).status(), 401));
        }
        for (method, path) in document.operations() {
            let open = matches!(path.as_str(), "/ready" | "/live");
            let seen = document.ask(server, (&method, &path), NAME, said);
            assert!(seen == status || open && seen != 401, "{method} {path}: {seen}");
        }
    }
}

/// The resources of a running proxy, with its own answers.
fn ask_proxy(document: &mut Document, proxy: &Proxy, valid: &str) {
    let mut ask = |operation, status| assert_eq!(document.ask(proxy.admin, operation, "", ""), status);
    for path in
        ["/", "/metrics", "/ready", "/live", "/config/status", "/config/dump", "/api/v1/rollouts", "/api/v1/versions"]
    {
        ask(("get", path), 200);
    }
    ask(("post", "/api/v1/versions/reset"), 200);
    ask(("post", "/config/reload"), 200);
    proxy.save(&valid.replace("weight: 100", "weight: 70"));
    ask(("post", "/config/reload"), 422);
    ask(("get", "/config/status"), 200);
    proxy.save(&format!("{valid}---\n- no resource\n"));
    ask(("post", "/config/reload"), 422);
    proxy.save(&format!("# new\n{valid}"));
    ask(("post", "/config/reload"), 200);
    assert_eq!(proxy.client().get("/").status(), 200);
    assert_eq!(document.ask(proxy.admin, ("get", "/api/v1/versions"), "", ""), 200);
    let bad = self::ask(proxy.admin, "get", "/api/v1/versions?since=yesterday", "");
    document.judge(("get", "/api/v1/versions"), &bad);
}

#[test]
fn the_document_and_the_admin_port_agree() {
    let mut document = Document::read();
    let upstream = Upstream::named("v1");
    let valid = Config::single(&[upstream.port]).yaml();
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--endpoint", "elsewhere/v1=127.0.0.1:9"]);
    let admin = releases();

    let index = ask(proxy.admin, "get", "/", "").text();
    let served = index.lines().skip(2).map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap().to_lowercase(), words.next().unwrap().to_owned())
    });
    assert_eq!(served.collect::<BTreeSet<_>>(), document.operations(), "served, and documented");

    ask_proxy(&mut document, &proxy, &valid);
    ask_releases(&mut document, admin.address);
    send_bodies(&document, admin.address);
    be_refused(&mut document, proxy.admin);
    be_refused(&mut document, admin.address);
    be_locked_out(&mut document, FakeAdmin::locked("a-token-for-this-test").address);
    assert_eq!(document.ask(admin.address, ("get", "/ready"), "", ""), 503);
    assert_eq!(document.ask(admin.address, ("get", "/config/dump"), "", ""), 500);
    let broken = "transfer-encoding: chunked\r\n\r\nno length\r\n";
    assert_eq!(document.ask(admin.address, ("post", "/config/reload"), "", broken), 400);

    let of = |(method, path): Operation| {
        let responses = document.root["paths"][&path][&method]["responses"].as_object().unwrap();
        responses.keys().map(|status| (method.clone(), path.clone(), status.clone())).collect::<Vec<_>>()
    };
    let mut never: Vec<_> = document.operations().into_iter().flat_map(of).collect();
    never.retain(|answer| !document.seen.contains(answer));
    // Failures inside cannot be had everywhere; they have one form, which was seen twice.
    never.retain(|(_, _, status)| status != "default");
    assert!(never.is_empty(), "documented, and never answered: {never:?}");
}

/// What may be sent with a request is in none of the answers.
#[test]
fn every_change_may_say_what_it_is_meant_for() {
    let document = Document::read();
    for (method, path) in document.operations() {
        let parameters = document.root["paths"][&path][&method]["parameters"].as_array();
        let mut headers = parameters.into_iter().flatten().map(|parameter| document.resolve(parameter));
        let said = headers.any(|parameter| parameter["name"] == "if-match" && parameter["in"] == "header");
        assert_eq!(said, method == "post", "{method} {path}");
    }
}

/// The table for people.
#[test]
fn every_resource_is_in_the_list_for_people() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let text = fs::read_to_string(file).unwrap();
    for (method, path) in Document::read().operations() {
        let path = path.replace("{name}", "NAME");
        let verb = path.strip_prefix("/api/v1/rollouts/NAME/").filter(|_| method == "post");
        let path = verb.map_or_else(|| path.clone(), |_| "/api/v1/rollouts/NAME/VERB".to_owned());
        assert!(text.contains(&format!("`{} {path}`", method.to_uppercase())), "{method} {path}");
        assert!(verb.is_none_or(|verb| text.contains(&format!("`{verb}`"))), "{verb:?}");
    }
}

#[test]
fn before_the_first_configuration_the_answers_are_as_documented_too() {
    let mut document = Document::read();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), "nothing: [valid").unwrap();
    let path = folder.path().to_owned();
    let proxy = Proxy::spawn(folder, serin().arg("run").arg(path).arg("--wait-for-config"));
    assert_eq!(document.ask(proxy.admin, ("get", "/ready"), "", ""), 503);
    for path in ["/config/status", "/config/dump", "/api/v1/rollouts", "/api/v1/versions"] {
        assert_eq!(document.ask(proxy.admin, ("get", path), "", ""), 200);
    }
    assert_eq!(document.ask(proxy.admin, ("post", "/config/reload"), "", ""), 422);
}

#[test]
fn every_reason_is_documented() {
    use Reason::*;
    let document = Document::read();
    let all = [
        Started,
        Retried,
        WarmedUp,
        Waiting,
        Ready,
        Passed,
        Approved,
        PromotedByHand,
        Errors,
        Latency,
        BothFail,
        Inconclusive,
        Paused,
        Resumed,
        Aborted,
        FileEdited,
        Restarted,
    ];
    let documented: BTreeSet<_> = document.root["components"]["schemas"]["Reason"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(all.map(Reason::name).into_iter().collect::<BTreeSet<_>>(), documented);
    for reason in all {
        assert_eq!(json!(reason), reason.name());
    }
}

/// A schema that says nothing would agree with everything.
#[test]
fn what_is_not_documented_is_found() {
    let document = Document::read();
    let objects =
        ["", "/state", "/steps/0", "/tests/0", "/stable", "/stable/p99", "/gates/0", "/events/0", "/events/0/to"];
    let numbers = ["/events/0/numbers", "/events/0/numbers/tests/0", "/events/0/numbers/stable"];
    find_changes(&document, "Rollout", &json!(held()), &[&objects[..], &numbers].concat());
    let objects = ["", "/plan", "/plan/steps/0", "/plan/analysis", "/windows/0", "/windows/0/canary", "/tapes/0"];
    find_changes(&document, "Report", &json!(begun("any")), &objects);
}

/// Every field more, less, or of another type in one of these objects is against the schema.
fn find_changes(document: &Document, schema: &str, good: &Value, objects: &[&str]) {
    let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
    assert_eq!(document.errors(&schema, good), Vec::<String>::new());
    for object in objects {
        let mut more = good.clone();
        more.pointer_mut(object).unwrap()["surprise"] = json!(1);
        assert!(!document.errors(&schema, &more).is_empty(), "one more in {object}");
        for field in good.pointer(object).unwrap().as_object().unwrap().keys() {
            let mut changed = good.clone();
            let fields = changed.pointer_mut(object).unwrap().as_object_mut().unwrap();
            let value = fields.remove(field).unwrap();
            assert!(!document.errors(&schema, &changed).is_empty(), "{object} without {field}");
            let other = if value.is_array() { json!({}) } else { json!([]) };
            changed.pointer_mut(object).unwrap()[field] = other;
            assert!(!document.errors(&schema, &changed).is_empty(), "{object} with another {field}");
        }
    }
}
