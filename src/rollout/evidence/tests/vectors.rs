//! The vectors of the method, and more that were computed with 200 bits.

use super::*;

#[track_caller]
fn close(got: f64, wanted: f64) {
    assert!((got - wanted).abs() < 1e-6, "got {got}, wanted {wanted}");
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
        (1.2, &[(0.000_001, 54_686, 0), (0.1, 2_324_793, 370_363)], -3_883.392_748_009_278),
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
