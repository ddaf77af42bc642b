//! What stands behind the proxy: gives every request the same answer, and notes when each came.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use jiff::Timestamp;

/// One version. It lives as long as this process.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    arrived: Arc<Mutex<Vec<Timestamp>>>,
}

impl Upstream {
    /// Answers with this status, on a thread for each connection.
    pub(crate) fn start(status: &'static str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("an upstream cannot listen: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let arrived = Arc::<Mutex<_>>::default();
        let noted = Arc::clone(&arrived);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let noted = Arc::clone(&noted);
                thread::spawn(move || serve(stream, status, &noted));
            }
        });
        Ok(Self { port, arrived })
    }

    /// When each request came.
    pub(crate) fn arrived(&self) -> Vec<Timestamp> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Until the proxy goes. Requests come without a body, one at a time.
fn serve(mut stream: TcpStream, status: &str, arrived: &Mutex<Vec<Timestamp>>) {
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        head.extend_from_slice(&buffer[..read]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            arrived.lock().unwrap_or_else(PoisonError::into_inner).push(Timestamp::now());
            if stream.set_nodelay(true).and_then(|()| stream.write_all(answer.as_bytes())).is_err() {
                return;
            }
        }
    }
}
