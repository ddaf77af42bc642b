//! `/api/v1/versions`.

use super::*;
use crate::telemetry::{Finished, Flags, Worker};

#[test]
fn versions_are_counted_since_the_start_and_since_the_last_reset() {
    let admin = Admin::start();
    let route = admin.metrics.route("canary/0", "shop", "v1");
    let finish = |times: usize| {
        let duration = Duration::from_millis(20);
        let (method, flags) = (&http::Method::GET, Flags::default());
        let one = Finished {
            method,
            status: 200,
            flags,
            error: None,
            aborted: None,
            duration,
            bytes_in: 0,
            bytes_out: 5,
            grpc: None,
        };
        (0..times).for_each(|_| route.finished(Worker(0), &one));
    };
    let ask = |request: &str| {
        let answer = admin.ask(request, "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let versions = answer.json()["versions"].clone();
        (versions[0]["requests"].as_u64(), answer.json())
    };
    finish(3);
    let (requests, body) = ask("GET /api/v1/versions");
    assert_eq!((requests, &body["generation"], &body["onDisk"]), (Some(3), &json!(7), &json!("rejected")));
    let v1 = &body["versions"][0];
    assert_eq!((&v1["app"], &v1["version"], &v1["codes"]["2xx"]), (&json!("shop"), &json!("v1"), &json!(3)));
    assert_eq!((&v1["bytesOut"], &v1["routes"][0]["route"]), (&json!(15), &json!("canary/0")));
    assert!((v1["latency"]["p50"].as_f64().unwrap() - 0.02).abs() < 0.001, "{v1}");
    assert_eq!(ask("GET /api/v1/versions?since=reset").0, Some(3), "no reset so far: since the start");

    let (requests, body) = ask("POST /api/v1/versions/reset");
    assert_eq!((requests, &body["reset"]), (Some(3), &json!(false)), "the answer is what it ends");
    finish(2);
    let (requests, body) = ask("GET /api/v1/versions?since=reset");
    assert_eq!((requests, &body["reset"]), (Some(2), &json!(true)));
    assert_eq!(ask("GET /api/v1/versions?since=start").0, Some(5), "nothing was reset in truth");
    assert!(admin.ask("GET /metrics", "").body.contains(r#"app="shop""#));
    finish(4);
    assert_eq!(ask("POST /api/v1/versions/reset").0, Some(6));
    assert_eq!(ask("GET /api/v1/versions?since=reset").0, Some(0));
    for query in ["since=", "since=yesterday", "reset", "since=reset&x=1"] {
        let answer = admin.ask(&format!("GET /api/v1/versions?{query}"), "");
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("bad_query")), "{query}");
    }
}
