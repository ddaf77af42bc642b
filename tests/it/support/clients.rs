//! Clients of several kinds that give every request an id of its own, and the check of what became of each: the clients say what
//! was answered, the upstream what arrived. Lost, repeated or made up shows.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::{Client, HOST, request};
use super::h2;
use super::upstream::Ledger;
use super::wire::{Message, Wire};

/// In how many pieces a slow client sends its body; each is the id of the request.
const PIECES: usize = 4;

/// How many of each kind there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Send one request after another on a connection.
    pub(crate) kept_alive: usize,
    /// The same over HTTP/2.
    pub(crate) streams: usize,
    /// Open a connection for each request.
    pub(crate) new: usize,
    /// Send their bodies in pieces, on connections that they keep.
    pub(crate) slow: usize,
    /// Open a WebSocket, exchange some words on it and end it, again and again.
    pub(crate) tunnels: usize,
    /// Whether those of the first two kinds open another connection when theirs was closed in order.
    pub(crate) come_back: bool,
}

impl Mix {
    /// Some of each.
    pub(crate) const ALL: Self = Self { kept_alive: 4, streams: 2, new: 3, slow: 3, tunnels: 2, come_back: true };
}

/// How often a test repeats what it does: as often as a variable of the environment says.
pub(crate) fn rounds(variable: &str, otherwise: usize) -> usize {
    env::var(variable).map_or(otherwise, |rounds| rounds.parse().unwrap())
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
        add(mix.slow, slow_bodies);
        add(mix.tunnels, tunnels);
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

    /// What was lost.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failed
    }

    /// Adds what others sent and got.
    pub(crate) fn add(&mut self, more: Self) {
        self.answered.extend(more.answered);
        self.failed.extend(more.failed);
    }

    /// Nothing was lost, of what was answered nothing arrived twice or never, and nothing arrived that nobody sent; `others` are
    /// requests that are not noted here.
    /// Bodies arrived whole.
    #[track_caller]
    pub(crate) fn check(&self, ledgers: &[&Ledger], others: usize) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let all: Vec<_> = ledgers.iter().map(|ledger| ledger.all()).collect();
        for one in all.iter().flat_map(|ledger| ledger.iter()) {
            let (target, body) = (one.request.head.target().1, one.request.text());
            *seen.entry(target.to_owned()).or_default() += 1;
            let id = target.trim_start_matches('/');
            let whole = [String::new(), id.to_owned(), id.repeat(PIECES)];
            assert!(whole.contains(&body), "the body of {id}: {body:?}");
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

/// Sends one request after another.
fn kept_alive(proxy: SocketAddr, name: usize, comes_back: bool, stop: &Stop) -> Sent {
    one_after_another(proxy, comes_back, stop, |client, number| {
        let id = format!("kept/{name}/{number}");
        let outcome = post(client, &id);
        (id, outcome)
    })
}

/// The same with bodies that come in pieces: some of known length, some chunked.
fn slow_bodies(proxy: SocketAddr, name: usize, comes_back: bool, stop: &Stop) -> Sent {
    one_after_another(proxy, comes_back, stop, |client, number| {
        let id = format!("slow/{name}/{number}");
        let outcome = in_pieces(client, &id, number % 2 == 0);
        (id, outcome)
    })
}

/// Asks on one connection until the answer says that it was the last; who comes back opens another one then. `ask` gets the number
/// of the request, and gives its id and what became of it.
fn one_after_another(
    proxy: SocketAddr,
    comes_back: bool,
    stop: &Stop,
    ask: impl Fn(&mut Wire, usize) -> (String, io::Result<Message>),
) -> Sent {
    let (mut client, mut sent) = (Client::connect(proxy), Sent::default());
    for number in 0.. {
        let (id, outcome) = ask(&mut client, number);
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

fn in_pieces(client: &mut Wire, id: &str, chunked: bool) -> io::Result<Message> {
    let framing = match chunked {
        true => "transfer-encoding: chunked".to_owned(),
        false => format!("content-length: {}", id.len() * PIECES),
    };
    client.try_send(format!("POST /{id} HTTP/1.1\r\nhost: {HOST}\r\n{framing}\r\n\r\n"))?;
    for _ in 0..PIECES {
        // What makes it slow; nothing is waited for.
        thread::sleep(Duration::from_millis(3));
        client.try_send(if chunked { format!("{:x}\r\n{id}\r\n", id.len()) } else { id.to_owned() })?;
    }
    if chunked {
        client.try_send("0\r\n\r\n")?;
    }
    client.answer()
}

/// Opens one WebSocket after another; the upstream repeats each word.
fn tunnels(proxy: SocketAddr, name: usize, _: bool, stop: &Stop) -> Sent {
    let mut sent = Sent::default();
    for number in 0.. {
        if stop.new.load(Ordering::SeqCst) || stop.all.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("tunnel/{name}/{number}");
        match tunnel(&mut Client::connect(proxy), &id) {
            Ok(()) => sent.answered.push(format!("/{id}")),
            Err(error) => sent.failed.push(format!("{id}: {error:?}")),
        }
    }
    sent
}

fn tunnel(client: &mut Wire, id: &str) -> io::Result<()> {
    client.try_send(format!(
        "GET /{id} HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ))?;
    let agreed = client.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if agreed.status() != 101 {
        return Err(io::Error::other(format!("no agreement: {agreed:?}")));
    }
    for word in 0..20 {
        let word = format!("{id}: {word}");
        client.try_send(&word)?;
        if client.exactly(word.len())? != word.as_bytes() {
            return Err(io::Error::other("another word came back"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    client.half_close();
    match client.some()? {
        rest if rest.is_empty() => Ok(()),
        rest => Err(io::Error::other(format!("more came than was sent: {rest:?}"))),
    }
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
