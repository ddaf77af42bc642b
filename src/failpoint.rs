//! Faults on purpose, for the tests that drive the built binary: a debug build obeys the environment, a release has none of this.
//!
//! `SERIN_TEST_FAIL` lists `POINT=ACTION@FIRST-LAST` with commas between: from the FIRST to the LAST time (one number: that time
//! alone) that a thread comes by the point, it panics (`panic`), stays there for ever (`block`), or for so many milliseconds
//! (`block300`).

#[cfg(debug_assertions)]
pub(crate) use armed::{duration, reach};

/// A point of the code where a fault can be put in.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn reach(_point: &str) {}

/// A time that a test may shorten.
#[cfg(not(debug_assertions))]
pub(crate) fn duration(_name: &str, usual: std::time::Duration) -> std::time::Duration {
    usual
}

#[cfg(debug_assertions)]
mod armed {
    use std::env;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::thread;
    use std::time::Duration;

    #[derive(Debug)]
    struct Fault {
        point: String,
        action: Action,
        first: u64,
        last: u64,
        passed: AtomicU64,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Panic,
        Block(Duration),
    }

    static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();

    pub(crate) fn reach(point: &str) {
        let faults = FAULTS.get_or_init(|| match env::var("SERIN_TEST_FAIL") {
            Ok(list) => list.split(',').map(|text| parse(text).expect("POINT=ACTION@FIRST-LAST")).collect(),
            Err(_) => Vec::new(),
        });
        for fault in faults.iter().filter(|fault| fault.point == point) {
            let passed = fault.passed.fetch_add(1, SeqCst) + 1;
            if !(fault.first..=fault.last).contains(&passed) {
                continue;
            }
            match fault.action {
                Action::Panic => panic!("a test wants a panic at {point}"),
                Action::Block(time) => thread::sleep(time),
            }
        }
    }

    pub(crate) fn duration(name: &str, usual: Duration) -> Duration {
        let millis = env::var(name).ok().and_then(|text| text.parse().ok());
        millis.map_or(usual, Duration::from_millis)
    }

    fn parse(text: &str) -> Option<Fault> {
        let (point, rest) = text.split_once('=')?;
        let (action, times) = rest.split_once('@')?;
        let (first, last) = times.split_once('-').unwrap_or((times, times));
        let action = match action.strip_prefix("block") {
            None if action == "panic" => Action::Panic,
            None => return None,
            Some("") => Action::Block(Duration::MAX),
            Some(millis) => Action::Block(Duration::from_millis(millis.parse().ok()?)),
        };
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        Some(Fault { point: point.to_owned(), action, first, last, passed: AtomicU64::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_fault_names_point_action_and_times() {
            let read = |text: &str| parse(text).map(|fault| (fault.point, fault.action, fault.first, fault.last));
            assert_eq!(read("body=panic@3"), Some(("body".to_owned(), Action::Panic, 3, 3)));
            assert_eq!(read("a=block@1-9"), Some(("a".to_owned(), Action::Block(Duration::MAX), 1, 9)));
            assert_eq!(read("a=block20@2").unwrap().1, Action::Block(Duration::from_millis(20)));
            for bad in ["", "a", "a=panic", "a=stop@1", "a=panic@x", "a=blockx@1"] {
                assert!(read(bad).is_none(), "{bad}");
            }
        }
    }
}
