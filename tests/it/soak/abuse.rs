//! Clients that behave badly in every way, with what their requests become of no interest to anybody.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::timeout;

use super::TROUBLED;
use crate::support::h2;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// How many there are, and how many connections each keeps that say nothing more.
const CLIENTS: usize = 3;
const HELD: usize = 8;

/// Them at work.
pub(super) struct Abuse {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Abuse {
    pub(super) fn start(proxy: &Proxy) -> Self {
        let (stop, done, (listen, admin)) = (Arc::<AtomicBool>::default(), Arc::default(), (proxy.listen, proxy.admin));
        let client = |number| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || work(number, (listen, admin), &stop, &done))
        };
        Self { threads: (0..CLIENTS).map(client).collect(), stop, done }
    }

    /// Stops them. How often they did something.
    pub(super) fn finish(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.done.load(Ordering::SeqCst)
    }
}

fn work(number: usize, (listen, admin): (SocketAddr, SocketAddr), stop: &AtomicBool, done: &AtomicUsize) {
    let mut held = Vec::new();
    for turn in number.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let wire = || Wire::new(TcpStream::connect(listen).unwrap());
        match turn % 10 {
            0 => drop(said(wire(), "POST", "content-length: 10\r\n", "abc")),
            1 => drop(said(wire(), "GET", "", "").map(Wire::reset)),
            2 => drop(said(wire(), "GET", "", "").map(|mut wire| {
                let _ = wire.some();
                wire.reset();
            })),
            3 => drop(wire().try_send("GET / HTTP/1.1\r\nho")),
            4 => drop(said(wire(), "POST", "transfer-encoding: chunked\r\n", "zz\r\nno chunk\r\n")),
            5 => drop(said(wire(), "GET", "connection: upgrade\r\nupgrade: websocket\r\n", "").map(Wire::reset)),
            6 => streams(listen),
            7 => held.push(said(wire(), "POST", "content-length: 10\r\n", "")),
            8 => held.push(said(Wire::new(TcpStream::connect(admin).unwrap()), "GET", "", "")),
            _ => drop(said(wire(), "GET", "", "").map(|mut wire| wire.answer())),
        }
        if held.len() > HELD {
            held.clear();
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
}

/// A request as it was sent, if the proxy took it.
fn said(mut wire: Wire, method: &str, fields: &str, body: &str) -> Option<Wire> {
    let path = if fields.is_empty() { "/metrics" } else { "/" };
    wire.try_send(format!("{method} {path} HTTP/1.1\r\nhost: {TROUBLED}\r\n{fields}\r\n{body}")).ok()?;
    Some(wire)
}

/// Some streams on a connection, given up before they are answered.
fn streams(listen: SocketAddr) {
    h2::run(async {
        let mut connection = h2::connect(listen).await;
        for _ in 0..10 {
            if connection.ready().await.is_err() {
                break;
            }
            let mut request = h2::request("POST", "/", h2::full("abc"));
            *request.uri_mut() = format!("http://{TROUBLED}/").parse().unwrap();
            let _ = timeout(Duration::from_millis(2), connection.send_request(request)).await;
        }
    });
}
