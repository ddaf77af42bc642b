//! The method by simulation: power, level, and the faults that must move nothing. Seeds are fixed.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::rollout::input::Arm;
use crate::rollout::machine::{Phase, Reason, State};
use crate::rollout::plan::{Analysis, Plan, Step};
use crate::rollout::testing;

fn plan(change: impl FnOnce(&mut Plan)) -> Plan {
    let edges = [5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 2_500, 5_000];
    let mut plan = Plan {
        steps: [10, 30, 50, 100].into_iter().map(Step::new).collect(),
        analysis: Analysis { slower_than: Some(Duration::from_millis(300)), ..Analysis::default() },
        latency_edges: edges.into_iter().map(Duration::from_millis).collect(),
        ..testing::plan()
    };
    change(&mut plan);
    plan
}

fn answers(error_rate: f64) -> Behaviour {
    Behaviour { error_rate, latency: Latency::Fixed(Duration::from_millis(1)) }
}

fn traffic(rps: f64, stable: Behaviour, canary: Behaviour) -> Traffic {
    Traffic { rps, stable, canary, change: None, declared: 0.1, longest: Duration::from_secs(24 * 3_600) }
}

fn releases(plan: &Plan, traffic: &Traffic, runs: u64) -> Vec<Outcome> {
    (0..runs).map(|seed| run(plan, traffic, &mut SmallRng::seed_from_u64(0x5e_0000 + seed)).unwrap()).collect()
}

fn without_warm_up(plan: &mut Plan) {
    plan.analysis.warm_up = Duration::ZERO;
}

#[test]
fn a_canary_that_fails_every_request_is_gone_after_37_requests() {
    let outcomes = releases(&plan(without_warm_up), &traffic(100.0, answers(0.0), answers(1.0)), 2_000);
    let summary = Summary::of(&outcomes);
    assert_eq!(summary.rolled_back, 2_000);
    let (median, p95) = summary.rollback.unwrap().requests;
    assert!((35..=39).contains(&median), "median {median}, wanted 37");
    assert!((72..=80).contains(&p95), "p95 {p95}, wanted 76");
}

#[test]
fn smaller_faults_take_as_long_as_the_method_says() {
    for (canary, runs, wanted) in [(0.2, 200, 245), (0.05, 100, 1_550)] {
        let outcomes = releases(&plan(without_warm_up), &traffic(500.0, answers(0.005), answers(canary)), runs);
        let summary = Summary::of(&outcomes);
        assert_eq!(summary.rolled_back, runs, "{canary}");
        let (median, _) = summary.rollback.unwrap().requests;
        assert!((wanted * 3 / 4..=wanted * 5 / 4).contains(&median), "{canary}: median {median}, wanted {wanted}");
    }
}

#[test]
fn an_equally_good_canary_is_promoted_and_not_rolled_back() {
    let latency = Latency::LogNormal { median: Duration::from_millis(40), p99: Duration::from_millis(240) };
    let good = Behaviour { error_rate: 0.005, latency };
    let summary = Summary::of(&releases(&plan(|_| ()), &traffic(10.0, good, good), 40));
    assert_eq!((summary.rolled_back, summary.promoted), (0, 40));
    let (median, _) = summary.promotion.unwrap().seconds;
    assert!((280.0..2_000.0).contains(&median), "{median} s");
}

/// A floor far below the failures of both, so that only the ratio test is in the way of false rollbacks.
#[test]
fn false_rollbacks_keep_to_the_level_over_the_whole_release() {
    let strict = plan(|plan| {
        without_warm_up(plan);
        plan.analysis.max_error_rate = 0.001;
        plan.analysis.tolerance = 1.0;
        plan.analysis.false_rollback_rate = 0.1;
        plan.analysis.slower_than = None;
        plan.steps = vec![Step { min_requests: 1_000, ..Step::new(30) }, Step::new(99)];
    });
    let both = traffic(50.0, answers(0.2), answers(0.2));
    let outcomes = releases(&strict, &Traffic { longest: Duration::from_secs(60), ..both }, 300);
    let summary = Summary::of(&outcomes);
    let most = 30.0 + 3.0 * (30.0_f64 * 0.9).sqrt();
    assert!(summary.rolled_back as f64 <= most, "{} of 300 at 10 %", summary.rolled_back);
    assert!(summary.rolled_back > 0, "a test that never errs at all is not this one");
}

/// Thirty times worse than stable, and yet too good to be sent back: 0.3 % where 1 % is allowed.
#[test]
fn below_the_floor_nothing_is_rolled_back() {
    let summary = Summary::of(&releases(&plan(|_| ()), &traffic(200.0, answers(0.0001), answers(0.003)), 10));
    assert_eq!((summary.rolled_back, summary.promoted), (0, 10));
}

#[test]
fn a_slower_canary_is_found() {
    let slow = Behaviour {
        error_rate: 0.0,
        latency: Latency::LogNormal { median: Duration::from_millis(60), p99: Duration::from_millis(600) },
    };
    let quick = Behaviour {
        error_rate: 0.0,
        latency: Latency::LogNormal { median: Duration::from_millis(40), p99: Duration::from_millis(240) },
    };
    let outcomes = releases(&plan(|_| ()), &traffic(100.0, quick, slow), 20);
    assert!(outcomes.iter().all(|outcome| outcome.state == State::RolledBack));
    assert!(outcomes.iter().all(|outcome| outcome.transitions.last().unwrap().reason == Reason::Latency));
}

#[test]
fn an_outage_of_both_rolls_nothing_back() {
    let outage = Traffic {
        change: Some(Change { after: Duration::from_secs(40), stable: answers(1.0), canary: answers(1.0) }),
        longest: Duration::from_secs(100),
        ..traffic(100.0, answers(0.005), answers(0.005))
    };
    for outcome in releases(&plan(|_| ()), &outage, 20) {
        assert_eq!(outcome.state, State::Running { step: 0, phase: Phase::Held });
        assert!(outcome.transitions.iter().any(|moved| moved.reason == Reason::BothFail));
    }
}

/// Failures of the canary come at once, those of stable after four seconds: nobody is to be blamed for being quick.
#[test]
fn a_canary_that_fails_faster_is_not_worse() {
    let quick = Behaviour { error_rate: 0.3, latency: Latency::Fixed(Duration::from_millis(1)) };
    let slow = Behaviour { error_rate: 0.3, latency: Latency::Fixed(Duration::from_secs(4)) };
    let both = Traffic { longest: Duration::from_secs(60), ..traffic(50.0, slow, quick) };
    let summary = Summary::of(&releases(&plan(|plan| plan.analysis.slower_than = None), &both, 40));
    assert_eq!(summary.rolled_back, 0);
}

#[test]
fn a_leak_that_begins_after_twenty_minutes_of_health_is_found() {
    let leak = Traffic {
        change: Some(Change { after: Duration::from_secs(1_200), stable: answers(0.005), canary: answers(0.1) }),
        ..traffic(20.0, answers(0.005), answers(0.005))
    };
    let long = plan(|plan| {
        plan.steps = vec![Step { min_duration: Duration::from_secs(7_200), ..Step::new(10) }, Step::new(100)];
        plan.analysis.max_step_duration = Duration::from_secs(10_000);
    });
    let outcomes = releases(&long, &leak, 10);
    for outcome in &outcomes {
        assert_eq!(outcome.state, State::RolledBack);
        let after = outcome.at.as_secs_f64() - 1_200.0;
        assert!((0.0..240.0).contains(&after), "found {after} s after it began");
    }
}

#[test]
fn almost_no_traffic_holds() {
    let outcome = run(
        &plan(|_| ()),
        &Traffic { longest: Duration::from_secs(7_200), ..traffic(0.01, answers(0.0), answers(0.0)) },
        &mut SmallRng::seed_from_u64(1),
    );
    assert_eq!(outcome.unwrap().state, State::Running { step: 0, phase: Phase::Held });
}

#[test]
fn the_same_seed_gives_the_same_release() {
    let traffic = traffic(20.0, answers(0.01), answers(0.05));
    let one = releases(&plan(|_| ()), &traffic, 2);
    assert_eq!(one, releases(&plan(|_| ()), &traffic, 2));
    assert_ne!(one[0].requests, one[1].requests);
}

fn recorded(nth: u64, canary_fails: bool) -> Recorded {
    let version = if nth.is_multiple_of(10) { Arm::Canary } else { Arm::Stable };
    let bad = canary_fails && version == Arm::Canary;
    let (at, latency) = (Duration::from_millis(nth * 10), Duration::from_millis(20));
    Recorded { at, version, share: 0.1, bad, latency, key: None }
}

#[test]
fn written_down_traffic_is_judged_by_the_same_code() {
    let bad = replay(&plan(|_| ()), (0..20_000).map(|nth| recorded(nth, true))).unwrap();
    assert_eq!(bad.state, State::RolledBack);
    let last = bad.transitions.last().unwrap();
    assert!(last.sentence.starts_with("would have rolled back shop at 10 %: v2 took 4 of 4"), "{}", last.sentence);
    assert!(last.at >= Duration::from_secs(10) && last.at < Duration::from_secs(11), "{:?}", last.at);
    let good = replay(&plan(|_| ()), (0..9_000).map(|nth| recorded(nth, false))).unwrap();
    assert_eq!(good.state, State::Running { step: 1, phase: Phase::Gathering });
    assert_eq!(good.requests, 9_000);
}

#[test]
fn a_summary_has_medians_and_honest_intervals() {
    let mut outcomes = releases(&plan(without_warm_up), &traffic(50.0, answers(0.0), answers(1.0)), 9);
    outcomes.iter_mut().enumerate().for_each(|(nth, outcome)| outcome.counted = nth as u64);
    outcomes[0].state = State::Promoted;
    outcomes[1].state = State::Idle;
    let summary = Summary::of(&outcomes);
    assert_eq!((summary.runs, summary.rolled_back, summary.promoted, summary.undecided), (9, 7, 1, 1));
    assert_eq!(summary.rollback.unwrap().requests, (5, 8));
    let (low, high) = summary.rolled_back_between;
    assert!((low - 0.3999).abs() < 1e-3 && (high - 0.9719).abs() < 1e-3, "{low} {high}");
    assert_eq!(Summary::of(&[]).rollback, None);
}
