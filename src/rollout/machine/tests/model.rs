//! What holds whatever happens in whatever order: sequences of events, all of them to a depth, and long ones at random.

use std::collections::HashSet;

use proptest::prelude::*;

use super::people::restart;
use super::*;
use crate::rollout::plan::Step;

/// Everything that can happen to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    Say(Verb),
    /// A whole good window passes.
    GoodWindow,
    /// A little time passes without a request.
    Silence,
    /// The canary alone fails, enough to be rolled back for.
    CanaryFails,
    /// Both fail alike.
    BothFail,
    /// The file is edited to this weight.
    Edited(u32),
    /// The weight that is wanted gets into force.
    Applied,
    /// The process is killed and started again.
    Restart,
    /// The disk is full, or no more.
    Disk {
        full: bool,
    },
    /// The caller's clock is an hour back, for one look.
    ClockBack,
}

const ALPHABET: [Event; 16] = [
    Event::Say(Verb::Start),
    Event::GoodWindow,
    Event::Applied,
    Event::Restart,
    Event::Say(Verb::Promote { full: false, from: None }),
    Event::Say(Verb::Promote { full: true, from: None }),
    Event::Say(Verb::Approve),
    Event::CanaryFails,
    Event::Say(Verb::Pause),
    Event::Say(Verb::Resume),
    Event::Say(Verb::Abort),
    Event::Say(Verb::Retry),
    Event::BothFail,
    Event::Edited(20),
    Event::Edited(0),
    Event::Disk { full: true },
];

fn modelled() -> Drive {
    Drive::idle(|plan| {
        plan.steps = vec![Step { approve: true, ..Step::new(10) }, Step::new(50), Step::new(100)];
    })
}

fn happen(drive: &mut Drive, event: Event) {
    match event {
        Event::Say(verb) => {
            let _ = drive.rollout.apply(verb, drive.now);
            drive.look();
        }
        Event::GoodWindow => {
            drive.pass(10);
            drive.good(300, 300);
            drive.pass(60);
        }
        Event::Silence => {
            drive.pass(7);
        }
        Event::CanaryFails => {
            drive.fail(Arm::Canary, 40);
        }
        Event::BothFail => {
            for _ in 0..5 {
                drive.fail(Arm::Canary, 1);
                drive.fail(Arm::Stable, 9);
            }
        }
        Event::Edited(weight) => {
            drive.rollout.edited(weight, drive.now);
        }
        Event::Applied => drive.rollout.applied(drive.rollout.weight()),
        Event::Restart => {
            restart(drive);
        }
        Event::Disk { full } => {
            drive.rollout.block(full.then(|| "the disk is full".to_owned()));
            drive.look();
        }
        Event::ClockBack => {
            let back = drive.now.saturating_sub(seconds(3_600));
            drive.rollout.totals(&drive.totals, back);
            drive.rollout.decide(back);
        }
    }
}

/// What the event may have done, by what was known before it.
fn judge(before: &Drive, event: Event, after: &Drive) -> Result<(), String> {
    let (old, new) = (&before.rollout, &after.rollout);
    let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let weight = new.weight();
    let in_force = |rollout: &Rollout| rollout.weight().unwrap_or(0);
    let known: Vec<u32> = new.plan().steps.iter().map(|step| step.weight).collect();
    ensure(weight.is_none_or(|w| w == 0 || w == 100 || known.contains(&w)), "a weight that is no step")?;
    ensure((weight.is_none()) == (new.state() == State::Idle), "idle, and only idle, is as declared")?;

    let by_a_person = matches!(event, Event::Say(_) | Event::Edited(_) | Event::Disk { full: false });
    if in_force(new) > in_force(old) && !by_a_person {
        ensure(event == Event::GoodWindow, "it rose without a good window")?;
        ensure(matches!(old.state(), State::Running { .. }), "it rose while nobody had it run")?;
        ensure(old.blocked.is_none(), "it rose while the state could not be saved")?;
        let step = old.state().step().map(|step| &old.plan().steps[step]);
        ensure(step.is_some_and(|step| !step.approve || old.approved), "it rose without the approval")?;
    }
    if matches!(event, Event::Say(_)) {
        // Blocked, it may only fall.
        ensure(in_force(new) <= in_force(old) || old.blocked.is_none(), "a verb raised it while blocked")?;
    }
    if event == Event::Say(Verb::Abort) {
        ensure(in_force(new) == 0, "aborted above 0")?;
    }
    if event == Event::Restart {
        ensure(in_force(new) <= in_force(old), "a restart raised it")?;
        ensure(in_force(new) <= old.applied.unwrap_or(0), "a restart went above what was applied")?;
        let counts = |rollout: &Rollout| rollout.evidence().iter().map(super::Evidence::counts).collect::<Vec<_>>();
        ensure(new.state() == State::Idle || counts(new) == counts(old), "a restart changed the evidence")?;
    }
    if event == Event::CanaryFails {
        let was_counting = old.windows().last().is_some_and(|window| window.counted_from.is_some());
        let judged = old.state().is_active() && was_counting;
        ensure(!judged || new.state() == State::RolledBack, "a bad canary stayed")?;
    }
    if matches!(event, Event::BothFail | Event::Silence | Event::ClockBack) && old.weight() != Some(100) {
        ensure(weight == old.weight(), "moved by what says nothing")?;
    }
    if new.state() == State::Promoted && old.state() != State::Promoted {
        let last = old.state().step().is_some_and(|step| step + 1 == old.plan().steps.len());
        ensure(last || by_a_person, "promoted from the middle")?;
    }
    audit(old, new)
}

/// Exactly one record for each move, in an unbroken chain.
fn audit(old: &Rollout, new: &Rollout) -> Result<(), String> {
    let news: Vec<&Transition> = new.history().iter().filter(|move_| move_.sequence > old.sequence).collect();
    let mut at = old.state();
    for (number, moved) in news.iter().enumerate() {
        if moved.from != at || moved.sequence != old.sequence + 1 + number as u64 || moved.sentence.is_empty() {
            return Err(format!("a gap in the records at {}", moved.sequence));
        }
        at = moved.to;
    }
    if at == new.state() { Ok(()) } else { Err("a move without a record".to_owned()) }
}

/// What the future depends on, so that nothing is explored twice.
fn essence(drive: &Drive) -> String {
    let rollout = &drive.rollout;
    let window = rollout.windows().last().map(|window| {
        let since = rollout.elapsed().saturating_sub(window.entered);
        (since, window.counted_from.is_some(), window.canary.clone(), window.stable.clone(), window.told_both_fail)
    });
    let counts: Vec<_> =
        rollout.evidence().iter().map(|evidence| (evidence.counts(), evidence.canary_requests())).collect();
    let steps: Vec<u32> = rollout.plan().steps.iter().map(|step| step.weight).collect();
    let flags = (rollout.approved, rollout.applied, rollout.blocked.is_some(), rollout.last.is_some());
    format!("{:?} {window:?} {counts:?} {steps:?} {flags:?}", rollout.state())
}

#[test]
fn every_sequence_of_seven_events_keeps_the_rules() {
    let mut frontier = vec![(modelled(), Vec::new())];
    let mut seen = HashSet::new();
    for _ in 0..7 {
        let mut next = Vec::new();
        for (drive, path) in frontier {
            for event in ALPHABET {
                let mut after = drive.clone();
                happen(&mut after, event);
                let mut path: Vec<Event> = path.clone();
                path.push(event);
                judge(&drive, event, &after).unwrap_or_else(|broken| panic!("{broken} after {path:?}"));
                if seen.insert(essence(&after)) {
                    next.push((after, path));
                }
            }
        }
        frontier = next;
    }
    assert!(seen.len() > 1_000, "only {} states were seen", seen.len());
}

fn any_event() -> impl Strategy<Value = Event> {
    let rare = [Event::Silence, Event::ClockBack, Event::Disk { full: false }, Event::Edited(50), Event::Edited(100)];
    let alphabet: Vec<Event> = ALPHABET.into_iter().chain(rare).collect();
    // Most verbs end a release or do nothing: what makes it go on has to come more often.
    prop_oneof![2 => Just(Event::GoodWindow), 1 => Just(Event::Applied), 5 => prop::sample::select(alphabet)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn long_sequences_keep_the_rules(events in prop::collection::vec(any_event(), 1..120)) {
        let mut drive = modelled();
        for event in events {
            let before = drive.clone();
            happen(&mut drive, event);
            if let Err(broken) = judge(&before, event, &drive) {
                prop_assert!(false, "{} by {:?}", broken, event);
            }
        }
    }

    /// A clock that jumps back now and then changes nothing but that time stands still.
    #[test]
    fn jumps_of_the_clock_change_no_move(events in prop::collection::vec(any_event(), 1..60), jumps: u64) {
        let (mut plain, mut jumped) = (modelled(), modelled());
        for (nth, event) in events.into_iter().filter(|event| *event != Event::ClockBack).enumerate() {
            happen(&mut plain, event);
            happen(&mut jumped, event);
            if jumps >> (nth % 64) & 1 == 1 {
                happen(&mut jumped, Event::ClockBack);
                plain.look();
            }
        }
        prop_assert_eq!(plain.rollout.history(), jumped.rollout.history());
    }
}

#[test]
fn with_good_windows_and_a_yes_it_gets_to_the_end() {
    let mut drive = modelled();
    for event in
        [Event::Say(Verb::Start), Event::GoodWindow, Event::Say(Verb::Approve), Event::GoodWindow, Event::GoodWindow]
    {
        happen(&mut drive, event);
    }
    assert_eq!(drive.rollout.state(), State::Promoted);
}
