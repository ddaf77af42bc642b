//! From the `tls` blocks of Gateways to the servers of a listener.

use crate::config::diagnostic::Diagnostic;
use crate::config::gateways::GatewayServer;
use crate::config::load::Loaded;
use crate::config::resource::gateway::{ServerTls, ServerTlsMode};
use crate::config::{credentials, tls_terms};
use crate::proxy::{Clients, Demands, TlsServer, Trust};

/// The servers of one listener that speak TLS.
///
/// # Errors
/// What is wrong with their files.
pub(super) fn servers(asked: &[GatewayServer<'_>], loaded: &Loaded) -> Result<Vec<TlsServer>, Vec<Diagnostic>> {
    let speaking = asked.iter().filter_map(|server| server.tls.map(|tls| (server, tls)));
    speaking.map(|(server, tls)| one(server, tls, loaded)).collect()
}

fn one(server: &GatewayServer<'_>, tls: &ServerTls, loaded: &Loaded) -> Result<TlsServer, Vec<Diagnostic>> {
    let found = credentials::server(tls, loaded.named())?;
    let trust = Trust { authorities: found.authorities, revoked: found.revoked, demands: demands(tls) };
    let clients = match tls.mode.as_ref().map(|mode| mode.value) {
        Some(ServerTlsMode::Mutual) => Clients::Required(trust),
        Some(ServerTlsMode::OptionalMutual) => Clients::Optional(trust),
        _ => Clients::Unasked,
    };
    Ok(TlsServer {
        names: server.hosts.iter().map(|host| host.name.to_owned()).collect(),
        identities: found.identities.into_iter().map(|one| (one.chain, one.key)).collect(),
        clients,
        versions: tls_terms::versions(tls),
        cipher_suites: tls.cipher_suites.iter().filter_map(|name| tls_terms::cipher_suite(name)).collect(),
    })
}

/// Validation has refused digests that cannot be read.
fn demands(tls: &ServerTls) -> Demands {
    let keys = tls.verify_certificate_spki.iter().filter_map(|digest| tls_terms::key_digest(digest));
    let certificates = tls.verify_certificate_hash.iter().filter_map(|digest| tls_terms::certificate_digest(digest));
    Demands {
        names: tls.subject_alt_names.iter().map(|name| name.value.clone()).collect(),
        keys: keys.collect(),
        certificates: certificates.collect(),
    }
}
