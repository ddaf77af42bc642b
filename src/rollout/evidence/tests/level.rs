//! The level: how often a canary as good as stable is accused, at any number of looks.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// How many of these runs ever reach 1/α by the plain ratio test, over 500 bad events that `draw` charges to a version.
fn false_alarms(runs: u64, alpha: f64, draw: impl Fn(&mut SmallRng) -> Vec<Arm>) -> u64 {
    let mut random = SmallRng::seed_from_u64(20_261_101);
    let fired = |_: &u64| {
        let mut ratio = Ratio::new(1.0);
        draw(&mut random).into_iter().any(|arm| {
            ratio.bad(arm, 0.1, 1);
            ratio.ln_plain() >= -alpha.ln()
        })
    };
    (0..runs).filter(fired).count() as u64
}

fn coin(random: &mut SmallRng) -> Arm {
    if random.random_bool(0.1) { Arm::Canary } else { Arm::Stable }
}

/// The most that three standard deviations above α leave room for.
fn at_most(runs: u64, alpha: f64) -> f64 {
    let expected = runs as f64 * alpha;
    expected + 3.0 * (expected * (1.0 - alpha)).sqrt()
}

#[test]
fn false_alarms_keep_to_the_level_at_any_number_of_looks() {
    for alpha in [0.05, 0.01] {
        let fired = false_alarms(2_000, alpha, |random| (0..500).map(|_| coin(random)).collect());
        assert!(fired as f64 <= at_most(2_000, alpha), "{fired} of 2,000 at {alpha}");
        assert!(fired > 0, "a test that never errs at all is not this one");
    }
}

/// `cargo test --release --lib twenty_thousand -- --ignored --nocapture` prints the figures of docs/rollout.md.
#[test]
#[ignore = "half a minute without optimisation"]
fn twenty_thousand_runs_keep_to_the_level() {
    for alpha in [0.05, 0.01] {
        let fired = false_alarms(20_000, alpha, |random| (0..500).map(|_| coin(random)).collect());
        println!("alpha {alpha}: {fired} of 20,000 ({:?})", proportion(fired, 20_000));
        assert!(fired as f64 <= at_most(20_000, alpha) && fired > 0, "{fired} of 20,000 at {alpha}");
    }
}

/// On a sticky route, users who always fail would be counted again and again for the version that their key drew once.
#[test]
fn users_who_always_fail_are_no_evidence_on_a_sticky_route() {
    let draw = |random: &mut SmallRng, once: bool| {
        let mut keys = Keys::default();
        let users: Vec<Arm> = (0..20).map(|_| coin(random)).collect();
        let requests = (0..500).map(|_| random.random_range(0..20_usize)).collect::<Vec<_>>();
        let counted = requests.into_iter().filter(|user| !once || keys.is_first(*user as u64));
        counted.map(|user| users[user]).collect::<Vec<_>>()
    };
    let per_key = false_alarms(1_000, 0.01, |random| draw(random, true));
    let per_request = false_alarms(1_000, 0.01, |random| draw(random, false));
    assert!(per_key as f64 <= at_most(1_000, 0.01), "{per_key} of 1,000");
    assert!(per_request > 100, "counting requests would be wrong: {per_request} of 1,000");
}
