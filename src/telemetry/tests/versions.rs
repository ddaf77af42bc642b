//! What each version did, as the admin port and the demo ask for it.

use super::*;

#[test]
fn a_page_of_every_version() {
    let (metrics, [v1, v2]) = canary();
    (0..99).for_each(|_| v1.finished(Worker(0), &request(200, 10)));
    v1.finished(Worker(1), &request(200, 1_000));
    v2.finished(Worker(0), &request(500, 1));
    let versions = metrics.versions();
    let of = |n: usize| {
        let VersionSummary { app, version, total, .. } = &versions[n];
        (app.as_str(), version.as_str(), total.requests, total.errors)
    };
    assert_eq!((of(0), of(1), versions.len()), (("shop", "v1", 100, 0), ("shop", "v2", 1, 1), 2));
    let millis = |q| versions[0].total.latency.quantile(q).unwrap().as_secs_f64() * 1e3;
    assert!((millis(0.5) / 10.0 - 1.0).abs() < 0.012 && (millis(0.999) / 1_000.0 - 1.0).abs() < 0.012);
    assert_eq!(versions[1].total.latency.count(), 0, "quick failures do not make it fast");
}

#[test]
fn a_version_is_counted_route_by_route_and_in_all() {
    let (metrics, [v1, v2]) = canary();
    let other = metrics.route("canary/1", "shop", "v1");
    metrics.activate(vec![active(&v1, 0.75), active(&v2, 0.25), active(&other, 1.0)]);
    v1.destination().started(Worker(0));
    (0..3).for_each(|_| v1.finished(Worker(0), &request(200, 10)));
    v2.finished(Worker(1), &Finished { flags: Flag::UT.into(), ..request(504, 900) });
    other.finished(Worker(1), &request(404, 80));
    metrics.unrouted().finished(Worker(0), &Finished { flags: Flag::NR.into(), ..request(404, 1) });
    let versions = metrics.versions();
    let [nowhere, v1, v2] = &versions[..] else { panic!("{versions:?}") };
    assert_eq!((nowhere.total.requests, nowhere.routes[0].got), (1, None), "what reached no version has no share");
    assert_eq!((v1.total.requests, v1.total.errors, v1.in_flight, v1.bytes_in, v1.bytes_out), (4, 0, 1, 12, 256));
    assert_eq!(v1.total.codes.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [("2xx", 3), ("4xx", 1)]);
    let routes: Vec<_> = v1.routes.iter().map(|r| (r.route.as_str(), r.declared, r.got, r.done.requests)).collect();
    assert_eq!(routes, [("canary/0", Some(0.75), Some(0.75), 3), ("canary/1", Some(1.0), Some(1.0), 1)]);
    for (route, millis) in v1.routes.iter().zip([10.0, 80.0]) {
        let median = route.done.latency.quantile(0.5).unwrap().as_secs_f64() * 1e3;
        assert!((median / millis - 1.0).abs() < 0.012, "{median} for {millis}");
    }
    assert_eq!((v2.total.errors, v2.flags.clone()), (1, [("UT".to_owned(), 1)].into()));
}

#[test]
fn what_was_before_a_baseline_does_not_count() {
    let (metrics, [v1, v2]) = canary();
    (0..90).for_each(|_| v1.finished(Worker(0), &request(200, 10)));
    (0..10).for_each(|_| v2.finished(Worker(0), &Finished { flags: Flag::DI.into(), ..request(500, 10) }));
    v1.destination().started(Worker(0));
    let baseline = metrics.versions();
    (0..3).for_each(|_| v1.finished(Worker(1), &request(301, 40)));
    v2.finished(Worker(1), &request(200, 40));
    let versions = VersionSummary::since(metrics.versions(), &baseline);
    let of = |n: usize| (versions[n].total.requests, versions[n].total.errors, versions[n].routes[0].got);
    assert_eq!((of(0), of(1)), ((3, 0, Some(0.75)), (1, 0, Some(0.25))));
    assert_eq!((versions[0].in_flight, versions[0].bytes_out), (1, 192), "a gauge is no counter");
    assert!(versions[1].flags.is_empty());
    assert_eq!(versions[0].total.latency.count(), 3);
    assert!(versions[0].total.latency.quantile(0.0).unwrap() > Duration::from_millis(39));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_forgotten_takes_nothing_from_its_version() {
    let (metrics, [v1, v2]) = canary();
    let other = metrics.route("canary/1", "shop", "v1");
    metrics.activate(vec![active(&v1, 0.9), active(&v2, 0.1), active(&other, 1.0)]);
    other.finished(Worker(0), &request(200, 5));
    let before = metrics.versions();
    metrics.activate(vec![active(&v1, 0.9), active(&v2, 0.1)]);
    drop(other);
    tokio::time::advance(Duration::from_secs(3600)).await;
    let _ = metrics.render();
    v1.finished(Worker(0), &request(200, 5));
    let versions = metrics.versions();
    assert_eq!((versions[0].routes.len(), versions[0].total.requests), (1, 2));
    assert_eq!(versions[0].total.latency.count(), 2);
    let back = metrics.route("canary/1", "shop", "v1");
    (0..2).for_each(|_| back.finished(Worker(0), &request(200, 5)));
    let since = VersionSummary::since(metrics.versions(), &before);
    assert_eq!((since[0].total.requests, since[0].routes[1].done.requests), (3, 2), "its counters are new ones");
}
