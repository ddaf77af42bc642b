//! The socket of the admin port: opened, or taken over from whoever started this process. That of a Unix socket has a file, which is
//! this user's alone and goes with the last process that serves it.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::inherited::{ADMIN, ADMIN_FILE, Inherited};
use super::listeners::{reason, taken};
use crate::admin::{Address, Listener};

/// The mode of the file: nobody but this user may connect.
const MODE: u32 = 0o600;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct AdminSocket {
    listener: Listener,
    file: Option<SocketFile>,
}

impl AdminSocket {
    /// Opens it, unless it was inherited.
    ///
    /// # Errors
    /// What to tell the operator: the address cannot be had.
    pub(super) fn open(wanted: &Address, inherited: &mut Inherited) -> Result<Self, String> {
        match wanted {
            Address::Network(address) => {
                let passed = inherited.take(*address, ADMIN).into_iter().next();
                let listener = passed.map_or_else(|| TcpListener::bind(address), Ok);
                let listener = listener.map_err(|error| taken(*address, &error, "--admin"))?.into();
                Ok(Self { listener, file: None })
            }
            Address::Unix(path) => match inherited.take_unix(path) {
                Some((listener, name)) if name == ADMIN_FILE => {
                    // As long as this process has not taken over, the file is the other one's.
                    let mut socket = Self { listener: listener.into(), file: SocketFile::of(path).ok() };
                    socket.keep_file(true);
                    Ok(socket)
                }
                Some((listener, _)) => {
                    warn_of_mode(path);
                    Ok(Self { listener: listener.into(), file: None })
                }
                None => open_unix(path).map_err(|error| format!("error: cannot listen on {wanted}: {error}")),
            },
        }
    }

    /// Where it listens; port 0 is the one that the system has chosen.
    ///
    /// # Errors
    /// The system does not say.
    pub(super) fn address(&self) -> io::Result<Address> {
        self.listener.address()
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn listener(&self) -> io::Result<Listener> {
        self.listener.try_clone()
    }

    /// The socket for a process that takes this one's place, under the name that says whether it gets the file, too.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn pass_on(&self) -> io::Result<(&'static str, OwnedFd)> {
        let name = if self.file.as_ref().is_some_and(SocketFile::is_there) { ADMIN_FILE } else { ADMIN };
        Ok((name, self.listener()?.into()))
    }

    /// From here on the file, if there is one, stays or goes when this is dropped.
    pub(super) fn keep_file(&mut self, keep: bool) {
        self.file.iter_mut().for_each(|file| file.keep = keep);
    }
}

/// The file of a Unix socket. Dropped, it removes it, unless it is to be kept or is another one's by now.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    keep: bool,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok(Self { path: path.to_owned(), identity, keep: false })
    }

    /// Whether it is the one that is at its path.
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.keep && self.is_there() {
            // If it stays, the next process finds that nobody listens on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which file it is, whatever it is called.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Opens a Unix socket, in the place of one on which nobody listens any more.
fn open_unix(path: &Path) -> Result<AdminSocket, String> {
    let bound = match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            make_room(path)?;
            bind(path)
        }
        bound => bound,
    };
    let opened = bound.and_then(|listener| {
        let file = Some(SocketFile::of(path)?);
        Ok(AdminSocket { listener: listener.into(), file })
    });
    opened.map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "its folder has to be there",
            io::ErrorKind::PermissionDenied => "its folder has to be one that this user may write to",
            _ => return reason(&error),
        };
        format!("{}\n  = help: {help}", reason(&error))
    })
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    // The file gets the mode that the socket has when it is bound: at no moment may another user open it.
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    socket.set_permissions(Permissions::from_mode(MODE))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes what a dead process has left, and nothing else.
fn make_room(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(reason(&error)),
    };
    if !found.file_type().is_socket() {
        return Err("there is something that is no socket\n  = help: choose another path with --admin".to_owned());
    }
    match knock(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // One whose queue is full listens, too.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            let why = reason(&error);
            return Err(format!("there is a socket, and nobody can tell whether another process listens on it: {why}"));
        }
        _ => return Err("another process listens there\n  = help: choose another path with --admin".to_owned()),
    }
    // Not one that has come meanwhile.
    match fs::symlink_metadata(path) {
        Ok(now) if identity(&now) == identity(&found) => fs::remove_file(path).map_err(|error| reason(&error)),
        _ => Ok(()),
    }
}

/// Whether anybody listens, without waiting for whoever does.
fn knock(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// What a service manager has opened has the mode that it was told.
fn warn_of_mode(path: &Path) {
    let others_may = fs::symlink_metadata(path).is_ok_and(|file| file.permissions().mode() & 0o002 != 0);
    if others_may {
        let path = path.display();
        tracing::warn!("every user of this machine may use the admin port at {path}: SocketMode=0600 would say who");
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use tempfile::TempDir;

    use super::*;

    /// Where no process has listened so far.
    fn place() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        (folder, path)
    }

    fn open(path: &Path) -> Result<AdminSocket, String> {
        AdminSocket::open(&Address::Unix(path.to_owned()), &mut Inherited::default())
    }

    #[test]
    fn the_file_is_this_users_alone_and_goes_with_the_socket() {
        let (_folder, path) = place();
        let socket = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(socket.address().unwrap(), Address::Unix(path.clone()));
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_was_handed_on_or_replaced_stays() {
        let (_folder, path) = place();
        let mut socket = open(&path).unwrap();
        socket.keep_file(true);
        drop(socket);
        assert!(path.exists());
        let socket = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = open(&path).unwrap();
        drop(socket);
        UnixStream::connect(&path).unwrap();
        drop(other);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_what_is_alive_is_not() {
        let (_folder, path) = place();
        let alive = open(&path).unwrap();
        assert!(open(&path).unwrap_err().contains("another process listens there"));
        let waiting: Vec<_> = iter::from_fn(|| knock(&path).ok()).collect();
        assert!(open(&path).unwrap_err().contains("another process listens there"), "its queue is full");
        drop((waiting, alive));
        assert!(!path.exists());
        let dead = path.with_extension("dead");
        drop(UnixListener::bind(&dead).unwrap());
        assert!(dead.exists());
        let new = open(&dead).unwrap();
        UnixStream::connect(&dead).unwrap();
        drop(new);
    }

    #[test]
    fn nothing_but_a_dead_socket_is_ever_removed() {
        let (folder, path) = place();
        let other = folder.path().join("other");
        fs::write(&path, "text").unwrap();
        std::os::unix::fs::symlink(&path, &other).unwrap();
        for place in [&path, &other, &folder.path().to_owned()] {
            let error = open(place).unwrap_err();
            assert!(error.contains(&format!("cannot listen on unix:{}", place.display())), "{error}");
            assert!(error.contains("is no socket"), "{error}");
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "text");
        let talk = folder.path().join("talk");
        let _alive = UnixDatagram::bind(&talk).unwrap();
        assert!(open(&talk).unwrap_err().contains("nobody can tell"));
        assert!(talk.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let (folder, _) = place();
        let error = open(&folder.path().join("not/admin.sock")).unwrap_err();
        assert!(error.contains("no such file or directory") && error.contains("its folder has to be there"), "{error}");
    }
}
