//! What traffic does to a release: it goes on, goes back, or stays where nobody can say.

use super::*;
use crate::rollout::plan::Step;

#[test]
fn a_good_canary_goes_all_the_way() {
    let mut drive = Drive::idle(|_| ());
    assert_eq!(drive.rollout.weight(), None);
    assert_eq!(drive.say(Verb::Start)[0].sentence, "started shop at 10 %");
    assert_eq!(drive.rollout.weight(), Some(10));
    let moved = drive.good_step();
    assert_eq!(reasons(&moved), [Reason::WarmedUp, Reason::Passed]);
    assert_eq!(moved[1].sentence, "advanced shop to 30 %: v2 failed 0 of 300 requests at 10 %, v1 0 of 2700");
    assert_eq!((moved[1].weight_before, moved[1].weight), (Some(10), Some(30)));
    drive.good_step();
    assert_eq!(drive.rollout.weight(), Some(100));
    let last = drive.good_step().pop().unwrap();
    assert_eq!((last.to, drive.rollout.weight()), (State::Promoted, Some(100)));
    assert!(last.sentence.ends_with("v2 has all the traffic, v1 is retired"), "{}", last.sentence);
    assert_eq!(drive.pass(1_000), []);
    let webhooks: Vec<_> = drive.rollout.history().iter().filter_map(Transition::webhook).collect();
    assert_eq!(webhooks, ["started", "advanced", "advanced", "promoted"]);
}

#[test]
fn steps_that_end_below_100_go_to_100_when_they_are_passed() {
    let mut drive = Drive::started(|plan| plan.steps.truncate(1));
    drive.good_step();
    assert_eq!((drive.rollout.state(), drive.rollout.weight()), (State::Promoted, Some(100)));
}

#[test]
fn a_canary_that_fails_is_rolled_back_in_one_sentence() {
    let mut drive = Drive::counting(|_| ());
    drive.good(4_000, 0);
    drive.fail(Arm::Stable, 1);
    let moved = drive.fail(Arm::Canary, 9);
    assert_eq!(reasons(&moved), [Reason::Errors]);
    assert_eq!(drive.rollout.weight(), Some(0));
    let sentence = &moved[0].sentence;
    let wanted = "rolled back shop at 10 %: v2 took 5 of 6 failures while it had 10 % of the traffic; evidence ";
    assert!(sentence.starts_with(wanted) && sentence.contains(", needed 100:1"), "{sentence}");
    assert!(sentence.ends_with("(p99 v1 in (0, 100] ms)"), "{sentence}");
    let numbers = &moved[0].numbers;
    assert_eq!((numbers.weight, numbers.canary.errors, numbers.stable.errors), (10, 5, 1));
    assert!(numbers.tests[0].ln_ratio >= numbers.ln_limit && numbers.tests[0].ln_guard >= numbers.ln_limit);
}

#[test]
fn slow_requests_roll_back_as_failures_do() {
    let mut drive = Drive::counting(|plan| plan.analysis.slower_than = Some(Duration::from_millis(300)));
    let moved = drive.bad(Arm::Canary, Test::Slow, 5);
    assert_eq!(reasons(&moved), [Reason::Latency]);
    let sentence = &moved[0].sentence;
    assert!(sentence.contains("v2 took 4 of 4 slow requests (over 300 ms)"), "{sentence}");
    assert!(sentence.contains("needed 200:1"), "alpha is split: {sentence}");
    let mut unjudged = Drive::counting(|_| ());
    assert_eq!(unjudged.bad(Arm::Canary, Test::Slow, 50), []);
}

#[test]
fn an_outage_of_both_holds_and_says_so_once() {
    let mut drive = Drive::counting(|_| ());
    let mut moved = Vec::new();
    for _ in 0..60 {
        moved.extend(drive.fail(Arm::Stable, 9));
        moved.extend(drive.fail(Arm::Canary, 1));
        moved.extend(drive.pass(1));
    }
    assert_eq!(reasons(&moved), [Reason::BothFail]);
    assert_eq!(moved[0].webhook(), Some("held"));
    assert_eq!(drive.rollout.weight(), Some(10));
    let waits = drive.rollout.waits(drive.now, 0.0);
    let wanted = "both versions have more than 1 % failures (v1 100 %, v2 100 %), so it is not v2's fault";
    assert!(waits.contains(wanted), "{waits}");
}

#[test]
fn alone_it_is_judged_by_the_floor_and_not_for_what_was_before() {
    let mut drive = Drive::counting(|_| ());
    drive.good(9_000, 1_000);
    drive.pass(60);
    drive.good_step();
    drive.pass(10);
    assert_eq!(drive.rollout.weight(), Some(100));
    drive.good(0, 50);
    let moved = drive.fail(Arm::Canary, 30);
    assert_eq!(reasons(&moved), [Reason::Errors]);
    assert!(moved[0].sentence.contains("failures in "), "{}", moved[0].sentence);
    assert!(moved[0].sentence.contains("more than 1 % allows"), "{}", moved[0].sentence);
}

#[test]
fn alone_a_canary_may_be_as_bad_as_stable_was() {
    let mut drive = Drive::counting(|plan| plan.steps = vec![Step::new(50), Step::new(100)]);
    // 0.9 % of both: below the floor of 1 %, which with the tolerance becomes 1.08 %.
    for _ in 0..90 {
        drive.good(110, 110);
        drive.fail(Arm::Stable, 1);
        drive.fail(Arm::Canary, 1);
        drive.now += Duration::from_millis(667);
    }
    drive.pass(1);
    assert_eq!(drive.rollout.weight(), Some(100));
    assert!((drive.rollout.evidence()[0].engine().floor() - 0.0108).abs() < 1e-4);
    drive.pass(10);
    for _ in 0..180 {
        drive.good(0, 110);
        assert_eq!(drive.fail(Arm::Canary, 1), []);
    }
    drive.pass(60);
    assert_eq!(drive.rollout.state(), State::Promoted);
}

#[test]
fn observing_decides_and_moves_nothing() {
    let mut drive = Drive::counting(|plan| plan.mode = Mode::Observe);
    drive.good(2_700, 300);
    let moved = drive.pass(60);
    assert_eq!(drive.rollout.weight(), None);
    assert!(moved[0].sentence.starts_with("would have advanced shop to 30 %"), "{}", moved[0].sentence);
    assert_eq!((moved[0].weight, moved[0].webhook()), (None, Some("advanced")));
    drive.pass(10);
    let moved = drive.fail(Arm::Canary, 30);
    assert!(moved[0].sentence.starts_with("would have rolled back shop at 30 %"), "{}", moved[0].sentence);
    assert_eq!(drive.rollout.weight(), None);
}
