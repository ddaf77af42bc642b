//! Many connections on which one side sends without end and the other one takes nothing. The kernel's buffers are kept small, so
//! that it is the proxy's that fill.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::client::HOST;
use super::eventually;
use super::proxy::Proxy;
use super::wire::Wire;

/// What is promised to be sent: far more than any buffer on the way has room for.
const LENGTH: usize = 1 << 30;
/// Of the kernel, for each connection, in bytes.
const BUFFER: usize = 16 * 1024;
/// Looks without a byte that moved, after which nothing moves any more.
const STILL: usize = 40;

/// Who does not take what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Clients, their answers.
    Readers,
    /// An endpoint, the bodies of requests.
    Endpoint,
}

/// Such connections, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Stuck {
    _clients: Vec<TcpStream>,
    pump: Pump,
    is_own: bool,
}

/// The endpoint of them.
#[derive(Debug)]
pub(crate) struct Well {
    /// Where it listens.
    pub(crate) port: u16,
    pump: Pump,
}

/// Sends on each of its connections as much as it takes, until it is dropped.
#[derive(Clone, Debug, Default)]
struct Pump {
    streams: Arc<Mutex<Vec<TcpStream>>>,
    still: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Well {
    /// Listens. An endpoint that is slow itself reads no more than the head of a request; another one answers without end.
    pub(crate) fn start(slow: Slow) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        SockRef::from(&listener).set_recv_buffer_size(BUFFER).unwrap();
        let (port, pump) = (listener.local_addr().unwrap().port(), Pump::start());
        let mine = pump.clone();
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let mut wire = Wire::new(stream.try_clone().unwrap());
                if mine.over.load(Ordering::SeqCst) || !matches!(wire.head(), Ok(Some(_))) {
                    continue;
                }
                if slow == Slow::Readers {
                    wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n"));
                    mine.add(stream);
                } else {
                    held.push(stream);
                }
            }
        });
        Self { port, pump }
    }

    /// Opens so many connections more to a proxy in front of it, and waits until nothing moves on them any more.
    pub(crate) fn fill(&self, proxy: &Proxy, slow: Slow, connections: usize) -> Stuck {
        let under_way = || proxy.metric("http_requests_in_flight", &[]) as usize;
        let all = under_way() + connections;
        let stuck = self.press(proxy, slow, connections);
        eventually("all of them are under way", || under_way() == all && stuck.pump.len() >= connections);
        stuck.pump.still.store(0, Ordering::SeqCst);
        eventually("nothing moves", || stuck.pump.still.load(Ordering::SeqCst) >= STILL);
        stuck
    }

    /// The same without waiting.
    pub(crate) fn press(&self, proxy: &Proxy, slow: Slow, connections: usize) -> Stuck {
        let pump = if slow == Slow::Readers { self.pump.clone() } else { Pump::start() };
        let clients: Vec<_> = (0..connections).map(|_| connect(proxy.listen)).collect();
        for stream in &clients {
            let method = if slow == Slow::Readers { "GET" } else { "POST" };
            let length = if slow == Slow::Readers { 0 } else { LENGTH };
            let head = format!("{method} / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {length}\r\n\r\n");
            (&*stream).write_all(head.as_bytes()).unwrap();
            if slow == Slow::Endpoint {
                pump.add(stream.try_clone().unwrap());
            }
        }
        Stuck { _clients: clients, pump, is_own: slow == Slow::Endpoint }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        if self.is_own {
            self.pump.over.store(true, Ordering::SeqCst);
            self.pump.streams.lock().unwrap().clear();
        }
    }
}

impl Drop for Well {
    fn drop(&mut self) {
        self.pump.over.store(true, Ordering::SeqCst);
    }
}

impl Pump {
    fn start() -> Self {
        let pump = Self::default();
        let mine = pump.clone();
        thread::spawn(move || {
            while !mine.over.load(Ordering::SeqCst) {
                let moved = mine.round();
                if moved {
                    mine.still.store(0, Ordering::SeqCst);
                } else {
                    mine.still.fetch_add(1, Ordering::SeqCst);
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        pump
    }

    fn add(&self, stream: TcpStream) {
        SockRef::from(&stream).set_send_buffer_size(BUFFER).unwrap();
        stream.set_nonblocking(true).unwrap();
        self.streams.lock().unwrap().push(stream);
    }

    fn len(&self) -> usize {
        self.streams.lock().unwrap().len()
    }

    /// Whether a byte moved.
    fn round(&self) -> bool {
        let (piece, mut moved) = ([b'x'; 16 * 1024], false);
        self.streams.lock().unwrap().retain_mut(|stream| {
            loop {
                match stream.write(&piece) {
                    Ok(length) => moved |= length > 0,
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
        });
        moved
    }
}

/// With small segments, too: the kernel makes the buffers of a connection with large ones larger.
fn connect(proxy: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket.set_tcp_mss(1460).unwrap();
    socket.connect(&proxy.into()).unwrap();
    socket.into()
}
