//! Listening sockets that this process was started with: by a service manager (systemd's socket activation), or by the process
//! whose place it takes. Which of them is whose is said by addresses, and for port 0 by names.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf, absolute};
use std::{env, io};

use listenfd::ListenFd;

/// The name of sockets of `--listen`.
pub(super) const LISTEN: &str = "listen";
/// The name of the socket of `--admin`.
pub(super) const ADMIN: &str = "admin";
/// The name of a Unix socket of `--admin` whose file goes with the process: it has no other owner.
pub(super) const ADMIN_FILE: &str = "admin-file";
/// The name of sockets of Gateways.
pub(super) const GATEWAY: &str = "gateway";

/// The sockets that nobody has taken yet, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    network: Vec<Socket>,
    unix: Vec<UnixSocket>,
}

#[derive(Debug)]
struct Socket {
    name: String,
    address: SocketAddr,
    socket: TcpListener,
}

#[derive(Debug)]
struct UnixSocket {
    name: String,
    path: PathBuf,
    socket: UnixListener,
}

impl Inherited {
    /// What the environment says: `LISTEN_FDS` and `LISTEN_FDNAMES`, and `LISTEN_PID` if it is there (sd_listen_fds(3)).
    ///
    /// # Errors
    /// One of them is no listening TCP socket, and no Unix socket either.
    pub(super) fn from_env() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = Self::default();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            // What is of another kind stays where it is.
            if let Ok(Some(socket)) = passed.take_unix_listener(index) {
                let path = socket.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
                sockets.unix.push(UnixSocket { name, path, socket });
                continue;
            }
            let Some(socket) = passed.take_tcp_listener(index)? else { continue };
            socket.set_nonblocking(true)?;
            sockets.network.push(Socket { name, address: socket.local_addr()?, socket });
        }
        Ok(sockets)
    }

    /// The sockets of an address. Port 0 stands for the address of the first one of this name and IP address.
    pub(super) fn take(&mut self, wanted: SocketAddr, name: &str) -> Vec<TcpListener> {
        let Some(address) = self.find(wanted, name) else { return Vec::new() };
        self.network.extract_if(.., |socket| socket.address == address).map(|socket| socket.socket).collect()
    }

    /// Copies of the same, which stay here, too.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn copy(&self, wanted: SocketAddr, name: &str) -> io::Result<Vec<TcpListener>> {
        let Some(address) = self.find(wanted, name) else { return Ok(Vec::new()) };
        let same = self.network.iter().filter(|socket| socket.address == address);
        same.map(|socket| socket.socket.try_clone()).collect()
    }

    /// The Unix socket of a path, with its name.
    pub(super) fn take_unix(&mut self, wanted: &Path) -> Option<(UnixListener, String)> {
        let whole = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned());
        let wanted = whole(wanted);
        let index = self.unix.iter().position(|socket| whole(&socket.path) == wanted)?;
        let UnixSocket { name, socket, .. } = self.unix.swap_remove(index);
        Some((socket, name))
    }

    fn find(&self, wanted: SocketAddr, name: &str) -> Option<SocketAddr> {
        let same = |socket: &&Socket| match wanted.port() {
            0 => socket.address.ip() == wanted.ip() && socket.name == name,
            _ => socket.address == wanted,
        };
        self.network.iter().find(same).map(|socket| socket.address)
    }

    /// Those that nobody took. They close when this is dropped.
    pub(super) fn left(&self) -> impl Iterator<Item = String> {
        let network = self.network.iter().map(|socket| socket.address.to_string());
        network.chain(self.unix.iter().map(|socket| format!("unix:{}", socket.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(of: &[(&str, &TcpListener)]) -> Inherited {
        let socket = |(name, socket): &(&str, &TcpListener)| Socket {
            name: (*name).to_owned(),
            address: socket.local_addr().unwrap(),
            socket: socket.try_clone().unwrap(),
        };
        Inherited { network: of.iter().map(socket).collect(), unix: Vec::new() }
    }

    #[test]
    fn a_unix_socket_is_found_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let socket = UnixListener::bind(&path).unwrap();
        let unix = vec![UnixSocket { name: ADMIN_FILE.to_owned(), path: path.clone(), socket }];
        let mut all = Inherited { network: Vec::new(), unix };
        assert!(all.take_unix(Path::new("a")).is_none(), "another folder's");
        assert_eq!(all.left().collect::<Vec<_>>(), [format!("unix:{}", path.display())]);
        assert_eq!(all.take_unix(&folder.path().join("./a")).unwrap().1, ADMIN_FILE);
        assert!(all.take_unix(&path).is_none());
    }

    #[test]
    fn sockets_are_found_by_their_address_and_for_port_0_by_their_name() {
        let [one, two, three] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut all = inherited(&[(ADMIN, &one), (LISTEN, &two), (LISTEN, &two), ("", &three)]);
        assert_eq!(all.copy(any, LISTEN).unwrap().len(), 2);
        assert!(all.take("[::1]:0".parse().unwrap(), LISTEN).is_empty());
        assert_eq!(all.take(any, LISTEN).len(), 2, "one for each worker");
        assert!(all.take(any, LISTEN).is_empty());
        assert_eq!(all.take(three.local_addr().unwrap(), LISTEN).len(), 1, "whatever it is called");
        assert_eq!(all.left().collect::<Vec<_>>(), [one.local_addr().unwrap().to_string()]);
        assert_eq!(all.take(any, ADMIN).len(), 1);
    }
}
