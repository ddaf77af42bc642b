//! Listeners come, go and change their certificates while they serve, and nobody loses a request.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::support::h2;
use super::support::load::Load;
use super::support::tls::{Authority, Tls, get};
use super::support::upstream::Upstream;
use super::support::{client::Client, eventually};
use super::tls::{Edge, free_port, local, simple};

/// Clients on kept-alive connections within TLS.
struct Steady {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Steady {
    async fn start(client: &Tls, port: u16, count: usize) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = Vec::new();
        for _ in 0..count {
            let (mut connection, _) = client.http1(local(port)).await.unwrap();
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            clients.push(tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let answer = get(&mut connection, "a.example").await.map_err(|error| error.to_string())?;
                    if answer.status() != 200 || answer.headers().contains_key("connection") {
                        return Err(format!("{answer:?}"));
                    }
                    h2::body(answer).await.map_err(|error| error.to_string())?;
                    answered.fetch_add(1, SeqCst);
                }
                Ok(())
            }));
        }
        Self { stop, answered, clients }
    }

    /// Waits for so many answers more.
    async fn more(&self, answers: usize) {
        let wanted = self.answered.load(SeqCst) + answers;
        while self.answered.load(SeqCst) < wanted && !self.clients.iter().any(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn finish(self) {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            assert_eq!(client.await.unwrap(), Ok(()));
        }
    }
}

#[test]
fn a_new_certificate_is_for_new_handshakes_and_no_request_is_lost() {
    let (authority, upstream, port) = (Authority::new(), Upstream::named("v1"), free_port());
    let mut pair = authority.issue(&["a.example"]);
    let edge = Edge::default().https(port, "['*']", &simple("a")).pair("a", &pair);
    let proxy = edge.start(&upstream, &[]);
    h2::run(async {
        let client = Tls::trusting(&authority, "a.example");
        let steady = Steady::start(&client, port, 4).await;
        for round in 0..5 {
            let before = proxy.generation();
            pair = authority.issue(&["a.example"]);
            // Between these two they do not belong together, which keeps the old ones in force.
            fs::write(proxy.path("a.crt"), &pair.certificate).unwrap();
            fs::write(proxy.path(".a.key.new"), &pair.key).unwrap();
            fs::rename(proxy.path(".a.key.new"), proxy.path("a.key")).unwrap();
            let proxy = &proxy;
            eventually("it is in force", || proxy.generation() > before);
            let (_, shown) = Tls::trusting(&authority, "a.example").http1(local(port)).await.unwrap();
            assert_eq!(shown, pair.der, "round {round}");
            steady.more(50).await;
        }
        steady.finish().await;
    });
}

#[test]
fn a_broken_certificate_keeps_the_old_one_and_is_reported() {
    let (authority, upstream, port) = (Authority::new(), Upstream::named("v1"), free_port());
    let pair = authority.issue(&["a.example"]);
    let edge = Edge::default().https(port, "['*']", &simple("a")).pair("a", &pair);
    let proxy = edge.start(&upstream, &[]);
    let state = || proxy.status()["on_disk"]["state"].as_str().unwrap().to_owned();
    let errors = || proxy.status()["on_disk"]["errors"].clone();
    let renewed = authority.issue(&["a.example"]);
    for (content, wanted) in [
        ("nonsense", "there is no certificate in `a.crt`"),
        (&renewed.certificate, "does not belong to the certificate in `a.crt`"),
    ] {
        fs::write(proxy.path("a.crt"), content).unwrap();
        eventually("it is refused", || state() == "rejected" && errors()[0]["message"].to_string().contains(wanted));
        let first = &errors()[0];
        assert!(first["path"].as_str().unwrap().starts_with("spec.servers[0].tls."), "{first}");
        h2::run(async {
            let (mut connection, shown) = Tls::trusting(&authority, "a.example").http1(local(port)).await.unwrap();
            assert_eq!(shown, pair.der);
            assert_eq!(get(&mut connection, "a.example").await.unwrap().status(), 200);
        });
    }
    assert_eq!(proxy.generation(), 1);
    fs::remove_file(proxy.path("a.crt")).unwrap();
    eventually("it is missed", || errors()[0]["kind"] == "reference");
    fs::write(proxy.path("a.crt"), &pair.certificate).unwrap();
    eventually("it is in force again", || state() == "active");
    assert_eq!(proxy.generation(), 1);
}

#[test]
fn a_gateway_comes_and_goes_under_load() {
    let (authority, upstream) = (Authority::new(), Upstream::named("v1"));
    let (secure, plain) = (free_port(), free_port());
    let without = Edge::default().pair("a", &authority.issue(&["a.example"]));
    let with = without.clone().https(secure, "['*']", &simple("a")).http(plain);
    let proxy = without.start(&upstream, &["--workers", "2"]);
    let load = Load::start(proxy.listen, 4);
    let client = Tls::trusting(&authority, "a.example");
    let put = |edge: &Edge| {
        let before = proxy.generation();
        proxy.save(&edge.yaml(&upstream));
        eventually("it is in force", || proxy.generation() > before);
    };
    for _ in 0..5 {
        put(&with);
        h2::run(async {
            let (mut kept, _) = client.http1(local(secure)).await.unwrap();
            assert_eq!(get(&mut kept, "a.example").await.unwrap().status(), 200);
            let mut h2 = client.alpn(&["h2"]).http2(local(secure)).await.unwrap();
            let mut kept_plain = Client::connect(local(plain));
            assert_eq!(kept_plain.get("/").status(), 200);
            put(&without);
            eventually("they are closed", || {
                [secure, plain].into_iter().all(|port| std::net::TcpStream::connect(local(port)).is_err())
            });
            // What was open before has its next request answered, and then ends.
            let answer = get(&mut kept, "a.example").await.unwrap();
            assert_eq!(answer.headers()["connection"], "close");
            let answer = kept_plain.get("/");
            assert_eq!(answer.head.get("connection"), "close");
            while h2.ready().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        load.next_phase();
        load.counts(50);
    }
    let outcome = load.finish();
    assert!(outcome.failures.is_empty(), "{:?} of {}", outcome.failures, outcome.answered);
    assert!(proxy.log().contains(&format!("listener https://127.0.0.1:{secure} closed")));
}

#[test]
fn a_port_that_is_taken_refuses_the_whole_configuration() {
    let upstream = Upstream::named("v1");
    let taken = TcpListener::bind(local(0)).unwrap();
    let (taken_port, free, other) = (taken.local_addr().unwrap().port(), free_port(), free_port());
    let good = Edge::default().http(free);
    let proxy = good.start(&upstream, &[]);
    proxy.save(&good.clone().http(other).http(taken_port).yaml(&upstream));
    eventually("it is refused", || proxy.status()["on_disk"]["state"] == "rejected");
    let error = proxy.status()["on_disk"]["errors"][0].clone();
    assert_eq!((&error["path"], &error["line"]), (&"spec.servers[2].port.number".into(), &8.into()), "{error}");
    assert!(
        error["message"].as_str().unwrap().contains(&format!("cannot listen on 127.0.0.1:{taken_port}")),
        "{error}"
    );
    assert_eq!(Client::connect(local(free)).get("/").status(), 200);
    assert!(std::net::TcpStream::connect(local(other)).is_err(), "nothing of it is in force");
    drop(taken);
    assert_eq!(proxy.ask("POST", "/config/reload").0, 200);
    for port in [free, other, taken_port] {
        assert_eq!(Client::connect(local(port)).get("/").status(), 200);
    }
}

#[test]
fn a_gateway_on_the_port_of_the_mesh_shares_its_listener() {
    let (upstream, port) = (Upstream::named("v1"), free_port());
    let map = format!("8080={port}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), Edge::default().http(8080).yaml(&upstream)).unwrap();
    let path = folder.path().to_owned();
    let arguments = ["--listen", "127.0.0.1:8080", "--port-map", &map];
    let proxy = super::support::proxy::Proxy::spawn(
        folder,
        super::support::proxy::serin().arg("run").arg(path).args(arguments),
    );
    assert_eq!(Client::connect(local(port)).get("/").status(), 200);
    assert_eq!(proxy.log().matches(&format!("listener http://127.0.0.1:{port}\n")).count(), 1);
}
