//! Certificates made for one test, and clients that speak TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::h2::{Body, Connection, empty};

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) der: CertificateDer<'static>,
    /// As a file.
    pub(crate) certificate: String,
    /// The key as a file.
    pub(crate) key: String,
    secret: Vec<u8>,
    serial: SerialNumber,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate as a file.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let serial = SerialNumber::from(rand::random::<u64>() >> 1);
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            der: certificate.der().clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            secret: key.serialize_der(),
            serial,
        }
    }

    /// A list of certificates that do not count any more, as a file.
    pub(crate) fn revoke(&self, pair: &Pair) -> String {
        let revoked = RevokedCertParams {
            serial_number: pair.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2034, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// The name it asks for; none: it asks for none.
    name: Option<String>,
}

impl Tls {
    /// A client that trusts an authority and asks for a name.
    pub(crate) fn trusting(authority: &Authority, name: &str) -> Self {
        Self::with(authority, Some(name), None, &[&rustls::version::TLS12, &rustls::version::TLS13])
    }

    /// One that asks for no name.
    pub(crate) fn nameless(authority: &Authority) -> Self {
        Self::with(authority, None, None, &[&rustls::version::TLS13])
    }

    /// One that shows a certificate.
    pub(crate) fn showing(authority: &Authority, name: &str, pair: &Pair) -> Self {
        Self::with(authority, Some(name), Some(pair), &[&rustls::version::TLS12, &rustls::version::TLS13])
    }

    /// One that speaks this version only.
    pub(crate) fn speaking(authority: &Authority, name: &str, version: &'static SupportedProtocolVersion) -> Self {
        Self::with(authority, Some(name), None, &[version])
    }

    fn with(
        authority: &Authority,
        name: Option<&str>,
        pair: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(default_provider().into());
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::try_from(pair.secret.clone()).unwrap();
                builder.with_client_auth_cert(vec![pair.der.clone()], key).unwrap()
            }
        };
        config.enable_sni = name.is_some();
        Self { config: Arc::new(config), name: name.map(str::to_owned) }
    }

    /// The same, naming these protocols.
    pub(crate) fn alpn(&self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// The handshake as far as the client sees it.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = self.name.clone().unwrap_or_else(|| "a.example".to_owned());
        TlsConnector::from(Arc::clone(&self.config)).connect(ServerName::try_from(name).unwrap(), stream).await
    }

    /// A connection of HTTP/1.1, and the certificate that the proxy showed.
    pub(crate) async fn http1(&self, address: SocketAddr) -> io::Result<(Http1, CertificateDer<'static>)> {
        let stream = self.connect(address).await?;
        let shown = shown(&stream);
        let (sender, task) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(task);
        Ok((sender, shown))
    }

    /// A connection of HTTP/2.
    pub(crate) async fn http2(&self, address: SocketAddr) -> io::Result<Connection> {
        let stream = self.connect(address).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, task) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(task);
        Ok(sender)
    }

    /// A handshake and one request: the status.
    pub(crate) async fn ask(&self, address: SocketAddr) -> io::Result<u16> {
        let (mut connection, _) = self.http1(address).await?;
        let host = self.name.as_deref().unwrap_or("a.example");
        Ok(get(&mut connection, host).await.map_err(io::Error::other)?.status().as_u16())
    }
}

/// A connection of HTTP/1.1.
pub(crate) type Http1 = http1::SendRequest<Body>;

/// The certificate that the proxy showed.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// GET from a host.
pub(crate) async fn get(connection: &mut Http1, host: &str) -> hyper::Result<Response<Incoming>> {
    connection.ready().await?;
    connection.send_request(Request::get("/").header("host", host).body(empty()).unwrap()).await
}
