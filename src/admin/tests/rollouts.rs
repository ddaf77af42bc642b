//! The releases as clients of the admin port see them.

use std::sync::{Mutex, PoisonError};

use super::*;
use crate::control::rollout::{CommandError, Desk, Status};
use crate::rollout::{Phase, Refused, State, Verb};

const BASE: &str = "/api/v1/rollouts";
const HELD: &str = include_str!("../../../tests/fixtures/rollouts/held.json");

/// What was said to which release.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<Vec<(String, Verb)>>>);

impl Said {
    pub(super) fn take(&self) -> Vec<(String, Verb)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `shop/product-service` is held at its second step; `idle` has not begun; what is said to `ending` comes too late.
fn releases() -> Vec<Status> {
    let held: Status = serde_json::from_str(HELD).unwrap();
    let mut idle = held.clone();
    (idle.view.name, idle.view.state) = ("idle".to_owned(), State::Idle);
    vec![held, idle]
}

pub(super) fn desk(said: Said) -> Desk {
    let find = |name: &str| releases().into_iter().find(|status| status.view.name == name);
    Desk {
        list: Box::new(releases),
        command: Box::new(move |name, verb, meant| {
            meant.check(7)?;
            said.0.lock().unwrap().push((name.to_owned(), verb));
            if name == "ending" {
                return Err(CommandError::Ending);
            }
            let known = || releases().into_iter().map(|status| status.view.name).collect();
            let mut status =
                find(name).ok_or_else(|| CommandError::Unknown { name: name.to_owned(), known: known() })?;
            match verb {
                Verb::Retry => {
                    return Err(Refused { verb: verb.to_string(), because: "it has not ended".to_owned() }.into());
                }
                Verb::Pause => status.view.state = State::Paused { step: 1, phase: Phase::Held },
                _ => {}
            }
            Ok(status)
        }),
        report: Box::new(move |name| find(name).filter(|s| s.view.state.is_active()).map(|_| json!({ "steps": 2 }))),
    }
}

fn post(admin: &Admin, path: &str, body: &str) -> Answer {
    let head = format!("POST {BASE}/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let length = body.len();
    admin.send(format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
}

#[test]
fn every_release_is_listed_as_it_stands() {
    let admin = Admin::start();
    let list = admin.ask(&format!("GET {BASE}"), "");
    assert_eq!((list.status, list.json()), (200, json!({ "rollouts": releases() })));
    let held: Value = serde_json::from_str(HELD).unwrap();
    let one = admin.ask(&format!("GET {BASE}/shop%2Fproduct-service"), "");
    assert_eq!((one.status, one.json()), (200, held));
    assert_eq!(admin.ask(&format!("GET {BASE}/idle"), "").json()["state"], json!({ "name": "idle" }));
}

#[test]
fn each_verb_reaches_its_release_and_is_answered_with_the_new_state() {
    let admin = Admin::start();
    let step = |full, from| Verb::Promote { full, from };
    for (path, body, verb) in [
        ("start", "", Verb::Start),
        ("pause", "{}", Verb::Pause),
        ("resume", "", Verb::Resume),
        ("approve", "", Verb::Approve),
        ("abort", "", Verb::Abort),
        ("promote", "", step(false, None)),
        ("promote", "{}", step(false, None)),
        ("promote", r#"{"full": true}"#, step(true, None)),
        ("promote", r#"{"full": false, "from": 1}"#, step(false, Some(1))),
        ("promote", r#"{"from": null}"#, step(false, None)),
    ] {
        let answer = post(&admin, &format!("shop%2Fproduct-service/{path}"), body);
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
        assert_eq!(admin.said.take(), [("shop/product-service".to_owned(), verb)], "{path} {body}");
        let state = if path == "pause" { "paused" } else { "running" };
        assert_eq!(answer.json()["state"]["name"], state, "{path}");
    }
    assert_eq!(admin.ask(&format!("POST {BASE}/idle/start"), "").status, 200, "no body and no content type");
    assert_eq!(admin.said.take(), [("idle".to_owned(), Verb::Start)]);
}

#[test]
fn what_a_release_refuses_is_told_in_its_words() {
    let admin = Admin::start();
    let refused = post(&admin, "idle/retry", "");
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json(), json!({ "error": "refused", "message": "cannot retry: it has not ended" }));
    let ending = post(&admin, "ending/abort", "");
    assert_eq!((ending.status, &ending.json()["error"]), (503, &json!("ending")));
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let admin = Admin::start();
    for request in ["GET /nobody", "GET /nobody/report", "POST /nobody/start", "POST /nobody/promote"] {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = admin.ask(&format!("{method} {BASE}{path}"), "");
        assert_eq!(answer.status, 404, "{request}");
        let message = "there is no release `nobody`: there are `shop/product-service`, `idle`";
        let known = ["shop/product-service", "idle"];
        assert_eq!(
            answer.json(),
            json!({ "error": "rollout_not_found", "message": message, "known": known }),
            "{request}"
        );
    }
    let unescaped = admin.ask(&format!("GET {BASE}/shop/product-service"), "");
    assert_eq!((unescaped.status, &unescaped.json()["error"]), (404, &json!("not_found")), "two segments");
    let broken = admin.ask(&format!("GET {BASE}/%ff"), "");
    assert_eq!((broken.status, &broken.json()["error"]), (400, &json!("path_invalid")));
}

#[test]
fn a_report_is_there_once_the_release_has_begun() {
    let admin = Admin::start();
    let report = admin.ask(&format!("GET {BASE}/shop%2Fproduct-service/report"), "");
    assert_eq!((report.status, report.json()), (200, json!({ "steps": 2 })));
    let none = admin.ask(&format!("GET {BASE}/idle/report"), "");
    assert_eq!((none.status, &none.json()["error"]), (404, &json!("report_not_found")));
}

#[test]
fn a_body_that_is_not_as_documented_does_nothing() {
    let admin = Admin::start();
    for (path, body) in [
        ("promote", "{"),
        ("promote", "null"),
        ("promote", r#"{"full": "yes"}"#),
        ("promote", r#"{"from": -1}"#),
        ("promote", r#"{"from": 1.5}"#),
        ("promote", r#"{"ful": true}"#),
        ("abort", r#"{"full": true}"#),
        ("pause", "now"),
        ("promote", "[true]"),
        ("start", "[]"),
    ] {
        let answer = post(&admin, &format!("idle/{path}"), body);
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("body_invalid")), "{path} {body}");
    }
    assert_eq!(admin.said.take(), []);
}

#[test]
fn no_other_method_page_or_content_type_moves_a_release() {
    let admin = Admin::start();
    let verbs = ["start", "pause", "resume", "promote", "approve", "abort", "retry"];
    for verb in verbs {
        let path = format!("{BASE}/idle/{verb}");
        for method in ["GET", "PUT", "DELETE"] {
            let answer = admin.ask(&format!("{method} {path}"), "");
            assert_eq!(
                (answer.status, &answer.json()["error"]),
                (405, &json!("method_not_allowed")),
                "{method} {verb}"
            );
            assert!(answer.head.contains("\r\nallow: post\r\n"), "{}", answer.head);
        }
        for headers in ["origin: http://evil.test\r\n", "sec-fetch-site: cross-site\r\n", "host: evil.test\r\n"] {
            assert_eq!(admin.ask(&format!("POST {path}"), headers).status, 403, "{headers}");
        }
        let form = admin.ask(&format!("POST {path}"), "content-type: application/x-www-form-urlencoded\r\n");
        assert_eq!(form.status, 415);
    }
    assert_eq!(admin.ask(&format!("POST {BASE}/idle/explode"), "").status, 404);
    for path in ["", "/idle", "/idle/report"] {
        assert_eq!(admin.ask(&format!("POST {BASE}{path}"), "").status, 405, "{path}");
    }
    assert_eq!(admin.said.take(), []);
}
