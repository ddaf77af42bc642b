//! What a person reads of a release.

use std::time::Duration;

use super::*;
use crate::cli::release_view::testing::held;
use crate::rollout::{Interval, Phase};

#[test]
fn a_block_says_everything_about_a_release() {
    assert_eq!(
        block(&held()),
        "\
shop/product-service: step 2 of 5 at 30 %, held, attempt 2
  route     product-service-vs/0, v1 → v2
  steps     10 % done → [30 %] (from the file) → 50 % (approval) → 95 % (soak) → 100 %
  now       held: 180 of 300 canary requests, about 7 min left at 0.3 rps
  weights   file 100/0, rollout 70/30 since 2026-11-25T12:03:00Z
  stable    v1: 70 % wanted, 70.2 % got, 0.7 rps, 423 requests finished, 2 errors, 1 slow, p99 in (200, 400] ms
  canary    v2: 30 % wanted, 29.8 % got, 0.3 rps, 180 requests finished, 1 error, 0 slow
  errors    v2 has 5 of 9; evidence 107:1 against stable, 6.88:1 against the floor; a rollback needs 200:1 of both
  slow      v2 has 0 of 1; evidence 0.70:1 against stable, 0.36:1 against the floor; a rollback needs 200:1 of both
  gate      memory: inside 412000000 (at most 500000000)
  gate      orders: unreachable (connection refused)
  last      held shop/product-service at 30 %: 178 of 300 canary requests
"
    );
}

#[test]
fn a_release_that_has_not_begun_has_no_traffic_to_tell_of() {
    let mut idle = held();
    (idle.view.state, idle.view.attempt, idle.view.waits) = (State::Idle, 1, "idle".to_owned());
    (idle.effective_weight, idle.since) = (0, None);
    (idle.view.tests, idle.view.gates, idle.view.events) = (Vec::new(), Vec::new(), Vec::new());
    idle.view.steps.truncate(1);
    idle.view.steps[0].state = StepState::Next;
    assert_eq!(
        block(&idle),
        "\
shop/product-service: idle
  route     product-service-vs/0, v1 → v2
  steps     10 %
  now       idle
  weights   file 100/0, in force
"
    );
}

#[test]
fn every_state_has_its_headline() {
    let mut status = held();
    status.view.attempt = 1;
    let phases = [
        (Phase::Warming, "warming up"),
        (Phase::Gathering, "gathering"),
        (Phase::Held, "held"),
        (Phase::AwaitingApproval, "awaiting approval"),
    ];
    let mut states: Vec<(State, String)> = phases
        .map(|(phase, doing)| (State::Running { step: 4, phase }, format!("step 5 of 5 at 100 %, {doing}")))
        .into();
    states.push((State::Paused { step: 0, phase: Phase::Held }, "step 1 of 5 at 10 %, paused".to_owned()));
    states.push((State::Promoted, "promoted".to_owned()));
    states.push((State::RolledBack, "rolled back".to_owned()));
    states.push((State::Aborted, "aborted".to_owned()));
    for (state, text) in states {
        status.view.state = state;
        assert_eq!(headline(&status), format!("shop/product-service: {text}"));
    }
    status.view.mode = Mode::Observe;
    assert_eq!(headline(&status), "shop/product-service: aborted, only observed: no weight is moved");
}

#[test]
fn at_all_of_the_traffic_only_the_floor_counts() {
    let mut status = held();
    (status.view.weight, status.effective_weight, status.since) = (Some(100), 100, None);
    let text = block(&status);
    assert!(text.contains("v2 has 5 of 9; evidence 6.88:1 against the floor; a rollback needs 200:1\n"), "{text}");
    assert!(text.contains("  weights   file 100/0, rollout 0/100\n"), "{text}");
    status.view.mode = Mode::Observe;
    assert!(block(&status).contains("of both"), "an observed canary has no more than the file gives it");
}

#[test]
fn trouble_is_told_and_nothing_moves_the_cursor() {
    let mut status = held();
    status.trouble = Some("no space left\u{1b}[2J\non device".to_owned());
    status.view.name = "a\rb".to_owned();
    for text in [block(&status), short(&status)] {
        assert!(text.contains("no space left\u{fffd}[2J\u{fffd}on device\n"), "{text}");
        assert!(text.starts_with("a\u{fffd}b: step 2"), "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
    }
}

#[test]
fn a_verb_is_answered_in_short() {
    assert_eq!(
        short(&held()),
        "shop/product-service: step 2 of 5 at 30 %, held, attempt 2\n  \
         held: 180 of 300 canary requests, about 7 min left at 0.3 rps\n  \
         file 100/0, rollout 70/30 since 2026-11-25T12:03:00Z\n"
    );
}

#[test]
fn odds_and_intervals_read_well() {
    for (odds_of, text) in [(0.0_f64, "0.00:1"), (0.36, "0.36:1"), (9.994, "9.99:1"), (107.2, "107:1"), (1e9, "10^9:1")]
    {
        assert_eq!(odds(odds_of.ln()), text);
    }
    let millis = Duration::from_millis;
    assert_eq!(interval(Interval { above: millis(300), up_to: None }), "above 300 ms");
    assert_eq!(interval(Interval { above: Duration::from_micros(750), up_to: Some(millis(1)) }), "in (0.75, 1] ms");
}
