//! Names to addresses, on threads of its own: a slow name server delays no request and no other name.
//!
//! The system's resolver is used (`/etc/hosts`, `nsswitch.conf`, search domains), so a name means here what it means to every
//! other program of the host. It tells no time to live, hence the fixed period. While there is no answer, the last good one is
//! kept, for ever; when the answer is that there is no such name, for a while.

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
use crate::telemetry::{DnsFailure, DnsMetrics};

/// How often a name is looked up again.
const PERIOD: Duration = Duration::from_secs(5);
/// A name that is said not to exist, or to have no address, keeps its last good addresses for this long (HAProxy's `hold nx`).
const HOLD: Duration = Duration::from_secs(30);
/// How many look-ups may be under way at once.
const AT_ONCE: usize = 32;

/// Looks a name up; blocking. An error of kind [`NotFound`](io::ErrorKind::NotFound), or no address, means that there is no such
/// name; any other error says nothing about it.
pub type Lookup = fn(&str) -> io::Result<Vec<IpAddr>>;

/// What the system's resolver says of a name that does not exist (`EAI_NONAME`), and of one without an address
/// (`EAI_NODATA`), in glibc and in musl. std passes on these words and not the numbers; they are not translated, because the
/// process never sets a locale. With another C library, such names count as not answered.
const NOT_FOUND: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

/// The system's resolver.
pub fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs().map_err(told_apart)?;
    Ok(found.map(|address| address.ip()).collect())
}

fn told_apart(error: io::Error) -> io::Error {
    let text = error.to_string();
    match NOT_FOUND.iter().find(|words| text.ends_with(*words)) {
        Some(words) => io::Error::new(io::ErrorKind::NotFound, *words),
        None => error,
    }
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
    pub fn start(registry: Arc<Registry>, lookup: Lookup, metrics: Arc<DnsMetrics>) -> io::Result<Self> {
        let (events, inbox) = mpsc::channel();
        let progress = Arc::new((Mutex::new(Progress::default()), Condvar::new()));
        let mut keeper = Keeper { registry, lookup, metrics, events: events.clone(), names: HashMap::new() };
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

struct NameState {
    first_asked: Instant,
    due: Option<Instant>,
    busy: bool,
    answered: bool,
    /// When the last good answer came; of a name that was needed before, at the latest.
    good: Option<Instant>,
    /// Since when every answer is that there is no such name.
    missing: Option<Instant>,
    trouble: Option<Trouble>,
}

/// What has been logged about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The last good addresses are in use.
    Kept,
    /// They are for a while.
    Held,
    /// There are none.
    Gone,
}

impl Trouble {
    fn consequence(self) -> &'static str {
        match self {
            Self::Kept => "the last good addresses stay in use",
            Self::Held => "the last good addresses stay in use for 30 s",
            Self::Gone => "it has no endpoints",
        }
    }
}

impl NameState {
    fn new(is_known: bool, now: Instant) -> Self {
        let good = is_known.then_some(now);
        Self { first_asked: now, due: None, busy: false, answered: false, good, missing: None, trouble: None }
    }

    /// A look-up gave no address; what follows from that.
    fn fails(&mut self, is_missing: bool, now: Instant) -> Trouble {
        let since = is_missing.then(|| self.missing.unwrap_or(now));
        self.missing = since;
        match since {
            _ if self.good.is_none() || self.trouble == Some(Trouble::Gone) => Trouble::Gone,
            None => Trouble::Kept,
            Some(since) if now.duration_since(since) < HOLD => Trouble::Held,
            Some(_) => Trouble::Gone,
        }
    }
}

struct Keeper {
    registry: Arc<Registry>,
    lookup: Lookup,
    metrics: Arc<DnsMetrics>,
    events: Sender<Event>,
    names: HashMap<String, NameState>,
}

impl Keeper {
    /// Looks up what is due, then waits for something to happen; whether to go on after that.
    fn turn(&mut self, (progress, changed): &(Mutex<Progress>, Condvar), inbox: &Receiver<Event>) -> bool {
        let wakes = progress.lock().unwrap_or_else(PoisonError::into_inner).wakes;
        failpoint::reach("resolve");
        self.start_due(Instant::now());
        let mut now = progress.lock().unwrap_or_else(PoisonError::into_inner);
        (now.seen, now.unanswered) = (wakes, self.never_answered());
        drop(now);
        changed.notify_all();
        match inbox.recv_timeout(PERIOD / 5) {
            Ok(Event::Done(name, outcome)) => self.done(&name, outcome, Instant::now()),
            Ok(Event::Wake) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    fn start_due(&mut self, now: Instant) {
        let wanted = self.registry.names();
        self.names.retain(|name, state| state.busy || wanted.binary_search(name).is_ok());
        let mut room = AT_ONCE.saturating_sub(self.names.values().filter(|state| state.busy).count());
        for name in wanted {
            let new = || NameState::new(self.registry.knows(&name), now);
            let state = self.names.entry(name.clone()).or_insert_with(new);
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
        let oldest = self.names.values().map(|state| state.good.unwrap_or(state.first_asked)).min();
        self.metrics.set_oldest_answer(oldest);
    }

    fn done(&mut self, name: &str, outcome: io::Result<Vec<IpAddr>>, now: Instant) {
        let Some(state) = self.names.get_mut(name) else { return };
        (state.busy, state.answered, state.due) = (false, true, Some(now + PERIOD));
        let (is_missing, reason) = match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                (state.good, state.missing) = (Some(now), None);
                if state.trouble.take().is_some() {
                    tracing::info!(name, "name resolves again");
                }
                return self.registry.resolved(name, addresses);
            }
            Ok(_) => (true, "no address".to_owned()),
            Err(error) => (error.kind() == io::ErrorKind::NotFound, error.to_string()),
        };
        self.metrics.failed(if is_missing { DnsFailure::NotFound } else { DnsFailure::Failed });
        let trouble = state.fails(is_missing, now);
        if state.trouble.replace(trouble) == Some(trouble) {
            return;
        }
        tracing::warn!(name, reason, "name does not resolve; {}", trouble.consequence());
        if trouble == Trouble::Gone && state.good.is_some() {
            self.registry.resolved(name, Vec::new());
        }
    }

    fn never_answered(&self) -> usize {
        self.names.values().filter(|state| !state.answered).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::cluster::{Cluster, ClusterPolicy};
    use crate::upstream::{ClusterSpec, EndpointSpec, Target};

    fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
        match name {
            "good.test" => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
            "broken.test" => panic!("on purpose"),
            _ => Err(io::Error::other("no such name")),
        }
    }

    fn cluster(registry: &Registry, name: &str) -> Arc<Cluster> {
        registry.cluster(ClusterSpec {
            key: name.into(),
            name: name.into(),
            policy: ClusterPolicy::default(),
            endpoints: vec![EndpointSpec { target: Target::Name { host: name.into(), port: 80 }, weight: 1 }],
        })
    }

    #[test]
    fn names_are_looked_up_and_a_bad_one_holds_nobody_up() {
        let (registry, metrics) = (Arc::new(Registry::new(1)), Arc::<DnsMetrics>::default());
        let resolver = Resolver::start(Arc::clone(&registry), lookup, Arc::clone(&metrics)).unwrap();
        let [good, bad, _broken] = ["good.test", "bad.test", "broken.test"].map(|name| cluster(&registry, name));
        resolver.wake();
        resolver.settle(Duration::from_secs(20));
        assert_eq!(good.endpoints().endpoints()[0].name(), "10.0.0.1:80");
        assert!(bad.endpoints().is_unresolved());
        assert!(metrics.failures(DnsFailure::Failed) > 0);
        assert_eq!(resolver.progress.0.lock().unwrap().unanswered, 0, "nor does one whose look-up panics");
    }

    /// A keeper that knows one name, whose look-ups end as the test says.
    fn keeper() -> (Keeper, Arc<Cluster>) {
        let (registry, metrics) = (Arc::new(Registry::new(1)), Arc::default());
        let cluster = cluster(&registry, "svc.test");
        let names = HashMap::from([("svc.test".to_owned(), NameState::new(false, Instant::now()))]);
        (Keeper { registry, lookup, metrics, events: mpsc::channel().0, names }, cluster)
    }

    #[derive(Clone, Copy, Debug)]
    enum Answer {
        Good,
        Missing,
        Empty,
        Failed,
    }

    fn answer(keeper: &mut Keeper, answer: Answer, now: Instant) {
        let outcome = match answer {
            Answer::Good => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
            Answer::Missing => Err(io::ErrorKind::NotFound.into()),
            Answer::Empty => Ok(Vec::new()),
            Answer::Failed => Err(io::Error::other("no answer")),
        };
        keeper.done("svc.test", outcome, now);
    }

    #[tokio::test]
    async fn without_an_answer_the_last_good_one_is_kept_for_ever() {
        let ((mut keeper, cluster), start) = (keeper(), Instant::now());
        answer(&mut keeper, Answer::Good, start);
        for day in 1..400 {
            answer(&mut keeper, Answer::Failed, start + Duration::from_secs(86_400 * day));
        }
        assert_eq!(cluster.endpoints().endpoints().len(), 1);
        assert_eq!(
            (keeper.metrics.failures(DnsFailure::Failed), keeper.metrics.failures(DnsFailure::NotFound)),
            (399, 0)
        );
    }

    #[tokio::test]
    async fn a_name_that_is_gone_keeps_its_addresses_for_a_while_and_has_them_back_at_once() {
        for gone in [Answer::Missing, Answer::Empty] {
            let ((mut keeper, cluster), start) = (keeper(), Instant::now());
            let second = |seconds| start + Duration::from_secs(seconds);
            let endpoints = || cluster.endpoints().endpoints().len();
            answer(&mut keeper, Answer::Good, start);
            answer(&mut keeper, gone, second(5));
            answer(&mut keeper, gone, second(34));
            assert_eq!(endpoints(), 1, "{gone:?}");
            // Nobody knows any more; then it begins anew.
            answer(&mut keeper, Answer::Failed, second(36));
            answer(&mut keeper, gone, second(40));
            answer(&mut keeper, gone, second(69));
            assert_eq!(endpoints(), 1, "{gone:?}");
            answer(&mut keeper, gone, second(70));
            assert_eq!(endpoints(), 0, "{gone:?}");
            assert!(!cluster.endpoints().is_unresolved());
            answer(&mut keeper, Answer::Failed, second(75));
            assert_eq!(endpoints(), 0, "{gone:?}: what is gone does not come back because nobody answers");
            answer(&mut keeper, Answer::Good, second(80));
            assert_eq!(endpoints(), 1, "{gone:?}");
            answer(&mut keeper, gone, second(85));
            answer(&mut keeper, gone, second(114));
            assert_eq!(endpoints(), 1, "{gone:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_needed_again_has_its_addresses_at_once_and_loses_them_as_any_other() {
        let ((mut keeper, cluster), start) = (keeper(), Instant::now());
        answer(&mut keeper, Answer::Good, start);
        keeper.names.clear();
        keeper.start_due(start);
        assert_eq!(cluster.endpoints().endpoints().len(), 1);
        answer(&mut keeper, Answer::Missing, start);
        answer(&mut keeper, Answer::Missing, start + HOLD);
        assert!(cluster.endpoints().endpoints().is_empty());
    }

    #[test]
    fn the_age_is_that_of_the_name_that_waits_longest() {
        let (mut keeper, _cluster) = keeper();
        let start = Instant::now();
        keeper.names.get_mut("svc.test").unwrap().good = Some(start);
        keeper.start_due(start + Duration::from_secs(3));
        assert_eq!(keeper.metrics.oldest_answer(), Some(start));
    }

    #[test]
    fn what_the_system_says_of_a_name_is_told_apart() {
        let kind =
            |words: &str| told_apart(io::Error::other(format!("failed to lookup address information: {words}"))).kind();
        for words in NOT_FOUND {
            assert_eq!(kind(words), io::ErrorKind::NotFound, "{words}");
        }
        for words in ["Temporary failure in name resolution", "Non-recoverable failure in name resolution", "Try again"]
        {
            assert_eq!(kind(words), io::ErrorKind::Other, "{words}");
        }
    }
}
