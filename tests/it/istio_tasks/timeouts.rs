//! Request timeouts: reviews that wait for slow ratings are given up after half a second.

use super::bookinfo::Bookinfo;
use super::example;

#[test]
fn reviews_that_wait_for_slow_ratings_are_given_up() {
    let bookinfo = Bookinfo::with("reviews-timeout");
    let answer = bookinfo.task.ask("reviews", &[]);
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (504, "UT"));
    assert_eq!(bookinfo.read_from(), [0, 1, 0], "it was asked once, and not again");
    let counted = |code| bookinfo.task.proxy.requests(&[("app", "reviews"), ("version", "v2"), ("code", code)]);
    assert_eq!((counted("504"), counted("200")), (1.0, 0.0), "the version that was late is charged");
}

#[test]
fn without_the_timeout_the_slow_ratings_are_shown() {
    let mut bookinfo = Bookinfo::start();
    let published = example("reviews-timeout");
    let without = published.replace("    timeout: 0.5s\n", "");
    assert_ne!(without, published);
    bookinfo.task.apply_text(&without);
    assert_eq!(bookinfo.read(&[]), ("v2".into(), "ratings: stars".into()));
}
