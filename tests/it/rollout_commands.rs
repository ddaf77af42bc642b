//! `serin rollout`: what it asks, what it prints, and with what status it exits.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Output, Stdio};

use serde_json::{Value, json};
use serin::rollout::{Phase, State};

use super::support::client::request;
use super::support::config::Config;
use super::support::desk::{ENDING, FakeAdmin, STUBBORN, held, release};
use super::support::proxy::{Proxy, said, serin};
use super::support::upstream::{Script, Upstream};
use super::support::wire::Wire;

/// Runs `serin rollout` against this admin port.
fn rollout(admin: &FakeAdmin, arguments: &[&str]) -> Output {
    let admin = admin.address.to_string();
    serin().arg("rollout").args(arguments).args(["--admin", &admin]).stdin(Stdio::null()).output().unwrap()
}

/// What it prints, when it exits with this status.
#[track_caller]
fn told(admin: &FakeAdmin, arguments: &[&str], status: i32) -> String {
    let output = rollout(admin, arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
    text
}

fn running(step: usize) -> State {
    State::Running { step, phase: Phase::Warming }
}

const NAME: &str = "shop/product-service";

#[test]
fn the_only_release_needs_no_name() {
    let admin = FakeAdmin::start(vec![held()]);
    let state = || admin.releases.find(NAME).unwrap().view.state;
    for name in [&["--json"][..], &[NAME]] {
        let arguments = |verb| [&[verb], name].concat();
        told(&admin, &arguments("pause"), 0);
        assert_eq!(state(), State::Paused { step: 1, phase: Phase::Held });
        told(&admin, &arguments("resume"), 0);
        assert_eq!(state(), State::Running { step: 1, phase: Phase::Held });
        told(&admin, &arguments("approve"), 0);
        told(&admin, &arguments("abort"), 0);
        assert_eq!(state(), State::Aborted);
        told(&admin, &arguments("retry"), 0);
        assert_eq!(state(), running(0));
        admin.releases.put(&release(NAME, State::Idle));
        told(&admin, &arguments("start"), 0);
        assert_eq!(state(), running(0));
        admin.releases.put(&held());
    }
}

#[test]
fn a_verb_is_answered_with_how_the_release_stands_now() {
    let admin = FakeAdmin::start(vec![held()]);
    let text = told(&admin, &["abort", NAME], 0);
    assert!(text.starts_with("shop/product-service: aborted, attempt 2\n"), "{text}");
    assert!(text.contains("file 100/0, rollout 100/0 since 2026-11-25T12:03:00Z\n"), "{text}");
    let answer: Value = serde_json::from_str(&told(&admin, &["retry", NAME, "--json"], 0)).unwrap();
    assert_eq!(answer, json!(admin.releases.find(NAME)));
    assert_eq!(answer["state"], json!({ "name": "running", "step": 0, "phase": "warming" }));
}

#[test]
fn a_promotion_leaves_the_step_it_saw() {
    let admin = FakeAdmin::start(vec![held()]);
    let state = || admin.releases.find(NAME).unwrap().view.state;
    let text = told(&admin, &["promote"], 0);
    assert!(text.starts_with("shop/product-service: step 3 of 5 at 50 %, warming up"), "{text}");
    assert_eq!(state(), running(2));
    // As the request of somebody who has seen the second step.
    let late = request("POST", "/api/v1/rollouts/shop%2Fproduct-service/promote", br#"{"from": 1}"#);
    let late = String::from_utf8(late).unwrap().replace("host: product-service", "host: localhost");
    let mut wire = Wire::new(TcpStream::connect(admin.address).unwrap());
    wire.send(late);
    assert_eq!((wire.answer().unwrap().status(), state()), (200, running(2)), "nothing is done twice");
    told(&admin, &["promote", "--full"], 0);
    assert_eq!(state(), State::Promoted);
}

#[test]
fn the_command_line_says_which_step_it_saw() {
    let upstream = Script::start();
    let admin = format!("127.0.0.1:{}", upstream.port);
    let child = serin()
        .args(["rollout", "promote", "a/b", "--admin", &admin])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let answer = |body: &Value| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.to_string().len());
    let mut first = upstream.accept();
    let asked = first.request().unwrap().unwrap();
    assert_eq!(asked.head.target(), ("GET", "/api/v1/rollouts/a%2Fb"));
    first.send(answer(&json!(release("a/b", running(3)))));
    let mut second = upstream.accept();
    let asked = second.request().unwrap().unwrap();
    assert_eq!(asked.head.target(), ("POST", "/api/v1/rollouts/a%2Fb/promote"));
    assert_eq!(asked.head.get("content-type"), "application/json");
    assert_eq!(serde_json::from_str::<Value>(&asked.text()).unwrap(), json!({ "full": false, "from": 3 }));
    second.send(answer(&json!(release("a/b", running(4)))));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn what_a_release_refuses_is_no_and_what_cannot_be_asked_is_wrong_usage() {
    let admin = FakeAdmin::start(vec![held(), release(STUBBORN, running(0)), release(ENDING, running(0))]);
    for verb in ["start", "pause", "resume", "promote", "approve", "abort", "retry"] {
        let text = told(&admin, &[verb, STUBBORN], 1);
        assert_eq!(text, format!("error: cannot {verb}: it does not want to\n"));
        let answer: Value = serde_json::from_str(&told(&admin, &[verb, STUBBORN, "--json"], 1)).unwrap();
        assert_eq!(answer["error"], "refused");

        let text = told(&admin, &[verb, "nobody"], 2);
        assert!(text.contains("there is no release `nobody`: there are `shop/product-service`, `stubborn`"), "{text}");
        let text = told(&admin, &[verb], 2);
        assert!(text.contains("say which: shop/product-service, stubborn, ending\n"), "{text}");
        assert!(told(&admin, &[verb, ENDING], 2).contains("serin is shutting down"));
    }
    assert_eq!(
        told(&admin, &["promote", "--full", STUBBORN], 1),
        "error: cannot promote --full: it does not want to\n"
    );
    assert!(told(&admin, &["status", "nobody"], 2).contains("there is no release `nobody`"));
    assert!(told(&admin, &["status", "--wait"], 2).contains("say which"));
    assert_eq!(admin.releases.find(STUBBORN).unwrap().view.state, running(0));
}

#[test]
fn every_release_has_its_block() {
    let admin = FakeAdmin::start(vec![release("idle", State::Idle), held()]);
    let text = told(&admin, &["status"], 0);
    assert!(text.starts_with("idle: idle, attempt 2\n  route     product-service-vs/0, v1 → v2\n"), "{text}");
    let one = told(&admin, &["status", NAME], 0);
    assert!(one.starts_with("shop/product-service: step 2 of 5 at 30 %, held"), "{one}");
    assert!(one.contains("\n  now       held: 180 of 300 canary requests, about 7 min left at 0.3 rps\n"), "{one}");
    assert!(text.ends_with(&format!("\n\n{one}")), "{text}");
    let json = |arguments: &[&str]| serde_json::from_str::<Value>(&told(&admin, arguments, 0)).unwrap();
    assert_eq!(json(&["status", NAME, "--json"]), json!(held()));
    assert_eq!(json(&["status", "--json"]), json!({ "rollouts": admin.releases.all() }));
}

#[test]
fn a_proxy_without_a_release_says_so() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    let admin = proxy.admin.to_string();
    let ask = |arguments: &[&str]| {
        let output = serin().arg("rollout").args(arguments).args(["--admin", &admin]).output().unwrap();
        (output.status.code(), said(&output))
    };
    let none = "no release: the configuration in force has no Canary\n".to_owned();
    assert_eq!(ask(&["status"]), (Some(0), none));
    for arguments in [&["start"][..], &["status", "--wait"]] {
        let (status, text) = ask(arguments);
        assert_eq!(status, Some(2));
        assert!(text.contains("there is no release: the configuration in force has no Canary"), "{text}");
    }
    assert!(ask(&["abort", "shop"]).1.contains("there is no release `shop`: the configuration in force has no Canary"));
}

#[test]
fn who_does_not_answer_is_told() {
    let address = FakeAdmin::start(Vec::new()).address.to_string();
    for arguments in [&["status"][..], &["status", "--wait", NAME], &["abort", NAME]] {
        let output = serin().arg("rollout").args(arguments).args(["--admin", &address]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = said(&output);
        assert!(text.contains(&format!("cannot reach the admin port at {address}: connection refused")), "{text}");
    }
}

/// `status --wait`, started.
fn waiting(admin: &FakeAdmin, arguments: &[&str]) -> Child {
    let mut command = serin();
    command.args(["rollout", "status", "--wait", "--admin", &admin.address.to_string()]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn waiting_ends_with_the_release() {
    for (end, status) in [(State::Promoted, 0), (State::RolledBack, 1), (State::Aborted, 1)] {
        let admin = FakeAdmin::start(vec![held()]);
        let mut child = waiting(&admin, &[]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        assert_eq!(line(), "shop/product-service: step 2 of 5 at 30 %, held, attempt 2");
        assert!(child.try_wait().unwrap().is_none(), "it is not over");
        let mut over = release(NAME, end);
        let mut last = over.view.events[1].clone();
        (last.sequence, last.to, last.sentence) = (9, end, format!("it is {}", end.name()));
        over.view.events.push(last);
        admin.releases.put(&over);
        assert_eq!(line(), format!("it is {}", end.name()));
        assert_eq!(child.wait().unwrap().code(), Some(status));
    }
}

#[test]
fn what_was_waited_for_can_be_read_by_a_program() {
    let admin = FakeAdmin::start(vec![release(NAME, State::Promoted)]);
    let output = waiting(&admin, &["--json", NAME]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), json!(release(NAME, State::Promoted)));
}

#[test]
fn every_subcommand_has_an_example() {
    for subcommand in ["status", "start", "pause", "resume", "promote", "approve", "abort", "retry"] {
        let output = serin().args(["rollout", subcommand, "--help"]).output().unwrap();
        let text = said(&output);
        assert!(output.status.success() && text.contains(&format!("serin rollout {subcommand} ")), "{text}");
    }
    assert_eq!(serin().arg("rollout").output().unwrap().status.code(), Some(2));
}
