//! How many retries a version may cost. Without a word in the configuration: a fifth of its requests, and three a second
//! besides. With a `retryBudget` it is Envoy's: so many retries at once, by the requests under way or of an interval. A
//! version that fails every request must not get a multiple of its load on top. Asked only when a retry is wanted, so that
//! a request that needs none pays nothing for it. Pure: counts and the time are arguments.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long requests and retries are remembered where no budget is configured.
pub const MEMORY: Duration = Duration::from_secs(10);
/// The parts of that time that are forgotten one by one (Envoy has as many).
const SLOTS: u64 = 10;
/// Retries that are always allowed, a slot of [`MEMORY`]: a second.
const ALWAYS: u64 = 3;
/// One retry more for so many requests.
const REQUESTS_A_RETRY: u64 = 5;

/// `retryBudget`: how many retries of a cluster may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// The share of the requests that may be retries, in percent. Istio's default, 20.
    pub percent: f64,
    /// As many may be in any case. Istio's default, 3.
    pub minimum: u32,
    /// The requests of so long count; zero, Istio's default: those under way.
    pub interval: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20.0, minimum: 3, interval: Duration::ZERO }
    }
}

impl RetryBudget {
    /// The most retries at once when there are so many requests. Part of a retry is none.
    pub fn most(&self, requests: u64) -> u32 {
        // `as` saturates.
        ((self.percent / 100.0 * requests as f64) as u32).max(self.minimum)
    }

    /// How long requests have to be remembered for it.
    pub fn memory(&self) -> Option<Duration> {
        (!self.interval.is_zero()).then_some(self.interval)
    }
}

/// The memory of one version's requests and retries. Outlives reloads.
#[derive(Debug)]
pub struct Budget(Mutex<Memory>);

/// Requests and retries of the last time, in slots.
#[derive(Debug)]
struct Memory {
    started: Instant,
    /// How long a slot is, in nanoseconds.
    length: u128,
    /// The number since `started` of the slot that `slots[number % SLOTS]` counts.
    number: u64,
    slots: [Slot; SLOTS as usize],
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
    /// A budget whose first look comes later: `attempts` were made so far. It remembers for as long as `memory`.
    pub fn new(attempts: u64, memory: Duration) -> Self {
        let memory = Memory {
            started: Instant::now(),
            length: (memory.as_nanos() / u128::from(SLOTS)).max(1),
            number: 0,
            slots: [Slot::default(); SLOTS as usize],
            attempts,
            granted: 0,
        };
        Self(Mutex::new(memory))
    }

    /// How many attempts were made within its memory. `attempts` is the number of those made in all so far.
    pub fn remembered(&self, attempts: u64, now: Instant) -> u64 {
        let mut memory = self.lock();
        memory.look(attempts, now);
        memory.slots.iter().map(|slot| slot.requests).sum()
    }

    /// Takes one retry out, if there is one. `attempts` is the number of attempts made in all so far, retries included.
    pub fn withdraw(&self, attempts: u64, now: Instant) -> bool {
        let mut memory = self.lock();
        memory.look(attempts, now);
        memory.withdraw()
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Whatever panicked meanwhile, the counts are at worst a little off.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Notes the requests since the last look, as if they had come evenly since then.
    fn look(&mut self, attempts: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started).as_nanos();
        let number = u64::try_from(elapsed / self.length).unwrap_or(u64::MAX);
        let passed = number.saturating_sub(self.number);
        let made = attempts.saturating_sub(self.attempts);
        let requests = made.saturating_sub(self.granted);
        // A retry that was granted a moment ago may not have been counted as an attempt yet.
        self.granted -= self.granted.min(made);
        self.attempts = attempts.max(self.attempts);
        for step in 0..passed.min(SLOTS) {
            *self.slot(number - step) = Slot { requests: requests / passed, retries: 0 };
        }
        self.number = number.max(self.number);
        // Over more than is remembered, what is left over may be of any time.
        if passed <= SLOTS {
            self.slot(self.number).requests += requests.checked_rem(passed).unwrap_or(requests);
        }
    }

    fn slot(&mut self, number: u64) -> &mut Slot {
        &mut self.slots[(number % SLOTS) as usize]
    }

    fn withdraw(&mut self) -> bool {
        let requests: u64 = self.slots.iter().map(|slot| slot.requests).sum();
        let retries: u64 = self.slots.iter().map(|slot| slot.retries).sum();
        let allowed = ALWAYS * SLOTS + requests / REQUESTS_A_RETRY;
        if retries >= allowed {
            return false;
        }
        self.slot(self.number).retries += 1;
        self.granted += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every request wants so many retries; returns how many were granted in each step of a tenth of a second.
    fn storm(requests: &[u64], wanted: u64) -> Vec<u64> {
        let start = Instant::now();
        let budget = Budget::new(0, MEMORY);
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
        let budget = Budget::new(0, MEMORY);
        assert!(budget.withdraw(1_000, start));
        let later = start + Duration::from_secs(3600);
        // A thousand an hour is less than three in ten seconds.
        let granted = (0..100).take_while(|n| budget.withdraw(2_001 + n, later)).count();
        assert_eq!(granted, 30);
    }

    #[test]
    fn a_share_of_the_requests_may_be_retries_and_never_less_than_the_minimum() {
        let budget = RetryBudget::default();
        assert_eq!([0, 1, 15, 19, 20, 100].map(|requests| budget.most(requests)), [3, 3, 3, 3, 4, 20]);
        let other = RetryBudget { percent: 0.5, minimum: 0, ..budget };
        assert_eq!([0, 199, 200, 1_000].map(|requests| other.most(requests)), [0, 0, 1, 5]);
        assert_eq!(RetryBudget { percent: 100.0, ..budget }.most(u64::MAX), u32::MAX);
    }

    #[test]
    fn requests_are_remembered_only_where_an_interval_is_given() {
        let interval = Duration::from_millis(5);
        let memory = |interval| RetryBudget { interval, ..RetryBudget::default() }.memory();
        assert_eq!((memory(Duration::ZERO), memory(interval)), (None, Some(interval)));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_remembered_for_as_long_as_the_interval_says() {
        let start = Instant::now();
        let budget = Budget::new(100, Duration::from_millis(500));
        let seen = |attempts, millis| budget.remembered(attempts, start + Duration::from_millis(millis));
        assert_eq!(seen(130, 0), 30, "those of before it do not count");
        assert_eq!(seen(150, 240), 50);
        assert_eq!(seen(150, 499), 50);
        assert_eq!(seen(150, 500), 20);
        assert_eq!(seen(150, 760), 0);
        // Over what nobody looked at, they are spread evenly: half of a second is remembered.
        assert_eq!(seen(350, 1_760), 100);
        // Too few for each slot, and none of them is older than what is remembered.
        assert_eq!(seen(357, 2_260), 7);
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

        /// Whatever fails when: retries that were granted and not made yet, requests that nobody looked at, long pauses.
        #[test]
        fn no_schedule_costs_more_than_a_fifth_and_three_a_second(events in prop::collection::vec(0_u8..12, 1..2_000)) {
            let start = Instant::now();
            let budget = Budget::new(0, MEMORY);
            let (mut requests, mut granted, mut pending, mut millis) = (0_u64, 0_u64, 0_u64, 0_u64);
            for event in events {
                match event {
                    0..=2 => requests += 1,
                    3..=7 => {
                        let now = start + Duration::from_millis(millis);
                        let made = requests + granted - pending;
                        let taken = u64::from(budget.withdraw(made, now));
                        (granted, pending) = (granted + taken, pending + taken);
                    }
                    8 => pending = pending.saturating_sub(1),
                    9 => pending = 0,
                    10 => millis += 37,
                    _ => millis += 1_900,
                }
                // What may be spent at once at the start is as much as ten seconds bring.
                let allowed = requests / 5 + 3 * (millis / 1_000 + 10);
                prop_assert!(granted <= allowed, "{granted} retries of {requests} requests in {millis} ms");
            }
        }
    }
}
