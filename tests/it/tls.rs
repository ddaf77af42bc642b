//! TLS towards clients: which certificate they get, what is asked of theirs, and what is spoken within.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use http::{Request, Version};
use rustls::HandshakeKind;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::h2::{self, empty};
use super::support::proxy::{Proxy, serin};
use super::support::tls::{Authority, Pair, Tls, get, shown};
use super::support::upstream::Upstream;
use super::support::{PATIENCE, eventually};

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A configuration in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    servers: String,
    folder: Vec<(String, String)>,
}

impl Edge {
    /// One server of HTTPS more: its port, its hosts and the rest of its `tls`.
    pub(crate) fn https(mut self, port: u16, hosts: &str, tls: &str) -> Self {
        let number = self.servers.lines().count();
        let _ = writeln!(
            self.servers,
            "  - {{port: {{number: {port}, name: s{number}, protocol: HTTPS}}, bind: 127.0.0.1, hosts: {hosts}, tls: {{{tls}}}}}"
        );
        self
    }

    /// One server of plain HTTP more.
    pub(crate) fn http(mut self, port: u16) -> Self {
        let number = self.servers.lines().count();
        let _ = writeln!(
            self.servers,
            "  - {{port: {{number: {port}, name: s{number}, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*']}}"
        );
        self
    }

    /// A file beside it.
    pub(crate) fn file(mut self, name: &str, content: &str) -> Self {
        self.folder.push((name.to_owned(), content.to_owned()));
        self
    }

    /// A certificate and its key, as `NAME.crt` and `NAME.key`.
    pub(crate) fn pair(self, name: &str, pair: &Pair) -> Self {
        self.file(&format!("{name}.crt"), &pair.certificate).file(&format!("{name}.key"), &pair.key)
    }

    /// As YAML: everything goes to one upstream, also what comes to `--listen`.
    pub(crate) fn yaml(&self, upstream: &Upstream) -> String {
        let gateway = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  servers:\n{}---\n",
            self.servers
        );
        format!(
            "{}apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: all}}\nspec:\n  hosts: ['*.example', product-service]\n  \
             gateways: [{}mesh]\n  http: [{{route: [{{destination: {{host: app}}}}]}}]\n---\n\
             apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app}}\nspec:\n  hosts: [app]\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
             endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]\n",
            if self.servers.is_empty() { "" } else { &gateway },
            if self.servers.is_empty() { "" } else { "edge, " },
            upstream.port
        )
    }

    /// Served, with more arguments.
    pub(crate) fn start(&self, upstream: &Upstream, arguments: &[&str]) -> Proxy {
        let folder = self.folder();
        fs::write(folder.path().join("config.yaml"), self.yaml(upstream)).unwrap();
        let path = folder.path().to_owned();
        Proxy::spawn(folder, serin().arg("run").arg(path).args(arguments))
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &self.folder {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }
}

/// The local address of a port.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// `tls` with the certificate of this name.
pub(crate) fn simple(name: &str) -> String {
    format!("mode: SIMPLE, serverCertificate: {name}.crt, privateKey: {name}.key")
}

#[test]
fn both_versions_of_http_are_spoken_within() {
    let (authority, upstream, port) = (Authority::new(), Upstream::named("v1"), free_port());
    let edge = Edge::default().https(port, "[a.example]", &simple("a")).pair("a", &authority.issue(&["a.example"]));
    let proxy = edge.start(&upstream, &[]);
    assert!(proxy.log().contains(&format!("listener https://127.0.0.1:{port}\n")), "{}", proxy.log());
    let client = Tls::trusting(&authority, "a.example");
    h2::run(async {
        for protocols in [&[][..], &["http/1.1"]] {
            let (mut connection, _) = client.alpn(protocols).http1(local(port)).await.unwrap();
            for _ in 0..3 {
                let answer = get(&mut connection, "a.example").await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
                assert_eq!(h2::body(answer).await.unwrap(), "v1");
            }
        }
        let mut connection = client.alpn(&["h2", "http/1.1"]).http2(local(port)).await.unwrap();
        for _ in 0..3 {
            let request = Request::get("https://a.example/").body(empty()).unwrap();
            let answer = connection.send_request(request).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        }
    });
    for seen in upstream.ledger.all().iter() {
        assert_eq!(seen.request.head.get("x-forwarded-proto"), "https");
    }
}

#[test]
fn a_connection_that_rests_goes_on_within_the_same_tls() {
    let (authority, upstream, port) = (Authority::new(), Upstream::named("v1"), free_port());
    let edge = Edge::default().https(port, "[a.example]", &simple("a")).pair("a", &authority.issue(&["a.example"]));
    let folder = edge.folder();
    fs::write(folder.path().join("config.yaml"), edge.yaml(&upstream)).unwrap();
    let path = folder.path().to_owned();
    let proxy = Proxy::spawn(folder, serin().arg("run").arg(path).env("SERIN_LOG", "info,serin::proxy::http1=trace"));
    let client = Tls::trusting(&authority, "a.example");
    h2::run(async {
        let (mut connection, _) = client.http1(local(port)).await.unwrap();
        for times in 1..3 {
            let answer = get(&mut connection, "a.example").await.unwrap();
            assert_eq!(h2::body(answer).await.unwrap(), "v1");
            let log = || proxy.log().matches("a connection rests").count();
            eventually("it rests", || log() >= times);
        }
    });
}

#[test]
fn the_name_that_a_client_asks_for_decides_whom_it_gets() {
    let (authority, upstream, port) = (Authority::new(), Upstream::named("v1"), free_port());
    let (exact, wild) = (authority.issue(&["a.example"]), authority.issue(&["b.example"]));
    let edge = Edge::default()
        .https(port, "['*.example']", &simple("wild"))
        .https(port, "[a.example]", &simple("exact"))
        .pair("exact", &exact)
        .pair("wild", &wild);
    let _proxy = edge.start(&upstream, &[]);
    h2::run(async {
        let (mut steady, certificate) = Tls::trusting(&authority, "a.example").http1(local(port)).await.unwrap();
        assert_eq!(certificate, exact.der);
        let (_, certificate) = Tls::trusting(&authority, "b.example").http1(local(port)).await.unwrap();
        assert_eq!(certificate, wild.der);
        for nobody in [Tls::trusting(&authority, "a.elsewhere"), Tls::nameless(&authority)] {
            assert_eq!(nobody.connect(local(port)).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
        // Neither they nor others who fail to shake hands disturb anybody.
        let mut stranger = TcpStream::connect(local(port)).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
        let (_, seen) = h2::blocking(move || (stranger.read_to_end(&mut Vec::new()).ok(), stranger)).await;
        drop(seen);
        assert_eq!(get(&mut steady, "a.example").await.unwrap().status(), 200);
    });
}

#[test]
fn clients_show_certificates_where_they_have_to() {
    let (authority, clients, upstream) = (Authority::new(), Authority::new(), Upstream::named("v1"));
    let (must, may, named) = (free_port(), free_port(), free_port());
    let (good, other, revoked) =
        (clients.issue(&["good.client"]), clients.issue(&["other.client"]), clients.issue(&["good.client"]));
    let stranger = authority.issue(&["good.client"]);
    let with = |mode: &str, more: &str| {
        format!("mode: {mode}, serverCertificate: a.crt, privateKey: a.key, caCertificates: clients.crt{more}")
    };
    let edge = Edge::default()
        .https(must, "['*']", &with("MUTUAL", ", caCrl: revoked.crl"))
        .https(may, "['*']", &with("OPTIONAL_MUTUAL", ""))
        .https(named, "['*']", &with("MUTUAL", ", subjectAltNames: [good.client]"))
        .pair("a", &authority.issue(&["a.example"]))
        .file("clients.crt", &clients.pem())
        .file("revoked.crl", &clients.revoke(&revoked));
    let _proxy = edge.start(&upstream, &[]);
    h2::run(async {
        let none = Tls::trusting(&authority, "a.example");
        let showing = |pair| Tls::showing(&authority, "a.example", pair);
        for (client, answers) in [
            (none, [false, true, false]),
            (showing(&good), [true, true, true]),
            (showing(&other), [true, true, false]),
            (showing(&revoked), [false, true, true]),
            (showing(&stranger), [false, false, false]),
        ] {
            for (port, answers) in [must, may, named].into_iter().zip(answers) {
                let outcome = client.ask(local(port)).await;
                assert_eq!(outcome.as_ref().ok(), answers.then_some(&200), "{outcome:?}");
            }
        }
    });
}

#[test]
fn versions_are_kept_to() {
    let (authority, upstream, ports) = (Authority::new(), Upstream::named("v1"), [free_port(), free_port()]);
    let edge = Edge::default()
        .https(ports[0], "['*']", &format!("{}, minProtocolVersion: TLSV1_3", simple("a")))
        .https(
            ports[1],
            "['*']",
            &format!("{}, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]", simple("a")),
        )
        .pair("a", &authority.issue(&["a.example"]));
    let _proxy = edge.start(&upstream, &[]);
    h2::run(async {
        for (version, answers) in [(&rustls::version::TLS12, [false, true]), (&rustls::version::TLS13, [true, false])] {
            let client = Tls::speaking(&authority, "a.example", version);
            for (port, answers) in ports.into_iter().zip(answers) {
                assert_eq!(client.ask(local(port)).await.ok(), answers.then_some(200), "{version:?}");
            }
        }
        let client = Tls::speaking(&authority, "a.example", &rustls::version::TLS12);
        let stream = client.connect(local(ports[1])).await.unwrap();
        let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    });
}

#[test]
fn a_client_comes_back_without_a_whole_handshake_even_after_a_reload() {
    let (authority, upstream, port) = (Authority::new(), Upstream::named("v1"), free_port());
    let edge = Edge::default().https(port, "['*']", &simple("a")).pair("a", &authority.issue(&["a.example"]));
    let proxy = edge.start(&upstream, &["--workers", "2"]);
    let client = Tls::trusting(&authority, "a.example");
    h2::run(async {
        for wanted in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut stream = client.connect(local(port)).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(wanted));
            assert!(!shown(&stream).is_empty());
            // Tickets arrive with the answer.
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            let generation = proxy.generation();
            proxy.save(&format!("# {generation}\n{}", edge.yaml(&upstream)));
            super::support::eventually("it is in force", || proxy.generation() > generation);
        }
    });
}

#[test]
fn a_silent_handshake_has_the_time_of_a_head() {
    let (authority, upstream, port) = (Authority::new(), Upstream::named("v1"), free_port());
    let edge = Edge::default().https(port, "['*']", &simple("a")).pair("a", &authority.issue(&["a.example"]));
    let _proxy = edge.start(&upstream, &["--header-timeout", "500ms"]);
    let (began, mut silent) = (Instant::now(), TcpStream::connect(local(port)).unwrap());
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    silent.read_to_end(&mut got).unwrap();
    assert!(got.is_empty() && began.elapsed().as_millis() >= 400, "{got:?} after {:?}", began.elapsed());
}
