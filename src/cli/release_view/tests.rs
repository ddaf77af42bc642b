//! Tests.

use std::time::Duration;

use super::testing::held;
use super::*;
use crate::rollout::State;
use crate::telemetry::Tally;

/// So many requests in two seconds.
fn lately(requests: u64) -> Option<Lately> {
    Some(Lately { span: Duration::from_secs(2), done: Tally { requests, ..Tally::default() } })
}

fn scene(release: &ReleaseStatus, [stable, canary]: [Option<Lately>; 2]) -> Scene<'_> {
    Scene { release, stable, canary, generation: 1, notice: None, keys: "q quits" }
}

#[test]
fn a_release_under_way_shows_what_it_counts_and_one_that_is_over_what_comes_now() {
    let mut release = held();
    let line = line(&scene(&release, [lately(200), lately(0)]));
    assert!(line.contains("v1 wanted 70 %, got 70.2 %, 0.7/s, "), "{line}");
    assert!(line.contains("v2 wanted 30 %, got 29.8 %, 0.3/s, "), "{line}");

    (release.view.state, release.effective_weight) = (State::RolledBack, 0);
    let over = scene(&release, [lately(200), lately(0)]);
    let line = super::line(&over);
    assert!(line.contains("v1 wanted 100 %, got 100.0 %, 100.0/s, "), "{line}");
    assert!(line.contains("v2 wanted 0 %, got 0.0 %, 0.0/s, "), "{line}");
    let flow = scene(&release, [lately(0), lately(0)]).flow();
    assert_eq!((flow.got, flow.rates), ([None; 2], [Some(0.0); 2]), "no traffic has no shares");
    let flow = scene(&release, [None, None]).flow();
    assert_eq!((flow.got, flow.rates), ([None; 2], [None; 2]));
}

#[test]
fn the_table_says_of_what_time_a_share_is() {
    let text = |release: &ReleaseStatus| {
        let table = versions::table(&scene(release, [lately(150), lately(50)]), 80, Theme::new());
        table.iter().map(|line| line.to_string().trim_end().to_owned()).collect::<Vec<_>>()
    };
    let mut release = held();
    let shown = text(&release);
    assert!(shown.iter().any(|row| row.starts_with("share got, this step") && row.contains("29.8 %")), "{shown:#?}");
    release.view.state = State::Promoted;
    let shown = text(&release);
    assert!(shown.iter().any(|row| row.starts_with("share got, last 2 s") && row.ends_with("25.0 %")), "{shown:#?}");
    assert!(shown.iter().any(|row| row.starts_with("requests/s") && row.ends_with("25.0")), "{shown:#?}");
}
