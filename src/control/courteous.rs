//! Long work beside requests: on a thread of its own, to which the scheduler prefers those that serve.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::process::setpriority_process;

/// Behind the workers whenever one of them has something to do, and still a tenth of a core that is never idle.
const NICE: i32 = 10;

/// Lets the scheduler prefer other threads to this one from now on: Linux cannot take that back for a thread. Where it is not
/// allowed, the thread is merely less polite.
pub fn give_way() {
    // Of this thread only, as Linux has it.
    let _ = setpriority_process(None, NICE);
}

/// Does the work and waits for it. Its panic is the caller's.
pub(super) fn courteously<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take().expect("it is done once");
    thread::scope(|scope| {
        let working = thread::Builder::new().name("serin-load".to_owned()).spawn_scoped(scope, || {
            give_way();
            take()()
        });
        match working {
            Ok(working) => working.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // No room for a thread: then here.
            Err(_) => take()(),
        }
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn the_work_has_a_lower_priority_and_the_caller_keeps_its_own() {
        let before = getpriority_process(None).unwrap();
        let within = courteously(|| getpriority_process(None).unwrap());
        assert_eq!((within, getpriority_process(None).unwrap()), (NICE.max(before), before));
    }

    #[test]
    #[should_panic(expected = "on purpose")]
    fn a_panic_comes_through() {
        courteously(|| panic!("on purpose"));
    }
}
