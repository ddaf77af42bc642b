//! More requests at once than the process may have under way: the rest is turned away at the door, at once and politely.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::support::client::{Client, HOST, request};
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::{Script, Upstream, answer};
use super::support::wire::{End, Message, Wire};
use super::support::{eventually, h2};

fn limited(script: &Script, most: &str) -> Proxy {
    Proxy::with(&Config::single(&[script.port]), &["--max-requests", most, "--workers", "2"])
}

/// A request that is under way until its endpoint answers.
fn begin(proxy: &Proxy, script: &Script) -> (Client, Wire) {
    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    let mut wire = script.accept();
    wire.request().unwrap().unwrap();
    (client, wire)
}

/// The endpoint answers and closes, so that the next request opens a connection that the test sees.
fn finish(client: &mut Client, mut wire: Wire) {
    wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nv1");
    assert_eq!(client.answer().unwrap().text(), "v1");
}

#[track_caller]
fn is_turned_away(answer: &Message) {
    assert_eq!((answer.status(), answer.head.get("x-serin-flag"), answer.head.get("retry-after")), (503, "UO", "1"));
    assert_eq!(answer.head.get("proxy-status"), "serin; error=connection_limit_reached; details=\"UO\"");
    assert_eq!(answer.text(), "503 too many requests at once (UO)\n");
}

fn shed(proxy: &Proxy) -> f64 {
    proxy.requests(&[("app", "_none"), ("code", "503")])
}

#[test]
fn as_many_as_allowed_pass_and_the_next_one_is_turned_away_at_once() {
    let script = Script::start();
    let proxy = limited(&script, "6");
    let mut under_way: Vec<_> = (0..6).map(|_| begin(&proxy, &script)).collect();
    // On either worker, and as often as they like.
    let mut others: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for other in &mut others {
        for _ in 0..2 {
            let answer = other.get("/");
            is_turned_away(&answer);
            assert_eq!(answer.head.get("connection"), "", "the connection is as good as before");
        }
    }
    assert_eq!(proxy.ask("GET", "/ready").0, 200, "the admin port has its own thread");
    assert_eq!((shed(&proxy), proxy.metric("http_response_flags_total", &[("flag", "UO")])), (16.0, 16.0));
    assert_eq!(proxy.requests(&[("version", "v1")]), 0.0, "it counts for no version");
    assert!(script.try_accept().is_none(), "nor does an endpoint hear of it");

    for other in &mut others {
        let (mut client, wire) = under_way.remove(0);
        finish(&mut client, wire);
        other.send(request("GET", "/", b""));
        let mut wire = script.accept();
        wire.request().unwrap().unwrap();
        is_turned_away(&client.get("/"));
        finish(other, wire);
        under_way.push(begin(&proxy, &script));
    }
    for (mut client, wire) in under_way {
        finish(&mut client, wire);
    }
}

#[test]
fn whoever_leaves_gives_its_place_back() {
    let script = Script::start();
    let proxy = limited(&script, "1");
    for (number, end) in [End::Fin, End::Reset, End::Fin].into_iter().enumerate() {
        let (client, mut wire) = begin(&proxy, &script);
        is_turned_away(&proxy.client().get("/"));
        match end {
            End::Fin => Wire::from(client).close(),
            End::Reset => Wire::from(client).reset(),
        }
        wire.rest();
        eventually("it is recorded", || proxy.requests(&[("code", "499")]) == number as f64 + 1.0);
    }
    let (mut client, wire) = begin(&proxy, &script);
    finish(&mut client, wire);
}

#[test]
fn a_body_that_nobody_reads_ends_the_connection() {
    let script = Script::start();
    let proxy = limited(&script, "1");
    let _under_way = begin(&proxy, &script);
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"));
    let answer = client.answer().unwrap();
    is_turned_away(&answer);
    assert_eq!((answer.head.get("connection"), client.rest()), ("close", (Vec::new(), End::Fin)));
    // Before it is routed: whatever the host.
    is_turned_away(&proxy.client().ask("elsewhere", "/", &[]).unwrap());
}

#[test]
fn grpc_clients_hear_of_it_in_their_own_way() {
    let script = Script::start();
    let proxy = limited(&script, "1");
    let _under_way = begin(&proxy, &script);
    let answer = proxy.client().ask(HOST, "/", &[("content-type", "application/grpc")]).unwrap();
    assert_eq!((answer.status(), answer.head.get("grpc-status"), answer.head.get("retry-after")), (200, "14", "1"));
}

#[test]
fn streams_are_requests_too() {
    let script = Script::start();
    let proxy = limited(&script, "3");
    let listen = proxy.listen;
    thread::scope(|scope| {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let script = &script;
        scope.spawn(move || {
            let mut wires: Vec<_> = (0..3).map(|_| script.accept()).collect();
            wires.iter_mut().for_each(|wire| drop(wire.request().unwrap().unwrap()));
            tell.send(()).unwrap();
            released.recv().unwrap();
            wires.iter_mut().for_each(|wire| wire.send(answer("v1")));
            // They are kept: the last request may come on any of them.
            for mut wire in wires {
                scope.spawn(move || {
                    while let Ok(Some(_)) = wire.request() {
                        wire.send(answer("v1"));
                    }
                });
            }
        });
        h2::run(async {
            let mut connection = h2::connect(listen).await;
            let mut ask = || connection.send_request(h2::request("GET", "/", h2::empty()));
            let three = [ask(), ask(), ask()];
            let three = tokio::spawn(futures_util::future::join_all(three));
            told.await.unwrap();
            let refused = ask().await.unwrap();
            assert_eq!((refused.status().as_u16(), &refused.headers()["x-serin-flag"]), (503, &"UO".parse().unwrap()));
            release.send(()).unwrap();
            for answer in three.await.unwrap() {
                assert_eq!(h2::body(answer.unwrap()).await.unwrap(), "v1");
            }
            assert_eq!(h2::body(ask().await.unwrap()).await.unwrap(), "v1");
        });
        drop(proxy);
    });
}

#[test]
fn an_open_tunnel_holds_no_place() {
    let script = Script::start();
    let proxy = limited(&script, "1");
    let mut tunnel = proxy.client();
    tunnel.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"));
    let mut inner = script.accept();
    inner.head().unwrap().unwrap();
    is_turned_away(&proxy.client().get("/"));
    inner.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.head().unwrap().unwrap().status(), 101);
    let (mut client, wire) = begin(&proxy, &script);
    inner.send("still open");
    assert_eq!(tunnel.exactly(10).unwrap(), b"still open");
    // Its end gives nothing back a second time.
    tunnel.half_close();
    drop(inner);
    tunnel.rest();
    is_turned_away(&proxy.client().get("/"));
    finish(&mut client, wire);
}

#[test]
fn clients_that_come_again_at_once_get_no_more_than_the_places_and_all_of_them() {
    const PLACES: usize = 8;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let noted = Arc::clone(&most);
    let upstream = Upstream::answering(move |_| {
        noted.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // What it takes to serve one: without that, requests are gone before there are many.
        thread::sleep(Duration::from_millis(5));
        now.fetch_sub(1, Ordering::SeqCst);
        answer("v1")
    });
    let limit = PLACES.to_string();
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--max-requests", &limit, "--workers", "2"]);
    // Each until it was served ten times; how often it was turned away.
    let storm = |clients: usize| -> usize {
        let persistent = || {
            let (mut client, mut served, mut turned_away) = (proxy.client(), 0, 0);
            while served < 10 {
                match client.get("/").status() {
                    200 => served += 1,
                    503 => turned_away += 1,
                    other => panic!("{other}"),
                }
            }
            turned_away
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(persistent)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        })
    };
    let turned_away = storm(3 * PLACES);
    assert!(turned_away > 0);
    assert_eq!(shed(&proxy), turned_away as f64);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= PLACES, "{most} at once");
    assert_eq!(storm(PLACES), 0, "nothing is left of the storm");
    assert_eq!(proxy.requests(&[("version", "v1")]), proxy.requests(&[("version", "v1"), ("code", "200")]));
}

#[test]
fn without_the_flag_there_is_a_place_for_every_connection() {
    let upstream = Upstream::named("v1");
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &["--max-connections", "3", "--workers", "2"]);
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for _ in 0..20 {
        clients.iter_mut().for_each(|client| client.send(request("GET", "/", b"")));
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().unwrap().status(), 200));
    }
}
