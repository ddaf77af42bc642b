//! The machine by its behaviour: what it does with traffic, with people, with edits and with restarts.

mod model;

use super::*;
use crate::rollout::input::{Count, GateState};
use crate::rollout::plan::{Analysis, OnFileChange, OnInconclusive, Step};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plan() -> Plan {
    Plan {
        name: "shop".to_owned(),
        virtual_service: "shop-vs".to_owned(),
        route: "main".to_owned(),
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
        steps: [10, 30, 100].into_iter().map(Step::new).collect(),
        analysis: Analysis::default(),
        mode: Mode::Run,
        latency_edges: [100, 200, 300, 400, 1000].into_iter().map(Duration::from_millis).collect(),
    }
}

/// A release, with the counters and the clock that the driver would have.
#[derive(Clone)]
pub(super) struct Drive {
    pub(super) rollout: Rollout,
    pub(super) totals: Totals,
    pub(super) now: Duration,
}

impl Drive {
    fn idle(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = plan();
        change(&mut plan);
        let count = || Count { latency: vec![0; plan.latency_edges.len() + 1], ..Count::default() };
        let totals = Totals { stable: count(), canary: count() };
        Self { rollout: Rollout::new(plan).unwrap(), totals, now: Duration::ZERO }
    }

    fn started(change: impl FnOnce(&mut Plan)) -> Self {
        let mut drive = Self::idle(change);
        drive.say(Verb::Start);
        drive
    }

    /// Started, and past the warm-up.
    fn counting(change: impl FnOnce(&mut Plan)) -> Self {
        let mut drive = Self::started(change);
        drive.pass(10);
        assert_eq!(drive.rollout.state(), State::Running { step: 0, phase: Phase::Gathering });
        drive
    }

    fn say(&mut self, verb: Verb) -> Vec<Transition> {
        self.rollout.apply(verb, self.now).unwrap()
    }

    fn refused(&mut self, verb: Verb) -> String {
        let before = self.rollout.clone();
        let refused = self.rollout.apply(verb, self.now).unwrap_err().to_string();
        assert_eq!(self.rollout, before, "a refusal changes nothing");
        refused
    }

    /// Time goes on, with a reading and a decision at its end.
    pub(super) fn pass(&mut self, for_seconds: u64) -> Vec<Transition> {
        self.now += seconds(for_seconds);
        self.look()
    }

    pub(super) fn look(&mut self) -> Vec<Transition> {
        self.rollout.totals(&self.totals, self.now);
        self.rollout.decide(self.now)
    }

    /// Requests that went well, all faster than 100 ms.
    pub(super) fn good(&mut self, stable: u64, canary: u64) {
        for (count, requests) in [(&mut self.totals.stable, stable), (&mut self.totals.canary, canary)] {
            count.routed += requests;
            count.finished += requests;
            count.latency[0] += requests;
        }
    }

    /// Failures, one after the other.
    pub(super) fn fail(&mut self, arm: Arm, failures: u64) -> Vec<Transition> {
        self.bad(arm, Test::Error, failures)
    }

    fn bad(&mut self, arm: Arm, test: Test, failures: u64) -> Vec<Transition> {
        let mut moved = Vec::new();
        for _ in 0..failures {
            let count = if arm == Arm::Stable { &mut self.totals.stable } else { &mut self.totals.canary };
            count.routed += 1;
            count.finished += 1;
            *count.latency.last_mut().unwrap() += 1;
            self.rollout.totals(&self.totals, self.now);
            let share = self.rollout.weight().map_or(0.1, |weight| f64::from(weight) / 100.0);
            self.rollout.bad(&Bad { at: self.now, arm, test, share, key: None });
            moved.extend(self.rollout.decide(self.now));
        }
        moved
    }

    /// A whole good step: warm-up, bake time, 300 canary requests and more of stable.
    pub(super) fn good_step(&mut self) -> Vec<Transition> {
        let mut moved = self.pass(10);
        self.good(2_700, 300);
        moved.extend(self.pass(60));
        moved
    }
}

fn reasons(moved: &[Transition]) -> Vec<Reason> {
    moved.iter().map(|transition| transition.reason).collect()
}

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
        "gathering: 60 s left; 0 of 300 canary requests, about 17 min left at 0.3 rps; 0 failures in 0 canary requests, \
         198 more without would do, about 11 min left at 0.3 rps"
    );
    drive.pass(60);
    let waits = drive.rollout.waits(drive.now, 0.3);
    assert!(waits.starts_with("held: 180 of 300 canary requests, about 7 min left at 0.3 rps"), "{waits}");
    drive.good(0, 60);
    drive.pass(1);
    assert_eq!(drive.rollout.waits(drive.now, 0.0), "held: 240 of 300 canary requests");
}

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

/// Stored and read by another process.
fn restart(drive: &mut Drive) -> Vec<Transition> {
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
fn steps_that_end_below_100_go_to_100_when_they_are_passed() {
    let mut drive = Drive::started(|plan| plan.steps.truncate(1));
    drive.good_step();
    assert_eq!((drive.rollout.state(), drive.rollout.weight()), (State::Promoted, Some(100)));
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
