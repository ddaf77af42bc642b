//! What a server asks of a client's certificate beyond a good chain: one of some names, one of some keys, or to be one of
//! some certificates. Judges certificates only.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::EndEntityCert;

/// What a certificate must have; whatever is empty is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// One of these names: of a host, an address or a URI, as they stand in it.
    pub names: Vec<String>,
    /// A key whose SHA-256 (over its `SubjectPublicKeyInfo`) is one of these.
    pub keys: Vec<[u8; 32]>,
    /// An own SHA-256 that is one of these. A certificate that fulfils this or `keys` fulfils both.
    pub certificates: Vec<[u8; 32]>,
}

impl Demands {
    fn are_empty(&self) -> bool {
        self.names.is_empty() && self.keys.is_empty() && self.certificates.is_empty()
    }

    fn met_by(&self, der: &CertificateDer<'_>) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(der).map_err(|_| CertificateError::BadEncoding)?;
        let pinned = (self.keys.is_empty() && self.certificates.is_empty())
            || self.certificates.contains(&sha256(der))
            || self.keys.contains(&sha256(&certificate.subject_public_key_info()));
        let named = self.names.is_empty() || self.names.iter().any(|name| has_name(&certificate, name));
        if pinned && named { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }
}

fn has_name(certificate: &EndEntityCert<'_>, name: &str) -> bool {
    if let Ok(address) = name.parse::<IpAddr>() {
        return certificate.verify_is_valid_for_subject_name(&ServerName::from(address)).is_ok();
    }
    certificate.valid_uri_names().any(|uri| uri == name)
        || certificate.valid_dns_names().any(|host| host.eq_ignore_ascii_case(name))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is a suite of TLS 1.3");
    let mut digest = [0; 32];
    digest.copy_from_slice(suite.common.hash_provider.hash(bytes).as_ref());
    digest
}

/// A verifier that asks for more.
#[derive(Debug)]
pub(super) struct Demanding {
    chain: Arc<dyn ClientCertVerifier>,
    demands: Demands,
}

impl Demanding {
    /// The verifier itself, if no more is asked for.
    pub(super) fn wrap(chain: Arc<dyn ClientCertVerifier>, demands: &Demands) -> Arc<dyn ClientCertVerifier> {
        if demands.are_empty() { chain } else { Arc::new(Self { chain, demands: demands.clone() }) }
    }
}

impl ClientCertVerifier for Demanding {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.demands.met_by(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};

    use super::*;

    #[test]
    fn names_keys_and_digests_are_compared() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["client.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        let names = |name: &str| Demands { names: vec!["x".to_owned(), name.to_owned()], ..Demands::default() };
        for name in ["client.example", "Client.Example", "10.0.0.1", "spiffe://a/b"] {
            assert!(names(name).met_by(der).is_ok(), "{name}");
        }
        for name in ["example", "10.0.0.2", "spiffe://a", ""] {
            assert!(names(name).met_by(der).is_err(), "{name}");
        }
        let spki = sha256(&key.subject_public_key_info());
        assert!(Demands { keys: vec![[0; 32], spki], ..Demands::default() }.met_by(der).is_ok());
        assert!(Demands { keys: vec![[0; 32]], ..Demands::default() }.met_by(der).is_err());
        assert!(
            Demands { keys: vec![[0; 32]], certificates: vec![sha256(der)], ..names("10.0.0.1") }.met_by(der).is_ok()
        );
        assert!(Demands { keys: vec![spki], ..names("other") }.met_by(der).is_err());
    }
}
