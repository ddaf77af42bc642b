//! Mirroring: v1 answers, and v2 gets a copy that nobody hears of.

use super::{Task, example};
use crate::support::client::request;
use crate::support::eventually;
use crate::support::upstream::{Refusing, Upstream};

const REQUESTS: usize = 20;

#[test]
fn the_second_version_gets_a_copy_of_each_request() {
    let versions = [Upstream::named("v1"), Upstream::named("v2")];
    let endpoints = [("httpbin/v1", versions[0].port), ("httpbin/v2", versions[1].port)];
    let task = Task::start(&["httpbin-mirror"], &endpoints);
    for number in 0..REQUESTS {
        let target = format!("/headers?number={number}");
        let answer = task.proxy.client().ask("httpbin:8000", &target, &[("x-request-id", "a")]).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "v1"));
    }
    eventually("every copy arrives", || versions[1].ledger.len() == REQUESTS);
    assert_eq!(versions[0].ledger.len(), REQUESTS);
    let targets = |version: &Upstream, host: &str| {
        let mut lines = Vec::new();
        for seen in version.ledger.all().iter() {
            let head = &seen.request.head;
            assert_eq!((head.get("host"), head.get("x-request-id")), (host, "a"));
            lines.push(head.line.clone());
        }
        lines.sort();
        lines
    };
    assert_eq!(targets(&versions[0], "httpbin:8000"), targets(&versions[1], "httpbin-shadow:8000"));
    assert_eq!(task.proxy.requests(&[("version", "v2")]), 0.0);
}

#[test]
fn a_body_is_copied_and_a_mirror_that_is_gone_is_not_missed() {
    let (first, second) = (Upstream::named("v1"), Upstream::named("v2"));
    let task = Task::start(&["httpbin-mirror"], &[("httpbin/v1", first.port), ("httpbin/v2", second.port)]);
    let mut client = task.proxy.client();
    client.send(request("POST", "/post", b"book"));
    assert_eq!(client.answer().unwrap().text(), "v1");
    eventually("the copy arrives", || second.ledger.len() == 1);
    assert_eq!(second.ledger.last().body, b"book");
    let task = Task::start(&["httpbin-mirror"], &[("httpbin/v1", first.port), ("httpbin/v2", Refusing::new().port)]);
    assert_eq!(task.ask("httpbin", &[]).text(), "v1");
}

#[test]
fn the_mirror_is_taken_away() {
    let (first, second) = (Upstream::named("v1"), Upstream::named("v2"));
    let mut task = Task::start(&["httpbin-mirror"], &[("httpbin/v1", first.port), ("httpbin/v2", second.port)]);
    assert_eq!(task.ask("httpbin", &[]).text(), "v1");
    eventually("the copy arrives", || second.ledger.len() == 1);
    let published = example("httpbin-mirror");
    let mirror = "    mirror:\n      host: httpbin\n      subset: v2\n    mirrorPercentage:\n      value: 100.0\n";
    let without = published.replace(mirror, "");
    assert_ne!(without, published);
    task.apply_text(&without);
    for _ in 0..REQUESTS {
        assert_eq!(task.ask("httpbin", &[]).text(), "v1");
    }
    let copies = task.proxy.metric("serin_mirror_requests_total", &[]);
    assert_eq!((first.ledger.len(), second.ledger.len(), copies), (REQUESTS + 1, 1, 1.0));
}
