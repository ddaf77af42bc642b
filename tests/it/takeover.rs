//! Another process takes over: SIGUSR2 starts the binary anew with every listening socket, and nobody notices. And sockets of a
//! service manager.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};

use super::support::client::{Client, request};
use super::support::clients::{Clients, Mix, rounds};
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, run, said, serin};
use super::support::release::{Scene, done, status, weight};
use super::support::upstream::Upstream;

/// The processes that followed the first one; the last of them ends with the test.
struct Line<'p> {
    proxy: &'p Proxy,
    last: Option<Pid>,
}

impl<'p> Line<'p> {
    fn new(proxy: &'p Proxy) -> Self {
        Self { proxy, last: None }
    }

    fn signal(&self, signal: Signal) {
        match self.last {
            Some(pid) => kill_process(pid, signal).unwrap(),
            None => self.proxy.signal(signal),
        }
    }

    /// Tells the last one to be replaced and waits until it was.
    fn replace(&mut self) {
        let known = self.taken_over().len();
        self.signal(Signal::USR2);
        eventually("another process has taken over", || self.taken_over().len() > known);
        self.last = Some(self.taken_over()[known]);
    }

    fn taken_over(&self) -> Vec<Pid> {
        let log = self.proxy.log();
        let pids =
            log.lines().filter_map(|line| line.strip_suffix(" has taken over")?.rsplit_once(' ')?.1.parse().ok());
        pids.map(|pid| Pid::from_raw(pid).unwrap()).collect()
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(pid) = self.last {
            // It may have ended.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn drained(proxy: &Proxy) -> usize {
    proxy.log().lines().filter(|line| line.contains(" drained ")).count()
}

/// `SERIN_TAKEOVERS` says how often, three times without it; prints how many requests that were.
#[test]
fn a_process_that_is_replaced_under_load_loses_nothing_and_repeats_nothing() {
    let rounds = rounds("SERIN_TAKEOVERS", 3);
    let upstream = Upstream::named("v1");
    let mut proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "2"]);
    let clients = Clients::start(proxy.listen, Mix::ALL);
    {
        let mut line = Line::new(&proxy);
        for round in 1..=rounds {
            let before = upstream.ledger.len();
            eventually("there is load", || upstream.ledger.len() > before + 300);
            line.replace();
            eventually("the old process has ended", || drained(&proxy) == round);
            assert_eq!(proxy.ask("GET", "/ready").0, 200);
        }
        let before = upstream.ledger.len();
        eventually("the last one serves", || upstream.ledger.len() > before + 300);
        clients.finish().check(&[&upstream.ledger], 0);
        println!("{rounds} processes were replaced under {} requests", upstream.ledger.len());
        line.signal(Signal::INT);
        eventually("it ends", || drained(&proxy) > rounds);
    }
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}

/// Connections that wait in the kernel are served by whoever comes.
#[test]
fn connections_that_wait_to_be_accepted_are_served_by_the_next_process() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "2"]);
    let mut line = Line::new(&proxy);
    proxy.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(request("POST", "/", b"body"));
    }
    proxy.signal(Signal::USR2);
    proxy.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().status(), 200);
    }
    eventually("another process has taken over", || line.taken_over().len() == 1);
    line.last = Some(line.taken_over()[0]);
    assert_eq!(upstream.ledger.len(), 40);
}

/// The queue in the kernel belongs to both of them: with sockets of its own, the next process would not see half of it.
#[test]
fn the_next_process_serves_while_the_old_one_stands_still() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--workers", "2"]);
    proxy.signal(Signal::USR2);
    let mut line = Line::new(&proxy);
    eventually("another process is there", || {
        line.last = child(&proxy);
        line.last.is_some()
    });
    proxy.signal(Signal::STOP);
    eventually("it serves", || proxy.log().matches("admin http://").count() == 2);
    let mut clients: Vec<Client> = (0..100).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(request("POST", "/", b"body"));
    }
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().status(), 200);
    }
    proxy.signal(Signal::CONT);
    eventually("the old process has ended", || drained(&proxy) == 1);
    assert_eq!(upstream.ledger.len(), 100);
}

/// A process that the proxy has started.
fn child(proxy: &Proxy) -> Option<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", proxy.process())).unwrap();
    let children = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let mut children = threads.filter_map(Result::ok).filter_map(children);
    children.find_map(|children| Pid::from_raw(children.split(' ').next()?.parse().ok()?))
}

#[test]
fn a_process_that_cannot_start_leaves_the_old_one_as_it_was() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port]).yaml();
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &[]);
    let mut line = Line::new(&proxy);
    let clients = Clients::start(proxy.listen, Mix { come_back: false, ..Mix::ALL });
    proxy.save(&config.replace("weight: 100", "weight: -1"));
    eventually("the file is rejected", || proxy.log().contains("weight"));
    proxy.signal(Signal::USR2);
    eventually("it is told", || proxy.log().contains("nothing has taken over, this process goes on: it ended"));
    assert_eq!(proxy.ask("GET", "/ready").0, 200);
    assert_eq!(proxy.client().get("/still").status(), 200);
    proxy.save(&config);
    eventually("the file is fine again", || proxy.status()["on_disk"]["state"] == "active");
    clients.open_no_more();
    line.replace();
    let others = upstream.ledger.all().iter().filter(|one| one.request.head.target().1 == "/still").count();
    assert_eq!(others, 1);
    clients.finish().check(&[&upstream.ledger], others);
}

/// With its weight and its evidence; the folder is locked by one of them at a time.
#[test]
fn a_release_goes_on_in_the_next_process() {
    let spec = "  steps: [10, 100]\n  analysis: {warmUp: 0s, minDuration: 1h, latency: {slowerThan: off}}\n";
    let scene = Scene::new(Upstream::named("v1"), Upstream::named("v2"), spec);
    let mut proxy = scene.start();
    done(&proxy, &["start", "shop"]);
    let mut client = proxy.client();
    (0..200).for_each(|_| assert_eq!(client.get("/").status(), 200));
    drop(client);
    let canary = |proxy: &Proxy| status(proxy)["canary"]["routed"].as_u64().unwrap();
    eventually("they are counted", || canary(&proxy) > 0);
    let state = scene.state();
    let refused = run(
        &[
            "run",
            "--upstream",
            "v1=127.0.0.1:9",
            "--split",
            "v1=100",
            "--state-dir",
            state.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ],
        &state,
    );
    assert!(said(&refused).contains("another serin keeps its releases there"), "{}", said(&refused));
    let before = canary(&proxy);
    let mut line = Line::new(&proxy);
    line.replace();
    eventually("the old process has ended", || drained(&proxy) == 1);
    assert_eq!((weight(&proxy), status(&proxy)["state"]["name"].as_str()), (10, Some("running")));
    let now = status(&proxy);
    let restarted = now["events"].as_array().unwrap().iter().find(|event| event["reason"] == "restarted").unwrap();
    assert!(restarted["numbers"]["canary"]["routed"].as_u64().unwrap() >= before, "its evidence is known: {now}");
    line.signal(Signal::INT);
    eventually("it ends", || drained(&proxy) == 2);
    drop(line);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}

/// As `systemd` does it: one socket for all workers, and the admin port under its name.
#[test]
fn sockets_of_a_service_manager_are_served() {
    let upstream = Upstream::named("v1");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), Config::single(&[upstream.port]).yaml()).unwrap();
    let [listen, admin, other] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = |socket: &TcpListener| -> SocketAddr { socket.local_addr().unwrap() };
    let (at, unused) = (address(&listen), address(&other));
    let mut early = Client::connect(at);
    early.send(request("GET", "/", b""));
    let passed = (3..).zip([&listen, &admin, &other]);
    let mapping =
        |(child_fd, socket): (i32, &TcpListener)| FdMapping { parent_fd: socket.try_clone().unwrap().into(), child_fd };
    let path = folder.path().to_owned();
    let mut command = serin();
    command
        .arg("run")
        .arg(path)
        .args(["--workers", "3"])
        .env("LISTEN_FDS", "3")
        .env("LISTEN_FDNAMES", "listen:admin:other");
    command.fd_mappings(passed.map(mapping).collect()).unwrap();
    let proxy = Proxy::spawn(folder, &mut command);
    assert_eq!((proxy.listen, proxy.admin), (at, address(&admin)));
    assert_eq!(early.answer().unwrap().status(), 200);
    (0..20).for_each(|_| assert_eq!(proxy.client().get("/").status(), 200));
    assert!(proxy.log().contains(&format!("nothing listens on {unused}")), "{}", proxy.log());
}
