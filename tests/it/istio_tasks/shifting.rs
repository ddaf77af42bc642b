//! Traffic shifting: from v1 over one half to v3, under load, without a request lost.

use super::bookinfo::Bookinfo;
use crate::support::is_share;
use crate::support::load::{Counts, Load};

/// Answers that are enough to tell the shares apart.
const ENOUGH: usize = 1_000;

#[test]
fn reviews_are_shifted_step_by_step_and_back() {
    let mut bookinfo = Bookinfo::start();
    let load = Load::on("reviews", bookinfo.task.proxy.listen, 4);
    let only = |counts: &Counts, version: &str| counts.keys().map(String::as_str).eq([version]);
    let counts = load.counts(ENOUGH);
    assert!(only(&counts, "v1"), "{counts:?}");
    bookinfo.task.apply("reviews-half-v3");
    load.next_phase();
    let counts = load.counts(ENOUGH);
    assert!(is_share(counts["v3"], counts.values().sum(), 0.5) && counts.len() == 2, "{counts:?}");
    bookinfo.task.apply("reviews-v3");
    load.next_phase();
    let counts = load.counts(ENOUGH);
    assert!(only(&counts, "v3"), "{counts:?}");
    bookinfo.task.apply("all-v1");
    load.next_phase();
    let counts = load.counts(ENOUGH);
    assert!(only(&counts, "v1"), "{counts:?}");
    let outcome = load.finish();
    assert!(outcome.failures.is_empty(), "{:?} of {}", outcome.failures, outcome.answered);
    let [first, second, third] = bookinfo.read_from();
    assert!(second == 0 && first + third >= outcome.answered, "{first} {second} {third} of {}", outcome.answered);
    for (version, seen) in [("v1", first), ("v3", third)] {
        let counted = bookinfo.task.proxy.requests(&[("app", "reviews"), ("version", version), ("code", "200")]);
        assert_eq!(counted, seen as f64, "{version}");
    }
}
