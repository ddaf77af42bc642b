//! TLS to endpoints, as Istio's `tls` of a traffic policy asks for it. Made from certificates and keys; reads no file.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, IpAddr, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version};

/// What TLS to the endpoints of a cluster is made of.
#[derive(Debug, Default)]
pub struct TlsMaterial {
    /// `caCertificates`; empty: the certificate authorities of this system.
    pub authorities: Vec<CertificateDer<'static>>,
    /// `clientCertificate`, with its chain, and `privateKey`.
    pub own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// `caCrl`.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
    /// `sni`; none: the host that is sent.
    pub server_name: Option<String>,
    /// `subjectAltNames`; empty: the server name.
    pub names: Vec<String>,
    /// `insecureSkipVerify`.
    pub unverified: bool,
}

impl TlsMaterial {
    fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        let own = self.own.iter().flat_map(|(chain, _)| chain);
        for list in [self.authorities.len(), own.clone().count(), self.revoked.len(), self.names.len()] {
            add(&(list as u64).to_le_bytes());
        }
        self.authorities.iter().chain(own).for_each(|one| add(one));
        self.revoked.iter().for_each(|one| add(one));
        self.names.iter().for_each(|one| add(one.as_bytes()));
        add(self.own.as_ref().map_or(&[], |(_, key)| key.secret_der()));
        add(self.server_name.as_deref().unwrap_or_default().as_bytes());
        add(&[u8::from(self.unverified)]);
        hash.finalize().to_hex().to_string()
    }
}

/// Why there is no TLS from this material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `sni` is none.
    #[error("`{0}` is no server name")]
    ServerName(String),
    /// Nothing was said about authorities, and this system has none.
    #[error("this system has no certificate authorities: name yours with `caCertificates`")]
    NoAuthorities,
    /// A certificate, a key or a list that TLS cannot use.
    #[error("{0}")]
    Unusable(#[from] rustls::Error),
    /// A revocation list that fits none of the authorities.
    #[error("{0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// TLS to the endpoints of a cluster.
pub struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    fingerprint: String,
}

impl Tls {
    /// Puts the material together.
    pub fn new(material: &TlsMaterial) -> Result<Self, TlsError> {
        let wanted = material.server_name.clone();
        let server_name = wanted
            .map(|name| ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name)))
            .transpose()?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(material, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &material.own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
        };
        // Each with its own sessions: one that was agreed for a protocol is not resumed for the other.
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            config.resumption = Resumption::default();
            Arc::new(config)
        };
        let (http1, http2) = (speaking(b"http/1.1"), speaking(b"h2"));
        Ok(Self { http1, http2, server_name, fingerprint: material.fingerprint() })
    }

    /// What a handshake needs, for HTTP/2 or HTTP/1.1.
    pub(super) fn config(&self, http2: bool) -> Arc<ClientConfig> {
        Arc::clone(if http2 { &self.http2 } else { &self.http1 })
    }

    /// The name that every handshake uses; none: that of the host which a request is sent with.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    /// Differs where the material differs.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn verifier(material: &TlsMaterial, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if material.unverified {
        return Ok(Arc::new(Anyone(Arc::clone(provider))));
    }
    let mut roots = RootCertStore::empty();
    if material.authorities.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoAuthorities);
        }
    }
    for authority in &material.authorities {
        roots.add(authority.clone())?;
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !material.revoked.is_empty() {
        // A list speaks of the certificates of its issuer; it does not have to be there for every authority.
        builder = builder
            .with_crls(material.revoked.iter().cloned())
            .allow_unknown_revocation_status()
            .only_check_end_entity_revocation();
    }
    let chain = builder.build()?;
    if material.names.is_empty() {
        return Ok(chain);
    }
    Ok(Arc::new(Named { chain, names: material.names.clone() }))
}

/// `insecureSkipVerify`: whoever answers is believed, as long as it holds the key of the certificate that it shows.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

/// A certificate of the authorities that carries one of these names, whatever name was asked for.
#[derive(Debug)]
struct Named {
    chain: Arc<WebPkiServerVerifier>,
    names: Vec<String>,
}

impl Named {
    fn carries_one(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
        let uris: Vec<String> = webpki::EndEntityCert::try_from(certificate)
            .map(|certificate| certificate.valid_uri_names().map(str::to_owned).collect())
            .unwrap_or_default();
        self.names.iter().any(|name| {
            uris.contains(name)
                || ServerName::try_from(name.as_str())
                    .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
        })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is checked after the chain, so a complaint about it says that the chain is good.
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(_)
            | Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        if self.carries_one(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The host of a `Host` field as a server name: without its port, in lower case.
pub(super) fn name_of_host(host: &str) -> Option<ServerName<'static>> {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address)?,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => Some(ServerName::IpAddress(IpAddr::from(address))),
        Err(_) => ServerName::try_from(bare.to_ascii_lowercase()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate() -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["*.shop.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://cluster/ns/shop".try_into().unwrap()));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn named(names: &[&str]) -> Named {
        let mut roots = RootCertStore::empty();
        roots.add(certificate()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        Named { chain, names: names.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn one_of_the_names_has_to_be_there_whatever_its_sort() {
        let certificate = certificate();
        for (names, carried) in [
            (&["x.test", "a.shop.example"][..], true),
            (&["spiffe://cluster/ns/shop"], true),
            (&["10.0.0.1"], true),
            (&["spiffe://cluster/ns/other", "10.0.0.2", "shop.example", "a.b.shop.example"], false),
        ] {
            assert_eq!(named(names).carries_one(&certificate), carried, "{names:?}");
        }
    }

    #[test]
    fn a_host_is_asked_for_without_its_port() {
        for (host, name) in [
            ("A.Example:8080", Some("a.example")),
            ("a.example", Some("a.example")),
            ("[::1]:443", Some("::1")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(name_of_host(host).map(|name| name.to_str().into_owned()).as_deref(), name, "{host}");
        }
    }

    #[test]
    fn equal_material_is_one_identity_and_other_material_another() {
        let with = |names: &[&str], unverified| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            let authorities = vec![CertificateDer::from(vec![1, 2]), CertificateDer::from(vec![3])];
            TlsMaterial { authorities, names, unverified, ..TlsMaterial::default() }.fingerprint()
        };
        assert_eq!(with(&["a", "b"], false), with(&["a", "b"], false));
        for other in [with(&["ab"], false), with(&["a", "b"], true), with(&["b", "a"], false)] {
            assert_ne!(with(&["a", "b"], false), other);
        }
        assert!(!format!("{:?}", TlsMaterial::default()).is_empty());
    }
}
