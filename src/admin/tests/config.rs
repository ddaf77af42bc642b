//! `/config/…`, and changes that are meant for one generation.

use std::sync::{Barrier, Mutex};
use std::thread;

use super::*;

#[test]
fn a_reload_says_what_became_of_it() {
    let admin = Admin::start();
    let applied = admin.ask("POST /config/reload", "");
    assert_eq!((applied.status, applied.json()), (200, json!({ "result": "applied", "generation": 8 })));
    assert_eq!(admin.ask("POST /config/reload", "").json()["result"], "unchanged");
    let rejected = admin.ask("POST /config/reload", "");
    assert_eq!((rejected.status, &rejected.json()["diagnostics"]), (422, &json!([{ "line": 3 }])));
}

#[test]
fn a_resource_that_panics_answers_500_and_the_next_one_works() {
    let admin = Admin::start();
    let answer = admin.ask("GET /config/dump", "");
    assert_eq!((answer.status, &answer.json()["error"]), (500, &json!("internal")));
    assert_eq!(admin.ask("GET /config/status", "").json()["generation"], 7);
}

#[test]
fn a_change_may_be_meant_for_one_generation_only() {
    let admin = Admin::start();
    assert!(admin.ask("GET /config/status", "").head.contains("\r\netag: \"7\"\r\n"));
    for tags in ["\"6\"", "7", "W/\"7\"", "", "\"7", "\"07\"", "\"+7\"", "\"6\", \"8\""] {
        for request in ["POST /config/reload", "POST /api/v1/versions/reset", "POST /api/v1/rollouts/idle/start"] {
            let answer = admin.ask(request, &format!("if-match: {tags}\r\n"));
            assert_eq!((answer.status, &answer.json()["error"]), (412, &json!("outdated")), "{request} {tags}");
        }
    }
    assert_eq!((admin.reloads.load(SeqCst), admin.said.take().len()), (0, 0));
    for tags in ["\"7\"", "*", "\"6\", \"7\""] {
        assert_eq!(
            admin.ask("POST /api/v1/rollouts/idle/start", &format!("if-match: {tags}\r\n")).status,
            200,
            "{tags}"
        );
    }
    assert_eq!(admin.ask("GET /config/status", "if-match: \"6\"\r\n").status, 200, "only changes are lost");
}

/// Whoever makes the change looks, in its turn, which generation is in force.
#[test]
fn of_two_who_have_seen_the_same_one_is_told() {
    let generation = Mutex::new(7);
    let admin = Admin::with(|state| {
        state.reload = Box::new(move |meant| {
            let mut generation = generation.lock().unwrap();
            meant.check(*generation)?;
            *generation += 1;
            Ok(Reloaded::InForce { generation: *generation, changed: true })
        });
    });
    for seen in 7..27 {
        let together = Barrier::new(2);
        let reload = || {
            together.wait();
            admin.ask("POST /config/reload", &format!("if-match: \"{seen}\"\r\n"))
        };
        let mut answers = thread::scope(|scope| [(); 2].map(|()| scope.spawn(reload)).map(|one| one.join().unwrap()));
        answers.sort_by_key(|answer| answer.status);
        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 412], "{seen}");
        assert!(answers[1].body.contains(&format!("in force is \\\"{}\\\"", seen + 1)), "{}", answers[1].body);
    }
}
