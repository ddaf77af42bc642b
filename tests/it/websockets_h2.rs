//! WebSockets on a stream of HTTP/2 (RFC 8441): the endpoint is asked as on HTTP/1.1, and the stream becomes the tunnel.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::support::client::HOST;
use super::support::config::Config;
use super::support::eventually;
use super::support::h2::{Upstream, blocking, run};
use super::support::proxy::Proxy;
use super::support::upstream::{Script, answer};
use super::support::wire::{End, Head, Wire};

type Connection = SendRequest<Bytes>;

/// A connection whose server has said that it knows of such streams.
async fn connect(proxy: &Proxy) -> Connection {
    let stream = TcpStream::connect(proxy.listen).await.unwrap();
    let (mut connection, task) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(task);
    while !connection.is_extended_connect_protocol_enabled() {
        connection = connection.ready().await.unwrap();
        tokio::task::yield_now().await;
    }
    connection
}

/// Asks for a tunnel of a kind; none: in the way of HTTP/1.1, for any bytes to a host.
fn ask(connection: &mut Connection, protocol: Option<&'static str>) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::builder().method(Method::CONNECT);
    let request = match protocol {
        None => request.uri(HOST),
        Some(protocol) => request
            .uri(format!("http://{HOST}/chat?room=1"))
            .extension(Protocol::from_static(protocol))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "v2.chat")
            .header("cookie", "a=1")
            .header("cookie", "b=2"),
    };
    connection.send_request(request.body(()).unwrap(), false).unwrap()
}

fn agreement(head: &Head) -> String {
    let accept = derive_accept_key(head.get("sec-websocket-key").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: v2.chat\r\n\r\n"
    )
}

/// The client's side of a tunnel.
struct Tunnel {
    answer: Response<()>,
    to: SendStream<Bytes>,
    from: RecvStream,
}

impl Tunnel {
    async fn of(answer: ResponseFuture, to: SendStream<Bytes>) -> Self {
        let (head, from) = answer.await.unwrap().into_parts();
        Self { answer: Response::from_parts(head, ()), to, from }
    }

    /// So many bytes.
    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let piece = self.from.data().await.expect("more").unwrap();
            self.from.flow_control().release_capacity(piece.len()).unwrap();
            bytes.extend_from_slice(&piece);
        }
        bytes
    }

    /// What came until it ended, and whether it ended in order.
    async fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        while let Some(piece) = self.from.data().await {
            let Ok(piece) = piece else { return (bytes, false) };
            bytes.extend_from_slice(&piece);
        }
        (bytes, true)
    }
}

/// A tunnel, and the endpoint's side of it.
async fn open(connection: &mut Connection, script: &'static Script) -> (Tunnel, Wire, Head) {
    let (answer, to) = ask(connection, Some("websocket"));
    let (wire, head) = blocking(|| {
        let mut wire = script.accept();
        let head = wire.head().unwrap().unwrap();
        wire.send([agreement(&head).as_str(), "early"].concat());
        (wire, head)
    })
    .await;
    let mut tunnel = Tunnel::of(answer, to).await;
    assert_eq!(tunnel.answer.status(), 200);
    assert_eq!(tunnel.exactly(5).await, b"early", "what came with the agreement");
    (tunnel, wire, head)
}

async fn pass_bytes(tunnel: &mut Tunnel, mut wire: Wire) -> Wire {
    let bytes: Bytes = (0..100_000_u32).map(|number| (number % 253) as u8).collect();
    tunnel.to.send_data(bytes.clone(), false).unwrap();
    let expected = bytes.clone();
    let wire = blocking(move || {
        assert!(wire.exactly(expected.len()).unwrap() == expected);
        wire.send(&expected[1..]);
        wire
    })
    .await;
    assert!(tunnel.exactly(bytes.len() - 1).await == bytes[1..]);
    wire
}

/// Left to the end of the process, as its threads are.
fn script() -> &'static Script {
    Box::leak(Box::new(Script::start()))
}

#[test]
fn both_sides_agree_and_bytes_pass_until_one_ends() {
    let script = script();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    run(async {
        let mut connection = connect(&proxy).await;
        let (mut tunnel, wire, asked) = open(&mut connection, script).await;
        assert_eq!(asked.target(), ("GET", "/chat?room=1"));
        assert_eq!((asked.get("connection"), asked.get("upgrade"), asked.get("host")), ("upgrade", "websocket", HOST));
        assert_eq!(asked.get("sec-websocket-key").len(), 24);
        assert_eq!((asked.get("sec-websocket-version"), asked.get("cookie")), ("13", "a=1; b=2"));
        let fields = tunnel.answer.headers();
        assert_eq!(fields["sec-websocket-protocol"], "v2.chat");
        for name in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!fields.contains_key(name), "{fields:?}");
        }
        let mut wire = pass_bytes(&mut tunnel, wire).await;

        tunnel.to.send_data(Bytes::new(), true).unwrap();
        let wire = blocking(move || {
            assert_eq!(wire.rest(), (Vec::new(), End::Fin), "a half-closed stream is half-closed");
            wire.send("the last word");
            wire
        })
        .await;
        assert_eq!(tunnel.exactly(13).await, b"the last word");
        wire.close();
        assert_eq!(tunnel.rest().await, (Vec::new(), true));
    });
    eventually("it is counted", || proxy.requests(&[("version", "v1"), ("code", "101"), ("method", "GET")]) == 1.0);
    assert_eq!(proxy.requests(&[]), 1.0);
    assert_eq!(proxy.metric("http_requests_in_flight", &[]), 0.0);
    assert_eq!(proxy.metric("http_stream_duration_seconds_count", &[("version", "v1")]), 1.0);
}

#[test]
fn tunnels_and_requests_share_a_connection() {
    let script = script();
    let proxy = Proxy::with(&Config::single(&[script.port]), &["--workers", "1"]);
    run(async {
        let mut connection = connect(&proxy).await;
        let (mut one, one_wire, _) = open(&mut connection, script).await;
        let (mut other, other_wire, _) = open(&mut connection, script).await;
        let request = Request::get(format!("http://{HOST}/")).body(()).unwrap();
        let (answered, _) = connection.send_request(request, true).unwrap();
        blocking(|| {
            let mut wire = script.accept();
            wire.request().unwrap().unwrap();
            wire.send(answer("v1"));
        })
        .await;
        assert_eq!(answered.await.unwrap().status(), 200);
        let other_wire = pass_bytes(&mut other, other_wire).await;
        one.to.send_reset(Reason::CANCEL);
        let mut torn = one_wire;
        blocking(move || torn.rest()).await;
        pass_bytes(&mut other, other_wire).await;
    });
    eventually("all are counted", || proxy.requests(&[("code", "101")]) == 2.0);
    assert_eq!(proxy.requests(&[("code", "200")]), 1.0);
}

#[test]
fn an_endpoint_that_is_torn_off_ends_its_stream_alone() {
    let script = script();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    run(async {
        let mut connection = connect(&proxy).await;
        let (mut torn, torn_wire, _) = open(&mut connection, script).await;
        let (mut other, other_wire, _) = open(&mut connection, script).await;
        torn_wire.reset();
        assert_eq!(torn.rest().await.0, Vec::<u8>::new());
        pass_bytes(&mut other, other_wire).await;
    });
}

/// Any success would tell the client that its stream is a tunnel.
#[test]
fn an_endpoint_that_does_not_agree_just_answers_but_not_with_success() {
    let script = script();
    let proxy = Proxy::start(&Config::single(&[script.port]));
    let wrong = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let silent = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    run(async {
        let mut connection = connect(&proxy).await;
        for (said, status, flag) in
            [(refused, 403, None), (page, 502, Some("UPE")), (wrong, 502, Some("UPE")), (silent, 502, Some("UPE"))]
        {
            let (answer, to) = ask(&mut connection, Some("websocket"));
            let mut wire = blocking(|| {
                let mut wire = script.accept();
                wire.head().unwrap().unwrap();
                wire
            })
            .await;
            wire.send(said);
            let mut tunnel = Tunnel::of(answer, to).await;
            assert_eq!(tunnel.answer.status(), status, "{said}");
            assert_eq!(
                tunnel.answer.headers().get("x-serin-flag").map(|value| value.to_str().unwrap()),
                flag,
                "{said}"
            );
            if status == 403 {
                assert_eq!(tunnel.exactly(2).await, b"no");
            }
        }
    });
}

#[test]
fn an_endpoint_that_speaks_http2_alone_is_just_asked() {
    let upstream = Upstream::start(10, |_, mut respond| async move {
        respond.send_response(Response::new(()), true).unwrap();
    });
    let proxy =
        Proxy::start(&Config::single(&[upstream.port]).policy("{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}"));
    run(async {
        let mut connection = connect(&proxy).await;
        let (answer, to) = ask(&mut connection, Some("websocket"));
        let tunnel = Tunnel::of(answer, to).await;
        assert_eq!(
            (tunnel.answer.status().as_u16(), &tunnel.answer.headers()["x-serin-flag"]),
            (502, &"UPE".parse().unwrap())
        );
    });
    let seen = upstream.seen();
    let (_, parts) = &seen[0];
    assert_eq!((seen.len(), &parts.method, parts.extensions.get::<Protocol>()), (1, &Method::GET, None));
    assert_eq!(proxy.attempts("UPE"), 1.0, "an answer that cannot be passed on is a failure of its version");
}

#[test]
fn other_tunnels_are_not_offered() {
    let script = script();
    // Where the proxy itself answers with a success, no tunnel is offered.
    for (config, more) in [
        (Config::single(&[script.port]), None),
        (
            Config::single(&[script.port]).rule("fault: {abort: {httpStatus: 200, percentage: {value: 100}}}"),
            Some("websocket"),
        ),
    ] {
        let proxy = Proxy::start(&config);
        run(async {
            let mut connection = connect(&proxy).await;
            let kinds = [(None, 405), (Some("connect-udp"), 501), (Some("WebSocket"), 501)];
            // Status 200, as gRPC has it for everything, would open one.
            let grpc = Request::connect(HOST).header("content-type", "application/grpc").body(()).unwrap();
            let (answer, to) = connection.send_request(grpc, false).unwrap();
            assert_eq!(Tunnel::of(answer, to).await.answer.status(), 501);
            for (protocol, status) in kinds.into_iter().chain(more.map(|protocol| (Some(protocol), 501))) {
                let (answer, to) = ask(&mut connection, protocol);
                assert_eq!(Tunnel::of(answer, to).await.answer.status(), status, "{protocol:?}");
            }
        });
        eventually("none is under way", || proxy.metric("http_requests_in_flight", &[]) == 0.0);
    }
    assert!(script.try_accept().is_none());
}

#[test]
fn it_lives_through_reloads_and_the_drain_and_is_cut_off_at_its_end() {
    let script = script();
    let config = Config::default().version("v1", 100, &[script.port]).version("v2", 0, &[script.port]);
    let mut proxy = Proxy::with(&config, &["--drain-timeout", "1s"]);
    run(async {
        let mut connection = connect(&proxy).await;
        let (mut tunnel, wire, _) = open(&mut connection, script).await;
        proxy.save(&config.weights(&[0, 100]).yaml());
        eventually("the weights are in force", || proxy.generation() == 2);
        let wire = pass_bytes(&mut tunnel, wire).await;
        proxy.signal(Signal::TERM);
        eventually("balancers are told", || proxy.ask("GET", "/ready").0 == 503);
        let mut wire = pass_bytes(&mut tunnel, wire).await;
        assert_eq!(blocking(move || wire.rest().0).await, Vec::<u8>::new());
    });
    assert_eq!(proxy.wait().code(), Some(3));
    assert!(proxy.log().contains("cut_off=1"), "{}", proxy.log());
}

#[test]
fn one_that_ends_during_the_drain_is_not_cut_off() {
    let script = script();
    let mut proxy = Proxy::start(&Config::single(&[script.port]));
    run(async {
        let mut connection = connect(&proxy).await;
        let (mut tunnel, wire, _) = open(&mut connection, script).await;
        proxy.signal(Signal::TERM);
        eventually("balancers are told", || proxy.ask("GET", "/ready").0 == 503);
        let wire = pass_bytes(&mut tunnel, wire).await;
        tunnel.to.send_data(Bytes::new(), true).unwrap();
        wire.close();
        assert_eq!(tunnel.rest().await, (Vec::new(), true));
    });
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}
