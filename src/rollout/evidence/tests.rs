//! The evidence of the method: vectors, its course in a release, what never changes, its level, its tape.

mod course;
mod invariants;
mod level;
mod tape;
mod vectors;

use super::*;

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
