//! What stands behind the proxy: answers every request with its version, on a thread for each connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// The header in which the upstream says which version answered.
pub(crate) const VERSION_HEADER: &str = "x-version";

/// Starts one and gives back its port. It lives as long as this process.
pub(crate) fn start(version: &'static str) -> Result<u16, String> {
    let failed = |error: std::io::Error| format!("the upstream cannot listen: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream, version));
        }
    });
    Ok(port)
}

/// Until the client goes. Requests come without a body, one at a time.
fn serve(mut stream: TcpStream, version: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\n{VERSION_HEADER}: {version}\r\ncontent-length: 3\r\n\r\n{version}\n");
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        head.extend_from_slice(&buffer[..read]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.set_nodelay(true).and_then(|()| stream.write_all(answer.as_bytes())).is_err() {
                return;
            }
        }
    }
}
