//! Evidence in the course of a release: keys and steps, a long clean record, an outage, a canary that is alone.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[test]
fn a_key_counts_once_in_a_step() {
    let mut evidence = Evidence::new(Test::Error, 1.2, 0.01, seconds(0));
    let keyed = Bad { key: Some(7), ..bad(1, Arm::Canary, 0.1) };
    assert!(evidence.bad(&keyed));
    assert!(!evidence.bad(&keyed));
    assert!(evidence.bad(&Bad { key: Some(8), ..keyed }));
    assert!(evidence.bad(&Bad { key: None, ..keyed }));
    evidence.step(false, 0.01, seconds(2));
    assert!(evidence.bad(&keyed));
    assert_eq!(evidence.counts(), (0, 4));
}

#[test]
fn the_set_of_keys_is_bounded() {
    let mut keys = Keys::default();
    assert!((0..2_000).all(|key| keys.is_first(key)));
    assert!(keys.is_first(0), "forgotten");
    assert!(!keys.is_first(1_999));
    assert!(serde_json::to_string(&keys).unwrap().len() < 8_192);
}

/// 20 minutes of health at 1,000 requests a second, then every third canary request fails.
fn events_until_late_breakage_is_found(restarts: bool) -> u64 {
    let (mut ratio, mut guard) = (Ratio::new(1.2), Guard::new(Floor::new(0.01), seconds(0), 0));
    let mut canary = 0;
    for minute in 0..20 {
        ratio.bad(Arm::Stable, 0.1, 270);
        ratio.bad(Arm::Canary, 0.1, 30);
        canary += 6_000;
        guard.bad(seconds(minute * 60 + 30), 30);
        guard.requests(canary);
        if restarts {
            ratio.restart();
            guard.restart(seconds(minute * 60 + 60));
        }
    }
    let needed = (1..).find(|_| {
        ratio.bad(Arm::Canary, 0.1, 1);
        guard.bad(seconds(1_300), 1);
        canary += 3;
        guard.requests(canary);
        let ln_ratio = if restarts { ratio.ln_e() } else { ratio.ln_plain() };
        ln_ratio >= 200_f64.ln() && guard.ln_e() >= 200_f64.ln()
    });
    needed.unwrap()
}

#[test]
fn a_long_clean_record_is_no_debt() {
    let (with, without) = (events_until_late_breakage_is_found(true), events_until_late_breakage_is_found(false));
    assert!(with <= 15, "{with}");
    assert!(without > 10 * with, "without later starts: {without}");
}

#[test]
fn an_outage_of_both_moves_nothing() {
    let mut random = SmallRng::seed_from_u64(3);
    let mut evidence = Evidence::new(Test::Error, 1.2, 0.01, seconds(0));
    let mut canary = 0;
    for n in 0..5_000 {
        let arm = if random.random_bool(0.1) { Arm::Canary } else { Arm::Stable };
        canary += u64::from(arm == Arm::Canary);
        evidence.requests(canary, seconds(n / 100));
        evidence.bad(&bad(n / 100, arm, 0.1));
        assert!(!evidence.is_against(200_f64.ln()), "after {n}");
    }
    assert!(evidence.engine().ln_guard() > 100.0, "the guard alone saw it");
    assert!(evidence.p() > 0.05);
}

#[test]
fn alone_the_guard_decides_and_begins_anew() {
    let mut evidence = Evidence::new(Test::Error, 1.2, 0.01, seconds(0));
    (0..500).for_each(|_| {
        evidence.bad(&bad(1, Arm::Canary, 0.1));
    });
    evidence.requests(500, seconds(2));
    let before = evidence.engine().ln_guard();
    evidence.step(true, 0.01, seconds(3));
    assert!(before > 1_000.0 && evidence.engine().ln_guard() < 0.0, "{before}");
    let needed = (1..).find(|n| {
        evidence.requests(500 + n, seconds(4));
        evidence.bad(&bad(4, Arm::Canary, 1.0));
        evidence.is_against(200_f64.ln())
    });
    assert_eq!(needed, Some(6));
}
