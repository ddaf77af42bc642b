//! Request routing: by version, then by user.

use super::JASON;
use super::bookinfo::Bookinfo;

#[test]
fn everybody_reads_the_first_version() {
    let bookinfo = Bookinfo::start();
    for fields in [&[][..], &[JASON], &[("end-user", "anna")]] {
        assert_eq!(bookinfo.read(fields), ("v1".into(), "v1".into()));
    }
    assert_eq!(bookinfo.read_from(), [3, 0, 0]);
    for host in ["productpage", "details"] {
        assert_eq!(bookinfo.task.ask(host, &[]).text(), "other");
    }
    assert_eq!(bookinfo.task.ask("ratings", &[]).text(), "stars");
    assert_eq!(bookinfo.task.ask("payments", &[]).status(), 404);
}

#[test]
fn jason_reads_another_version_than_everybody_else() {
    let bookinfo = Bookinfo::with("reviews-jason-v2");
    assert_eq!(bookinfo.read(&[JASON]), ("v2".into(), "ratings: stars".into()));
    // The header's name is known in any case, its value in this one only, and as a whole.
    assert_eq!(bookinfo.read(&[("End-User", "jason")]).0, "v2");
    for other in ["Jason", "jasonx", "anna", ""] {
        assert_eq!(bookinfo.read(&[("end-user", other)]).0, "v1", "{other}");
    }
    assert_eq!(bookinfo.read(&[]).0, "v1");
    assert_eq!(bookinfo.read_from(), [5, 2, 0]);
    let counted = |version| bookinfo.task.proxy.requests(&[("app", "reviews"), ("version", version), ("code", "200")]);
    assert_eq!((counted("v1"), counted("v2")), (5.0, 2.0));
}

#[test]
fn the_rule_is_taken_back_by_applying_the_first_files_again() {
    let mut bookinfo = Bookinfo::with("reviews-jason-v2");
    assert_eq!(bookinfo.read(&[JASON]).0, "v2");
    bookinfo.task.apply("all-v1");
    assert_eq!(bookinfo.read(&[JASON]).0, "v1");
}
