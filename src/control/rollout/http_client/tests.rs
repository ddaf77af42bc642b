use std::sync::Mutex;
use std::time::Duration;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio_rustls::TlsAcceptor;

use super::test_server::{Reply, in_memory, on_a_port, serve, status};
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn post(url: &str) -> Post {
    Post { url: Url::parse(url).unwrap(), headers: HeaderMap::new(), body: Bytes::from_static(b"hello") }
}

fn text(body: &str) -> Reply {
    Reply::With(200, None, body.to_owned())
}

#[test]
fn a_url_has_a_scheme_a_host_and_no_user() {
    for bad in ["", "/a", "a:1", "ftp://a/", "http://", "http://:1/", "http://u:p@a/", "http://a b/"] {
        assert!(matches!(Url::parse(bad), Err(HttpError::Url)), "{bad}");
    }
    for (url, host, port, path) in [
        ("http://a", "a", 80, "/"),
        ("https://a.b/c?d=e", "a.b", 443, "/c?d=e"),
        ("http://[::1]:9090/#x", "::1", 9090, "/"),
        ("HTTPS://a:1", "a", 1, "/"),
    ] {
        let parsed = Url::parse(url).unwrap();
        assert_eq!((parsed.host(), parsed.port(), parsed.path.as_str()), (host, port, path), "{url}");
    }
}

#[test]
fn a_path_goes_below_a_base_however_it_ends() {
    for (base, wanted) in [
        ("http://a", "/api/v1/query"),
        ("http://a/", "/api/v1/query"),
        ("http://a/prometheus", "/prometheus/api/v1/query"),
        ("http://a/prometheus/#top", "/prometheus/api/v1/query"),
        ("http://a/x?y", "/x/api/v1/query"),
    ] {
        assert_eq!(Url::parse(base).unwrap().below("api/v1/query").unwrap().path, wanted, "{base}");
    }
}

#[test]
fn the_path_of_a_url_is_not_shown() {
    assert_eq!(Url::parse("https://hooks.example.com/T0/secret?x").unwrap().to_string(), "https://hooks.example.com");
}

#[tokio::test]
async fn a_request_goes_over_a_socket_and_its_answer_comes_back() {
    let (address, mut requests) =
        on_a_port(|_| Reply::With(418, Some(("retry-after", "7".to_owned())), "teapot".to_owned())).await;
    let mut request = post(&format!("http://{address}/a?b"));
    request.headers.insert("x-mark", HeaderValue::from_static("1"));
    let answer = Client::new().send(request, Deadline::within(PATIENCE)).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.header(&header::RETRY_AFTER)), (418, Some("7")));
    assert_eq!(answer.body(6).await.unwrap(), "teapot");
    let received = requests.recv().await.unwrap();
    assert_eq!((received.uri.to_string().as_str(), &received.body[..]), ("/a?b", &b"hello"[..]));
    assert_eq!(received.header("host"), address.to_string());
    assert_eq!(received.header("user-agent"), format!("serin/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!((received.header("content-length"), received.header("x-mark")), ("5", "1"));
}

#[tokio::test]
async fn a_closed_port_and_a_broken_answer_are_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let error = Client::new().send(post(&format!("http://{address}/")), Deadline::within(PATIENCE)).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot connect: Connection refused"), "{error}");
    let (client, _requests) = in_memory(|_| Reply::Hangup);
    let error = client.send(post("http://a/"), Deadline::within(PATIENCE)).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_silent_is_given_up_at_the_deadline() {
    let (client, _requests) = in_memory(|_| Reply::Silence);
    let began = Instant::now();
    let error = client.send(post("http://a/"), Deadline::within(Duration::from_secs(5))).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), began.elapsed().as_secs()), ("no answer within 5s", 5));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_for_the_body_too_and_the_connection_ends_with_the_answer() {
    let (near, mut far) = duplex(1024);
    let slot = Mutex::new(Some(near));
    let dialled = move || Ok(slot.lock().unwrap().take().unwrap());
    let client = Client { dial: Dial::Memory(Box::new(dialled)), tls: OnceCell::new() };
    let server = tokio::spawn(async move {
        let mut request = Vec::new();
        while !request.ends_with(b"hello") {
            assert_ne!(far.read_buf(&mut request).await.unwrap(), 0);
        }
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        far.read(&mut [0]).await.unwrap()
    });
    let began = Instant::now();
    let answer = client.send(post("http://a/"), Deadline::within(Duration::from_secs(5))).await.unwrap();
    assert!(matches!(answer.body(100).await, Err(HttpError::Timeout(_))));
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(server.await.unwrap(), 0, "the connection is closed");
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound() {
    let (client, _requests) = in_memory(|_| text("0123456789"));
    let answer = client.send(post("http://a/"), Deadline::within(PATIENCE)).await.unwrap();
    assert_eq!(answer.body(10).await.unwrap(), "0123456789");
    let answer = client.send(post("http://a/"), Deadline::within(PATIENCE)).await.unwrap();
    assert_eq!(answer.body(9).await.unwrap_err().to_string(), "the answer has more than 9 bytes");
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let (client, mut requests) = in_memory(|_| Reply::With(307, Some(("location", "/b".to_owned())), String::new()));
    let answer = client.send(post("http://a/"), Deadline::within(PATIENCE)).await.unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(requests.recv().await.unwrap().uri, "/");
    assert!(requests.try_recv().is_err());
}

/// A TLS server for `localhost`, and a client that believes only its authority.
async fn secure(names: &[&str]) -> (u16, Client) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let issuer = Issuer::new(params, authority_key);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (seen, _requests) = unbounded_channel();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not believe the certificate goes away.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, status(204), seen.clone()).await;
            }
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    (port, Client { dial: Dial::Tcp, tls: OnceCell::new_with(Some(trust(roots).unwrap())) })
}

#[tokio::test]
async fn https_is_spoken_with_those_whom_the_authorities_vouch_for() {
    let (port, client) = secure(&["127.0.0.1"]).await;
    let there = format!("https://127.0.0.1:{port}/");
    let answer = client.send(post(&there), Deadline::within(PATIENCE)).await.unwrap();
    assert_eq!(answer.status(), 204);
    // Another authority: this system's, which never heard of that of the test.
    let error = Client::new().send(post(&there), Deadline::within(PATIENCE)).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls(_) | HttpError::NoAuthorities), "{error}");
    let (port, client) = secure(&["other.example.com"]).await;
    let there = format!("https://127.0.0.1:{port}/");
    let error = client.send(post(&there), Deadline::within(PATIENCE)).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls(_)), "{error}");
}

#[test]
fn no_authorities_are_no_trust() {
    assert!(matches!(trust(RootCertStore::empty()), Err(HttpError::NoAuthorities)));
}
