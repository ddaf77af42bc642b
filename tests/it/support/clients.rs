//! Clients of several kinds that give every request an id of its own, and the check of what became of each: the clients say what
//! was answered, the upstream what arrived. Lost, repeated or made up shows.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::client::{Client, request};
use super::h2;
use super::upstream::Ledger;
use super::wire::{Message, Wire};

/// How many of each kind there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Send one request after another on a connection.
    pub(crate) kept_alive: usize,
    /// The same over HTTP/2.
    pub(crate) streams: usize,
    /// Open a connection for each request.
    pub(crate) new: usize,
    /// Whether those of the first two kinds open another connection when theirs was closed in order.
    pub(crate) come_back: bool,
}

/// Clients at work.
pub(crate) struct Clients {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<Sent>>,
}

#[derive(Default)]
struct Stop {
    all: AtomicBool,
    new: AtomicBool,
}

/// What clients sent and got: the targets that were answered, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    answered: Vec<String>,
    failed: Vec<String>,
}

impl Clients {
    /// Puts them to work.
    pub(crate) fn start(proxy: SocketAddr, mix: Mix) -> Self {
        let stop = Arc::new(Stop::default());
        let mut threads = Vec::new();
        let mut add = |count: usize, work: fn(SocketAddr, usize, bool, &Stop) -> Sent| {
            threads.extend((0..count).map(|number| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || work(proxy, number, mix.come_back, &stop))
            }));
        };
        add(mix.kept_alive, kept_alive);
        add(mix.streams, streams);
        add(mix.new, new_connections);
        Self { stop, threads }
    }

    /// Those that open a connection for each request end, as those behind a balancer would.
    pub(crate) fn open_no_more(&self) {
        self.stop.new.store(true, Ordering::SeqCst);
    }

    /// All end after what they are at; those that do not come back, when their connection ends.
    pub(crate) fn finish(self) -> Sent {
        self.stop.all.store(true, Ordering::SeqCst);
        let mut all = Sent::default();
        self.threads.into_iter().for_each(|thread| all.add(thread.join().unwrap()));
        all
    }
}

impl Sent {
    pub(crate) fn note(&mut self, id: &str, outcome: &io::Result<Message>) {
        match outcome {
            Ok(answer) if answer.status() == 200 => self.answered.push(format!("/{id}")),
            other => self.failed.push(format!("{id}: {other:?}")),
        }
    }

    /// Adds what others sent and got.
    pub(crate) fn add(&mut self, more: Self) {
        self.answered.extend(more.answered);
        self.failed.extend(more.failed);
    }

    /// Nothing was lost, of what was answered nothing arrived twice or never, and nothing arrived that nobody sent; `others` are
    /// requests that are not noted here.
    #[track_caller]
    pub(crate) fn check(&self, ledger: &Ledger, others: usize) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for one in ledger.all().iter() {
            *seen.entry(one.request.head.target().1.to_owned()).or_default() += 1;
        }
        assert_eq!(self.failed, Vec::<String>::new(), "lost, of {}", self.answered.len());
        let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "twice: {twice:?}");
        let missing: Vec<_> = self.answered.iter().filter(|id| !seen.contains_key(*id)).collect();
        assert!(missing.is_empty(), "answered by nobody: {missing:?}");
        assert_eq!(seen.len(), self.answered.len() + others);
    }
}

pub(crate) fn says_close(answer: &Message) -> bool {
    answer.head.get("connection") == "close"
}

pub(crate) fn post(client: &mut Wire, id: &str) -> io::Result<Message> {
    client.try_send(request("POST", &format!("/{id}"), id.as_bytes()))?;
    client.answer()
}

/// Sends on one connection until the answer says that it was the last.
fn kept_alive(proxy: SocketAddr, name: usize, comes_back: bool, stop: &Stop) -> Sent {
    let (mut client, mut sent) = (Client::connect(proxy), Sent::default());
    for number in 0.. {
        let id = format!("kept/{name}/{number}");
        let outcome = post(&mut client, &id);
        sent.note(&id, &outcome);
        let is_last = outcome.is_err() || outcome.is_ok_and(|answer| says_close(&answer));
        if is_last && !comes_back || comes_back && stop.all.load(Ordering::SeqCst) {
            break;
        }
        if is_last {
            client = Client::connect(proxy);
        }
    }
    sent
}

/// Opens a connection for each request.
fn new_connections(proxy: SocketAddr, name: usize, _: bool, stop: &Stop) -> Sent {
    let mut sent = Sent::default();
    for number in 0.. {
        if stop.new.load(Ordering::SeqCst) || stop.all.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("new/{name}/{number}");
        sent.note(&id, &post(&mut Client::connect(proxy), &id));
    }
    sent
}

/// Sends on one HTTP/2 connection until it takes no more.
fn streams(proxy: SocketAddr, name: usize, comes_back: bool, stop: &Stop) -> Sent {
    let mut sent = Sent::default();
    h2::run(async {
        let mut connection = h2::connect(proxy).await;
        for number in 0.. {
            if comes_back && stop.all.load(Ordering::SeqCst) {
                break;
            }
            if connection.ready().await.is_err() {
                if !comes_back {
                    break;
                }
                connection = h2::connect(proxy).await;
                connection.ready().await.unwrap();
            }
            let id = format!("h2/{name}/{number}");
            let request = h2::request("POST", &format!("/{id}"), h2::full(id.clone()));
            let outcome = match connection.send_request(request).await {
                Ok(answer) if answer.status() == 200 => h2::body(answer).await.map(drop),
                Ok(answer) => panic!("{id}: {answer:?}"),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => sent.answered.push(format!("/{id}")),
                // A stream that the server has said it will not begin: the client may send it elsewhere.
                Err(error) if error.is_canceled() => {}
                Err(error) => sent.failed.push(format!("{id}: {error:?}")),
            }
        }
    });
    sent
}
