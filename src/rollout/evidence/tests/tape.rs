//! The tape: the numbers again from what was noted down, and with other limits.

use proptest::prelude::*;

use super::*;

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

proptest! {
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
