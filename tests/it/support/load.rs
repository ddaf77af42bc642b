//! Steady load from clients that keep one connection each, and notice everything that goes wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::client::{Client, HOST};
use super::eventually;

/// How often each version answered.
pub(crate) type Counts = BTreeMap<String, usize>;

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    phase: AtomicUsize,
    counts: Mutex<Vec<Counts>>,
    failures: Mutex<Vec<String>>,
}

/// What the clients saw.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers in all.
    pub(crate) answered: usize,
    /// Whatever was no complete 200 on the connection that was there from the beginning.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Starts so many clients.
    pub(crate) fn start(proxy: SocketAddr, clients: usize) -> Self {
        Self::on(HOST, proxy, clients)
    }

    /// Starts so many clients of a host.
    pub(crate) fn on(host: &'static str, proxy: SocketAddr, clients: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let client = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work(host, proxy))
        };
        let clients = (0..clients).map(client).collect();
        Self { shared, clients }
    }

    /// From now on requests are counted apart from those before; one that is under way counts in neither.
    pub(crate) fn next_phase(&self) {
        self.shared.phase.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until this phase has so many answers, and says whose they were.
    pub(crate) fn counts(&self, answers: usize) -> Counts {
        let phase = self.shared.phase.load(Ordering::SeqCst);
        let counts = || self.shared.counts().get(phase).cloned().unwrap_or_default();
        eventually("there are enough answers", || counts().values().sum::<usize>() >= answers);
        counts()
    }

    /// Stops, and says what there was.
    pub(crate) fn finish(self) -> Outcome {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().unwrap();
        }
        let answered = self.shared.counts().iter().flat_map(Counts::values).sum();
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner));
        Outcome { answered, failures }
    }
}

impl Shared {
    fn work(&self, host: &str, proxy: SocketAddr) {
        let mut client = Client::connect(proxy);
        while !self.stop.load(Ordering::SeqCst) {
            let phase = self.phase.load(Ordering::SeqCst);
            match client.ask(host, "/", &[]) {
                Ok(answer) if answer.status() == 200 && !answer.head.has("connection") => {
                    if phase == self.phase.load(Ordering::SeqCst) {
                        self.count(phase, answer.head.get("x-version"));
                    }
                }
                Ok(answer) => self.fail(format!("{:?}", answer.head)),
                Err(error) => {
                    self.fail(error.to_string());
                    client = Client::connect(proxy);
                }
            }
        }
    }

    fn count(&self, phase: usize, version: &str) {
        let mut counts = self.counts();
        if counts.len() <= phase {
            counts.resize(phase + 1, Counts::new());
        }
        *counts[phase].entry(version.to_owned()).or_default() += 1;
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Vec<Counts>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
