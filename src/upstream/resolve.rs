//! Names to addresses, on threads of its own: a slow name server delays no request and no other name.
//!
//! The system's resolver is used (`/etc/hosts`, `nsswitch.conf`, search domains), so a name means here what it means to every
//! other program of the host. It tells no time to live, hence the fixed period. The last good answer is kept for ever.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use super::registry::Registry;
use crate::failpoint;

/// How often a name is looked up again.
const PERIOD: Duration = Duration::from_secs(5);
/// How many look-ups may be under way at once.
const AT_ONCE: usize = 32;

/// Looks a name up; blocking.
pub type Lookup = fn(&str) -> io::Result<Vec<IpAddr>>;

/// The system's resolver.
pub fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

enum Event {
    Wake,
    Done(String, io::Result<Vec<IpAddr>>),
    Stop,
}

/// How far the thread has come: whether it has seen the latest wake, and how many names were never answered since.
#[derive(Debug, Default)]
struct Progress {
    wakes: u64,
    seen: u64,
    unanswered: usize,
}

/// The thread that keeps the registry's names resolved. Ends when dropped.
#[derive(Debug)]
pub struct Resolver {
    events: Sender<Event>,
    progress: Arc<(Mutex<Progress>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Starts the thread.
    pub fn start(registry: Arc<Registry>, lookup: Lookup) -> io::Result<Self> {
        let (events, inbox) = mpsc::channel();
        let progress = Arc::new((Mutex::new(Progress::default()), Condvar::new()));
        let mut keeper = Keeper { registry, lookup, events: events.clone(), names: HashMap::new() };
        let shared = Arc::clone(&progress);
        let thread = thread::Builder::new().name("serin-resolve".into()).spawn(move || {
            // A mistake must not leave every name at its last addresses for ever.
            while catch_unwind(AssertUnwindSafe(|| keeper.turn(&shared, &inbox))).unwrap_or_else(|_| {
                tracing::error!("looking after names failed; going on");
                thread::sleep(PERIOD / 5);
                true
            }) {}
        })?;
        Ok(Self { events, progress, thread: Some(thread) })
    }

    /// New names may be there: look them up now.
    pub fn wake(&self) {
        self.progress.0.lock().unwrap_or_else(PoisonError::into_inner).wakes += 1;
        // A thread that is gone has nothing to wake.
        let _ = self.events.send(Event::Wake);
    }

    /// Waits until each name was answered or refused once, or until `limit` is over.
    pub fn settle(&self, limit: Duration) {
        let (progress, changed) = &*self.progress;
        let guard = progress.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_timeout_while(guard, limit, |now| now.seen < now.wakes || now.unanswered > 0));
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Default)]
struct NameState {
    due: Option<Instant>,
    busy: bool,
    answered: bool,
    failing: bool,
}

struct Keeper {
    registry: Arc<Registry>,
    lookup: Lookup,
    events: Sender<Event>,
    names: HashMap<String, NameState>,
}

impl Keeper {
    /// Looks up what is due, then waits for something to happen; whether to go on after that.
    fn turn(&mut self, (progress, changed): &(Mutex<Progress>, Condvar), inbox: &Receiver<Event>) -> bool {
        let wakes = progress.lock().unwrap_or_else(PoisonError::into_inner).wakes;
        failpoint::reach("resolve");
        self.start_due();
        let mut now = progress.lock().unwrap_or_else(PoisonError::into_inner);
        (now.seen, now.unanswered) = (wakes, self.never_answered());
        drop(now);
        changed.notify_all();
        match inbox.recv_timeout(PERIOD / 5) {
            Ok(Event::Done(name, outcome)) => self.done(&name, outcome),
            Ok(Event::Wake) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    fn start_due(&mut self) {
        let wanted = self.registry.names();
        self.names.retain(|name, state| state.busy || wanted.binary_search(name).is_ok());
        let now = Instant::now();
        let mut room = AT_ONCE.saturating_sub(self.names.values().filter(|state| state.busy).count());
        for name in wanted {
            let state = self.names.entry(name.clone()).or_default();
            if room == 0 || state.busy || state.due.is_some_and(|due| due > now) {
                continue;
            }
            let (lookup, events) = (self.lookup, self.events.clone());
            let task = thread::Builder::new().name("serin-lookup".into()).spawn(move || {
                // Whoever is never done would never be looked up again.
                let outcome = catch_unwind(|| lookup(&name));
                let outcome = outcome.unwrap_or_else(|_| Err(io::Error::other("the look-up failed inside serin")));
                let _ = events.send(Event::Done(name, outcome));
            });
            if task.is_ok() {
                state.busy = true;
                room -= 1;
            }
        }
    }

    fn done(&mut self, name: &str, outcome: io::Result<Vec<IpAddr>>) {
        let Some(state) = self.names.get_mut(name) else { return };
        state.busy = false;
        state.answered = true;
        state.due = Some(Instant::now() + PERIOD);
        match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                state.failing = false;
                self.registry.resolved(name, addresses);
            }
            failed => {
                if !std::mem::replace(&mut state.failing, true) {
                    let reason = failed.err().map_or_else(|| "no address".to_owned(), |error| error.to_string());
                    tracing::warn!(name, reason, "name does not resolve; the last good addresses stay in use");
                }
            }
        }
    }

    fn never_answered(&self) -> usize {
        self.names.values().filter(|state| !state.answered).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::cluster::ClusterPolicy;
    use crate::upstream::{ClusterSpec, EndpointSpec, Target};

    fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
        match name {
            "good.test" => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
            "broken.test" => panic!("on purpose"),
            _ => Err(io::Error::other("no such name")),
        }
    }

    #[test]
    fn names_are_looked_up_and_a_bad_one_holds_nobody_up() {
        let registry = Arc::new(Registry::new(1));
        let resolver = Resolver::start(Arc::clone(&registry), lookup).unwrap();
        let cluster = |name: &str| {
            registry.cluster(ClusterSpec {
                key: name.into(),
                name: name.into(),
                policy: ClusterPolicy::default(),
                endpoints: vec![EndpointSpec { target: Target::Name { host: name.into(), port: 80 }, weight: 1 }],
            })
        };
        let (good, bad, _broken) = (cluster("good.test"), cluster("bad.test"), cluster("broken.test"));
        resolver.wake();
        resolver.settle(Duration::from_secs(20));
        assert_eq!(good.endpoints().endpoints()[0].name(), "10.0.0.1:80");
        assert!(bad.endpoints().endpoints().is_empty());
        assert_eq!(resolver.progress.0.lock().unwrap().unanswered, 0, "nor does one whose look-up panics");
    }
}
