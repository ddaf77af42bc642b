//! Endpoints that speak HTTP/2: how connections are shared, what is passed on, and what a refused stream means.

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::support::config::Config;
use super::support::h2::Upstream;
use super::support::proxy::Proxy;
use super::support::upstream::answer;
use super::support::{eventually, h2 as client};

async fn greet(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
}

const UPGRADE: &str = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";

fn by_port_protocol(config: &Config, protocol: &str) -> String {
    config.yaml().replace("protocol: HTTP}", &format!("protocol: {protocol}}}"))
}

#[test]
fn clients_of_http1_share_one_connection_of_http2() {
    let upstream = Upstream::start(100, greet);
    let proxy = Proxy::with(&Config::single(&[upstream.port]).policy(UPGRADE), &["--workers", "1"]);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    for target in ["/a?b=c", "/d"] {
        assert_eq!(first.get(target).text(), "hello");
        assert_eq!(second.post(target, b"body").text(), "hello");
    }
    assert_eq!(upstream.connections(), 1);
    let (_, head) = &upstream.seen()[0];
    assert_eq!(head.uri.to_string(), "http://product-service/a?b=c");
    for name in ["host", "connection", "transfer-encoding", "keep-alive"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    assert!(head.headers.contains_key("x-forwarded-for"));
}

#[test]
fn the_protocol_of_the_port_is_enough() {
    for protocol in ["HTTP2", "GRPC", "grpc-web"] {
        let upstream = Upstream::start(100, greet);
        let config = Config::single(&[upstream.port]);
        let proxy = Proxy::start(&config.weights(&[100]));
        proxy.save(&by_port_protocol(&config, protocol));
        eventually("HTTP/2 is in force", || proxy.generation() == 2);
        assert_eq!(proxy.client().get("/").text(), "hello", "{protocol}");
    }
}

async fn grpc(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    let mut size = 0;
    while let Some(Ok(piece)) = body.data().await {
        size += piece.len();
        let _ = body.flow_control().release_capacity(piece.len());
    }
    let answer = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(answer, false).unwrap();
    stream.send_data(Bytes::from(size.to_string()), false).unwrap();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "7".parse().unwrap())]);
    stream.send_trailers(trailers).unwrap();
}

#[test]
fn grpc_is_passed_through_with_its_trailers() {
    let upstream = Upstream::start(100, grpc);
    let proxy = Proxy::start(&Config::single(&[upstream.port]).policy(UPGRADE));
    client::run(async {
        let mut connection = client::connect(proxy.listen).await;
        let mut request = client::request("POST", "/shop.Cart/Add", client::full(vec![b'x'; 300_000]));
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let answer = connection.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "7");
        assert_eq!(collected.to_bytes(), "300000");
    });
    assert_eq!(upstream.seen()[0].1.headers["te"], "trailers");
}

/// Streams that are answered once the test says so.
static HELD: Semaphore = Semaphore::const_new(0);

async fn hold(request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    HELD.acquire().await.unwrap().forget();
    greet(request, respond).await;
}

#[test]
fn another_connection_is_opened_where_the_endpoint_allows_no_more_streams() {
    let upstream = Upstream::start(2, hold);
    let proxy = Proxy::with(&Config::single(&[upstream.port]).policy(UPGRADE), &["--workers", "1"]);
    // The first brings the endpoint's limit.
    let get = "GET / HTTP/1.1\r\nhost: product-service\r\n\r\n";
    let mut clients: Vec<_> = (0..6).map(|_| proxy.client()).collect();
    clients[0].send(get);
    HELD.add_permits(1);
    assert_eq!(clients[0].answer().unwrap().text(), "hello");
    clients.iter_mut().for_each(|client| client.send(get));
    eventually("all six are there", || upstream.seen().len() == 7);
    assert!(upstream.connections() >= 3, "{}", upstream.connections());
    HELD.add_permits(6);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().unwrap().text(), "hello"));
}

#[test]
fn a_limit_on_streams_is_one_of_the_proxy_too() {
    let upstream = Upstream::start(100, |request, respond| async move {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        greet(request, respond).await;
    });
    let policy = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 1}}}";
    let proxy = Proxy::with(&Config::single(&[upstream.port]).policy(policy), &["--workers", "1"]);
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nhost: product-service\r\n\r\n"));
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().unwrap().text(), "hello"));
    assert_eq!(upstream.connections(), 3);
}

static REFUSED: AtomicUsize = AtomicUsize::new(0);

async fn refuse_first(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    match REFUSED.fetch_add(1, Ordering::SeqCst) {
        0 => respond.send_reset(Reason::REFUSED_STREAM),
        _ => greet(request, respond).await,
    }
}

#[test]
fn a_refused_stream_is_tried_again_whatever_its_method() {
    let upstream = Upstream::start(100, refuse_first);
    let proxy = Proxy::start(&Config::single(&[upstream.port]).policy(UPGRADE));
    assert_eq!(proxy.client().post("/", b"").text(), "hello");
    assert_eq!(upstream.seen().len(), 2);
}

/// What the endpoint is told about a request that nobody waits for any more.
static TOLD: Mutex<Option<Reason>> = Mutex::new(None);

async fn never_answer(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let reason = poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
    *TOLD.lock().unwrap() = Some(reason);
}

#[test]
fn a_stream_that_takes_too_long_is_cancelled_and_its_connection_goes_on() {
    let upstream = Upstream::start(100, |request, respond| async move {
        match request.uri().path() {
            "/never" => never_answer(request, respond).await,
            _ => greet(request, respond).await,
        }
    });
    let config = Config::single(&[upstream.port]).policy(UPGRADE).rule("timeout: 1s");
    let proxy = Proxy::with(&config, &["--workers", "1"]);
    let answer = proxy.client().get("/never");
    assert_eq!((answer.status(), answer.head.get("x-serin-flag")), (504, "UT"));
    eventually("the endpoint is told", || *TOLD.lock().unwrap() == Some(Reason::CANCEL));
    assert_eq!(proxy.client().get("/").text(), "hello");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_stream_that_breaks_off_looks_incomplete_to_the_client() {
    let upstream = Upstream::start(100, |_, mut respond: SendResponse<Bytes>| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    });
    let proxy = Proxy::start(&Config::single(&[upstream.port]).policy(UPGRADE));
    assert!(proxy.client().try_get("/").is_err());
}

#[test]
fn an_endpoint_without_http2_breaks_the_protocol() {
    let upstream = super::support::upstream::Upstream::answering(|_| answer("v1"));
    let proxy = Proxy::start(&Config::single(&[upstream.port]).policy(UPGRADE));
    let answer = proxy.client().get("/");
    assert!(answer.status() == 502 || answer.status() == 503, "{}", answer.status());
}
