//! The admin port on a Unix socket: who may use it, and whose its file is.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::support::config::Config;
use super::support::proxy::{Proxy, run, said, serin};
use super::support::upstream::Upstream;
use super::support::{PATIENCE, eventually};

/// A folder with a configuration, and where its socket is to be.
fn folder(config: &Config) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), config.yaml()).unwrap();
    let socket = folder.path().join("admin.sock");
    (folder, socket)
}

fn option(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

/// `serin run` with its admin port there, without a mask that would make files private by itself.
fn command(folder: &TempDir, socket: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(serin().get_program());
    command.arg("run").arg(folder.path().join("config.yaml")).args(["--admin", &option(socket)]);
    command.env_remove("SERIN_ADMIN_TOKEN_FILE");
    command
}

fn start(config: &Config) -> (Proxy, PathBuf) {
    let (folder, socket) = folder(config);
    let mut command = command(&folder, &socket);
    (Proxy::spawn(folder, &mut command), socket)
}

/// The same, where it ends by itself.
fn refused(folder: &TempDir, socket: &Path) -> Output {
    let mut command = command(folder, socket);
    let output = command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    output
}

/// One request, and the whole answer.
fn ask(socket: &Path, request: &str, fields: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\n{fields}connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(socket: &Path, request: &str, fields: &str) -> u16 {
    ask(socket, request, fields).split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn whoever_may_open_the_file_may_do_everything() {
    let (mut proxy, socket) = start(&Config::single(&[9]));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(proxy.log().lines().any(|line| line == format!("admin {}", option(&socket))), "{}", proxy.log());
    for host in ["localhost", "serin", "192.0.2.1:80"] {
        for request in ["GET /metrics", "GET /ready", "POST /config/reload"] {
            assert_eq!(status(&socket, request, &format!("host: {host}\r\n")), 200, "{host}: {request}");
        }
    }
    // A port may lead here (`ssh -L`), and a page's own name to that port.
    assert_eq!(status(&socket, "GET /metrics", "host: evil.test\r\n"), 403);
    assert_eq!(status(&socket, "POST /config/reload", "host: a\r\norigin: http://evil.test\r\n"), 403, "no page's");
    let admin = option(&socket);
    let commands: [&[&str]; 6] = [
        &["status"],
        &["reload"],
        &["stats"],
        &["top", "--once"],
        &["rollout", "status"],
        &["explain", "--", "GET", "http://product-service/"],
    ];
    for command in commands {
        let at = command.iter().position(|word| *word == "--").unwrap_or(command.len());
        let arguments = [&command[..at], &["--admin", &admin], &command[at..]].concat();
        let output = run(&arguments, Path::new("."));
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", said(&output));
    }
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(!socket.exists());
    let output = run(&["status", "--admin", &admin], Path::new("."));
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains(&format!("cannot reach the admin port at {admin}: no such file or directory")), "{text}");
}

/// Permissions are enough, but whoever wants a token gets one; wrong ones bar nobody, for there is no telling who said them.
#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let (folder, socket) = folder(&Config::single(&[9]));
    let token = folder.path().join("token");
    fs::write(&token, "correct-horse-battery-staple").unwrap();
    let mut command = command(&folder, &socket);
    command.arg("--admin-token-file").arg(&token);
    let _proxy = Proxy::spawn(folder, &mut command);
    for _ in 0..20 {
        let wrong = "host: localhost\r\nauthorization: Bearer wrong\r\n";
        assert_eq!(status(&socket, "GET /metrics", wrong), 401);
    }
    let output =
        run(&["status", "--admin", &option(&socket), "--admin-token-file", token.to_str().unwrap()], Path::new("."));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_dead_socket_is_replaced_and_nothing_else() {
    let (proxy, socket) = start(&Config::single(&[9]));
    let (other, _) = folder(&Config::single(&[9]));
    let text = said(&refused(&other, &socket));
    assert!(text.contains(&format!("error: cannot listen on {}: another process listens there", option(&socket))));
    assert_eq!(status(&socket, "GET /ready", "host: localhost\r\n"), 200);
    proxy.signal(Signal::KILL);
    eventually("nobody listens", || UnixStream::connect(&socket).is_err());
    assert!(socket.exists(), "a process that is killed leaves it");
    let mut command = command(&other, &socket);
    let next = Proxy::spawn(other, &mut command);
    assert_eq!(status(&socket, "GET /ready", "host: localhost\r\n"), 200);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o600);
    drop(next);

    let (third, file) = folder(&Config::single(&[9]));
    fs::write(&file, "precious").unwrap();
    assert!(said(&refused(&third, &file)).contains("there is something that is no socket"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    fs::remove_file(&file).unwrap();
    fs::write(third.path().join("config.yaml"), "nothing: [valid").unwrap();
    assert!(said(&refused(&third, &file)).contains("no valid configuration"));
    assert!(!file.exists(), "one that does not start leaves nothing");
}

#[test]
fn it_goes_to_the_next_process_and_goes_with_the_last_one() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]);
    let (mut proxy, socket) = start(&config);
    let before = fs::metadata(&socket).unwrap().ino();

    proxy.save("nothing: [valid");
    proxy.signal(Signal::USR2);
    let kept = "nothing has taken over, this process goes on";
    eventually(kept, || proxy.log().contains(kept));
    assert_eq!(status(&socket, "GET /ready", "host: localhost\r\n"), 200);

    proxy.save(&config.yaml());
    proxy.signal(Signal::USR2);
    let mut next = None;
    eventually("another process has taken over", || {
        let log = proxy.log();
        let pid = log.lines().find_map(|line| line.strip_suffix(" has taken over")?.rsplit_once(' ')?.1.parse().ok());
        next = pid.and_then(Pid::from_raw);
        next.is_some()
    });
    // Whichever of the two has the connection, it is answered; also after the first one has gone.
    let drained = || proxy.log().lines().filter(|line| line.contains(" drained ")).count();
    while drained() == 0 {
        assert_eq!(status(&socket, "GET /live", "host: localhost\r\n"), 200);
    }
    eventually("the process has gone", || !Path::new(&format!("/proc/{}/fd/0", proxy.process())).exists());
    assert_eq!(status(&socket, "GET /ready", "host: localhost\r\n"), 200);
    assert_eq!(fs::metadata(&socket).unwrap().ino(), before);

    kill_process(next.unwrap(), Signal::INT).unwrap();
    eventually("it ends", || drained() == 2);
    eventually("its file has gone, too", || !socket.exists());
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}

/// Its file is the manager's own.
#[test]
fn that_of_a_service_manager_stays_where_it_is() {
    let (folder, socket) = folder(&Config::single(&[9]));
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = command(&folder, &socket);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "admin");
    let mapping = FdMapping { parent_fd: listener.try_clone().unwrap().into(), child_fd: 3 };
    command.fd_mappings(vec![mapping]).unwrap();
    let mut proxy = Proxy::spawn(folder, &mut command);
    assert_eq!(status(&socket, "GET /ready", "host: localhost\r\n"), 200);
    assert!(proxy.log().contains("every user of this machine may use the admin port"), "{}", proxy.log());
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(socket.exists());
}
