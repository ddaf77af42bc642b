//! What the machine is told: the warm-up and what comes late, clocks and counters that jump, plans that are none. And how much
//! of it is kept.

use super::*;
use crate::rollout::input::Count;

#[test]
fn the_warm_up_is_left_out() {
    let mut drive = Drive::started(|_| ());
    drive.pass(1);
    drive.good(100, 100);
    assert_eq!(drive.fail(Arm::Canary, 50), []);
    let late = Bad { at: drive.now, arm: Arm::Canary, test: Test::Error, share: 0.1, key: None };
    drive.pass(9);
    (0..50).for_each(|_| drive.rollout.bad(&late));
    assert_eq!(drive.look(), []);
    let numbers = drive.rollout.view(drive.now, 0.0);
    assert_eq!((numbers.canary.numbers.routed, numbers.canary.numbers.errors, numbers.tests[0].canary_bad), (0, 0, 0));
}

#[test]
fn a_failure_that_is_heard_of_after_the_step_counts_where_it_was_routed() {
    let mut drive = Drive::counting(|_| ());
    let late = Bad { at: drive.now, arm: Arm::Canary, test: Test::Error, share: 0.1, key: None };
    drive.good(2_700, 300);
    drive.pass(60);
    assert_eq!(drive.rollout.weight(), Some(30));
    drive.rollout.bad(&late);
    let errors: Vec<u64> = drive.rollout.windows().iter().map(|window| window.canary.errors).collect();
    assert_eq!(errors, [1, 0]);
    assert_eq!(drive.rollout.evidence()[0].counts(), (0, 1));
}

#[test]
fn time_that_runs_backwards_stands_still() {
    let mut drive = Drive::counting(|_| ());
    drive.good(2_700, 300);
    let then = drive.now;
    drive.pass(30);
    drive.rollout.totals(&drive.totals, Duration::ZERO);
    assert_eq!(drive.rollout.decide(Duration::ZERO), []);
    assert_eq!(drive.rollout.elapsed(), then + seconds(30));
    assert_eq!(reasons(&drive.pass(30)), [Reason::Passed]);
}

#[test]
fn counters_that_begin_anew_or_have_other_buckets_do_no_harm() {
    let mut drive = Drive::counting(|_| ());
    drive.good(100, 100);
    drive.pass(1);
    drive.totals = Totals::default();
    drive.pass(1);
    drive.totals.canary = Count { routed: 5, finished: 5, latency: vec![5; 3] };
    drive.pass(1);
    let window = drive.rollout.windows().last().unwrap();
    assert_eq!((window.canary.routed, window.canary.finished), (105, 105));
    assert_eq!(window.canary.latency, [100, 0, 0, 0, 0, 0]);
}

#[test]
fn a_plan_that_is_none_is_refused() {
    for (change, wanted) in [
        ((|plan| plan.steps.clear()) as fn(&mut Plan), "a release needs at least one step"),
        (|plan| plan.steps[0].weight = 0, "a step's weight is from 1 to 100, not 0"),
        (|plan| plan.steps[2].weight = 30, "steps rise: 30 does not come after 30"),
        (|plan| plan.analysis.false_rollback_rate = 0.0, "the false rollback rate is above 0 and below 1, not 0"),
        (|plan| plan.analysis.tolerance = f64::NAN, "the tolerance is from 1 to 1000, not NaN"),
        (|plan| plan.analysis.max_error_rate = 0.5, "the maximal error rate is above 0 and below 50 %, not 0.5"),
        (|plan| plan.latency_edges.reverse(), "latency edges rise"),
    ] {
        let mut plan = plan();
        change(&mut plan);
        assert_eq!(Rollout::new(plan).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn a_stored_release_stays_small() {
    let mut drive = Drive::counting(|plan| {
        plan.analysis.slower_than = Some(Duration::from_millis(300));
        plan.latency_edges = (1..37).map(Duration::from_millis).collect();
    });
    drive.totals = Totals::default();
    for minute in 0..240u64 {
        for n in 0..10 {
            for (arm, test) in [(Arm::Stable, Test::Error), (Arm::Canary, Test::Slow)] {
                drive.totals.canary.routed += 1_000_000_000;
                let key = Some((minute * 1_000 + n) << 40 | 0xffff_fff0);
                drive.rollout.bad(&Bad { at: drive.now, arm, test, share: 0.1, key });
            }
        }
        drive.pass(60);
    }
    let size = serde_json::to_string(&drive.rollout).unwrap().len();
    assert!(size < 150_000, "{size} bytes");
}
