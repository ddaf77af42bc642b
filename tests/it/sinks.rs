//! Nobody has to read what the proxy writes: not its log, not its access log.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, pipe};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::support::config::Config;
use super::support::eventually;
use super::support::h2;
use super::support::proxy::{Proxy, serin};
use super::support::upstream::Upstream;

/// A proxy that says as much as it can, to this.
fn start(config: &Config, to: impl Into<Stdio>) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), config.yaml()).unwrap();
    let path = folder.path().to_owned();
    Proxy::spawn_saying(folder, serin().arg("run").arg(path).env("SERIN_LOG", "trace"), to.into())
}

fn lost(proxy: &Proxy) -> f64 {
    proxy.metric("serin_log_dropped_total", &[])
}

/// It loses lines, and nothing else: requests, an edit, the end.
fn works(mut proxy: Proxy, config: &Config) {
    let ask = |times: usize| {
        h2::run(async {
            let mut connection = h2::connect(proxy.listen).await;
            for _ in 0..times {
                let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
                assert_eq!(answer.status(), 200);
            }
        });
    };
    eventually("lines are lost", || {
        ask(100);
        lost(&proxy) > 0.0
    });
    proxy.save("half: [");
    eventually("what is refused is known", || proxy.status()["on_disk"]["state"] == "rejected");
    proxy.save(&format!("# again\n{}", config.yaml()));
    eventually("the edit is in force", || proxy.generation() == 2);
    ask(100);
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]);
    let (unread, to) = pipe().unwrap();
    works(start(&config, to), &config);
    drop(unread);
}

#[test]
fn a_log_whose_reader_has_gone_stops_nothing() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]);
    let (read, to) = pipe().unwrap();
    let proxy = start(&config, to);
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).unwrap();
    assert!(!line.is_empty());
    works(proxy, &config);
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]);
    works(start(&config, File::create("/dev/full").unwrap()), &config);
}

#[test]
fn an_access_log_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    const NONBLOCK: i32 = 0o4000;
    let upstream = Upstream::named("v1");
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("access");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let unread = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(&fifo).unwrap();
    let mut proxy =
        Proxy::with(&Config::single(&[upstream.port]), &["--access-log", &format!("json={}", fifo.display())]);
    let mut client = proxy.client();
    eventually("the log is full", || {
        (0..200).for_each(|_| assert_eq!(client.get("/").status(), 200));
        proxy.metric("serin_access_log_dropped_total", &[]) > 0.0
    });
    drop(client);
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    drop(unread);
}

/// What other servers are told to open their logs again, and to end.
#[test]
fn signals_of_other_servers_do_not_kill() {
    let upstream = Upstream::named("v1");
    let mut proxy = Proxy::start(&Config::single(&[upstream.port]));
    proxy.signal(Signal::USR1);
    eventually("it says what that means here", || proxy.log().contains("the access log follows its file"));
    assert_eq!(proxy.client().get("/").status(), 200);
    proxy.signal(Signal::QUIT);
    eventually("balancers are told", || proxy.ask("GET", "/ready").0 == 503);
    assert_eq!(proxy.client().get("/").status(), 200);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}
