//! The end of the process under load: every request that a client had reason to send is answered, once.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use super::support::client::{Client, request};
use super::support::clients::{Clients, Mix, Sent, post, rounds, says_close};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, Upstream, answer};
use super::support::wire::Wire;

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

/// `SERIN_DRAINS` says how often, once without it; prints how many requests that were.
#[test]
fn a_process_that_is_told_to_end_under_load_loses_nothing_and_repeats_nothing() {
    let rounds = rounds("SERIN_DRAINS", 1);
    let requests: usize = (0..rounds).map(|_| drain_under_load()).sum();
    println!("{rounds} processes ended under {requests} requests");
}

/// How many requests there were.
fn drain_under_load() -> usize {
    let (upstream, go) = upstream();
    let mut proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "2"]);
    let listen = proxy.listen;
    let mut slow = proxy.client();
    slow.send(request("POST", "/slow", b""));
    let mut idle: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    let mut all = Sent::default();
    for (number, client) in idle.iter_mut().enumerate() {
        let id = format!("idle/{number}/before");
        all.note(&id, &post(client, &id));
    }
    let clients = Clients::start(listen, Mix { come_back: false, ..Mix::ALL });
    eventually("there is load", || upstream.ledger.len() > 500);

    proxy.signal(Signal::TERM);
    eventually("balancers are told", || !is_ready(&proxy));
    clients.open_no_more();
    eventually("no connection is accepted any more", || is_refused(listen));
    // A connection that was there all the time may still bring a request.
    for (number, client) in idle.iter_mut().enumerate() {
        let id = format!("idle/{number}/after");
        let outcome = post(client, &id);
        all.note(&id, &outcome);
        assert!(outcome.is_ok_and(|answer| says_close(&answer)));
    }
    go.send(()).unwrap();
    let answer = slow.answer();
    assert!(answer.as_ref().is_ok_and(says_close));
    all.note("slow", &answer);
    all.add(clients.finish());
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    all.check(&[&upstream.ledger], 0);
    upstream.ledger.len()
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
