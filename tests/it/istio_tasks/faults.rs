//! Fault injection: the ratings are slow, or fail, for one user only.

use std::time::{Duration, Instant};

use super::bookinfo::Bookinfo;
use super::{JASON, example};

#[test]
fn only_jason_waits_for_his_ratings() {
    let mut bookinfo = Bookinfo::with("reviews-jason-v2");
    let published = example("ratings-jason-delay");
    let shorter = published.replace("fixedDelay: 7s", "fixedDelay: 400ms");
    assert_ne!(shorter, published);
    bookinfo.task.apply_text(&shorter);
    let since = Instant::now();
    assert_eq!(bookinfo.read(&[JASON]), ("v2".into(), "ratings: stars".into()));
    assert!(since.elapsed() >= Duration::from_millis(400));
    assert_eq!(bookinfo.task.ask("ratings", &[("end-user", "anna")]).text(), "stars");
    assert_eq!(bookinfo.task.ask("ratings", &[]).text(), "stars");
    let delayed = |flag| bookinfo.task.proxy.metric("http_response_flags_total", &[("app", "ratings"), ("flag", flag)]);
    assert_eq!((delayed("DI"), delayed("FI")), (1.0, 0.0));
    assert_eq!(bookinfo.ratings.ledger.len(), 3, "a delay is not a failure");
}

#[test]
fn a_client_that_does_not_wait_so_long_gives_up_and_is_not_served() {
    let mut bookinfo = Bookinfo::start();
    bookinfo.task.apply("ratings-jason-delay");
    let mut client = bookinfo.task.proxy.client();
    client.patience(Duration::from_millis(300));
    client.ask("ratings", "/", &[JASON]).unwrap_err();
    drop(client);
    crate::support::eventually("it is counted as gone", || bookinfo.task.flagged("DC") == 1.0);
    assert_eq!(bookinfo.ratings.ledger.len(), 0, "nobody waits for it any more");
}

#[test]
fn only_jasons_ratings_fail_and_no_version_is_blamed() {
    let mut bookinfo = Bookinfo::with("reviews-jason-v2");
    bookinfo.task.apply("ratings-jason-abort");
    let answer = bookinfo.task.ask("ratings", &[JASON]);
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (500, "FI"));
    assert_eq!(bookinfo.read(&[JASON]), ("v2".into(), "ratings: unavailable".into()));
    assert_eq!(bookinfo.ratings.ledger.len(), 0);
    assert_eq!(bookinfo.task.ask("ratings", &[]).text(), "stars");
    assert_eq!((bookinfo.task.flagged("FI"), bookinfo.ratings.ledger.len()), (2.0, 1));
    assert_eq!(bookinfo.task.proxy.requests(&[("app", "ratings"), ("version", "v1"), ("code", "500")]), 0.0);
}
