//! Load over kept connections: so many requests a second, or as many as are answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::proxy::HOST;

/// Clients at work.
pub(crate) struct Load {
    /// Answers so far.
    pub(crate) answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    /// Starts so many clients; `rate` is requests a second of all together.
    pub(crate) fn start(proxy: SocketAddr, connections: u32, rate: Option<u32>) -> Self {
        let (answered, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let start = Instant::now();
        let client = |number| {
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            thread::spawn(move || -> Result<(), String> {
                let mut client = Client::connect(proxy)?;
                for turn in 0_u64.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    if let Some(rate) = rate {
                        let step = turn * u64::from(connections) + u64::from(number);
                        let due = start + Duration::from_nanos(step * 1_000_000_000 / u64::from(rate));
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    client.get()?;
                    answered.fetch_add(1, Relaxed);
                }
                Ok(())
            })
        };
        let clients = (0..connections).map(client).collect();
        Self { answered, stop, clients }
    }

    /// Ends it. Every request must have been answered.
    pub(crate) fn stop(self) -> Result<(), String> {
        self.stop.store(true, Relaxed);
        self.clients.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked".to_owned())?)
    }
}

/// A client with one connection.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn connect(proxy: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(proxy).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| format!("cannot connect to the proxy: {error}"))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// A request and its answer, which has no body.
    fn get(&mut self) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("a request failed: {error}");
        self.stream.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).map_err(broken)?;
        self.answer.clear();
        let mut buffer = [0; 4096];
        while !self.answer.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut buffer).map_err(broken)? {
                0 => return Err("the proxy closed a connection".to_owned()),
                read => self.answer.extend_from_slice(&buffer[..read]),
            }
        }
        Ok(())
    }
}
