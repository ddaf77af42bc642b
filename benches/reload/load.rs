//! A constant load over kept connections, in an open loop: a request that is due while the one before it is still under way
//! is counted from when it was due.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::upstream::VERSION_HEADER;

/// Services that are asked, evenly spread over all: few enough for connections to their endpoints to be kept.
const HOT: u64 = 32;

/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where requests go, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) port: u16,
    pub(crate) services: u32,
    pub(crate) rules: u32,
    /// A second, over all connections.
    pub(crate) rate: u32,
}

/// How long each request took, in order of size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Several as one.
    pub(crate) fn together(all: &[Self]) -> Self {
        let mut times: Vec<Duration> = all.iter().flat_map(|one| &one.0).copied().collect();
        times.sort_unstable();
        Self(times)
    }

    /// The time that this part (0–1) of the requests did not exceed.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(((last as f64) * part).round() as usize).copied().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Load {
    /// Loads the proxy for so long. Every answer must be a 200.
    pub(crate) fn run(self, connections: u32, spell: Duration) -> Result<Latencies, String> {
        let start = Instant::now() + Duration::from_millis(10);
        let workers: Vec<_> = (0..connections)
            .map(|number| thread::spawn(move || self.connection(number, connections, start, spell)))
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.push(worker.join().map_err(|_| "a client panicked".to_owned())??);
        }
        Ok(Latencies::together(&all))
    }

    /// The requests of one connection: services and rules in turn.
    fn connection(self, number: u32, of: u32, start: Instant, spell: Duration) -> Result<Latencies, String> {
        let mut client = Client::connect(self.port)?;
        let mut latencies = Vec::new();
        for turn in 0_u32.. {
            let step = u64::from(turn) * u64::from(of) + u64::from(number);
            let due = start + Duration::from_nanos(step * 1_000_000_000 / u64::from(self.rate));
            if due > start + spell {
                break;
            }
            let now = Instant::now();
            // A sleep that lasts too long is not the proxy's fault.
            let began = if now < due {
                thread::sleep(due - now);
                Instant::now()
            } else {
                due
            };
            let service = step % HOT * u64::from(self.services) / HOT;
            client.get(service, step * 31 % u64::from(self.rules))?;
            latencies.push(began.elapsed());
        }
        Ok(Latencies(latencies))
    }
}

/// A client with one connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    /// Connects to the proxy.
    pub(crate) fn connect(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| format!("cannot connect to the proxy: {error}"))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Asks a rule of a service and gives back which version answered.
    pub(crate) fn get(&mut self, service: u64, rule: u64) -> Result<String, String> {
        let request =
            format!("GET /api/v1/resource-{rule}/items HTTP/1.1\r\nhost: service-{service}.shop.example.com\r\n\r\n");
        let broken = |error: std::io::Error| format!("a request failed: {error}");
        self.stream.write_all(request.as_bytes()).map_err(broken)?;
        self.answer.clear();
        let mut buffer = [0; 4096];
        // The body is one line, the only one that ends without a carriage return.
        while !self.answer.ends_with(b"\n") || self.answer.ends_with(b"\r\n") {
            match self.stream.read(&mut buffer).map_err(broken)? {
                0 => return Err("the proxy closed a connection".to_owned()),
                read => self.answer.extend_from_slice(&buffer[..read]),
            }
        }
        let text = String::from_utf8_lossy(&self.answer);
        let version = text.lines().find_map(|line| line.strip_prefix(VERSION_HEADER)?.strip_prefix(": "));
        match version {
            Some(version) if text.starts_with("HTTP/1.1 200 ") => Ok(version.to_owned()),
            _ => Err(format!("an answer is none of the upstream's:\n{text}")),
        }
    }
}
