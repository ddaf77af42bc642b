//! Where randomness enters the data plane: one uniform 64-bit number per decision.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng, make_rng};

thread_local! {
    /// Each worker is one thread, so each has a generator of its own, seeded by the operating system.
    static GENERATOR: RefCell<SmallRng> = RefCell::new(make_rng());
}

/// The source of draws.
#[derive(Debug, Default)]
pub struct Draws {
    /// With `--seed`: the seed, and how many draws were made by all workers together.
    seeded: Option<(u64, AtomicU64)>,
}

impl Draws {
    /// Unpredictable draws, or with a seed the same sequence in every run, in the order in which requests arrive.
    pub fn new(seed: Option<u64>) -> Self {
        Self { seeded: seed.map(|seed| (seed, AtomicU64::new(0))) }
    }

    /// The next draw, uniform over all 64-bit numbers.
    pub fn next(&self) -> u64 {
        match &self.seeded {
            None => GENERATOR.with_borrow_mut(Rng::next_u64),
            Some((seed, count)) => {
                let nth = count.fetch_add(1, Ordering::Relaxed);
                SmallRng::seed_from_u64(seed.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15))).next_u64()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_sequence_and_another_does_not() {
        let sequence = |seed| {
            let draws = Draws::new(seed);
            (0..64).map(|_| draws.next()).collect::<Vec<_>>()
        };
        assert_eq!(sequence(Some(7)), sequence(Some(7)));
        assert_ne!(sequence(Some(7)), sequence(Some(8)));
        assert_ne!(sequence(None), sequence(None));
    }

    #[test]
    fn draws_are_uniform() {
        for draws in [Draws::new(Some(3)), Draws::new(None)] {
            let mut counts = [0_u32; 10];
            for _ in 0..100_000 {
                counts[((u128::from(draws.next()) * 10) >> 64) as usize] += 1;
            }
            // Standard deviation 95; six of them.
            assert!(counts.iter().all(|count| count.abs_diff(10_000) < 570), "{counts:?}");
        }
    }
}
