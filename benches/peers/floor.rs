//! The floor: a relay that knows no HTTP. One thread, one connection to the upstream for each client, and nothing but
//! the read and the write of each direction: what any proxy on this runtime has to spend at least.

use std::io;
use std::process::ExitCode;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The first argument that makes this program the relay: it has to be a process of its own to be measured.
pub(crate) const ROLE: &str = "--relay";

/// Relays from one address to another until it is killed.
pub(crate) fn run(listen: &str, to: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    match runtime.and_then(|runtime| runtime.block_on(relay(listen, to))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn relay(listen: &str, to: &str) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        let upstream = TcpStream::connect(to).await?;
        client.set_nodelay(true)?;
        upstream.set_nodelay(true)?;
        let ((from_client, to_client), (from_upstream, to_upstream)) = (client.into_split(), upstream.into_split());
        tokio::spawn(pump(from_client, to_upstream));
        tokio::spawn(pump(from_upstream, to_client));
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}
