//! TLS ends here: which of a listener's servers a client means (by SNI), and the handshake with it. What is agreed on in a
//! handshake holds for its connection; a new set of servers is for the handshakes that come.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::client_certificate::{Demanding, Demands};
use super::io::Protocol;

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// One server of a listener that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServer {
    /// The names it answers to: exact, `*.suffix`, or `*` for any client, also one that names none.
    pub names: Vec<String>,
    /// Certificate chains with their keys, the preferred one first.
    pub identities: Vec<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    /// What is asked of clients.
    pub clients: Clients,
    /// Whether TLS 1.2 is spoken, and whether 1.3 is.
    pub versions: (bool, bool),
    /// The suites of TLS 1.2 to speak; none: all that are safe. Those of TLS 1.3 are not up for choice.
    pub cipher_suites: Vec<CipherSuite>,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// No certificate.
    Unasked,
    /// A certificate, which has to be good if there is one.
    Optional(Trust),
    /// A good certificate.
    Required(Trust),
}

/// Which certificates are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The authorities that it must lead to.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What they have revoked.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
    /// What else it must have.
    pub demands: Demands,
}

/// Why a server cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Its certificates, or what it is to speak.
    #[error(transparent)]
    Server(#[from] rustls::Error),
    /// Whom it is to trust.
    #[error(transparent)]
    Trust(#[from] rustls::server::VerifierBuilderError),
}

/// The servers of one listener, by the names that clients ask for.
pub struct TlsServers {
    servers: Vec<(TlsServer, Arc<ServerConfig>)>,
    exact: HashMap<String, Arc<ServerConfig>>,
    /// Suffixes with their dot, the longest first.
    suffixes: Vec<(String, Arc<ServerConfig>)>,
    any: Option<Arc<ServerConfig>>,
}

impl TlsServers {
    /// Of several servers for one name the first gets it. A server that `before` has just so keeps its session tickets.
    ///
    /// # Errors
    /// A certificate or an authority that cannot be used, or nothing to speak.
    pub fn new(servers: Vec<TlsServer>, before: Option<&Self>) -> Result<Self, TlsError> {
        let mut all = Self { servers: Vec::new(), exact: HashMap::new(), suffixes: Vec::new(), any: None };
        for server in servers {
            let known = before.and_then(|before| before.servers.iter().find(|(known, _)| *known == server));
            let config = match known {
                Some((_, config)) => Arc::clone(config),
                None => Arc::new(server.config()?),
            };
            for name in server.names.iter().map(|name| name.to_ascii_lowercase()) {
                all.add(name, &config);
            }
            all.servers.push((server, config));
        }
        all.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(all)
    }

    fn add(&mut self, name: String, config: &Arc<ServerConfig>) {
        if name == "*" {
            self.any.get_or_insert_with(|| Arc::clone(config));
        } else if let Some(suffix) = name.strip_prefix('*') {
            if !self.suffixes.iter().any(|(known, _)| known == suffix) {
                self.suffixes.push((suffix.to_owned(), Arc::clone(config)));
            }
        } else {
            self.exact.entry(name).or_insert_with(|| Arc::clone(config));
        }
    }

    /// As Envoy chooses: the exact name, else the longest suffix, else the server of any name.
    fn choose(&self, name: Option<&str>) -> Option<Arc<ServerConfig>> {
        let by_name = name.and_then(|name| {
            let by_suffix = || self.suffixes.iter().find(|(suffix, _)| ends_below(name, suffix));
            self.exact.get(name).or_else(|| by_suffix().map(|(_, config)| config))
        });
        by_name.or(self.any.as_ref()).cloned()
    }

    /// The handshake with one client. The protocol is known if both sides named it.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Protocol>)> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = self.choose(hello.client_hello().server_name());
        let config = config.ok_or_else(|| io::Error::other("no server has the name that the client asks for"))?;
        let stream = hello.into_stream(config).await?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(HTTP2) => Some(Protocol::Http2),
            Some(_) => Some(Protocol::Http1),
            None => None,
        };
        Ok((stream, protocol))
    }
}

impl fmt::Debug for TlsServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.servers.iter().map(|(server, _)| &server.names)).finish()
    }
}

fn ends_below(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

impl TlsServer {
    fn config(&self) -> Result<ServerConfig, TlsError> {
        let mut provider = default_provider();
        if !self.cipher_suites.is_empty() {
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || self.cipher_suites.contains(&suite.suite()));
        }
        let certificate = |(chain, key): &(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)| {
            CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map(Arc::new)
        };
        let certificates = self.identities.iter().map(certificate).collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(provider);
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        versions.extend(self.versions.0.then_some(&rustls::version::TLS12));
        versions.extend(self.versions.1.then_some(&rustls::version::TLS13));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions)?;
        let builder = match &self.clients {
            Clients::Unasked => builder.with_no_client_auth(),
            Clients::Optional(trust) | Clients::Required(trust) => {
                let mut roots = RootCertStore::empty();
                for authority in &trust.authorities {
                    roots.add(authority.clone())?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .with_crls(trust.revoked.iter().cloned());
                let verifier = match &self.clients {
                    Clients::Optional(_) => verifier.allow_unauthenticated().build()?,
                    _ => verifier.build()?,
                };
                builder.with_client_cert_verifier(Demanding::wrap(verifier, &trust.demands))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates(certificates)));
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.ticketer = Ticketer::new()?;
        Ok(config)
    }
}

/// Picks the first certificate whose key the client can check.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(usable).or(self.0.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    fn server(names: &[&str]) -> TlsServer {
        let made = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        TlsServer {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            identities: vec![(vec![made.cert.der().clone()], Arc::new(key))],
            clients: Clients::Unasked,
            versions: (true, true),
            cipher_suites: Vec::new(),
        }
    }

    #[test]
    fn the_narrowest_name_wins() {
        let written = [&["*"][..], &["*.example", "a.example"], &["*.b.example", "A.EXAMPLE"], &["x.b.example"]];
        let servers = TlsServers::new(written.map(server).to_vec(), None).unwrap();
        let chosen = |name| {
            let config = servers.choose(name)?;
            servers.servers.iter().position(|(_, known)| Arc::ptr_eq(known, &config))
        };
        for (name, wanted) in [
            (Some("a.example"), 1),
            (Some("b.example"), 1),
            (Some("y.b.example"), 2),
            (Some("z.y.b.example"), 2),
            (Some("x.b.example"), 3),
            (Some("example"), 0),
            (Some("a.example.org"), 0),
            (None, 0),
        ] {
            assert_eq!(chosen(name), Some(wanted), "{name:?}");
        }
        let narrow = TlsServers::new(vec![server(&["a.example", "*.b.example"])], None).unwrap();
        for name in [None, Some("b.example"), Some("c.example"), Some("")] {
            assert!(narrow.choose(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_server_that_stays_as_it_is_keeps_its_tickets() {
        let (one, other) = (server(&["a.example"]), server(&["b.example"]));
        let before = TlsServers::new(vec![one.clone(), other.clone()], None).unwrap();
        let renewed = server(&["b.example"]);
        let after = TlsServers::new(vec![one, renewed], Some(&before)).unwrap();
        let same = |name| Arc::ptr_eq(&before.choose(Some(name)).unwrap(), &after.choose(Some(name)).unwrap());
        assert!(same("a.example") && !same("b.example"));
    }

    #[test]
    fn nothing_to_speak_is_an_error() {
        assert!(TlsServers::new(vec![TlsServer { versions: (false, false), ..server(&["*"]) }], None).is_err());
        let suite = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA;
        let only12 = TlsServer { versions: (true, false), cipher_suites: vec![suite], ..server(&["*"]) };
        assert!(TlsServers::new(vec![only12], None).is_err());
        let trust = Trust::default();
        let trusting = TlsServer { clients: Clients::Required(trust), ..server(&["*"]) };
        assert!(TlsServers::new(vec![trusting], None).is_err(), "no authority");
    }
}
