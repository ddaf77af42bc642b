//! `tls` of a traffic policy: how the proxy speaks to endpoints.

use super::report::{Report, conflict, missing, no_effect, unsupported};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::place::Spanned;
use crate::config::resource::destination_rule::{ClientTls, ClientTlsMode};

fn given(text: &Option<Spanned<String>>) -> Option<&Spanned<String>> {
    text.as_ref().filter(|text| !text.is_empty())
}

/// Checks the TLS block; `code` is that of Istio's finding "no `caCertificates`" at this level.
pub(super) fn check(report: &mut Report, tls: Option<&ClientTls>, code: &'static str) {
    let Some(tls) = tls else { return };
    let mode = tls.mode.as_ref().map_or(ClientTlsMode::Disable, |mode| mode.value);
    if let Some(credential) = given(&tls.credential_name) {
        report.add(
            unsupported(credential.place, "`credentialName` names a Kubernetes secret, and there are none here")
                .help("name files: `caCertificates`, `clientCertificate`, `privateKey`"),
        );
    }
    match mode {
        ClientTlsMode::Disable => {}
        ClientTlsMode::IstioMutual => {
            let place = tls.mode.as_ref().map_or(tls.place, |mode| mode.place);
            report.add(
                unsupported(place, "`ISTIO_MUTUAL` needs certificates that Istio issues, and there are none here")
                    .help("use `MUTUAL` with certificate files, or leave `tls` out to send plain HTTP"),
            );
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => verified(report, tls, mode, code),
    }
}

fn verified(report: &mut Report, tls: &ClientTls, mode: ClientTlsMode, code: &'static str) {
    let skips = tls.insecure_skip_verify.as_ref().is_some_and(|skip| skip.value);
    let simple = mode == ClientTlsMode::Simple;
    let authority = given(&tls.ca_certificates);
    if skips {
        let names = tls.subject_alt_names.first();
        let credential = given(&tls.credential_name).filter(|_| simple);
        for (name, place) in [
            ("caCertificates", authority.map(|found| found.place)),
            ("subjectAltNames", names.map(|found| found.place)),
            ("credentialName", credential.map(|found| found.place)),
        ] {
            if let Some(place) = place {
                let message = format!("`{name}` says what to verify, and `insecureSkipVerify` not to verify");
                report.add(conflict(place, message));
            }
        }
    } else if authority.is_none() {
        let message = "no `caCertificates`: the server is verified against the certificate authorities of this system";
        let place = tls.mode.as_ref().map_or(tls.place, |mode| mode.place);
        report.add(Diagnostic::warning(Kind::Value, place, message).code(code));
    }
    if given(&tls.credential_name).is_some() {
        for file in [&tls.client_certificate, &tls.ca_certificates, &tls.private_key, &tls.ca_crl] {
            if let Some(file) = given(file) {
                report.add(conflict(file.place, "`credentialName` and certificate files exclude each other"));
            }
        }
        return;
    }
    let own = [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)];
    for (name, file) in own {
        match given(file) {
            None if !simple => report.add(missing(tls.place, format!("mutual TLS needs `{name}`"))),
            Some(file) if simple => {
                report.add(
                    no_effect(file.place, format!("`{name}` has no effect in mode `SIMPLE`")).help("use mode `MUTUAL`"),
                );
            }
            _ => {}
        }
    }
}
