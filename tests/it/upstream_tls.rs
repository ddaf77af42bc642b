//! TLS to endpoints: who is believed, what is shown, which name is asked for, and new certificates.

use std::convert::Infallible;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::tls::{Authority, Pair};
use super::support::{eventually, h2};

/// What an upstream learned from one handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The name that the proxy asked for.
    pub(crate) name: Option<String>,
    protocol: Option<Vec<u8>>,
    shown: bool,
}

/// An upstream that speaks TLS and answers 200.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Handshake>>>,
}

impl Upstream {
    /// One with this certificate, for clients of this authority or for any.
    pub(crate) fn start(pair: &Pair, clients: Option<&Authority>) -> Self {
        let config = ServerConfig::builder_with_provider(default_provider().into());
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), default_provider().into()).build();
                config.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let mut config = config.with_single_cert(vec![pair.der.clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let seen = Arc::<Mutex<Vec<Handshake>>>::default();
        let kept = Arc::clone(&seen);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let port = h2::accepting(move |stream, _| {
            let (acceptor, kept) = (acceptor.clone(), Arc::clone(&kept));
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let session = stream.get_ref().1;
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(Handshake {
                    name: session.server_name().map(str::to_owned),
                    protocol: session.alpn_protocol().map(<[u8]>::to_vec),
                    shown: session.peer_certificates().is_some(),
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service_fn(greet)).await;
            }
        });
        Self { port, seen }
    }

    /// Every handshake, in order.
    pub(crate) fn seen(&self) -> Vec<Handshake> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn greet(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let scheme = request.uri().scheme_str().unwrap_or("none").to_owned();
    Ok(Response::new(Full::from(format!("{:?} {scheme}", request.version()))))
}

/// Names and contents.
type Files<'f> = &'f [(&'f str, &'f str)];

/// A proxy to an upstream with this `tls` block, and these files beside its configuration.
fn serve(port: u16, tls: &str, more: &str, files: Files<'_>) -> Proxy {
    let proxy = Proxy::start(&Config::single(&[port]));
    for (name, content) in files {
        fs::write(proxy.path(name), content).unwrap();
    }
    proxy.save_by_rename(&Config::single(&[port]).policy(&format!("{{tls: {{{tls}}}{more}}}")).yaml());
    eventually("the policy is in force, or refused", || {
        proxy.generation() == 2 || proxy.status()["on_disk"]["state"] == "rejected"
    });
    proxy
}

fn status(proxy: &Proxy, host: &str) -> (u16, String) {
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    let answer = client.answer().unwrap();
    (answer.status(), answer.text())
}

const SIMPLE: &str = "mode: SIMPLE, caCertificates: ca.crt, sni: a.example";

#[test]
fn an_endpoint_is_believed_if_its_authority_and_its_name_are_right() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let upstream = Upstream::start(&authority.issue(&["a.example", "b.example"]), None);
    let revoked = authority.revoke(&authority.issue(&["c.example"]));
    let spiffe = "spiffe://cluster/ns/shop";
    let (right, wrong) = ([("ca.crt", &*authority.pem())], [("ca.crt", &*stranger.pem())]);
    let listed = [("ca.crt", &*authority.pem()), ("revoked.pem", &*revoked)];
    let cases: [(&str, Files<'_>, u16); 8] = [
        (SIMPLE, &right, 200),
        (SIMPLE, &wrong, 503),
        ("mode: SIMPLE, caCertificates: ca.crt, sni: c.example", &right, 503),
        ("mode: SIMPLE, caCertificates: ca.crt, sni: c.example, subjectAltNames: [x.example, b.example]", &right, 200),
        (&format!("{SIMPLE}, subjectAltNames: [x.example, '{spiffe}']"), &right, 503),
        (&format!("{SIMPLE}, subjectAltNames: [b.example]"), &wrong, 503),
        ("mode: SIMPLE, insecureSkipVerify: true", &[], 200),
        (&format!("{SIMPLE}, caCrl: revoked.pem"), &listed, 200),
    ];
    for (tls, files, wanted) in cases {
        let proxy = serve(upstream.port, tls, "", files);
        assert_eq!(status(&proxy, "product-service").0, wanted, "{tls}\n{}", proxy.log());
    }
}

#[test]
fn a_revoked_certificate_is_not_believed() {
    let authority = Authority::new();
    let pair = authority.issue(&["a.example"]);
    let upstream = Upstream::start(&pair, None);
    let files = [("ca.crt", &*authority.pem()), ("revoked.pem", &*authority.revoke(&pair))];
    let proxy = serve(upstream.port, &format!("{SIMPLE}, caCrl: revoked.pem"), "", &files);
    assert_eq!(status(&proxy, "product-service").0, 503);
}

#[test]
fn without_sni_the_host_that_is_sent_is_asked_for_and_verified() {
    let authority = Authority::new();
    let upstream = Upstream::start(&authority.issue(&["a.example", "b.example"]), None);
    let proxy = serve(upstream.port, "mode: SIMPLE, caCertificates: ca.crt", "", &[("ca.crt", &authority.pem())]);
    for (host, wanted) in
        [("a.example", 200), ("B.example:8080", 200), ("c.example", 503), ("a.example", 200), ("b.example", 200)]
    {
        assert_eq!(status(&proxy, host).0, wanted, "{host}");
    }
    let names: Vec<Option<String>> = upstream.seen().into_iter().map(|handshake| handshake.name).collect();
    assert!(
        names.contains(&Some("a.example".to_owned())) && names.contains(&Some("b.example".to_owned())),
        "{names:?}"
    );
    assert!(upstream.seen().iter().all(|handshake| handshake.protocol.as_deref() == Some(b"http/1.1")));
}

#[test]
fn a_certificate_is_shown_where_both_sides_want_one() {
    let authority = Authority::new();
    let upstream = Upstream::start(&authority.issue(&["a.example"]), Some(&authority));
    let own = authority.issue(&["proxy.example"]);
    let files = [("ca.crt", &*authority.pem()), ("own.crt", &*own.certificate), ("own.key", &*own.key)];
    let mutual =
        "mode: MUTUAL, caCertificates: ca.crt, sni: a.example, clientCertificate: own.crt, privateKey: own.key";
    assert_eq!(status(&serve(upstream.port, mutual, "", &files), "product-service").0, 200);
    assert!(upstream.seen().iter().all(|handshake| handshake.shown));
    assert_eq!(status(&serve(upstream.port, SIMPLE, "", &files), "product-service").0, 503);
}

#[test]
fn http2_is_agreed_on_in_the_handshake() {
    let authority = Authority::new();
    let upstream = Upstream::start(&authority.issue(&["a.example"]), None);
    let upgrade = ", connectionPool: {http: {h2UpgradePolicy: UPGRADE}}";
    let proxy = serve(upstream.port, SIMPLE, upgrade, &[("ca.crt", &authority.pem())]);
    assert_eq!(status(&proxy, "product-service"), (200, "HTTP/2.0 https".to_owned()));
    assert_eq!(upstream.seen()[0].protocol.as_deref(), Some(&b"h2"[..]));
}

#[test]
fn each_protocol_of_the_clients_is_agreed_on_in_a_handshake_of_its_own() {
    let authority = Authority::new();
    let upstream = Upstream::start(&authority.issue(&["a.example"]), None);
    let client = ", connectionPool: {http: {useClientProtocol: true}}";
    let proxy = serve(upstream.port, SIMPLE, client, &[("ca.crt", &authority.pem())]);
    assert_eq!(status(&proxy, "product-service"), (200, "HTTP/1.1 none".to_owned()));
    let over_http2 = h2::run(async {
        let mut connection = h2::connect(proxy.listen).await;
        let answer = connection.send_request(h2::request("GET", "/", h2::empty())).await.unwrap();
        h2::body(answer).await.unwrap()
    });
    assert_eq!(over_http2, "HTTP/2.0 https");
    let protocols: Vec<_> = upstream.seen().into_iter().map(|handshake| handshake.protocol.unwrap()).collect();
    assert_eq!(protocols, [b"http/1.1".to_vec(), b"h2".to_vec()]);
}

#[test]
fn a_missing_file_is_refused_at_its_place() {
    let proxy = serve(1, SIMPLE, "", &[]);
    let status = proxy.status();
    let errors = status["on_disk"]["errors"].to_string();
    assert!(errors.contains("cannot read the file") && errors.contains("ca.crt"), "{errors}");
    assert_eq!(proxy.generation(), 1);
}

#[test]
fn new_certificates_are_used_when_their_files_change() {
    let (first, second) = (Authority::new(), Authority::new());
    let upstream = Upstream::start(&second.issue(&["a.example"]), None);
    let proxy = serve(upstream.port, SIMPLE, "", &[("ca.crt", &first.pem())]);
    assert_eq!(status(&proxy, "product-service").0, 503);
    fs::write(proxy.path("ca.crt"), second.pem()).unwrap();
    eventually("the endpoint is believed", || status(&proxy, "product-service").0 == 200);
    fs::write(proxy.path("ca.crt"), first.pem()).unwrap();
    eventually("connections of the old certificates are not used any more", || {
        status(&proxy, "product-service").0 == 503
    });
}
