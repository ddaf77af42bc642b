//! Mistakes in Serin itself: every panic of the process is counted, and reported with its place.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A backtrace is logged at most this often, and so is the message of each place: the disk must not fill with a mistake that
/// every request meets.
const PERIOD: Duration = Duration::from_secs(60);
/// Places that are remembered; there are not that many mistakes at once.
const PLACES: usize = 64;

/// The process has one hook, so it has one counter.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Backtraces that are still to be logged.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// How many there were, since [`report_panics`] was called.
pub(super) fn count() -> u64 {
    PANICS.load(Relaxed)
}

/// Counts and logs every panic from now on, instead of what Rust prints. To be called once, by whoever owns the process.
pub fn report_panics() {
    let reported = Mutex::new(Reported::default());
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Relaxed);
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let due = reported.lock().unwrap_or_else(PoisonError::into_inner).due(&place, Instant::now());
        let Some(Due { backtrace, unreported }) = due else { return };
        tracing::error!("{}", describe(panic, &place, unreported));
        if backtrace {
            report(Backtrace::force_capture(), place);
        }
    }));
}

/// Logs a backtrace elsewhere: to find the names takes a while, in which a worker's other requests would wait.
fn report(backtrace: Backtrace, place: String) {
    UNDER_WAY.fetch_add(1, SeqCst);
    let log = move || {
        tracing::error!("the panic at {place} came by this way:\n{backtrace}");
        UNDER_WAY.fetch_sub(1, SeqCst);
    };
    if thread::Builder::new().name("serin-panic".to_owned()).spawn(log).is_err() {
        // Without a thread the backtrace is lost, not the message and not the count.
        UNDER_WAY.fetch_sub(1, SeqCst);
    }
}

/// Waits until what was reported is logged, but no longer than this. For whoever is about to end the process.
pub fn finish_reports(limit: Duration) {
    let since = Instant::now();
    while UNDER_WAY.load(SeqCst) > 0 && since.elapsed() < limit {
        thread::sleep(Duration::from_millis(5));
    }
}

fn describe(panic: &PanicHookInfo<'_>, place: &str, unreported: u64) -> String {
    let name = thread::current().name().unwrap_or("a thread").to_owned();
    let message = panic.payload_as_str().unwrap_or("no message");
    let more = if unreported > 0 { format!(" ({unreported} more went unreported)") } else { String::new() };
    format!("panic in {name} at {place}, a mistake in serin: {message}{more}")
}

/// What was reported, and when.
#[derive(Debug, Default)]
struct Reported {
    backtrace: Option<Instant>,
    places: Vec<(String, Instant)>,
    unreported: u64,
}

/// What is to be reported of one more panic.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    backtrace: bool,
    /// Those that were not, since the last report.
    unreported: u64,
}

impl Reported {
    fn due(&mut self, place: &str, now: Instant) -> Option<Due> {
        let is_recent = |at: &Instant| now.duration_since(*at) < PERIOD;
        self.places.retain(|(_, at)| is_recent(at));
        if self.places.iter().any(|(known, _)| known == place) || self.places.len() >= PLACES {
            self.unreported += 1;
            return None;
        }
        self.places.push((place.to_owned(), now));
        let backtrace = !self.backtrace.as_ref().is_some_and(is_recent);
        if backtrace {
            self.backtrace = Some(now);
        }
        Some(Due { backtrace, unreported: std::mem::take(&mut self.unreported) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_reported_once_a_minute_and_so_is_a_backtrace() {
        let (mut reported, start) = (Reported::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let due = |backtrace, unreported| Some(Due { backtrace, unreported });
        assert_eq!(reported.due("a:1", at(0)), due(true, 0));
        assert_eq!(reported.due("a:1", at(1)), None);
        assert_eq!(reported.due("b:2", at(2)), due(false, 1), "another place, without a backtrace");
        assert_eq!(reported.due("a:1", at(59)), None);
        assert_eq!(reported.due("a:1", at(60)), due(true, 1));
        assert_eq!(reported.due("b:2", at(61)), None);
        for place in 0..10 * PLACES {
            reported.due(&place.to_string(), at(62));
        }
        assert_eq!(reported.places.len(), PLACES);
    }
}
