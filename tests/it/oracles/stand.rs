//! A proxy in this process, with one upstream that writes down every request and holds each against the strict grammar.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serin::app::{Inputs, Limits, Options, Running, start};
use serin::config::settings::{Listeners, Settings};
use serin::telemetry::Buckets;

use socket2::SockRef;

use super::grammar::{Next, Reading, Request, request};

/// What is asked where the upstream plays its script instead of an answer of its own.
pub(crate) const SCRIPTED: &str = "/scripted";
/// A field of the upstream's own answers, whose body is the target.
pub(crate) const FROM_UPSTREAM: &str = "x-upstream";
/// Asked by the stand itself.
const MARKER: &str = "/marker";
/// The longest that any single step may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proxy and its upstream.
pub(crate) struct Stand {
    /// Where clients connect.
    pub(crate) proxy: SocketAddr,
    /// What runs, for as long as this lives.
    running: Running,
    upstream: Arc<Mutex<Record>>,
    /// Where the upstream listens.
    port: u16,
}

#[derive(Default)]
struct Record {
    requests: Vec<Request>,
    violations: Vec<String>,
    script: Script,
    /// The connections that the upstream serves, each with its number.
    open: Vec<(usize, TcpStream)>,
}

/// What is sent for [`SCRIPTED`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// Byte for byte.
    pub(crate) bytes: Vec<u8>,
    /// Whether the connection stays open afterwards.
    pub(crate) stays: bool,
}

impl Stand {
    /// Starts both.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = Arc::<Mutex<Record>>::default();
        let kept = Arc::clone(&upstream);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let record = Arc::clone(&kept);
                lock(&record).open.push((number, stream.try_clone().unwrap()));
                thread::spawn(move || {
                    serve(stream, &record);
                    lock(&record).open.retain(|(other, _)| *other != number);
                });
            }
        });
        let running = start(options(port)).unwrap();
        Self { proxy: running.listeners[0].local, running, upstream, port }
    }

    /// A connection to the proxy.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What the upstream sends for [`SCRIPTED`] from now on.
    pub(crate) fn plays(&self, script: Script) {
        lock(&self.upstream).script = script;
    }

    /// The requests that arrived since the last look. Nothing else may have arrived, and nothing is on its way when this returns.
    pub(crate) fn arrived(&self) -> Vec<Request> {
        let since = Instant::now();
        while self.running.metrics.versions().iter().any(|version| version.in_flight > 0) {
            assert!(since.elapsed() < PATIENCE, "a request stays under way");
            thread::sleep(Duration::from_millis(1));
        }
        // Connections are accepted in order: behind this one, all that the proxy has opened are known.
        let mut marker = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        marker.write_all(format!("GET {MARKER} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes()).unwrap();
        marker.read_exact(&mut [0]).unwrap();
        loop {
            let mut record = lock(&self.upstream);
            // What was read was noted under the same lock.
            if record.open.iter().all(|(_, stream)| !has_input(stream)) {
                assert_eq!(record.violations, Vec::<String>::new(), "what went upstream");
                record.requests.retain(|request| request.target != MARKER);
                return std::mem::take(&mut record.requests);
            }
            drop(record);
            assert!(since.elapsed() < PATIENCE, "the upstream does not read");
            thread::yield_now();
        }
    }
}

/// Whether bytes wait to be read. Looks without waiting and without taking them.
fn has_input(stream: &TcpStream) -> bool {
    const PEEK_WITHOUT_WAITING: i32 = 0x2 | 0x40;
    let mut byte = [MaybeUninit::uninit()];
    SockRef::from(stream).recv_with_flags(&mut byte, PEEK_WITHOUT_WAITING).is_ok_and(|length| length > 0)
}

fn options(port: u16) -> Options {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec:\n  hosts: [a.test]\n  http:\n\
         \x20 - retries: {{attempts: 0}}\n    route:\n    - destination: {{host: a.test}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: se}}\nspec:\n  hosts: [a.test]\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n\
         \x20 endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]\n"
    );
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Options {
        inputs: Inputs::Text(text),
        settings: Settings::default(),
        listeners: Listeners { mesh: vec![any], port_map: Vec::new() },
        admin: any.into(),
        admin_hosts: Vec::new(),
        admin_token_file: None,
        buckets: Buckets::default(),
        workers: 1,
        seed: Some(1),
        limits: Limits::default(),
        drain_timeout: Duration::ZERO,
        wait_for_config: false,
        access_log: None,
        state_dir: None,
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, record: &Mutex<Record>) {
    stream.set_nodelay(true).unwrap();
    let (mut bytes, mut more) = (Vec::new(), [0; 16 * 1024]);
    // Read only under the lock, so that nothing is ever read and not yet noted.
    while stream.peek(&mut [0]).is_ok_and(|length| length > 0) {
        let mut record = lock(record);
        match stream.read(&mut more) {
            Ok(length) => bytes.extend_from_slice(&more[..length]),
            Err(_) => return,
        }
        loop {
            match request(&bytes, Reading::Strict) {
                Next::Message(got, length) => {
                    if got.fields.iter().filter(|(name, _)| name == "host").count() != 1 {
                        record.violations.push(format!("not one Host: {got:?}"));
                    }
                    let script = (got.target == SCRIPTED).then(|| record.script.clone());
                    let answer = answer(&got);
                    record.requests.push(got);
                    bytes.drain(..length);
                    let sent = stream.write_all(script.as_ref().map_or(&answer, |script| &script.bytes));
                    if sent.is_err() || script.is_some_and(|script| !script.stays) {
                        return;
                    }
                }
                Next::Bad(why) => return record.violations.push(format!("{why}: {}", bytes.escape_ascii())),
                Next::Partial => break,
            }
        }
    }
}

fn answer(request: &Request) -> Vec<u8> {
    let (target, length) = (&request.target, request.target.len());
    let body = if request.method == "HEAD" { "" } else { target };
    format!("HTTP/1.1 200 OK\r\n{FROM_UPSTREAM}: 1\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Sends in parts that end at `cuts`. The other side may have had enough before.
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8], cuts: &[usize]) {
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        if end > start && stream.write_all(&bytes[start..end]).is_err() {
            return;
        }
        start = start.max(end);
        thread::yield_now();
    }
}

/// Reads more; false at the end of the connection, whichever it is.
///
/// # Panics
/// Nothing comes: the other side hangs.
pub(crate) fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut more = [0; 16 * 1024];
    match stream.read(&mut more) {
        Ok(length) => {
            bytes.extend_from_slice(&more[..length]);
            length > 0
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("neither an answer nor an end after {}", bytes.escape_ascii())
        }
        Err(_) => false,
    }
}
