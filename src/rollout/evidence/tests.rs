//! The vectors of the method, its invariances, and its level.

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[track_caller]
fn close(got: f64, wanted: f64) {
    assert!((got - wanted).abs() < 1e-6, "got {got}, wanted {wanted}");
}

/// Bad events of stable and the canary while the canary's share was this.
type Phase = (f64, u64, u64);

fn ratio(tolerance: f64, phases: &[Phase]) -> Ratio {
    let mut ratio = Ratio::new(tolerance);
    for (share, stable, canary) in phases {
        ratio.bad(Arm::Stable, *share, *stable);
        ratio.bad(Arm::Canary, *share, *canary);
    }
    ratio
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bad(at: u64, arm: Arm, share: f64) -> Bad {
    Bad { at: seconds(at), arm, test: Test::Error, share, key: None }
}

#[test]
fn vector_1_event_by_event() {
    let wanted = [
        -0.358_625, -0.603_648, 0.326_943, 0.040_085, 1.073_181, 2.329_013, 1.873_131, 3.192_490, 4.674_585, 6.284_183,
    ];
    let mut ratio = Ratio::new(1.0);
    for (letter, wanted) in "SSCSCCSCCC".chars().zip(wanted) {
        ratio.bad(if letter == 'S' { Arm::Stable } else { Arm::Canary }, 0.1, 1);
        close(ratio.ln_plain(), wanted);
        if letter == 'C' && wanted > 4.0 && wanted < 5.0 {
            close(ratio.ln_plain().exp() / 107.188_061, 1.0);
        }
    }
}

#[test]
fn vectors_2_and_3_with_two_shares_and_a_tolerance() {
    let phases = [(0.1, 9, 6), (0.3, 8, 9)];
    close(ratio(1.0, &phases[..1]).ln_plain(), 3.669_605);
    close(ratio(1.0, &phases).ln_plain(), 4.809_925);
    close(ratio(1.5, &phases).ln_plain(), 2.021_719);
}

#[test]
fn vector_4_failures_of_a_canary_that_fails_alone() {
    for (share, wanted) in [
        (0.01, [2, 2, 3]),
        (0.05, [2, 3, 4]),
        (0.1, [3, 3, 5]),
        (0.3, [4, 6, 8]),
        (0.5, [6, 9, 13]),
        (0.9, [37, 55, 80]),
        (0.99, [385, 572, 828]),
    ] {
        for (alpha, wanted) in [0.05_f64, 0.01, 0.001].into_iter().zip(wanted) {
            let mut ratio = Ratio::new(1.0);
            let needed = (1..).find(|_| {
                ratio.bad(Arm::Canary, share, 1);
                ratio.ln_plain() >= -alpha.ln()
            });
            assert_eq!(needed, Some(wanted), "share {share}, alpha {alpha}");
        }
    }
}

#[test]
fn vector_l_is_the_same_engine_on_slow_requests() {
    for (stable, canary, wanted) in
        [(162, 32, 2.516_454), (81, 22, 4.421_287), (45, 16, 5.166_660), (27, 12, 5.169_063)]
    {
        close(ratio(1.0, &[(0.1, stable, canary)]).ln_plain(), wanted);
    }
}

/// Computed with 200 bits.
#[test]
fn large_counts_and_extreme_shares_keep_nine_digits() {
    let rows: [(f64, &[Phase], f64); 16] = [
        (1.2, &[(0.000_001, 54_686, 0), (0.1, 2_324_793, 370_363)], -3883.392_748_009_278),
        (1.2, &[(0.3, 0, 1), (0.000_001, 0, 2), (0.999_999, 101, 31)], -41.684_147_068_642_17),
        (1.0, &[(0.3, 636, 132)], -55.607_536_943_072_24),
        (1.0, &[(0.01, 2_356_649, 2_429_418)], 7_044_193.630_638_852),
        (1.2, &[(0.5, 262, 243), (0.01, 11_962, 78)], -65.305_108_976_541_73),
        (1.2, &[(0.5, 64, 8), (0.5, 453, 210), (0.5, 85, 218)], -75.335_187_309_979_82),
        (3.0, &[(0.3, 7_309_390, 3_325_729), (0.01, 943, 14)], -1_287_310.113_404_271),
        (3.0, &[(0.000_001, 27, 0), (0.999_999, 0, 123)], -0.000_585_435_864_728_717_9),
        (3.0, &[(0.9, 2, 0), (0.5, 821_952_668, 673_767_654)], -203_128_445.160_559),
        (1.5, &[(0.5, 143, 794), (0.000_001, 2, 0)], 131.817_619_196_780_5),
        (1.0, &[(0.9, 1, 1), (0.9, 37, 1683)], 80.637_931_813_905_01),
        (1.5, &[(0.9, 32_427_967, 365_251_833), (0.1, 179_401_972_168, 14_589_571_877)], -7_472_370_956.135_356),
        (3.0, &[(0.999_999, 0, 1)], 2.314_816_680_848_575e-7),
        (1.2, &[(0.01, 14, 0)], -0.610_768_846_485_874_4),
        (1.2, &[(0.000_001, 1_422, 0), (0.5, 845_865, 1_754_842)], 84_333.559_332_000_08),
        (1.5, &[(0.5, 36_023, 23_865), (0.000_001, 17, 217), (0.3, 30, 245)], -5_899.653_562_355_292),
    ];
    for (tolerance, phases, wanted) in rows {
        let got = ratio(tolerance, phases).ln_plain();
        assert!((got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{phases:?}: got {got}, wanted {wanted}");
    }
}

#[test]
fn the_absolute_guard_has_the_vectors() {
    for (bad, requests, wanted) in [
        (3, 3, 3.783_733),
        (3, 50, 1.927_909),
        (6, 200, 1.944_592),
        (15, 500, 5.435_938),
        (5, 500, -1.008_728),
        (20, 1000, 2.898_842),
    ] {
        close(Floor::new(0.01).ln_e(bad, requests), wanted);
    }
}

#[test]
fn acceptance_is_walds_test() {
    // One clean request: ln(0.995/0.98); one bad one: ln(0.005/0.02).
    close(ln_acceptance(0, 1, 0.01), 0.015_190_3);
    close(ln_acceptance(1, 1, 0.01), -1.386_294_4);
    let needed = (1..).find(|n| ln_acceptance(0, *n, 0.01) >= LN_ACCEPTED);
    assert_eq!(needed, Some(198));
}

#[test]
fn no_data_is_no_evidence() {
    let evidence = Evidence::new(Test::Error, 1.2, 0.01, seconds(0));
    assert!(Ratio::new(1.2).ln_plain().abs() < f64::EPSILON);
    assert!(Ratio::new(1.2).ln_e().abs() < 1e-15, "the whole stake is there");
    assert!(Floor::new(0.01).ln_e(0, 0).abs() < f64::EPSILON);
    assert!(evidence.engine().ln_guard().abs() < 1e-12, "the whole stake is there");
    assert!((evidence.p() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn what_only_one_version_could_get_says_nothing() {
    let mut ratio = Ratio::new(1.2);
    for share in [0.0, 1.0, f64::NAN, -1.0, 2.0] {
        ratio.bad(Arm::Canary, share, 1);
        ratio.bad(Arm::Stable, share, 1);
    }
    assert_eq!(ratio, Ratio::new(1.2));
}

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

#[test]
fn other_limits_are_tried_on_what_happened() {
    let mut evidence = Evidence::new(Test::Error, 1.2, 0.01, seconds(0));
    for second in 1..=8 {
        evidence.requests(second * 2, seconds(second));
        evidence.bad(&bad(second, if second < 7 { Arm::Canary } else { Arm::Stable }, 0.1));
        evidence.decided(second);
    }
    let against = |tolerance, floor, odds: f64| evidence.tape().what_if(tolerance, floor, odds.ln()).unwrap().against;
    assert_eq!(against(1.2, 0.01, 20.0), Some(seconds(3)));
    assert_eq!(against(1.2, 0.01, 200.0), Some(seconds(5)));
    assert_eq!(against(9.0, 0.01, 200.0), None, "nine times worse would be tolerated");
    assert_eq!(against(1.2, 0.2, 200.0), None, "a fifth may fail");
}

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

proptest! {
    #[test]
    fn the_order_inside_a_phase_does_not_matter(
        stable in 0u64..300, canary in 0u64..300, seed: u64, share in 0.01f64..0.99, cut in 0.0f64..1.0,
    ) {
        let whole = ratio(1.2, &[(share, stable, canary)]);
        let mut shuffled = Ratio::new(1.2);
        let (mut s, mut c, mut random) = (stable, canary, SmallRng::seed_from_u64(seed));
        while s + c > 0 {
            let arm = if random.random_range(0..s + c) < s { Arm::Stable } else { Arm::Canary };
            if arm == Arm::Stable { s -= 1 } else { c -= 1 };
            shuffled.bad(arm, share, 1);
        }
        let part = |count: u64| (count as f64 * cut) as u64;
        let split = ratio(1.2, &[
            (share, part(stable), part(canary)), (share, stable - part(stable), canary - part(canary)),
        ]);
        prop_assert!((whole.ln_plain() - shuffled.ln_plain()).abs() < 1e-9 * whole.ln_plain().abs().max(1.0));
        prop_assert!((whole.ln_plain() - split.ln_plain()).abs() < 1e-9 * whole.ln_plain().abs().max(1.0));
    }

    #[test]
    fn a_canary_failure_never_lowers_and_a_stable_failure_never_raises(
        stable in 0u64..2_000, canary in 0u64..2_000, share in 1e-6f64..0.999_999, tolerance in 1.0f64..5.0,
    ) {
        let before = ratio(tolerance, &[(share, stable, canary)]);
        let (mut worse, mut better) = (before.clone(), before.clone());
        worse.bad(Arm::Canary, share, 1);
        better.bad(Arm::Stable, share, 1);
        prop_assert!(worse.ln_plain() >= before.ln_plain() && better.ln_plain() <= before.ln_plain());
        prop_assert!(worse.ln_e() >= before.ln_e() && better.ln_e() <= before.ln_e());
    }

    #[test]
    fn counts_up_to_a_million_million_give_numbers(
        stable in 0.0f64..12.0, canary in 0.0f64..12.0, share in 1e-6f64..0.999_999, floor in 1e-6f64..0.4,
    ) {
        let (stable, canary) = (10f64.powf(stable) as u64, 10f64.powf(canary) as u64);
        let mut ratio = ratio(1.2, &[(share, stable, canary)]);
        ratio.restart();
        prop_assert!(ratio.ln_plain().is_finite() && ratio.ln_e().is_finite());
        prop_assert!(Floor::new(floor).ln_e(canary, canary + stable).is_finite());
        prop_assert!(Floor::new(floor).ln_e(0, stable).is_finite());
        prop_assert!(Floor::new(floor).ln_e(canary, canary).is_finite());
        prop_assert!(ln_acceptance(canary, canary + stable, floor).is_finite());
    }

    /// A new stake is taken from what was not laid yet, and a start that is followed no more leaves its capital to the new one.
    #[test]
    fn a_restart_by_itself_is_no_evidence(
        blocks in prop::collection::vec((0u64..40, 0u64..40, 40u64..2_000), 1..40),
    ) {
        let (mut ratio, mut guard) = (Ratio::new(1.2), Guard::new(Floor::new(0.01), seconds(0), 0));
        let mut requests = 0;
        for (minute, (stable, canary, more)) in blocks.into_iter().enumerate() {
            requests += more;
            ratio.bad(Arm::Stable, 0.1, stable);
            ratio.bad(Arm::Canary, 0.1, canary);
            guard.bad(seconds(minute as u64 * 60), canary);
            guard.requests(requests);
            let before = (ratio.ln_e(), guard.ln_e());
            ratio.restart();
            guard.restart(seconds(minute as u64 * 60));
            prop_assert!((ratio.ln_e() - before.0).abs() < 1e-9 * before.0.abs().max(1.0));
            prop_assert!((guard.ln_e() - before.1).abs() < 1e-9 * before.1.abs().max(1.0));
        }
    }

    /// Kept for each r only, the mixture is the sum over all starts written out.
    #[test]
    fn the_mixture_is_the_sum_over_the_starts(
        blocks in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..30), 1..8), share in 0.05f64..0.95,
    ) {
        let arm = |canary: &bool| if *canary { Arm::Canary } else { Arm::Stable };
        let mut mixed = Ratio::new(1.2);
        let mut sum = 0.0;
        for (position, block) in blocks.iter().enumerate() {
            if position > 0 {
                mixed.restart();
            }
            block.iter().for_each(|canary| mixed.bad(arm(canary), share, 1));
            let mut from_here = Ratio::new(1.2);
            blocks[position..].iter().flatten().for_each(|canary| from_here.bad(arm(canary), share, 1));
            let s = (position + 1) as f64;
            sum += from_here.ln_plain().exp() / (s * (s + 1.0));
        }
        sum += 1.0 / (blocks.len() + 1) as f64;
        prop_assert!((mixed.ln_e() - sum.ln()).abs() < 1e-9);
    }

    /// Live, stored, read back and replayed give the same numbers, shortened or not.
    #[test]
    fn a_tape_replays_to_the_same_numbers(
        events in prop::collection::vec((0u64..4_000, any::<bool>(), 0u64..3, 0u64..8), 1..900),
    ) {
        let mut evidence = Evidence::new(Test::Error, 1.2, 0.01, seconds(0));
        let (mut now, mut requests, mut decisions) = (0, 0, Vec::new());
        for (sequence, (step, canary, back, kind)) in events.into_iter().enumerate() {
            now += step / 500;
            requests += step / 100;
            evidence.requests(requests, seconds(now));
            let arm = if canary { Arm::Canary } else { Arm::Stable };
            match kind {
                0 => {
                    evidence.decided(sequence as u64);
                    let (ln_ratio, ln_guard) = (evidence.engine().ln_ratio(), evidence.engine().ln_guard());
                    decisions.push(Replayed { sequence: sequence as u64, ln_ratio, ln_guard });
                }
                1 if step % 10 == 0 => evidence.step(canary, 0.02, seconds(now)),
                kind => {
                    evidence.bad(&bad(now.saturating_sub(back * 40), arm, if kind % 2 == 0 { 0.1 } else { 0.3 }));
                }
            }
        }
        let read: Evidence = serde_json::from_str(&serde_json::to_string(&evidence).unwrap()).unwrap();
        prop_assert_eq!(&read, &evidence);
        let replayed = read.tape().replay();
        if !read.tape().is_shortened() {
            prop_assert_eq!(replayed.len(), decisions.len());
            prop_assert!(read.tape().what_if(1.2, 0.01, 5.0).is_some());
        }
        for found in replayed {
            let wanted = decisions.iter().find(|decision| decision.sequence == found.sequence).unwrap();
            prop_assert!((found.ln_ratio - wanted.ln_ratio).abs() < 1e-7, "{:?} {:?}", found, wanted);
            prop_assert!((found.ln_guard - wanted.ln_guard).abs() < 1e-7, "{:?} {:?}", found, wanted);
        }
    }
}
