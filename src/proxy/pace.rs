//! What a worker does when it cannot keep up: it takes fewer requests, as many as it turns out to manage.
//!
//! **What is measured.** A task of the worker's own runtime that wants to run 20 times a second. It waits in the same queue as the
//! tasks of all connections, so that its delay is that of every step of every request. (A timer of the runtime's main future would
//! not do: it has its turn after 61 tasks, however many wait.)
//!
//! **When.** Every tick of at least a second was late by more than the limit (`--max-worker-delay`, 50 ms). A single stop
//! counts for a quarter of a second at most: a process that was stopped, or a machine that slept, is not overloaded.
//!
//! **What.** The worker admits fewer requests a second than it did: an eighth less after each tick that is late, an eighth more
//! after each that is not, if that was too few. So it finds the rate at which the delay is about the limit, and follows it when requests become dearer or
//! cheaper. It is the rate that is limited and not the number under way, because that is what the processor pays for: thousands of
//! requests that wait for their endpoints make nobody late. The rate starts at what was admitted while it was late, which is what the
//! worker manages, less an eighth. It never falls below a sixteenth of that: where turning away is what takes the time, turning away
//! more does not help. Nor are a few requests ([`admission`](super::admission)) ever turned away.
//!
//! **Whoever is turned away waits for his answer**, half a second. To say no takes time, too (a seventh of a
//! request), so many clients that come again at once would keep the worker busy with little else; TCP's own way to slow a sender down is not to answer.
//!
//! **The end.** A second in which nobody was turned away and no tick was late. An eighth more for each tick is ten times as much
//! in a second: whatever the load was, one that the worker can bear is served in full within two.

use std::time::Duration;

use super::admission::{Allowance, Passed};

/// How often a worker shows that it moves.
pub(super) const BEAT: Duration = Duration::from_millis(50);
/// How long a request that is too much for a late worker waits for its answer.
pub(super) const PENANCE: Duration = Duration::from_millis(500);

/// Late for so long, a worker is overloaded; on time for so long without turning anybody away, it is not any more.
const ENOUGH: Duration = Duration::from_secs(1);
/// What a single tick can add to that.
const ONE_STOP: Duration = Duration::from_millis(250);
/// By how much the rate changes after a tick: an eighth.
const STEP: f64 = 1.0 / 8.0;
/// The part of its first value that the rate always keeps.
const LEAST: f64 = 1.0 / 16.0;
/// A worker is taken to manage at least so many requests a second, even if none came while it was late.
const SLOWEST: f64 = 20.0;

/// See the module. Pure: delays in, allowances out.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    OnTime,
    /// Late, though not for long: what is admitted is counted.
    Late {
        counts_for: Duration,
        time: Duration,
        admitted: usize,
    },
    /// Requests are turned away.
    Overloaded {
        /// Requests a second, and the least that it may become.
        rate: f64,
        least: f64,
        calm: Duration,
    },
}

impl Pace {
    /// For a worker that may be late by `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, state: State::OnTime }
    }

    /// Whether requests are turned away.
    #[cfg(test)]
    fn is_overloaded(&self) -> bool {
        matches!(self.state, State::Overloaded { .. })
    }

    /// The tick came `late`, and since the last one so much has `passed`. What to admit until the next.
    pub(super) fn tick(&mut self, late: Duration, passed: Passed) -> Allowance {
        let (is_late, since) = (late > self.limit, BEAT + late);
        self.state = match self.state {
            State::OnTime | State::Late { .. } if !is_late => State::OnTime,
            State::OnTime => State::Late { counts_for: since.min(ONE_STOP), time: Duration::ZERO, admitted: 0 },
            State::Late { counts_for, time, admitted } => {
                let (counts_for, time) = (counts_for + since.min(ONE_STOP), time + since);
                let admitted = admitted + passed.admitted;
                if counts_for < ENOUGH {
                    State::Late { counts_for, time, admitted }
                } else {
                    let managed = (admitted as f64 / time.as_secs_f64()).max(SLOWEST);
                    State::Overloaded { rate: managed * (1.0 - STEP), least: managed * LEAST, calm: Duration::ZERO }
                }
            }
            State::Overloaded { rate, least, calm } => {
                let rate = match is_late {
                    true => (rate * (1.0 - STEP)).max(least),
                    // Beyond what comes it would grow for ever, and mean nothing when more comes.
                    false if passed.refused > 0 => rate * (1.0 + STEP),
                    false => rate,
                };
                let calm = if is_late || passed.refused > 0 { Duration::ZERO } else { calm + since };
                if calm < ENOUGH { State::Overloaded { rate, least, calm } } else { State::OnTime }
            }
        };
        match self.state {
            State::OnTime => Allowance::All,
            State::Late { .. } => Allowance::Some(usize::MAX),
            // Until the next tick it is as long as since the last, but for a stop.
            State::Overloaded { rate, .. } => Allowance::Some((rate * since.min(ENOUGH).as_secs_f64()).ceil() as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn admitted(admitted: usize) -> Passed {
        Passed { admitted, refused: 0 }
    }

    /// The same tick again and again; what is allowed after the last.
    fn ticks(pace: &mut Pace, count: usize, late: Duration, passed: Passed) -> Allowance {
        (0..count).map(|_| pace.tick(late, passed)).last().unwrap()
    }

    /// Late by 100 ms at each tick, with 15 requests in each.
    fn overloaded() -> Pace {
        let mut pace = Pace::new(LIMIT);
        for tick in 1..=7 {
            assert!(!pace.is_overloaded(), "{tick}");
            pace.tick(ms(100), admitted(15));
        }
        assert!(pace.is_overloaded());
        pace
    }

    #[test]
    fn late_for_a_second_it_admits_less_than_it_managed() {
        let mut pace = Pace::new(LIMIT);
        let all: Vec<_> = (0..7).map(|_| pace.tick(ms(100), admitted(15))).collect();
        assert_eq!(all[..6], [Allowance::Some(usize::MAX); 6]);
        // 100 a second, 7/8 of that in 150 ms.
        assert_eq!(all[6], Allowance::Some(14));
    }

    #[test]
    fn the_rate_does_not_grow_beyond_what_comes() {
        let mut pace = overloaded();
        for _ in 0..1000 {
            ticks(&mut pace, 19, Duration::ZERO, admitted(1));
            pace.tick(ms(60), admitted(1));
        }
        let refused = Passed { admitted: 9, refused: 9 };
        let Allowance::Some(count) = pace.tick(ms(100), refused) else { panic!("it is limited") };
        assert!(count < 20, "{count}");
    }

    #[test]
    fn one_tick_on_time_makes_good_for_all_before() {
        let mut pace = Pace::new(LIMIT);
        for _ in 0..100 {
            ticks(&mut pace, 6, ms(100), admitted(15));
            assert_eq!(pace.tick(LIMIT, admitted(15)), Allowance::All);
        }
        assert!(!pace.is_overloaded());
    }

    #[test]
    fn long_stops_are_no_overload_however_long() {
        let mut pace = Pace::new(LIMIT);
        for _ in 0..3 {
            pace.tick(Duration::from_secs(3600), admitted(1));
        }
        assert!(!pace.is_overloaded());
        pace.tick(Duration::ZERO, admitted(1));
        pace.tick(Duration::from_secs(3600), admitted(1));
        assert!(!pace.is_overloaded());
    }

    #[test]
    fn the_rate_follows_what_can_be_managed() {
        let mut pace = overloaded();
        // Each request takes 5 ms: 200 a second. As many come as are let in.
        let (mut late, mut sum, mut ticks) = (ms(100), 0, 0);
        for tick in 0..400 {
            let Allowance::Some(count) = pace.tick(late, Passed { admitted: 0, refused: 9 }) else { panic!("{tick}") };
            let since = BEAT + late;
            // What was left to do, and what has come, less what was done meanwhile.
            let work = late + ms(5) * u32::try_from(count).unwrap();
            late = work.saturating_sub(since);
            assert!(late < ms(400), "{late:?} at {tick}");
            if tick >= 100 {
                (sum, ticks) = (sum + count, ticks + since.as_millis());
            }
        }
        let rate = sum as f64 / ticks as f64 * 1e3;
        assert!((160.0..=210.0).contains(&rate), "{rate} a second");
    }

    #[test]
    fn the_rate_has_a_floor_and_is_back_from_there_within_two_seconds() {
        let mut pace = overloaded();
        let refused = Passed { admitted: 1, refused: 1 };
        // A sixteenth of 100 a second.
        assert_eq!(ticks(&mut pace, 100, ms(950), refused), Allowance::Some(7));
        let mut after = Duration::ZERO;
        while let Allowance::Some(count) = pace.tick(Duration::ZERO, refused)
            && (count as f64) < 100.0 * BEAT.as_secs_f64()
        {
            after += BEAT;
        }
        assert!(after < Duration::from_secs(2), "{after:?}");
    }

    #[test]
    fn where_no_request_came_the_rate_can_grow_all_the_same() {
        let mut pace = Pace::new(LIMIT);
        ticks(&mut pace, 7, ms(100), Passed::default());
        let refused = Passed { admitted: 0, refused: 1 };
        let after = ticks(&mut pace, 40, Duration::ZERO, refused);
        assert!(matches!(after, Allowance::Some(50..)), "{after:?}");
    }

    #[test]
    fn it_ends_when_nobody_was_turned_away_for_a_second() {
        let mut pace = overloaded();
        for _ in 0..50 {
            ticks(&mut pace, 19, Duration::ZERO, admitted(1));
            pace.tick(Duration::ZERO, Passed { admitted: 1, refused: 1 });
            assert!(pace.is_overloaded());
        }
        let last = ticks(&mut pace, 20, Duration::ZERO, admitted(1));
        assert_eq!((last, pace.is_overloaded()), (Allowance::All, false));
    }
}
