//! What people do to a release, and what a restart of the process does.

use super::*;
use crate::rollout::input::Count;
use crate::rollout::plan::{OnFileChange, OnInconclusive};

#[test]
fn an_approval_is_waited_for_or_remembered() {
    let asks = |plan: &mut Plan| plan.steps[0].approve = true;
    let mut drive = Drive::counting(asks);
    drive.good(2_700, 300);
    assert_eq!(reasons(&drive.pass(60)), [Reason::Ready]);
    assert_eq!(drive.rollout.waits(drive.now, 0.0), "awaiting approval: `approve` takes the next step");
    assert_eq!(reasons(&drive.say(Verb::Approve)), [Reason::Approved]);
    assert_eq!(drive.rollout.weight(), Some(30));

    let mut early = Drive::counting(asks);
    assert_eq!(early.say(Verb::Approve), []);
    early.good(2_700, 300);
    assert_eq!(reasons(&early.pass(60)), [Reason::Approved]);

    let mut promoted = Drive::counting(asks);
    promoted.good(2_700, 300);
    promoted.pass(60);
    let from = Some(0);
    assert_eq!(reasons(&promoted.say(Verb::Promote { full: false, from })), [Reason::PromotedByHand]);
    assert_eq!(promoted.say(Verb::Promote { full: false, from }), [], "said twice, done once");
    assert_eq!(promoted.rollout.weight(), Some(30));
}

#[test]
fn a_pause_holds_but_does_not_protect_a_bad_canary() {
    let mut drive = Drive::counting(|plan| plan.analysis.on_inconclusive = OnInconclusive::Rollback);
    drive.say(Verb::Pause);
    assert_eq!(drive.say(Verb::Pause), []);
    drive.good(2_700, 150);
    assert_eq!(drive.pass(10_000), []);
    assert_eq!(drive.rollout.weight(), Some(10));
    drive.say(Verb::Resume);
    assert_eq!(reasons(&drive.pass(1)), [Reason::Waiting], "the pause is no part of the longest step");
    drive.say(Verb::Pause);
    assert_eq!(reasons(&drive.fail(Arm::Canary, 30)), [Reason::Errors]);
}

#[test]
fn verbs_said_twice_are_done_once_and_nonsense_is_refused() {
    let promote = Verb::Promote { full: false, from: None };
    let mut drive = Drive::idle(|_| ());
    for verb in [Verb::Pause, Verb::Resume, promote, Verb::Approve, Verb::Retry] {
        let refused = drive.refused(verb);
        assert_eq!(refused, format!("cannot {verb}: the release has not begun; `start` it"));
    }
    let mut unwanted = drive.clone();
    assert_eq!(unwanted.say(Verb::Abort)[0].sentence, "aborted shop before it began");
    assert_eq!(unwanted.rollout.weight(), Some(0), "whatever the file declares");
    assert_eq!(drive.say(Verb::Start).len(), 1);
    for verb in [Verb::Start, Verb::Retry, Verb::Resume] {
        assert_eq!(drive.say(verb), [], "{verb}");
    }
    assert_eq!(drive.say(Verb::Abort).len(), 1);
    assert_eq!((drive.say(Verb::Abort), drive.rollout.weight()), (vec![], Some(0)));
    for verb in [Verb::Start, Verb::Pause, promote] {
        assert!(drive.refused(verb).ends_with("`retry` tries the same version again"), "{verb}");
    }
    assert_eq!(drive.say(Verb::Retry)[0].sentence, "retried shop at 10 %, attempt 2");
    assert_eq!(drive.say(Verb::Promote { full: true, from: None }).len(), 1);
    assert_eq!(drive.rollout.state(), State::Promoted);
    assert_eq!(drive.say(Verb::Promote { full: true, from: None }), []);
    assert!(drive.refused(Verb::Retry).contains("was promoted"));
    assert_eq!(drive.say(Verb::Abort).len(), 1, "an emergency exit even now");
    assert_eq!(drive.rollout.weight(), Some(0));
}

#[test]
fn a_retry_begins_with_no_evidence() {
    let mut drive = Drive::counting(|_| ());
    drive.fail(Arm::Canary, 10);
    assert_eq!(drive.rollout.state(), State::RolledBack);
    let before = Bad { at: drive.now, arm: Arm::Canary, test: Test::Error, share: 0.1, key: None };
    drive.now += seconds(5);
    drive.say(Verb::Retry);
    drive.pass(10);
    (0..9).for_each(|_| drive.rollout.bad(&before));
    assert_eq!(drive.rollout.evidence()[0].counts(), (0, 0));
    drive.good(2_700, 300);
    assert_eq!(reasons(&drive.pass(60)), [Reason::Passed]);
}

#[test]
fn an_edited_weight_becomes_a_step() {
    let mut drive = Drive::counting(|_| ());
    assert_eq!(drive.rollout.edited(10, drive.now), [], "it is there already");
    let moved = drive.rollout.edited(20, drive.now);
    assert_eq!((reasons(&moved), drive.rollout.weight()), (vec![Reason::FileEdited], Some(20)));
    assert_eq!(moved[0].sentence, "shop is at 20 % now: the file was edited");
    let chain: Vec<_> =
        drive.rollout.view(drive.now, 0.0).steps.iter().map(|s| (s.weight, s.state, s.adopted)).collect();
    use StepState::{Current, Done, Next};
    assert_eq!(chain, [(10, Done, false), (20, Current, true), (30, Next, false), (100, Next, false)]);
    drive.good_step();
    assert_eq!(drive.rollout.weight(), Some(30));
    drive.rollout.edited(10, drive.now);
    assert_eq!(drive.rollout.weight(), Some(10), "back to a step that was");
    drive.rollout.edited(0, drive.now);
    assert_eq!((drive.rollout.state(), drive.rollout.weight()), (State::Aborted, Some(0)));
    drive.rollout.edited(5, drive.now);
    assert_eq!((drive.rollout.state(), drive.rollout.weight()), (State::Idle, None), "the file rules again");
    drive.say(Verb::Start);
    assert_eq!(drive.rollout.plan().steps.len(), 3, "what was adopted belonged to that release");
}

#[test]
fn an_edit_can_be_the_end_instead() {
    let mut drive = Drive::counting(|plan| plan.analysis.on_file_change = OnFileChange::Abort);
    let moved = drive.rollout.edited(20, drive.now);
    assert_eq!((drive.rollout.state(), moved[0].reason), (State::Aborted, Reason::FileEdited));
    assert_eq!(moved[0].sentence, "aborted shop at 10 %: the file was edited");
}

/// Stored and read by another process.
pub(super) fn restart(drive: &mut Drive) -> Vec<Transition> {
    let stored = serde_json::to_string(&drive.rollout).unwrap();
    drive.rollout = serde_json::from_str(&stored).unwrap();
    assert_eq!(serde_json::to_string(&drive.rollout).unwrap(), stored);
    drive.now = drive.rollout.elapsed();
    let empty = Count { latency: vec![0; 6], ..Count::default() };
    drive.totals = Totals { stable: empty.clone(), canary: empty };
    drive.rollout.restarted()
}

#[test]
fn a_restart_keeps_weight_and_evidence_and_begins_the_window_anew() {
    let mut drive = Drive::counting(|_| ());
    drive.rollout.applied(Some(10));
    drive.fail(Arm::Canary, 2);
    drive.good(2_000, 250);
    drive.pass(30);
    let before = drive.rollout.evidence()[0].engine().ln_ratio();
    let moved = restart(&mut drive);
    assert_eq!((reasons(&moved), drive.rollout.weight()), (vec![Reason::Restarted], Some(10)));
    drive.pass(10);
    drive.good(0, 100);
    drive.pass(60);
    assert_eq!(drive.rollout.state(), State::Running { step: 0, phase: Phase::Held });
    assert!((drive.rollout.evidence()[0].engine().ln_ratio() - before).abs() < 1.0);
    assert_eq!(drive.rollout.evidence()[0].canary_requests(), 2 + 250 + 100);
    assert_eq!(reasons(&drive.fail(Arm::Canary, 9)), [Reason::Errors]);
}

#[test]
fn a_raise_that_was_never_applied_is_taken_back() {
    let mut drive = Drive::counting(|_| ());
    drive.rollout.applied(Some(10));
    drive.good_step();
    assert_eq!(drive.rollout.weight(), Some(30));
    restart(&mut drive);
    assert_eq!(drive.rollout.weight(), Some(10));
    drive.rollout.applied(Some(10));
    drive.say(Verb::Promote { full: true, from: None });
    restart(&mut drive);
    assert_eq!(drive.rollout.weight(), Some(10), "not even a promotion");

    let mut unstarted = Drive::started(|_| ());
    restart(&mut unstarted);
    assert_eq!((unstarted.rollout.state(), unstarted.rollout.weight()), (State::Idle, None));
    drive.say(Verb::Abort);
    drive.rollout.applied(Some(0));
    drive.say(Verb::Retry);
    restart(&mut drive);
    assert_eq!((drive.rollout.state(), drive.rollout.weight()), (State::Aborted, Some(0)));
}

#[test]
fn nothing_rises_while_the_state_cannot_be_saved() {
    let mut drive = Drive::counting(|_| ());
    drive.rollout.block(Some("the state cannot be saved: disk full".to_owned()));
    drive.good(2_700, 300);
    drive.pass(60);
    assert_eq!(drive.rollout.waits(drive.now, 0.0), "held: the state cannot be saved: disk full");
    let refused = drive.refused(Verb::Promote { full: false, from: None });
    assert_eq!(refused, "cannot promote: no weight rises while the state cannot be saved: disk full");
    let mut bad = drive.clone();
    assert_eq!(reasons(&bad.fail(Arm::Canary, 30)), [Reason::Errors]);
    drive.rollout.block(None);
    assert_eq!(reasons(&drive.pass(1)), [Reason::Passed]);
}
