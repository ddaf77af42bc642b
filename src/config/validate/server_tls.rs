//! `tls` of a Gateway's server: how clients are spoken to.

use std::collections::HashSet;

use super::protocol::{self, Family};
use super::report::{Report, conflict, missing, no_effect, unsupported};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::{Place, Spanned};
use crate::config::resource::gateway::{Server, ServerTls, ServerTlsMode, TlsCertificate, TlsProtocol};
use crate::config::tls_terms;

/// How many certificates one server can have: one for each kind of key.
const CERTIFICATES: usize = 2;

/// The cipher suites that Istio knows, by their names in OpenSSL.
const CIPHERS: [&str; 17] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

fn given(text: &Option<Spanned<String>>) -> Option<&Spanned<String>> {
    text.as_ref().filter(|text| !text.is_empty())
}

/// Checks the TLS block of a server against its protocol.
pub(super) fn check(report: &mut Report, server: &Server) {
    let family = server.port.as_ref().map_or(Family::Unknown, |port| protocol::family(&port.protocol));
    let Some(tls) = &server.tls else {
        if family == Family::Tls {
            report.add(missing(server.place, "a server of HTTPS or TLS needs `tls`"));
        }
        return;
    };
    settings(report, tls);
    let mode = mode(tls);
    let files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate];
    let plain = passes_through(mode) && files.into_iter().all(|file| given(file).is_none());
    match family {
        Family::Http if !plain => {
            report.add(
                conflict(tls.place, "a server of plain HTTP cannot have TLS settings other than `httpsRedirect`")
                    .help("write `protocol: HTTPS`"),
            );
        }
        Family::Other => report.add(conflict(tls.place, "a server that is not HTTPS or TLS cannot have TLS settings")),
        // A server of TLS is refused whatever its mode.
        Family::Tls if passes_through(mode) && !is_tls(server) => report.add(passthrough(tls)),
        _ => {}
    }
}

fn mode(tls: &ServerTls) -> ServerTlsMode {
    tls.mode.as_ref().map_or(ServerTlsMode::Passthrough, |mode| mode.value)
}

fn is_tls(server: &Server) -> bool {
    server.port.as_ref().is_some_and(|port| port.protocol.eq_ignore_ascii_case("TLS"))
}

fn passes_through(mode: ServerTlsMode) -> bool {
    matches!(mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
}

fn mode_place(tls: &ServerTls) -> Place {
    tls.mode.as_ref().map_or(tls.place, |mode| mode.place)
}

fn passthrough(tls: &ServerTls) -> Diagnostic {
    let message = match &tls.mode {
        Some(_) => "passing TLS through is not supported: this proxy reads requests",
        None => "without `mode`, TLS is passed through, which is not supported: this proxy reads requests",
    };
    unsupported(mode_place(tls), message).help("write `mode: SIMPLE` with `serverCertificate` and `privateKey`")
}

fn settings(report: &mut Report, tls: &ServerTls) {
    let old = tls
        .min_protocol_version
        .as_ref()
        .filter(|version| matches!(version.value, TlsProtocol::V1_0 | TlsProtocol::V1_1));
    if let Some(version) = old {
        let message = "TLS below 1.2 is not spoken: the lowest is 1.2";
        report.add(no_effect(version.place, message));
    }
    if tls_terms::versions(tls) == (false, false) {
        let place = tls.max_protocol_version.as_ref().map_or(tls.place, |version| version.place);
        report.add(unsupported(place, "this leaves no version of TLS to speak: 1.2 and 1.3 are supported"));
    }
    ciphers(report, &tls.cipher_suites);
    match mode(tls) {
        ServerTlsMode::IstioMutual => istio_mutual(report, tls),
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => unused(report, tls),
        mode => certificates(report, tls, mode),
    }
}

fn ciphers(report: &mut Report, ciphers: &[Spanned<String>]) {
    let mut seen = HashSet::new();
    for cipher in ciphers {
        if !CIPHERS.contains(&cipher.as_str()) {
            report
                .add(no_effect(cipher.place, format!("the cipher suite `{}` is not known, and ignored", cipher.value)));
        } else if tls_terms::cipher_suite(cipher).is_none() {
            let message = format!("the cipher suite `{}` is not spoken here, and ignored", cipher.value);
            report.add(no_effect(cipher.place, message).help("those with ECDHE and GCM or CHACHA20 are"));
        } else if !seen.insert(cipher.as_str()) {
            report.add(no_effect(cipher.place, format!("the cipher suite `{}` is there twice", cipher.value)));
        }
    }
}

fn istio_mutual(report: &mut Report, tls: &ServerTls) {
    for (name, value) in [
        ("serverCertificate", &tls.server_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
        ("credentialName", &tls.credential_name),
    ] {
        if let Some(value) = given(value) {
            report.add(conflict(value.place, format!("`{name}` and mode `ISTIO_MUTUAL` exclude each other")));
        }
    }
    report.add(
        unsupported(mode_place(tls), "`ISTIO_MUTUAL` needs certificates that Istio issues, and there are none here")
            .help("use `MUTUAL` with certificate files"),
    );
}

fn unused(report: &mut Report, tls: &ServerTls) {
    let all = [&tls.ca_crl, &tls.server_certificate, &tls.private_key, &tls.ca_certificates, &tls.credential_name];
    for file in all.into_iter().filter_map(given) {
        report.add(no_effect(file.place, "TLS that is passed through uses no certificates"));
    }
}

/// The certificates of a server that ends TLS: from files, or (refused) from secrets.
fn certificates(report: &mut Report, tls: &ServerTls, mode: ServerTlsMode) {
    let secret = given(&tls.credential_name).or(tls.credential_names.first());
    if let Some(secret) = secret {
        report.add(
            unsupported(secret.place, "`credentialName` names a Kubernetes secret, and there are none here")
                .help("name files: `serverCertificate` and `privateKey`"),
        );
    }
    // As in Istio, a certificate without its key does not count.
    let own = given(&tls.server_certificate).filter(|_| given(&tls.private_key).is_some());
    let list = tls.tls_certificates.first().map(|first| first.place);
    let sources = [
        given(&tls.credential_name).map(|found| found.place),
        tls.credential_names.first().map(|found| found.place),
        own.map(|found| found.place),
        list,
    ];
    let mut sources = sources.into_iter().flatten();
    if let (Some(_), Some(second)) = (sources.next(), sources.next()) {
        let message =
            "`credentialName`, `credentialNames`, `serverCertificate` and `tlsCertificates` exclude each other";
        report.add(conflict(second, message));
    }
    let many = tls.credential_names.get(CERTIFICATES).map(|third| third.place);
    if let Some(third) = tls.tls_certificates.get(CERTIFICATES).map(|third| third.place).or(many) {
        let message = format!("a server has at most {CERTIFICATES} certificates, one for each kind of key");
        report.add(Diagnostic::warning(Kind::Value, third, message));
    }
    if secret.is_some() {
        return;
    }
    if tls.tls_certificates.is_empty() {
        pair(report, (&tls.server_certificate, &tls.private_key), tls.place);
    }
    for TlsCertificate { server_certificate, private_key, place, .. } in &tls.tls_certificates {
        pair(report, (server_certificate, private_key), *place);
    }
    let mutual = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    let authorities = given(&tls.ca_certificates).is_some()
        || (list.is_some() && tls.tls_certificates.iter().all(|one| given(&one.ca_certificates).is_some()));
    if mutual && !authorities {
        report.add(missing(tls.place, "mutual TLS needs `caCertificates`, by which clients are verified"));
    }
    demands(report, tls, mode);
    if let Some(list) = given(&tls.ca_crl).filter(|_| mode == ServerTlsMode::Simple) {
        report.add(conflict(list.place, "`caCrl` and mode `SIMPLE` exclude each other: no client is verified"));
    }
}

/// What is asked of a client's certificate beyond its chain.
fn demands(report: &mut Report, tls: &ServerTls, mode: ServerTlsMode) {
    if mode == ServerTlsMode::Simple {
        for (name, asked) in [
            ("subjectAltNames", tls.subject_alt_names.first()),
            ("verifyCertificateSpki", tls.verify_certificate_spki.first()),
            ("verifyCertificateHash", tls.verify_certificate_hash.first()),
        ] {
            if let Some(asked) = asked {
                let message = format!("`{name}` has no effect in mode `SIMPLE`: no client is verified");
                report.add(no_effect(asked.place, message).help("use mode `MUTUAL`"));
            }
        }
        return;
    }
    for digest in tls.verify_certificate_spki.iter().filter(|digest| tls_terms::key_digest(digest).is_none()) {
        report.wrong(digest.place, format!("`{}` is no SHA-256 in base64", digest.value));
    }
    for digest in tls.verify_certificate_hash.iter().filter(|digest| tls_terms::certificate_digest(digest).is_none()) {
        report.wrong(digest.place, format!("`{}` is no SHA-256 in hexadecimal", digest.value));
    }
}

fn pair(report: &mut Report, files: (&Option<Spanned<String>>, &Option<Spanned<String>>), place: Place) {
    for (name, file) in [("serverCertificate", files.0), ("privateKey", files.1)] {
        if given(file).is_none() {
            report.add(missing(place, format!("`{name}` is missing")));
        }
    }
}
