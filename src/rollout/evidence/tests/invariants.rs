//! What holds for any events: where evidence begins, what moves it and which way, and that it is always a number.

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

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
}
