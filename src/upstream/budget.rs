//! How many retries a version may cost: a fifth of its requests, and three a second besides. A version that fails every
//! request must not get a multiple of its load on top. Asked only when a retry is wanted, so that a request that needs none
//! pays nothing for it. Pure: counts and the time are arguments.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// How long requests and retries are remembered, in seconds.
const MEMORY: u64 = 10;
/// Retries that are always allowed, a second.
const ALWAYS: u64 = 3;
/// One retry more for so many requests.
const REQUESTS_A_RETRY: u64 = 5;

/// The retry budget of one version. Outlives reloads.
#[derive(Debug)]
pub struct Budget(Mutex<Memory>);

/// Requests and retries of the last seconds, one slot a second.
#[derive(Debug)]
struct Memory {
    started: Instant,
    /// The second that `slots[second % MEMORY]` counts.
    second: u64,
    slots: [Slot; MEMORY as usize],
    /// Attempts that were known of at the last look.
    attempts: u64,
    /// Retries granted since then: attempts that are no requests.
    granted: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A budget whose first look comes later: `attempts` were made so far.
    pub fn new(attempts: u64) -> Self {
        let memory = Memory {
            started: Instant::now(),
            second: 0,
            slots: [Slot::default(); MEMORY as usize],
            attempts,
            granted: 0,
        };
        Self(Mutex::new(memory))
    }

    /// Takes one retry out, if there is one. `attempts` is the number of attempts made in all so far, retries included.
    pub fn withdraw(&self, attempts: u64, now: Instant) -> bool {
        // Whatever panicked meanwhile, the counts are at worst a little off.
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.look(attempts, now);
        memory.withdraw()
    }
}

impl Memory {
    /// Notes the requests since the last look, as if they had come evenly since then.
    fn look(&mut self, attempts: u64, now: Instant) {
        let second = now.saturating_duration_since(self.started).as_secs();
        let passed = second.saturating_sub(self.second);
        let made = attempts.saturating_sub(self.attempts);
        let requests = made.saturating_sub(self.granted);
        // A retry that was granted a moment ago may not have been counted as an attempt yet.
        self.granted -= self.granted.min(made);
        self.attempts = attempts.max(self.attempts);
        for step in 0..passed.min(MEMORY) {
            *self.slot(second - step) = Slot { requests: requests / passed, retries: 0 };
        }
        self.second = second.max(self.second);
        if passed < MEMORY {
            self.slot(self.second).requests += requests.checked_rem(passed).unwrap_or(requests);
        }
    }

    fn slot(&mut self, second: u64) -> &mut Slot {
        &mut self.slots[(second % MEMORY) as usize]
    }

    fn withdraw(&mut self) -> bool {
        let requests: u64 = self.slots.iter().map(|slot| slot.requests).sum();
        let retries: u64 = self.slots.iter().map(|slot| slot.retries).sum();
        let allowed = ALWAYS * MEMORY + requests / REQUESTS_A_RETRY;
        if retries >= allowed {
            return false;
        }
        self.slot(self.second).retries += 1;
        self.granted += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Every request wants so many retries; returns how many were granted in each step of a tenth of a second.
    fn storm(requests: &[u64], wanted: u64) -> Vec<u64> {
        let start = Instant::now();
        let budget = Budget::new(0);
        let mut attempts = 0;
        let step = |(index, &count): (usize, &u64)| {
            let now = start + Duration::from_millis(100) * index as u32;
            let mut granted = 0;
            for _ in 0..count {
                attempts += 1;
                for _ in 0..wanted {
                    if !budget.withdraw(attempts, now) {
                        break;
                    }
                    attempts += 1;
                    granted += 1;
                }
            }
            granted
        };
        requests.iter().enumerate().map(step).collect()
    }

    #[test]
    fn a_few_failures_are_all_tried_again() {
        assert_eq!(storm(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 3).iter().sum::<u64>(), 30);
    }

    #[test]
    fn a_version_that_always_fails_gets_a_fifth_more() {
        let granted: u64 = storm(&[100; 600], 3).iter().sum();
        assert!((12_000..=12_000 + 180 + 30).contains(&granted), "{granted}");
    }

    #[test]
    fn requests_of_long_ago_are_forgotten() {
        let start = Instant::now();
        let budget = Budget::new(0);
        assert!(budget.withdraw(1_000, start));
        let later = start + Duration::from_secs(3600);
        // A thousand an hour is less than three in ten seconds.
        let granted = (0..).take_while(|n| budget.withdraw(2_001 + n, later)).count();
        assert_eq!(granted, 30);
    }

    proptest! {
        #[test]
        fn in_no_window_are_there_more_than_allowed(
            requests in prop::collection::vec(0_u64..200, 1..300),
            wanted in 1_u64..4,
        ) {
            let granted = storm(&requests, wanted);
            // Slots are whole seconds, so what a window of nine seconds holds, ten slots hold.
            for start in 0..requests.len() {
                let window = start..(start + 90).min(requests.len());
                let before = window.start.saturating_sub(110);
                let seen: u64 = requests[before..window.end].iter().sum();
                let retries: u64 = granted[window].iter().sum();
                prop_assert!(retries <= 30 + seen / 5, "{retries} retries for {seen} requests");
            }
            let (requests, retries) = (requests.iter().sum::<u64>(), granted.iter().sum::<u64>());
            let seconds = granted.len() as u64 / 10;
            prop_assert!(retries <= requests / 5 + 3 * seconds + 30);
        }
    }
}
