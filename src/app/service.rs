//! What is said to whoever started this process: that it is ready, and which process it is now, in the words of sd_notify(3).

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::{env, io};

/// The variable with the address of the service manager.
pub(super) const MANAGER: &str = "NOTIFY_SOCKET";
/// The variable with the address of the process whose place this one takes.
pub(super) const PREDECESSOR: &str = "SERIN_PREDECESSOR";
/// This process serves.
pub(super) const READY: &str = "READY=1";

/// Whether this process takes another one's place.
pub(super) fn has_predecessor() -> bool {
    env::var_os(PREDECESSOR).is_some()
}

/// Says something to whoever has an address in this variable. That it cannot be said is logged and changes nothing.
pub(super) fn say(to: &str, state: &str) {
    let Some(socket) = env::var_os(to).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("cannot say {state} to {to}: {error}");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address(socket)?)?;
    Ok(())
}

/// A path, or behind an `@` a name of Linux's abstract namespace.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_at_a_path_and_at_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@serin-test-{}", std::process::id());
        for socket in [path.as_os_str(), OsStr::new(&name)] {
            let far = UnixDatagram::bind_addr(&address(socket).unwrap()).unwrap();
            send(socket, READY).unwrap();
            let mut received = [0; 64];
            let length = far.recv(&mut received).unwrap();
            assert_eq!(&received[..length], READY.as_bytes());
        }
        assert!(send(OsStr::new("/nowhere/at/all"), READY).is_err());
    }
}
