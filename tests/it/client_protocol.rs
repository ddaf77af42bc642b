//! `useClientProtocol`: endpoints are spoken to as the client speaks.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;

use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::{eventually, h2};

const POLICY: &str = "{connectionPool: {http: {useClientProtocol: true}}}";

/// An upstream that speaks both, and answers with the version, the length of the body, and whether it was chunked.
struct Upstream {
    port: u16,
    /// What it answered, with the number of the connection.
    seen: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Upstream {
    fn start() -> Self {
        let seen = Arc::<Mutex<Vec<(usize, String)>>>::default();
        let kept = Arc::clone(&seen);
        let port = h2::accepting(move |stream, number| {
            let kept = Arc::clone(&kept);
            async move {
                let service = service_fn(move |request| answer(request, number, Arc::clone(&kept)));
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { port, seen }
    }

    fn seen(&self) -> Vec<(usize, String)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    number: usize,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (version, chunked) = (request.version(), request.headers().contains_key("transfer-encoding"));
    let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    let said = format!("{version:?} {length} {chunked}");
    seen.lock().unwrap_or_else(PoisonError::into_inner).push((number, said.clone()));
    Ok(Response::new(Full::from(said)))
}

async fn over_http2(proxy: &Proxy, body: h2::Body) -> String {
    let mut connection = h2::connect(proxy.listen).await;
    let answer = connection.send_request(h2::request("POST", "/", body)).await.unwrap();
    String::from_utf8(h2::body(answer).await.unwrap().to_vec()).unwrap()
}

/// A body whose length is not told.
fn streamed(bytes: &'static str) -> h2::Body {
    StreamBody::new(futures_util::stream::iter([Ok(Frame::data(Bytes::from(bytes)))])).boxed()
}

#[test]
fn each_client_decides_for_its_own_requests() {
    // What the port says does not count then.
    for protocol in ["HTTP", "HTTP2"] {
        let upstream = Upstream::start();
        let config = Config::single(&[upstream.port]).policy(POLICY);
        let proxy = Proxy::with(&config, &["--workers", "1"]);
        proxy.save(&config.rule("timeout: 60s").yaml().replace("protocol: HTTP}", &format!("protocol: {protocol}}}")));
        eventually("the protocol of the port is in force", || proxy.generation() == 2);
        let mut client = proxy.client();
        h2::run(async {
            assert_eq!(over_http2(&proxy, h2::full("abc")).await, "HTTP/2.0 3 false", "{protocol}");
            assert_eq!(over_http2(&proxy, streamed("abcd")).await, "HTTP/2.0 4 false");
        });
        assert_eq!(client.get("/").text(), "HTTP/1.1 0 false", "{protocol}");
        assert_eq!(client.post("/", b"abc").text(), "HTTP/1.1 3 false");
        client.send("GET / HTTP/1.0\r\nhost: product-service\r\n\r\n");
        assert_eq!(client.answer().unwrap().text(), "HTTP/1.1 0 false");
        // A connection of each kind, and each kind is used again.
        let numbers: Vec<usize> = upstream.seen().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 0, 1, 1, 1], "{protocol}");
    }
}

#[test]
fn without_it_the_protocol_of_the_port_decides() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&Config::single(&[upstream.port]));
    h2::run(async { assert_eq!(over_http2(&proxy, h2::full("abc")).await, "HTTP/1.1 3 false") });
}

#[test]
fn a_copy_is_sent_as_its_own_destination_asks_for() {
    let (primary, mirror) = (Upstream::start(), Upstream::start());
    let config = Config::single(&[primary.port]).version("v2", 0, &[mirror.port]).policy(POLICY);
    let proxy = Proxy::start(&config.rule("mirror: {host: product-service, subset: v2}"));
    h2::run(async { assert_eq!(over_http2(&proxy, h2::full("abc")).await, "HTTP/2.0 3 false") });
    eventually("the copy arrives", || mirror.seen().len() == 1);
    assert_eq!(proxy.client().get("/").text(), "HTTP/1.1 0 false");
    eventually("the next copy arrives", || mirror.seen().len() == 2);
    let said: Vec<String> = mirror.seen().into_iter().map(|(_, said)| said).collect();
    assert_eq!(said, ["HTTP/2.0 3 false", "HTTP/1.1 0 false"]);
}

#[test]
fn limits_hold_for_both_together() {
    let upstream = Upstream::start();
    let pool = "{connectionPool: {tcp: {maxConnections: 1}, http: {useClientProtocol: true}}}";
    let proxy = Proxy::with(&Config::single(&[upstream.port]).policy(pool), &["--workers", "1"]);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "HTTP/1.1 0 false");
        h2::run(async { assert_eq!(over_http2(&proxy, h2::empty()).await, "HTTP/2.0 0 false") });
    }
    let mut numbers: Vec<usize> = upstream.seen().iter().map(|(number, _)| *number).collect();
    numbers.dedup();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "the idle connection of the other kind makes room");
}
