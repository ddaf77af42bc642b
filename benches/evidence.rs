//! What judging a release costs: one bad event, one tick, and a whole release that is simulated.

use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serin::rollout::simulate::{Behaviour, Latency, Traffic, run};
use serin::rollout::{Analysis, Arm, Bad, Count, Mode, Plan, Rollout, Step, Test, Totals, Verb};

fn main() {
    divan::main();
}

fn plan() -> Plan {
    Plan {
        name: "shop".to_owned(),
        virtual_service: "shop-vs".to_owned(),
        route: "main".to_owned(),
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
        steps: [10, 30, 50, 100].into_iter().map(Step::new).collect(),
        analysis: Analysis { slower_than: Some(Duration::from_millis(300)), ..Analysis::default() },
        mode: Mode::Run,
        latency_edges: (1..37).map(|edge| Duration::from_millis(edge * 10)).collect(),
    }
}

/// A release after an hour at this many requests a second, of which one in a hundred failed on both versions.
fn in_the_middle(rps: u64) -> (Rollout, Totals, Duration) {
    let mut rollout = Rollout::new(plan()).expect("the plan is one");
    rollout.apply(Verb::Start, Duration::ZERO).expect("it is idle");
    let mut totals = Totals::default();
    for count in [&mut totals.stable, &mut totals.canary] {
        *count = Count { latency: vec![0; 37], ..Count::default() };
    }
    let mut at = Duration::ZERO;
    for second in 1..3_600 {
        at = Duration::from_secs(second);
        totals.stable.routed += rps * 9 / 10;
        totals.canary.routed += rps / 10;
        rollout.totals(&totals, at);
        // Too few have finished to advance.
        (0..rps / 100).for_each(|n| rollout.bad(&bad(at, nth(second * (rps / 100) + n))));
        rollout.decide(at);
    }
    assert!(rollout.state().is_active(), "it is not decided");
    (rollout, totals, at)
}

/// Every tenth is the canary's.
fn nth(n: u64) -> Arm {
    if n.is_multiple_of(10) { Arm::Canary } else { Arm::Stable }
}

fn bad(at: Duration, arm: Arm) -> Bad {
    Bad { at, arm, test: Test::Error, share: 0.1, key: None }
}

/// One bad event and the decision on it.
#[divan::bench(args = [100, 1_000], sample_size = 1_000)]
fn bad_event(bencher: Bencher, rps: u64) {
    let (mut rollout, _, at) = in_the_middle(rps);
    let mut n = 0_u64;
    bencher.bench_local(|| {
        n += 1;
        rollout.bad(&bad(black_box(at), nth(n)));
        rollout.decide(at).len()
    });
}

/// One reading of the counters and the decision on it.
#[divan::bench(sample_size = 1_000)]
fn tick(bencher: Bencher) {
    let (mut rollout, mut totals, mut at) = in_the_middle(1_000);
    bencher.bench_local(|| {
        at += Duration::from_millis(100);
        totals.canary.routed += 10;
        rollout.totals(black_box(&totals), at);
        rollout.decide(at).len()
    });
}

/// A healthy release from start to end.
#[divan::bench(args = [1, 100], sample_count = 20)]
fn simulated_release(bencher: Bencher, rps: u64) {
    let latency = Latency::LogNormal { median: Duration::from_millis(40), p99: Duration::from_millis(240) };
    let good = Behaviour { error_rate: 0.005, latency };
    let longest = Duration::from_secs(24 * 3_600);
    let traffic = Traffic { rps: rps as f64, stable: good, canary: good, change: None, declared: 0.1, longest };
    let (plan, mut seed) = (plan(), 0);
    bencher.bench_local(|| {
        seed += 1;
        run(&plan, &traffic, &mut SmallRng::seed_from_u64(seed)).expect("the plan is one").requests
    });
}
