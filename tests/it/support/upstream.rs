//! Upstreams: one that answers by itself and keeps a ledger of all that it got, and one that is driven step by step.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::wire::{Message, Wire};

/// One request as an upstream got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The number of the connection that it came on, from 0.
    pub(crate) connection: usize,
    /// The request.
    pub(crate) request: Message,
}

/// What an upstream has got so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<Seen>>>);

impl Ledger {
    /// Every request, in order of arrival.
    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests.
    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }

    /// Forgets everything. How many requests that was.
    pub(crate) fn forget(&self) -> usize {
        std::mem::take(&mut *self.all()).len()
    }

    /// How many connections brought at least one.
    pub(crate) fn connections(&self) -> usize {
        let mut connections: Vec<usize> = self.all().iter().map(|seen| seen.connection).collect();
        connections.sort_unstable();
        connections.dedup();
        connections.len()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Message {
        self.all().last().expect("a request arrived").request.clone()
    }

    fn note(&self, connection: usize, request: &Message) {
        self.all().push(Seen { connection, request: request.clone() });
    }
}

/// An upstream that answers every request by itself.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) port: u16,
    /// What it has got.
    pub(crate) ledger: Ledger,
    open: Arc<AtomicUsize>,
}

impl Upstream {
    /// Answers 200 with its name.
    pub(crate) fn named(name: &str) -> Self {
        let answer = answer(name);
        Self::answering(move |_| answer.clone())
    }

    /// Answers with the bytes that `answer` gives for a request; agrees to every WebSocket, and repeats what comes on it.
    pub(crate) fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0), answer)
    }

    /// The same on a given address; port 0 is any.
    pub(crate) fn at(place: (Ipv4Addr, u16), answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(place).unwrap();
        let (port, ledger, answer) = (listener.local_addr().unwrap().port(), Ledger::default(), Arc::new(answer));
        let open = Arc::<AtomicUsize>::default();
        let (kept, count) = (ledger.clone(), Arc::clone(&open));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let (answer, ledger, open) = (Arc::clone(&answer), kept.clone(), Arc::clone(&count));
                open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    Self::serve(stream, number, &ledger, &*answer);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, ledger, open }
    }

    /// How many connections are open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn serve(stream: TcpStream, number: usize, ledger: &Ledger, answer: &dyn Fn(&Message) -> Vec<u8>) {
        stream.set_nodelay(true).unwrap();
        let mut wire = Wire::waiting(stream);
        while let Ok(Some(request)) = wire.request() {
            ledger.note(number, &request);
            if request.head.get("upgrade") == "websocket" {
                return repeat(wire);
            }
            if wire.try_send(answer(&request)).is_err() {
                return;
            }
        }
    }
}

/// Agrees to leave HTTP, and sends back what comes until the other side ends.
fn repeat(mut wire: Wire) {
    let mut back = wire.try_send(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    while back.is_ok()
        && let Ok(bytes) = wire.some()
        && !bytes.is_empty()
    {
        back = wire.try_send(bytes);
    }
}

/// A complete answer, with the version that gives it.
pub(crate) fn answer(name: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nx-version: {name}\r\ncontent-length: {}\r\n\r\n{name}", name.len()).into_bytes()
}

/// An upstream that does what the test says.
#[derive(Debug)]
pub(crate) struct Script {
    /// Where it listens.
    pub(crate) port: u16,
    listener: TcpListener,
}

impl Script {
    /// Listens; accepts nothing yet.
    pub(crate) fn start() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    /// The same on a given address.
    pub(crate) fn at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
        Self { port: listener.local_addr().unwrap().port(), listener }
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> Wire {
        Wire::new(self.listener.accept().expect("the proxy connects").0)
    }

    /// The next connection, if one waits already.
    pub(crate) fn try_accept(&self) -> Option<Wire> {
        self.listener.set_nonblocking(true).unwrap();
        let accepted = self.listener.accept();
        self.listener.set_nonblocking(false).unwrap();
        accepted.ok().map(|(stream, _)| {
            stream.set_nonblocking(false).unwrap();
            Wire::new(stream)
        })
    }
}

/// A port on which connections are refused for as long as this lives.
#[derive(Debug)]
pub(crate) struct Refusing {
    /// The port.
    pub(crate) port: u16,
    _socket: Socket,
}

impl Refusing {
    /// Takes a port and does not listen on it.
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        Self { port, _socket: socket }
    }
}

/// A port on which connections are neither taken nor refused.
#[derive(Debug)]
pub(crate) struct BlackHole {
    /// The port.
    pub(crate) port: u16,
    _sockets: Vec<Socket>,
}

impl BlackHole {
    /// Listens, and fills its own queue.
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap();
        let mut sockets = vec![socket];
        for _ in 0..4 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            // Under way, or waiting for room that never comes.
            let _ = filler.connect(&address);
            sockets.push(filler);
        }
        Self { port: address.as_socket().unwrap().port(), _sockets: sockets }
    }
}
