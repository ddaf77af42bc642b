//! Watches over the workers. One that has died or is stuck cannot be repaired from outside: its connections would hang for ever,
//! and new ones would wait in its queue. The process says which one it was and aborts, so that whoever started it starts it
//! again, and a core dump shows every stack.

use std::io;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failpoint;
use crate::proxy::{Life, Pulse};
use crate::telemetry::{finish_reports, log};

/// How long a worker may stay at one place, and the looks within that time.
const LIMIT: Duration = Duration::from_secs(30);
const LOOKS: u32 = 30;
/// How long the backtrace of a panic may take to be logged, and what is logged to be written, before the process is gone.
const LAST_REPORTS: Duration = Duration::from_secs(5);

/// Starts the watch, for as long as the process lives.
///
/// # Errors
/// There is no thread.
pub(super) fn start(pulses: Vec<Arc<Pulse>>) -> io::Result<()> {
    let limit = failpoint::duration("SERIN_TEST_STUCK_MS", LIMIT);
    let watch = move || {
        let mut watched: Vec<_> = pulses.into_iter().map(Watched::new).collect();
        let mut last = Instant::now();
        loop {
            thread::sleep(limit / LOOKS);
            // If this thread could not run either, the machine or the process was stopped, and no worker is to blame.
            let passed = last.elapsed().min(limit / LOOKS * 2);
            last = Instant::now();
            for (worker, one) in watched.iter_mut().enumerate() {
                if let Some(trouble) = one.look(passed, limit) {
                    die(&format!("serin-worker-{worker} {trouble}, when it was {}", one.pulse.doing()));
                }
            }
        }
    };
    thread::Builder::new().name("serin-watchdog".to_owned()).spawn(watch).map(drop)
}

/// Says why, and aborts.
pub(super) fn die(why: &str) -> ! {
    // Whatever waits to be written leaves room for this.
    log::flush(LAST_REPORTS);
    tracing::error!("{why}; this is a mistake in serin: the process aborts, to be started again");
    finish_reports(LAST_REPORTS);
    log::flush(LAST_REPORTS);
    process::abort()
}

/// A worker, and for how long it has not moved.
#[derive(Debug)]
struct Watched {
    pulse: Arc<Pulse>,
    beats: u64,
    still: Duration,
}

impl Watched {
    fn new(pulse: Arc<Pulse>) -> Self {
        Self { beats: pulse.beats(), pulse, still: Duration::ZERO }
    }

    /// What is wrong with it, after another look.
    fn look(&mut self, passed: Duration, limit: Duration) -> Option<String> {
        match self.pulse.life() {
            Life::Ended => return None,
            Life::Died => return Some("has died".to_owned()),
            Life::Alive => {}
        }
        let beats = self.pulse.beats();
        if beats == self.beats {
            self.still += passed;
        } else {
            (self.beats, self.still) = (beats, Duration::ZERO);
        }
        (self.still >= limit).then(|| format!("has not moved for {:.0?}", self.still))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_worker_that_does_not_move_for_long_enough_is_stuck() {
        let mut watched = Watched::new(Arc::default());
        let mut look = || watched.look(SECOND, LIMIT);
        assert!((0..29).all(|_| look().is_none()));
        assert_eq!(look().as_deref(), Some("has not moved for 30s"));
    }
}
