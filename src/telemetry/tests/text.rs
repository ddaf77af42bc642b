//! The text format: types, and values of labels that have to be escaped.

use proptest::prelude::*;

use super::*;

#[test]
fn types_are_right() {
    let (metrics, [v1, _]) = canary();
    v1.finished(Worker(0), &Finished { flags: Flag::UT.into(), ..request(504, 1) });
    let _endpoint = metrics.endpoint("shop", "v1", "10.0.0.1:80");
    metrics.reloads().in_force(1, "abc");
    let types = Scrape::of(&metrics).types;
    for (name, kind) in &types {
        let expected = match name.as_str() {
            n if n.ends_with("_total") => "counter",
            n if n.ends_with("_duration_seconds") => "histogram",
            _ => "gauge",
        };
        assert_eq!(kind, expected, "{name}");
    }
    assert_eq!(types.keys().filter(|name| name.starts_with("http_")).count(), 9);
    assert_eq!(types.keys().filter(|name| name.starts_with("serin_")).count(), 26);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_label_value_survives_the_text(route in "(?s).{0,20}", app in "[\\\\\"\n{}=,a-z#]{0,8}", version in "\\PC{0,8}") {
        let metrics = Metrics::new(1, Buckets::Small);
        metrics.route(&route, &app, &version).finished(Worker(0), &request(200, 1));
        let labels = [("app", &*app), ("version", &*version), ("route", &*route)];
        prop_assert_eq!(Scrape::of(&metrics).one("http_requests_total", &labels), 1.0);
    }
}
