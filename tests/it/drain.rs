//! The end of the process under load: every request that a client had reason to send is answered, once.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use super::support::client::{Client, request};
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, Upstream, answer};
use super::support::wire::{Message, Wire};
use super::support::{eventually, h2};

/// An upstream that keeps `/slow` waiting until the other end of the channel says something, or is dropped.
fn upstream() -> (Upstream, mpsc::Sender<()>) {
    let (go, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let upstream = Upstream::answering(move |request| {
        if request.head.target().1 == "/slow" {
            let _ = gate.lock().unwrap().recv();
        }
        answer("v1")
    });
    (upstream, go)
}

fn is_ready(proxy: &Proxy) -> bool {
    proxy.ask("GET", "/ready").0 == 200
}

fn is_refused(listen: SocketAddr) -> bool {
    TcpStream::connect(listen).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn says_close(answer: &Message) -> bool {
    answer.head.get("connection") == "close"
}

fn post(client: &mut Wire, id: &str) -> io::Result<Message> {
    client.try_send(request("POST", &format!("/{id}"), id.as_bytes()))?;
    client.answer()
}

/// What clients sent and got: the targets that were answered, and what went wrong.
#[derive(Debug, Default)]
struct Sent {
    answered: Vec<String>,
    failed: Vec<String>,
}

impl Sent {
    fn note(&mut self, id: &str, outcome: &io::Result<Message>) {
        match outcome {
            Ok(answer) if answer.status() == 200 => self.answered.push(format!("/{id}")),
            other => self.failed.push(format!("{id}: {other:?}")),
        }
    }
}

/// Sends on one connection until the answer says that it was the last.
fn kept_alive(listen: SocketAddr, name: usize) -> Sent {
    let (mut client, mut sent) = (Client::connect(listen), Sent::default());
    for number in 0.. {
        let id = format!("kept/{name}/{number}");
        let outcome = post(&mut client, &id);
        sent.note(&id, &outcome);
        if outcome.is_err() || outcome.is_ok_and(|answer| says_close(&answer)) {
            break;
        }
    }
    sent
}

/// Opens a connection for each request, until told that the proxy is not ready any more.
fn new_connections(listen: SocketAddr, name: usize, until: &Mutex<bool>) -> Sent {
    let mut sent = Sent::default();
    for number in 0.. {
        if *until.lock().unwrap() {
            break;
        }
        let id = format!("new/{name}/{number}");
        sent.note(&id, &post(&mut Client::connect(listen), &id));
    }
    sent
}

/// Sends on one HTTP/2 connection until it takes no more.
fn streams(listen: SocketAddr, name: usize) -> Sent {
    let mut sent = Sent::default();
    h2::run(async {
        let mut connection = h2::connect(listen).await;
        for number in 0.. {
            if connection.ready().await.is_err() {
                break;
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

#[test]
fn sigterm_under_load_loses_nothing_and_repeats_nothing() {
    let (upstream, go) = upstream();
    let mut proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "2"]);
    let listen = proxy.listen;
    let mut slow = proxy.client();
    slow.send(request("POST", "/slow", b""));
    let mut idle: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for (number, client) in idle.iter_mut().enumerate() {
        assert_eq!(post(client, &format!("idle/{number}/before")).unwrap().status(), 200);
    }
    let not_ready = Arc::new(Mutex::new(false));
    let mut clients: Vec<thread::JoinHandle<Sent>> =
        (0..4).map(|n| thread::spawn(move || kept_alive(listen, n))).collect();
    clients.extend((0..2).map(|n| thread::spawn(move || streams(listen, n))));
    clients.extend((0..2).map(|n| {
        let until = Arc::clone(&not_ready);
        thread::spawn(move || new_connections(listen, n, &until))
    }));
    eventually("there is load", || upstream.ledger.len() > 500);

    proxy.signal(Signal::TERM);
    eventually("balancers are told", || !is_ready(&proxy));
    *not_ready.lock().unwrap() = true;
    eventually("no connection is accepted any more", || is_refused(listen));
    // A connection that was there all the time may still bring a request.
    let mut all = Sent::default();
    for (number, client) in idle.iter_mut().enumerate() {
        let id = format!("idle/{number}/after");
        let outcome = post(client, &id);
        all.note(&id, &outcome);
        assert!(outcome.is_ok_and(|answer| says_close(&answer)));
    }
    go.send(()).unwrap();
    let answer = slow.answer().unwrap();
    assert!(answer.status() == 200 && says_close(&answer));
    for client in clients {
        let sent = client.join().unwrap();
        all.answered.extend(sent.answered);
        all.failed.extend(sent.failed);
    }
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for one in upstream.ledger.all().iter() {
        *seen.entry(one.request.head.target().1.to_owned()).or_default() += 1;
    }
    assert_eq!(all.failed, Vec::<String>::new(), "lost, of {}", all.answered.len());
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
    let missing: Vec<_> = all.answered.iter().filter(|id| !seen.contains_key(*id)).collect();
    assert!(missing.is_empty(), "answered by nobody: {missing:?}");
    assert_eq!(seen.len(), all.answered.len() + idle.len() + 1);
}

/// Connections that the kernel has accepted are promises too.
#[test]
fn a_connection_that_waits_to_be_accepted_is_served() {
    for _ in 0..5 {
        let (upstream, _go) = upstream();
        let mut proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "2"]);
        assert_eq!(proxy.client().get("/").status(), 200);
        proxy.signal(Signal::STOP);
        let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(request("POST", "/", b"body"));
        }
        proxy.signal(Signal::INT);
        proxy.signal(Signal::CONT);
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.answer().unwrap_or_else(|error| panic!("client {number}: {error}"));
            assert_eq!(answer.status(), 200);
        }
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
        assert_eq!(upstream.ledger.len(), 41);
    }
}

/// All of an answer was taken from the endpoint, and the client has not taken all of it yet.
#[test]
fn an_answer_that_is_still_being_read_is_not_cut_off() {
    const LENGTH: usize = 8 << 20;
    let script = Script::start();
    let mut proxy = Proxy::start(&Config::single(&[script.port]));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&proxy.listen.into()).unwrap();
    let mut client = Wire::new(socket.into());
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    let sender = thread::spawn(move || {
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n"));
        wire.send(vec![b'x'; LENGTH]);
        wire
    });
    client.head().unwrap().unwrap();
    let mut taken = 0;
    eventually("the endpoint has given everything", || {
        taken += client.some().unwrap().len();
        proxy.requests(&[("code", "200")]) == 1.0
    });
    assert!(taken < LENGTH);
    proxy.signal(Signal::INT);
    eventually("no connection is accepted any more", || is_refused(proxy.listen));
    while taken < LENGTH {
        let bytes = client.some().unwrap();
        assert!(!bytes.is_empty(), "cut off after {taken} of {LENGTH}");
        taken += bytes.len();
    }
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    drop(sender.join().unwrap());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (upstream, _go) = upstream();
    let mut proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut slow = proxy.client();
    slow.send(request("GET", "/slow", b""));
    eventually("it is under way", || upstream.ledger.len() == 1);
    proxy.signal(Signal::TERM);
    eventually("balancers are told", || !is_ready(&proxy));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(3));
    assert!(slow.answer().is_err());
    assert!(proxy.log().contains("second signal"), "{}", proxy.log());
}

#[test]
fn what_takes_too_long_is_cut_off_and_said() {
    let (upstream, _go) = upstream();
    let mut proxy = Proxy::with(&Config::single(&[upstream.port]), &["--drain-timeout", "1s"]);
    let mut slow = proxy.client();
    slow.send(request("GET", "/slow", b""));
    eventually("it is under way", || upstream.ledger.len() == 1);
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(3));
    assert!(slow.answer().is_err());
    assert!(proxy.log().contains("cut_off=1"), "{}", proxy.log());
}

#[test]
fn without_a_request_under_way_nothing_is_waited_for() {
    let (upstream, _go) = upstream();
    let mut proxy = Proxy::start(&Config::single(&[upstream.port]));
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").status(), 200);
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(idle.rest().0.is_empty());
}

/// Browsers open connections in advance.
#[test]
fn a_connection_that_never_said_a_word_is_not_waited_for() {
    let (upstream, _go) = upstream();
    let mut proxy = Proxy::with(&Config::single(&[upstream.port]), &["--header-timeout", "1h"]);
    let mut mute = proxy.client();
    assert_eq!(proxy.client().get("/").status(), 200);
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(mute.rest().0.is_empty());
}

#[test]
fn sighup_reads_the_configuration_again() {
    let (upstream, _go) = upstream();
    let config = Config::default().version("v1", 100, &[upstream.port]).version("v2", 0, &[upstream.port]);
    let proxy = Proxy::start(&config);
    let looks = || proxy.metric("serin_config_reloads_total", &[("trigger", "signal")]);
    proxy.signal(Signal::HUP);
    eventually("the unchanged file was read", || looks() == 1.0);
    assert_eq!(proxy.generation(), 1);
    proxy.save(&config.weights(&[50, 50]).yaml());
    proxy.signal(Signal::HUP);
    eventually("the changed file is in force", || proxy.generation() == 2 && looks() == 2.0);
    proxy.save("nothing: [valid");
    proxy.signal(Signal::HUP);
    eventually("the broken file was read", || looks() == 3.0);
    assert_eq!(proxy.generation(), 2);
    assert_eq!(proxy.client().get("/").status(), 200);
}
