//! The certificate files that resources name: which they are, what they hold, and what is wrong with them. Whoever speaks
//! TLS takes what is found here; the files themselves were read together with the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, RootCertStore};

use super::diagnostic::{Diagnostic, Kind};
use super::files;
use super::load::Source;
use super::place::Spanned;
use super::resource::Resources;
use super::resource::destination_rule::{ClientTls, ClientTlsMode};
use super::resource::gateway::{ServerTls, ServerTlsMode};

type Field = Option<Spanned<String>>;

/// Files that resources name, by path, as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Result<Arc<[u8]>, String>>);

impl Files {
    /// Reads these files.
    pub fn read(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::default().exactly(paths.into_iter().collect())
    }

    /// Exactly these files: what was read already, and the others read now.
    pub(super) fn exactly(mut self, paths: BTreeSet<PathBuf>) -> Self {
        let read = |path: PathBuf| {
            let content = self.0.remove(&path).unwrap_or_else(|| files::read_file(&path).map(Arc::from));
            (path, content)
        };
        Self(paths.into_iter().map(read).collect())
    }

    /// Their paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Those that are empty or could not be read.
    pub fn blank(&self) -> impl Iterator<Item = &Path> {
        let blank = self.0.iter().filter(|(_, content)| content.as_ref().map_or(true, |content| content.is_empty()));
        blank.map(|(path, _)| path.as_path())
    }

    /// Each path with the file's content, or with the reason why it could not be read.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.0.iter().map(|(path, content)| match content {
            Ok(content) => (path.as_path(), &**content),
            Err(problem) => (path.as_path(), problem.as_bytes()),
        })
    }
}

/// The files that were read, and the sources that name them.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The sources that places count.
    pub sources: &'a [Source],
    /// The files.
    pub files: &'a Files,
}

/// A certificate with the chain that vouches for it, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// What one side of TLS shows, and whom it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Its own certificates, in the order in which they were written.
    pub identities: Vec<Identity>,
    /// The authorities that the other side's certificate must lead to.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What these authorities have revoked.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// The fields of one TLS block that name files.
#[derive(Default)]
struct Fields<'a> {
    pairs: Vec<(&'a Spanned<String>, &'a Spanned<String>)>,
    authorities: Vec<&'a Spanned<String>>,
    revoked: Option<&'a Spanned<String>>,
}

fn given(field: &Field) -> Option<&Spanned<String>> {
    field.as_ref().filter(|file| !file.is_empty())
}

impl<'a> Fields<'a> {
    fn of_server(tls: &'a ServerTls) -> Self {
        let mode = tls.mode.as_ref().map(|mode| mode.value);
        let verifies = match mode {
            Some(ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) => true,
            Some(ServerTlsMode::Simple) => false,
            _ => return Self::default(),
        };
        let pair = |certificate: &'a Field, key: &'a Field| given(certificate).zip(given(key));
        let of_list = tls.tls_certificates.iter().filter_map(|one| pair(&one.server_certificate, &one.private_key));
        let pairs = pair(&tls.server_certificate, &tls.private_key).into_iter().chain(of_list).collect();
        if !verifies {
            return Self { pairs, ..Self::default() };
        }
        let of_list = tls.tls_certificates.iter().filter_map(|one| given(&one.ca_certificates));
        let authorities = given(&tls.ca_certificates).into_iter().chain(of_list).collect();
        Self { pairs, authorities, revoked: given(&tls.ca_crl) }
    }

    fn of_client(tls: &'a ClientTls) -> Self {
        let mode = tls.mode.as_ref().map(|mode| mode.value);
        let pairs = match mode {
            Some(ClientTlsMode::Mutual) => given(&tls.client_certificate).zip(given(&tls.private_key)),
            Some(ClientTlsMode::Simple) => None,
            _ => return Self::default(),
        };
        Self {
            pairs: pairs.into_iter().collect(),
            authorities: given(&tls.ca_certificates).into_iter().collect(),
            revoked: given(&tls.ca_crl),
        }
    }

    fn files(&self) -> impl Iterator<Item = &'a Spanned<String>> {
        let pairs = self.pairs.iter().flat_map(|(certificate, key)| [*certificate, *key]);
        pairs.chain(self.authorities.iter().copied()).chain(self.revoked)
    }
}

/// Every TLS block of the resources.
fn blocks(resources: &Resources) -> impl Iterator<Item = Fields<'_>> {
    let servers = resources.gateways.iter().flat_map(|gateway| &gateway.spec.servers);
    let servers = servers.filter_map(|server| server.tls.as_ref()).map(Fields::of_server);
    let policies = resources.destination_rules.iter().flat_map(|rule| {
        let subsets = rule.spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        rule.spec.traffic_policy.iter().chain(subsets)
    });
    let clients = policies.flat_map(|policy| {
        let ports = policy.port_level_settings.iter().flatten();
        policy.tls.iter().chain(ports.filter_map(|port| port.tls.as_ref()))
    });
    servers.chain(clients.map(Fields::of_client))
}

/// Every file that the resources name.
pub(super) fn named(resources: &Resources, sources: &[Source]) -> BTreeSet<PathBuf> {
    blocks(resources).flat_map(|fields| fields.files().map(|file| path(file, sources)).collect::<Vec<_>>()).collect()
}

/// Everything that is wrong with those files.
pub(super) fn check(resources: &Resources, named: Named<'_>) -> Vec<Diagnostic> {
    blocks(resources).filter_map(|fields| credentials(&fields, named).err()).flatten().collect()
}

/// What a server shows and whom it trusts.
///
/// # Errors
/// Everything that is wrong with its files.
pub fn server(tls: &ServerTls, named: Named<'_>) -> Result<Credentials, Vec<Diagnostic>> {
    credentials(&Fields::of_server(tls), named)
}

/// What this proxy shows to endpoints and whom it trusts. No authorities: nothing was said about them.
///
/// # Errors
/// Everything that is wrong with its files.
pub fn client(tls: &ClientTls, named: Named<'_>) -> Result<Credentials, Vec<Diagnostic>> {
    credentials(&Fields::of_client(tls), named)
}

fn credentials(fields: &Fields<'_>, named: Named<'_>) -> Result<Credentials, Vec<Diagnostic>> {
    let mut found = Credentials::default();
    let mut problems = Vec::new();
    for (certificate, key) in &fields.pairs {
        match named.identity(certificate, key) {
            Ok(identity) => found.identities.push(identity),
            Err(wrong) => problems.extend(wrong),
        }
    }
    for file in &fields.authorities {
        match named.authorities(file) {
            Ok(authorities) => found.authorities.extend(authorities),
            Err(wrong) => problems.push(wrong),
        }
    }
    if let Some(file) = fields.revoked {
        match named.revoked(file, &found.authorities) {
            Ok(lists) => found.revoked = lists,
            Err(wrong) => problems.push(wrong),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// Relative to the folder of the file that names it.
pub(super) fn path(file: &Spanned<String>, sources: &[Source]) -> PathBuf {
    let folder = sources.get(file.place.file as usize).and_then(|source| source.path.parent());
    folder.map_or_else(|| PathBuf::from(&file.value), |folder| folder.join(&file.value))
}

impl<'a> Named<'a> {
    fn content(&self, file: &Spanned<String>) -> Result<&'a [u8], Diagnostic> {
        let path = path(file, self.sources);
        let problem = match self.files.0.get(&path) {
            Some(Ok(content)) => return Ok(content),
            Some(Err(problem)) => problem.trim_start_matches("cannot read it: "),
            None => "it was not read",
        };
        let shown = path.display();
        let help = match Path::new(&file.value).is_absolute() {
            true => "name a file of this machine; `serin check --no-references` judges the rest without it",
            false => "names of files are relative to the folder of the file that they are written in",
        };
        Err(Diagnostic::error(Kind::Reference, file.place, format!("cannot read the file `{shown}`: {problem}"))
            .help(help))
    }

    fn pem<T: PemObject>(&self, file: &Spanned<String>, what: &str) -> Result<Vec<T>, Diagnostic> {
        let content = self.content(file)?;
        let found: Result<Vec<T>, PemError> = T::pem_slice_iter(content).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => {
                let locked = content.windows(9).any(|part| part == b"ENCRYPTED");
                let help = if locked { "a key with a passphrase cannot be used" } else { "the file must be PEM" };
                Err(wrong(file, format!("there is no {what} in `{}`", file.value)).help(help))
            }
            Err(error) => Err(wrong(file, format!("`{}` is broken PEM: {error}", file.value))),
        }
    }

    fn identity(&self, certificate: &Spanned<String>, key: &Spanned<String>) -> Result<Identity, Vec<Diagnostic>> {
        let chain = self.pem::<CertificateDer<'static>>(certificate, "certificate");
        let keys = self.pem::<PrivateKeyDer<'static>>(key, "private key");
        let (chain, mut keys) = match (chain, keys) {
            (Ok(chain), Ok(keys)) => (chain, keys),
            (chain, keys) => return Err(chain.err().into_iter().chain(keys.err()).collect()),
        };
        let first = keys.swap_remove(0);
        let problem = match CertifiedKey::from_der(chain.clone(), first.clone_key(), &default_provider()) {
            Ok(_) => return Ok(Identity { chain, key: Arc::new(first) }),
            Err(TlsError::InconsistentKeys(_)) => {
                wrong(key, format!("this key does not belong to the certificate in `{}`", certificate.value))
            }
            Err(error @ TlsError::InvalidCertificate(_)) => {
                wrong(certificate, format!("the certificate in `{}` cannot be used: {error}", certificate.value))
            }
            Err(error) => wrong(key, format!("the key in `{}` cannot be used: {error}", key.value)),
        };
        Err(vec![problem])
    }

    fn authorities(&self, file: &Spanned<String>) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
        let found = self.pem::<CertificateDer<'static>>(file, "certificate")?;
        let mut store = RootCertStore::empty();
        for certificate in &found {
            store
                .add(certificate.clone())
                .map_err(|error| wrong(file, format!("a certificate in `{}` cannot be used: {error}", file.value)))?;
        }
        Ok(found)
    }

    fn revoked(
        &self,
        file: &Spanned<String>,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, Diagnostic> {
        let found = self.pem::<CertificateRevocationListDer<'static>>(file, "revocation list")?;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(authorities.iter().cloned());
        if store.is_empty() {
            return Ok(found);
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(store.into(), default_provider().into());
        match verifier.with_crls(found.iter().cloned()).build() {
            Ok(_) => Ok(found),
            Err(error) => Err(wrong(file, format!("a list in `{}` cannot be used: {error}", file.value))),
        }
    }
}

fn wrong(file: &Spanned<String>, message: String) -> Diagnostic {
    Diagnostic::error(Kind::Value, file.place, message)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    use crate::config::load::{self, Loaded};
    use crate::config::settings::Settings;

    const TLS: &str = "mode: MUTUAL, serverCertificate: own.crt, privateKey: own.key, caCertificates: ca.crt";

    fn load(tls: &str, files: &[(&str, &str)], settings: &Settings) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let yaml = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  servers:\n  - \
             hosts: ['*']\n    port: {{number: 443, name: https, protocol: HTTPS}}\n    tls: {{{tls}}}\n"
        );
        fs::write(folder.path().join("gateway.yaml"), yaml).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        load::load(load::read(&[folder.path().to_owned()], false), settings)
    }

    fn messages(tls: &str, files: &[(&str, &str)]) -> Vec<String> {
        let loaded = load(tls, files, &Settings::default());
        let errors = loaded.diagnostics.iter().filter(|one| one.is_error());
        errors.map(|one| format!("{:?} {}: {}", one.kind, one.place.column, one.message)).collect()
    }

    fn pair() -> (String, String) {
        let Made { cert, signing_key } = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn whole_files_are_accepted_and_count_as_input() {
        let (certificate, key) = pair();
        let files = [("own.crt", &*certificate), ("own.key", &*key), ("ca.crt", &*certificate)];
        let loaded = load(TLS, &files, &Settings::default());
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        assert_eq!(loaded.files.paths().count(), 3);
        let both = format!("{certificate}{}", pair().0);
        let more = load(TLS, &[files[0], files[1], ("ca.crt", &both)], &Settings::default());
        assert!(more.is_valid() && more.hash != loaded.hash);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_at_its_field() {
        let (certificate, key) = pair();
        let (other, _) = pair();
        let own = ("own.crt", &*certificate);
        let authority = ("ca.crt", &*certificate);
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[own, authority], "Reference 65: cannot read the file"),
            (&[("own.crt", &other), ("own.key", &key), authority], "does not belong to the certificate in `own.crt`"),
            (&[("own.crt", "hello"), ("own.key", &key), authority], "Value 44: there is no certificate in `own.crt`"),
            (&[own, ("own.key", locked), authority], "Value 65: there is no private key in `own.key`"),
            (&[own, ("own.key", &key), ("ca.crt", &key)], "Value 90: there is no certificate in `ca.crt`"),
            (&[own, ("own.key", &key[..80]), authority], "Value 65"),
            (
                &[
                    ("own.crt", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
                    ("own.key", &key),
                    authority,
                ],
                "Value 44: `own.crt` is broken PEM",
            ),
        ];
        for (files, wanted) in cases {
            let found = messages(TLS, files);
            assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
        }
        assert_eq!(messages(TLS, &[]).len(), 3);
    }

    #[test]
    fn without_references_no_file_is_looked_at() {
        let loaded = load(TLS, &[], &Settings { references: false, ..Settings::default() });
        assert!(loaded.is_valid() && loaded.files.paths().next().is_none(), "{:?}", loaded.diagnostics);
    }
}
