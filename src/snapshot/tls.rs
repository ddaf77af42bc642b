//! From the `tls` block of a traffic policy to TLS with a cluster's endpoints.

use crate::config::credentials::{self, Named};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::resource::destination_rule::{ClientTls, ClientTlsMode};
use crate::upstream::tls::{Tls, TlsError, TlsMaterial};

/// What the block asks for; none for plain text.
///
/// # Errors
/// What is wrong with its files.
pub(super) fn client(tls: &ClientTls, files: Named<'_>) -> Result<Option<Tls>, Vec<Diagnostic>> {
    let mode = tls.mode.as_ref().map(|mode| mode.value);
    if !matches!(mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual)) {
        return Ok(None);
    }
    let found = credentials::client(tls, files)?;
    let own = found.identities.into_iter().next();
    let material = TlsMaterial {
        authorities: found.authorities,
        own: own.map(|identity| (identity.chain, identity.key.clone_key())),
        revoked: found.revoked,
        server_name: tls.sni.as_ref().map(|sni| sni.value.clone()).filter(|sni| !sni.is_empty()),
        names: tls.subject_alt_names.iter().map(|name| name.value.clone()).collect(),
        unverified: tls.insecure_skip_verify.is_some_and(|skip| skip.value),
    };
    Tls::new(&material).map(Some).map_err(|error| vec![problem(tls, &error)])
}

fn problem(tls: &ClientTls, error: &TlsError) -> Diagnostic {
    let mode = tls.mode.as_ref().map_or(tls.place, |mode| mode.place);
    let place = match error {
        TlsError::ServerName(_) => tls.sni.as_ref().map_or(mode, |sni| sni.place),
        TlsError::Verifier(_) => tls.ca_crl.as_ref().map_or(mode, |list| list.place),
        TlsError::NoAuthorities | TlsError::Unusable(_) => mode,
    };
    Diagnostic::error(Kind::Value, place, error.to_string())
}
