//! What a release waits for, how it says so, and how a hold ends.

use super::*;
use crate::rollout::input::GateState;
use crate::rollout::plan::OnInconclusive;

#[test]
fn without_traffic_it_holds_and_neither_passes_nor_fails() {
    for on_inconclusive in [OnInconclusive::Hold, OnInconclusive::Rollback, OnInconclusive::Advance] {
        let mut drive = Drive::counting(|plan| plan.analysis.on_inconclusive = on_inconclusive);
        let mut moved = drive.pass(61);
        (0..50).for_each(|_| moved.extend(drive.pass(1_000)));
        assert_eq!(reasons(&moved), [Reason::Waiting], "{on_inconclusive:?}");
        assert_eq!(drive.rollout.weight(), Some(10));
        let waits = drive.rollout.waits(drive.now, 0.0);
        assert!(waits.starts_with("held: 0 of 300 canary requests"), "{waits}");
    }
    // Not even where nothing is asked for and stable itself is no better than none.
    let mut drive = Drive::counting(|plan| plan.steps.iter_mut().for_each(|step| step.min_requests = 0));
    drive.good(990, 0);
    drive.fail(Arm::Stable, 9);
    drive.pass(10_000);
    assert_eq!(drive.rollout.state(), State::Running { step: 0, phase: Phase::Held });
}

#[test]
fn without_counters_it_waits_for_them() {
    let mut drive = Drive::started(|_| ());
    drive.now = seconds(500);
    assert_eq!(drive.rollout.decide(drive.now), []);
    assert_eq!(drive.rollout.waits(drive.now, 0.0), "warming up: the first count of requests");
}

#[test]
fn a_hold_says_what_it_waits_for_and_how_long() {
    let mut drive = Drive::counting(|_| ());
    drive.good(1_000, 180);
    assert_eq!(
        drive.rollout.waits(drive.now, 0.3),
        "gathering: 60 s left; 0 of 300 canary requests, about 17 min left at 0.3 rps"
    );
    drive.pass(60);
    let waits = drive.rollout.waits(drive.now, 0.3);
    assert_eq!(waits, "held: 180 of 300 canary requests, about 7 min left at 0.3 rps");
    drive.good(0, 60);
    drive.pass(1);
    assert_eq!(drive.rollout.waits(drive.now, 0.0), "held: 240 of 300 canary requests");
    drive.good(1_000, 57);
    drive.fail(Arm::Canary, 3);
    drive.pass(1);
    assert_eq!(
        drive.rollout.waits(drive.now, 2.0),
        "held: 3 failures in 300 canary requests, 175 more without would do, about 88 s left at 2.0 rps"
    );
}

#[test]
fn every_gate_has_to_be_inside() {
    let mut drive = Drive::counting(|plan| plan.analysis.gates = vec!["memory".to_owned()]);
    drive.good(2_700, 300);
    drive.pass(60);
    assert_eq!(drive.rollout.waits(drive.now, 0.0), "held: gate `memory` has no value (not asked yet)");
    let gate = |state, value| Gate { name: "memory".to_owned(), state, value, detail: "at most 5".to_owned() };
    drive.rollout.gates(vec![gate(GateState::Outside, Some(7.5))]);
    assert_eq!(drive.pass(1), []);
    assert_eq!(drive.rollout.waits(drive.now, 0.0), "held: gate `memory` is out of bounds at 7.5 (at most 5)");
    drive.rollout.gates(vec![gate(GateState::Inside, Some(3.0))]);
    assert_eq!(reasons(&drive.pass(1)), [Reason::Passed]);
}

#[test]
fn fresh_suspicion_holds_until_it_is_dispelled() {
    let mut drive = Drive::counting(|plan| plan.steps[0].min_duration = seconds(130));
    drive.good(30_000, 3_000);
    drive.pass(65);
    assert_eq!(drive.fail(Arm::Canary, 4), []);
    drive.pass(65);
    let waits = drive.rollout.waits(drive.now, 0.0);
    assert!(
        waits.starts_with("held: v2 may be worse by its failures: evidence ") && waits.ends_with(":1, 5:1 at most"),
        "{waits}"
    );
    let p = drive.rollout.view(drive.now, 0.0).tests[0].p;
    assert!(p > 0.01 && p < 0.2, "{p}");
    drive.good(3_000, 1_000);
    assert_eq!(reasons(&drive.pass(1)), [Reason::Passed]);
    let later = drive.rollout.view(drive.now, 0.0).tests[0].p;
    assert!((later - p).abs() < 1e-12, "p never rises again: {p} {later}");
}

#[test]
fn a_step_that_stays_undecided_does_what_was_asked() {
    let undecided = |on_inconclusive| {
        let mut drive = Drive::counting(|plan| plan.analysis.on_inconclusive = on_inconclusive);
        drive.good(2_000, 100);
        drive.pass(3_580);
        assert_eq!(drive.rollout.state(), State::Running { step: 0, phase: Phase::Held });
        drive.pass(30);
        drive
    };
    assert_eq!(undecided(OnInconclusive::Hold).rollout.weight(), Some(10));
    assert_eq!(undecided(OnInconclusive::Advance).rollout.weight(), Some(30));
    let back = undecided(OnInconclusive::Rollback);
    assert_eq!(back.rollout.state(), State::RolledBack);
    let wanted = "rolled back shop at 10 %: undecided after 60 min; v2 failed 0 of 100 requests at 10 %";
    let sentence = &back.rollout.history().last().unwrap().sentence;
    assert!(sentence.starts_with(wanted), "{sentence}");
}
