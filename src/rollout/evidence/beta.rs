//! The beta function and its incomplete form as logarithms, exact far out in the tails, where evidence lives and where the usual
//! functions have long become 0 or 1. Checked against 40 digits of mpmath.

/// ½·ln 2π.
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_7;

/// What Stirling's formula leaves over: ln Γ(x) − (x − ½)·ln x + x − ½·ln 2π, for x > 0.
fn stirling_rest(x: f64) -> f64 {
    let mut rest = 0.0;
    let mut x = x;
    while x < 10.0 {
        rest += (x + 0.5) * x.recip().ln_1p() - 1.0;
        x += 1.0;
    }
    let square = (x * x).recip();
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    rest + series.iter().rev().fold(0.0, |sum, term| sum * square + term) / x
}

/// ln B(a, b) + x·ln(1/p) + y·ln(1/q) with a, b > 0 and p, q the point's two sides: the beta function measured against
/// p^(a−½)·q^(b−½). Written so that what is large cancels before it is rounded.
fn ln_beta_against(a: f64, b: f64, ln_p: f64, ln_q: f64) -> f64 {
    let sum = a + b;
    let ln_share = |part: f64, other: f64| if part < other { (part / sum).ln() } else { (-other / sum).ln_1p() };
    (a - 0.5) * (ln_share(a, b) - ln_p) + (b - 0.5) * (ln_share(b, a) - ln_q) - 0.5 * sum.ln()
        + HALF_LN_TAU
        + stirling_rest(a)
        + stirling_rest(b)
        - stirling_rest(sum)
}

/// The continued fraction of the incomplete beta function (DLMF 8.17.22) by Lentz' method: I_x(a, b) is
/// x^a·(1−x)^b / (a·B(a, b)) times this. Converges in about √max(a, b) rounds for x < (a+1)/(a+b+2).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let away = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let rounds = 200.0 + 10.0 * a.max(b).sqrt();
    let mut c = 1.0;
    let mut d = away(1.0 - (a + b) * x / (a + 1.0)).recip();
    let mut value = d;
    let mut m = 1.0;
    while m < rounds {
        let twice = 2.0 * m;
        let even = m * (b - m) * x / ((a + twice - 1.0) * (a + twice));
        d = away(1.0 + even * d).recip();
        c = away(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + twice) * (a + twice + 1.0));
        d = away(1.0 + odd * d).recip();
        c = away(1.0 + odd / c);
        value *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
        m += 1.0;
    }
    value
}

/// ln(1 − e^x) for x ≤ 0.
fn ln_one_minus_exp(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

/// ln I_x(a, b) and ln(1 − I_x(a, b)), for a, b > 0 and 0 < x < 1. Both are good to a relative 1e-12, however small.
pub(super) fn ln_incomplete(a: f64, b: f64, x: f64) -> (f64, f64) {
    let (ln_x, ln_y) = (x.ln(), (-x).ln_1p());
    // x^a·y^b / B(a, b), with the halves that ln_beta_against has too few.
    let front = 0.5 * (ln_x + ln_y) - ln_beta_against(a, b, ln_x, ln_y);
    if x < (a + 1.0) / (a + b + 2.0) {
        let lower = (front - a.ln() + fraction(a, b, x).ln()).min(0.0);
        (lower, ln_one_minus_exp(lower))
    } else {
        let upper = (front - b.ln() + fraction(b, a, 1.0 - x).ln()).min(0.0);
        (ln_one_minus_exp(upper), upper)
    }
}

/// ln of ∫ t^(a−1)·(1−t)^(b−1) dt from p to 1, measured against p^(a−½)·(1−p)^(b−½). For a, b > 0 and 0 < p < 1.
pub(super) fn ln_upper_against(a: f64, b: f64, p: f64) -> f64 {
    let (ln_p, ln_q) = (p.ln(), (-p).ln_1p());
    if p < (a + 1.0) / (a + b + 2.0) {
        ln_beta_against(a, b, ln_p, ln_q) + ln_incomplete(a, b, p).1
    } else {
        // Here the beta function itself cancels, and with it all that is large.
        0.5 * (ln_p + ln_q) - b.ln() + fraction(b, a, 1.0 - p).ln()
    }
}

/// The smallest k for which k or fewer of n come with a probability of at least `level`, each with probability p.
pub(super) fn binomial_quantile(level: f64, n: u64, p: f64) -> u64 {
    let at_most = |k: u64| if k >= n { 1.0 } else { ln_incomplete(k as f64 + 1.0, (n - k) as f64, p).1.exp() };
    let (mut below, mut found) = (0, n);
    while below < found {
        let middle = below + (found - below) / 2;
        if at_most(middle) >= level {
            found = middle;
        } else {
            below = middle + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ln_beta(a: f64, b: f64) -> f64 {
        ln_beta_against(a, b, 0.0, 0.0)
    }

    #[track_caller]
    fn close(got: f64, wanted: f64, within: f64) {
        assert!((got - wanted).abs() <= within * wanted.abs().max(1e-300), "got {got}, wanted {wanted}");
    }

    #[test]
    fn ln_beta_is_mpmaths() {
        for (a, b, wanted) in [
            (0.5, 49.5, -1.376_096_182_274_203_3),
            (3.5, 49.5, -12.542_579_879_585_728),
            (1e-3, 2.0, 6.906_755_778_649_053_5),
            (12.0, 13.0, -17.295_207_056_576_547),
            (0.5, 1e12, -13.243_145_615_039_449),
            (1e10, 9.9e11, -56_001_534_365.436_302),
            (2.5, 7.0, -4.825_399_338_314_248_3),
        ] {
            close(ln_beta(a, b), wanted, 1e-13);
            close(ln_beta(b, a), wanted, 1e-13);
        }
    }

    #[test]
    fn both_tails_of_the_incomplete_beta_are_mpmaths() {
        for (a, b, x, lower, upper) in [
            (0.5, 49.5, 0.01, -0.385_292_658_233_169_79, -1.140_220_610_577_412_8),
            (3.5, 546.5, 0.01, -0.148_707_531_499_502_91, -1.979_206_299_588_323_5),
            (20.0, 1000.0, 0.01, -5.512_891_944_524_226_1, -0.004_042_583_408_778_931_7),
            (20.0, 1000.0, 0.05, -1.543_246_757_681_865_1e-7, -15.684_207_246_798_522),
            (0.5, 5000.0, 0.01, -1.184_963_648_894_975_5e-23, -52.789_745_040_784_471),
            (300.0, 10_000.0, 0.01, -128.999_288_227_300_63, -9.469_367_104_703_66e-57),
            (1.0, 1.0, 0.3, -1.203_972_804_325_936, -0.356_674_943_938_732_36),
            (50.0, 2.0, 0.5, -31.399_262_489_975_783, -2.309_263_891_220_326_2e-14),
            (2.0, 3.0, 0.999, -3.997_000_007_988_015_2e-9, -19.337_721_757_217_222),
        ] {
            let got = ln_incomplete(a, b, x);
            close(got.0, lower, 1e-9);
            close(got.1, upper, 1e-9);
            let (mirrored_upper, mirrored_lower) = ln_incomplete(b, a, 1.0 - x);
            close(mirrored_lower, lower, 1e-9);
            close(mirrored_upper, upper, 1e-9);
        }
    }

    /// Tables of the binomial distribution by plain summation.
    #[test]
    fn binomial_quantiles_are_those_of_the_sum() {
        for (n, p) in [(1, 0.5), (10, 0.99), (299, 0.99), (1000, 0.99), (500, 0.01)] {
            let mut terms = vec![(1.0 - p as f64).powi(n)];
            (0..n).for_each(|k| {
                let last = terms[terms.len() - 1];
                terms.push(last * f64::from(n - k) / f64::from(k + 1) * p / (1.0 - p));
            });
            if p > 0.9 {
                // The recursion starts from nothing there: count from the other end.
                terms = vec![p.powi(n)];
                (0..n).for_each(|k| {
                    let last = terms[terms.len() - 1];
                    terms.push(last * f64::from(n - k) / f64::from(k + 1) * (1.0 - p) / p);
                });
                terms.reverse();
            }
            for level in [0.001, 0.025, 0.5, 0.975, 0.999] {
                let mut sum = 0.0;
                let wanted = terms.iter().position(|term| {
                    sum += term;
                    sum >= level
                });
                assert_eq!(binomial_quantile(level, n as u64, p), wanted.unwrap() as u64, "{n} {p} {level}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_two_tails_add_up_to_one(a in 0.01f64..1e6, b in 0.01f64..1e6, x in 1e-6f64..0.999_999) {
            let (lower, upper) = ln_incomplete(a, b, x);
            prop_assert!((lower.exp() + upper.exp() - 1.0).abs() < 1e-10);
        }

        #[test]
        fn measured_and_plain_agree(a in 0.1f64..500.0, b in 0.1f64..500.0, p in 0.001f64..0.999) {
            let plain = ln_beta(a, b) + ln_incomplete(a, b, p).1 - (a - 0.5) * p.ln() - (b - 0.5) * (-p).ln_1p();
            prop_assert!((ln_upper_against(a, b, p) - plain).abs() < 1e-8 * plain.abs().max(1.0));
        }
    }
}
