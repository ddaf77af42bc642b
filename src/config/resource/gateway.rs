//! `kind: Gateway` of networking.istio.io (not the Gateway API's).

use crate::config::place::{Place, Spanned};
use crate::config::value::StringMap;

/// `spec` of a Gateway.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    /// `servers`.
    pub servers: Vec<Server>,
    /// `selector`.
    pub selector: Option<Spanned<StringMap>>,
    /// Where `spec` stands.
    pub place: Place,
}

/// One entry of `servers`.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// `port`.
    pub port: Option<ServerPort>,
    /// `bind`.
    pub bind: Option<Spanned<String>>,
    /// `hosts`, each with an optional `namespace/`.
    pub hosts: Vec<Spanned<String>>,
    /// `tls`.
    pub tls: Option<ServerTls>,
    /// `defaultEndpoint`.
    pub default_endpoint: Option<Spanned<String>>,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `servers[].port`.
#[derive(Clone, Debug, Default)]
pub struct ServerPort {
    /// `number`; 0 when absent.
    pub number: Spanned<i64>,
    /// `protocol`; empty when absent.
    pub protocol: Spanned<String>,
    /// `name`; empty when absent.
    pub name: Spanned<String>,
    /// `targetPort` (deprecated).
    pub target_port: Option<Spanned<i64>>,
    /// Where the object begins.
    pub place: Place,
}

/// `servers[].tls`.
#[derive(Clone, Debug, Default)]
pub struct ServerTls {
    /// `httpsRedirect`.
    pub https_redirect: Option<Spanned<bool>>,
    /// `mode`; absent is `PASSTHROUGH`.
    pub mode: Option<Spanned<ServerTlsMode>>,
    /// `serverCertificate`: a file.
    pub server_certificate: Option<Spanned<String>>,
    /// `privateKey`: a file.
    pub private_key: Option<Spanned<String>>,
    /// `caCertificates`: a file.
    pub ca_certificates: Option<Spanned<String>>,
    /// `caCrl`: a file.
    pub ca_crl: Option<Spanned<String>>,
    /// `credentialName`.
    pub credential_name: Option<Spanned<String>>,
    /// `credentialNames`.
    pub credential_names: Vec<Spanned<String>>,
    /// `caCertCredentialName`.
    pub ca_cert_credential_name: Option<Spanned<String>>,
    /// `tlsCertificates`.
    pub tls_certificates: Vec<TlsCertificate>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<Spanned<String>>,
    /// `verifyCertificateSpki`.
    pub verify_certificate_spki: Vec<Spanned<String>>,
    /// `verifyCertificateHash`.
    pub verify_certificate_hash: Vec<Spanned<String>>,
    /// `minProtocolVersion`.
    pub min_protocol_version: Option<Spanned<TlsProtocol>>,
    /// `maxProtocolVersion`.
    pub max_protocol_version: Option<Spanned<TlsProtocol>>,
    /// `cipherSuites`.
    pub cipher_suites: Vec<Spanned<String>>,
    /// Where the object begins.
    pub place: Place,
}

/// One entry of `tlsCertificates`.
#[derive(Clone, Debug, Default)]
pub struct TlsCertificate {
    /// `serverCertificate`: a file.
    pub server_certificate: Option<Spanned<String>>,
    /// `privateKey`: a file.
    pub private_key: Option<Spanned<String>>,
    /// `caCertificates`: a file.
    pub ca_certificates: Option<Spanned<String>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `servers[].tls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerTlsMode {
    /// `PASSTHROUGH`.
    Passthrough,
    /// `SIMPLE`.
    Simple,
    /// `MUTUAL`.
    Mutual,
    /// `AUTO_PASSTHROUGH`.
    AutoPassthrough,
    /// `ISTIO_MUTUAL`.
    IstioMutual,
    /// `OPTIONAL_MUTUAL`.
    OptionalMutual,
}

/// `servers[].tls.minProtocolVersion` and `maxProtocolVersion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsProtocol {
    /// `TLS_AUTO`.
    Auto,
    /// `TLSV1_0`.
    V1_0,
    /// `TLSV1_1`.
    V1_1,
    /// `TLSV1_2`.
    V1_2,
    /// `TLSV1_3`.
    V1_3,
}
