//! The weighted pick: `cargo bench --bench split`.

use divan::{Bencher, black_box, counter::ItemsCount};
use serin::routing::Split;

fn main() {
    divan::main();
}

/// Enough draws that neither the clock nor a branch predictor that learnt them by heart decides.
const DRAWS: usize = 1 << 14;

#[divan::bench(args = [1, 2, 3, 8])]
fn pick(bencher: Bencher<'_, '_>, destinations: usize) {
    let split = Split::new((0..destinations).map(|number| (number, 10)).collect()).expect("the weights are positive");
    let mut state = 1u64;
    let draws: Vec<u64> = (0..DRAWS)
        .map(|_| {
            // Steele and Vigna's SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
        .collect();
    bencher.counter(ItemsCount::new(DRAWS)).bench_local(|| {
        for draw in &draws {
            black_box(black_box(&split).pick(*draw));
        }
    });
}
