//! Calls of gRPC: how long they may be quiet, what becomes of one that its endpoint cuts, and how they are counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::support::config::Config;
use super::support::eventually;
use super::support::h2::{self as client, Upstream};
use super::support::proxy::Proxy;
use super::support::upstream::Refusing;

const UPGRADE: &str = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";

/// How long a call may be quiet …
const QUIET: &str = "2s";
/// … and how often the side that talks says a word, as often as this: for longer than twice that time.
const PACE: Duration = Duration::from_millis(100);
const WORDS: usize = 50;

fn call(target: &str, body: client::Body) -> Request<client::Body> {
    let mut request = client::request("POST", target, body);
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request
}

fn begin(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let answer = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    respond.send_response(answer, false).unwrap()
}

fn finish(stream: &mut SendStream<Bytes>, status: &'static str) {
    // The other side may have given it up.
    let _ = stream.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]));
}

async fn read_all(body: &mut RecvStream) -> usize {
    let mut size = 0;
    while let Some(Ok(piece)) = body.data().await {
        size += piece.len();
        let _ = body.flow_control().release_capacity(piece.len());
    }
    size
}

/// Begins each answer at once. What it does then is in the path.
async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    if let Some(status) = path.strip_prefix("/only/") {
        let answer = Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
        respond.send_response(answer.body(()).unwrap(), true).unwrap();
        return;
    }
    let mut stream = begin(&mut respond);
    match path.as_str() {
        "/listens" => {
            let size = read_all(&mut body).await;
            stream.send_data(Bytes::from(size.to_string()), false).unwrap();
        }
        "/talks" => {
            for _ in 0..WORDS {
                stream.send_data(Bytes::from_static(b"w"), false).unwrap();
                sleep(PACE).await;
            }
        }
        "/silent" => drop(read_all(&mut body).await),
        other => panic!("{other}"),
    }
    finish(&mut stream, "0");
}

fn quiet_proxy(upstream: &Upstream) -> Proxy {
    Proxy::with(&Config::single(&[upstream.port]).policy(UPGRADE), &["--stream-idle-timeout", QUIET])
}

fn calls(proxy: &Proxy, status: &str) -> f64 {
    let labels = [("app", "product-service"), ("version", "v1"), ("grpc_status", status)];
    proxy.metric("grpc_requests_total", &labels)
}

async fn collect(answer: Response<Incoming>) -> Result<(String, String), hyper::Error> {
    let collected = answer.into_body().collect().await?;
    let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    let status = status.map_or_else(String::new, |status| status.to_str().unwrap().to_owned());
    Ok((String::from_utf8(collected.to_bytes().to_vec()).unwrap(), status))
}

#[test]
fn a_call_lives_while_one_side_talks_and_ends_when_neither_does() {
    let upstream = Upstream::start(100, serve);
    let proxy = quiet_proxy(&upstream);
    client::run(async {
        let connection = client::connect(proxy.listen).await;
        let begun = async |target: &str| {
            let (words, body) = client::in_pieces();
            (words, connection.clone().send_request(call(target, body)).await.unwrap())
        };
        let client_talks = async {
            let (words, answer) = begun("/listens").await;
            for _ in 0..WORDS {
                words.send(Bytes::from_static(b"w")).unwrap();
                sleep(PACE).await;
            }
            drop(words);
            assert_eq!(collect(answer).await.unwrap(), (WORDS.to_string(), "0".to_owned()));
        };
        let endpoint_talks = async {
            let (_words, answer) = begun("/talks").await;
            assert_eq!(collect(answer).await.unwrap(), ("w".repeat(WORDS), "0".to_owned()));
        };
        let nobody_talks = async {
            let (words, answer) = begun("/silent").await;
            words.send(Bytes::from_static(b"the last word")).unwrap();
            collect(answer).await.expect_err("a call that was cut off");
        };
        tokio::join!(client_talks, endpoint_talks, nobody_talks);
    });
    eventually("all are counted", || calls(&proxy, "0") + calls(&proxy, "13") == 3.0);
    assert_eq!((calls(&proxy, "0"), calls(&proxy, "13")), (2.0, 1.0));
    assert_eq!(proxy.metric("http_response_flags_total", &[("flag", "SI")]), 1.0);
}

#[test]
fn calls_are_counted_by_status() {
    let upstream = Upstream::start(100, serve);
    let proxy = Proxy::start(&Config::single(&[upstream.port]).policy(UPGRADE));
    assert_eq!(calls(&proxy, "0"), 0.0);
    client::run(async {
        let connection = client::connect(proxy.listen).await;
        let ask = async |request| connection.clone().send_request(request).await.unwrap();
        for status in ["0", "5", "16", "77"] {
            let answer = ask(call(&format!("/only/{status}"), client::empty())).await;
            assert_eq!(answer.headers()["grpc-status"], status, "an answer without messages passes as it is");
        }
        collect(ask(call("/listens", client::full("hello"))).await).await.unwrap();
        // No call, for all that its path says.
        client::body(ask(client::request("POST", "/only/5", client::empty())).await).await.unwrap();
    });
    eventually("all are counted", || proxy.requests(&[("code", "200")]) == 6.0);
    assert_eq!(["0", "5", "16", "other"].map(|status| calls(&proxy, status)), [2.0, 1.0, 1.0, 1.0]);
    assert_eq!(proxy.metric("grpc_requests_total", &[]), 5.0);
}

#[test]
fn what_serin_answers_a_call_itself_counts_too() {
    let refusing = Refusing::new();
    let proxy = Proxy::with(&Config::single(&[refusing.port]), &["--strict-hosts"]);
    client::run(async {
        let mut connection = client::connect(proxy.listen).await;
        let answer = connection.send_request(call("/", client::empty())).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &HeaderValue::from_static("14"))
        );
        let mut elsewhere = call("/", client::empty());
        *elsewhere.uri_mut() = "http://nowhere.test/".parse().unwrap();
        let answer = connection.send_request(elsewhere).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "12");
    });
    eventually("both are counted", || proxy.metric("grpc_requests_total", &[]) == 2.0);
    assert_eq!(calls(&proxy, "14"), 1.0);
    assert_eq!(proxy.metric("grpc_requests_total", &[("app", "_none"), ("grpc_status", "12")]), 1.0);
}

/// Where an endpoint cuts a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum At {
    BeforeHead,
    AfterHead,
    AfterData,
    BeforeTrailers,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Stream,
    Fin,
    Reset,
    /// In order, but without a status.
    End,
}

/// One call, which is cut when `cut` says so.
async fn cutting(stream: TcpStream, at: At, how: Cut, cut: Arc<Notify>) {
    if how == Cut::Reset {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut connection = server::handshake(stream).await.unwrap();
    let Some(Ok((_request, mut respond))) = connection.accept().await else { return };
    let mut begun = (at > At::BeforeHead).then(|| begin(&mut respond));
    if let Some(stream) = &mut begun {
        for (place, word) in [(At::AfterData, "one"), (At::BeforeTrailers, "two")] {
            if at >= place {
                stream.send_data(Bytes::from(word), false).unwrap();
            }
        }
    }
    tokio::select! {
        _ = connection.accept() => {}
        () = cut.notified() => {}
    }
    match (how, &mut begun) {
        (Cut::Fin | Cut::Reset, _) => return,
        (Cut::Stream, None) => respond.send_reset(Reason::INTERNAL_ERROR),
        (Cut::Stream, Some(stream)) => stream.send_reset(Reason::INTERNAL_ERROR),
        (Cut::End, None) => drop(respond.send_response(Response::new(()), true).unwrap()),
        (Cut::End, Some(stream)) => stream.send_data(Bytes::new(), true).unwrap(),
    }
    // Until the proxy ends it.
    while connection.accept().await.is_some() {}
}

#[test]
fn a_call_that_its_endpoint_cuts_is_never_one_that_succeeded() {
    for at in [At::BeforeHead, At::AfterHead, At::AfterData, At::BeforeTrailers] {
        for how in [Cut::Stream, Cut::Fin, Cut::Reset, Cut::End] {
            let cut = Arc::new(Notify::new());
            let told = Arc::clone(&cut);
            let port = client::accepting(move |stream, _| cutting(stream, at, how, Arc::clone(&told)));
            let proxy = Proxy::with(&Config::single(&[port]).policy(UPGRADE), &["--workers", "1"]);
            client::run(one_cut_call(&proxy, at, how, &cut));
            let assumed = match (at, how) {
                // As gRPC has it for a 200 without a status.
                (_, Cut::End) => "2",
                (At::BeforeHead, _) => "14",
                _ => "13",
            };
            eventually(&format!("{at:?} {how:?}: it is counted"), || calls(&proxy, assumed) == 1.0);
            assert_eq!(proxy.metric("grpc_requests_total", &[]), 1.0, "{at:?} {how:?}");
        }
    }
}

async fn one_cut_call(proxy: &Proxy, at: At, how: Cut, cut: &Notify) {
    let mut connection = client::connect(proxy.listen).await;
    let (_open, body) = client::in_pieces();
    if at == At::BeforeHead {
        cut.notify_one();
    }
    let mut answer = connection.send_request(call("/", body)).await.unwrap();
    assert_eq!(answer.status(), 200, "{at:?} {how:?}");
    if at == At::BeforeHead && how != Cut::End {
        assert_eq!(answer.headers()["grpc-status"], "14", "{at:?} {how:?}");
        assert!(answer.headers().contains_key("x-serin-flag"), "{at:?} {how:?}");
        return;
    }
    assert!(!answer.headers().contains_key("grpc-status"), "{at:?} {how:?}");
    let expected = match at {
        At::BeforeHead | At::AfterHead => "",
        At::AfterData => "one",
        At::BeforeTrailers => "onetwo",
    };
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.extend(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert_eq!(got, expected.as_bytes(), "{at:?} {how:?}");
    cut.notify_one();
    let rest = collect(answer).await;
    match how {
        Cut::End => assert_eq!(rest.unwrap(), (String::new(), String::new()), "{at:?}"),
        _ => drop(rest.expect_err("a call that was cut")),
    }
}
