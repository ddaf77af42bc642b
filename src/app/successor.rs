//! Another process in this one's place, with the same sockets: a new binary, without a refused or lost connection. Until it says
//! that it is ready, nothing has changed; if it never does, this process goes on.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, id};
use std::time::Duration;
use std::{env, io};

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep_until, timeout};

use super::service::{PREDECESSOR, READY};

/// The first descriptor that is passed on (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// How long a successor may take until it is ready: it reads the configuration, and resolves names.
const LONGEST: Duration = Duration::from_secs(60);
/// How often it is looked whether it has died.
const LOOK: Duration = Duration::from_millis(50);

/// What this process was started as.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

/// Where the other process says that it is ready: a socket in a folder of this user alone.
struct Ear {
    folder: PathBuf,
    socket: Option<UnixDatagram>,
}

/// A process that may still fail; it is ended when this is dropped.
struct Attempt(Option<Child>);

impl Program {
    /// To be asked early: what is at the path later is the new binary.
    ///
    /// # Errors
    /// The system does not say which file this is.
    pub(super) fn current() -> io::Result<Self> {
        let mut arguments = env::args_os();
        // As it was called: a link may lead to another binary by then.
        let called = arguments.next().map(PathBuf::from).filter(|path| path.components().count() > 1);
        let path = called.map_or_else(env::current_exe, absolute)?;
        Ok(Self { path, arguments: arguments.collect() })
    }

    /// Starts it again with these sockets, each under a name, and waits until it serves. Its process id. The address of the service
    /// manager goes with the environment.
    ///
    /// # Errors
    /// It could not be started, ended, or did not get ready; it is gone then.
    pub(super) async fn start(&self, sockets: Vec<(&'static str, OwnedFd)>) -> Result<u32, String> {
        let ready = Ear::open().map_err(|error| format!("cannot wait for it: {error}"))?;
        let mut attempt = self.spawn(&ready.path(), sockets).map_err(|error| format!("cannot start it: {error}"))?;
        let deadline = Instant::now() + LONGEST;
        loop {
            tokio::select! {
                said = ready.hears() => if said { return Ok(attempt.succeed()) },
                () = sleep_until(deadline) => return Err(format!("it was not ready after {} s", LONGEST.as_secs())),
            }
            if let Some(ended) = attempt.ended() {
                return Err(ended);
            }
        }
    }

    fn spawn(&self, notify: &Path, sockets: Vec<(&'static str, OwnedFd)>) -> io::Result<Attempt> {
        let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env(PREDECESSOR, notify)
            .env("LISTEN_FDS", sockets.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            // It is known after the fork only, and nobody else gets these variables.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS_FIRST_FD");
        let passed = (FIRST..).zip(sockets);
        let mappings = passed.map(|(child_fd, (_, socket))| FdMapping { parent_fd: socket, child_fd });
        command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
        Ok(Attempt(Some(command.spawn()?)))
    }
}

impl Ear {
    fn open() -> io::Result<Self> {
        let folder = env::temp_dir().join(format!("serin-{}-{:016x}", id(), rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        // Removed with it, whatever fails from here on.
        let mut ear = Self { folder, socket: None };
        ear.socket = Some(UnixDatagram::bind(ear.path())?);
        Ok(ear)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("ready")
    }

    /// Whether it is told within a moment that the other is ready.
    async fn hears(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut said = [0; 256];
        match timeout(LOOK, socket.recv(&mut said)).await {
            Ok(Ok(length)) => said[..length].split(|byte| *byte == b'\n').any(|line| line == READY.as_bytes()),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // A folder that stays is empty, and of a name that does not come again.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Attempt {
    /// How it ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self.0.as_mut()?.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("it ended: {status}")),
            Err(error) => Some(format!("nothing is known of it: {error}")),
        }
    }

    /// Leaves it alone from now on.
    fn succeed(mut self) -> u32 {
        self.0.take().map_or(0, |child| child.id())
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn program(path: &str, arguments: &[&str]) -> Program {
        Program { path: path.into(), arguments: arguments.iter().map(OsString::from).collect() }
    }

    #[tokio::test]
    async fn one_that_fails_is_told_and_gone() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = || vec![("listen", socket.try_clone().unwrap().into())];
        let error = program("/nowhere/at/all", &[]).start(sockets()).await.unwrap_err();
        assert!(error.contains("cannot start it"), "{error}");
        let error = program("/bin/sh", &["-c", "exit 7"]).start(sockets()).await.unwrap_err();
        assert!(error.contains("it ended") && error.contains('7'), "{error}");
    }

    #[tokio::test]
    async fn sockets_and_their_names_are_passed_on() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        // Says what it got, and not that it is ready.
        let script = format!(
            "echo $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID > {0}.new; test -S /dev/fd/3 && test -S /dev/fd/4 && mv {0}.new {0}",
            said.display()
        );
        let copy = || OwnedFd::from(socket.try_clone().unwrap());
        let sockets = vec![("listen", copy()), ("admin", copy())];
        let error = program("/bin/sh", &["-c", &script]).start(sockets).await.unwrap_err();
        assert!(error.contains("it ended"), "{error}");
        assert_eq!(std::fs::read_to_string(said).unwrap().trim(), "2 listen:admin");
    }
}
