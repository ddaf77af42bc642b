//! An upstream with which something is wrong most of the time.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::upstream::answer;
use crate::support::wire::Wire;

/// What it does with a request. Says whether the connection goes on.
type Way = fn(Wire) -> Option<Wire>;

const WAYS: [Way; 14] = [
    |wire| say(wire, answer("v1")),
    |wire| say(wire, "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
    |wire| say(wire, format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", 1 << 20, "x".repeat(1 << 20))),
    |wire| {
        wire.reset();
        None
    },
    |wire| say(wire, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").and(None),
    |wire| {
        say(wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nshort").and_then(|wire| {
            wire.reset();
            None
        })
    },
    |wire| say(wire, "HTTP/1.1 what\r\n\r\n"),
    // Nothing, until the other side gives up.
    |mut wire| {
        let _ = wire.some();
        None
    },
    // The next request comes too late.
    |wire| say(wire, answer("v1")).and(None),
    |wire| say(wire, [answer("v1"), answer("nobody asked")].concat()),
    |wire| say(wire, [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec(), answer("v1")].concat()),
    |wire| say(wire, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    |wire| say(wire, "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").and(None),
    trickle,
];

/// Where it listens.
pub(super) fn start() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, requests) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let requests = Arc::clone(&requests);
            thread::spawn(move || {
                let mut wire = Some(Wire::waiting(stream));
                while let Some(mut open) = wire.take() {
                    let Ok(Some(_)) = open.request() else { break };
                    wire = WAYS[requests.fetch_add(1, Ordering::Relaxed) % WAYS.len()](open);
                }
            });
        }
    });
    port
}

fn say(mut wire: Wire, bytes: impl AsRef<[u8]>) -> Option<Wire> {
    wire.try_send(bytes).ok().map(|()| wire)
}

fn trickle(wire: Wire) -> Option<Wire> {
    (0..10).try_fold(say(wire, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")?, |wire, _| {
        // What makes it slow; nothing is waited for.
        thread::sleep(Duration::from_millis(5));
        say(wire, "x")
    })
}
