//! What a `tls` block of a Gateway says in the terms of TLS: versions, cipher suites, digests. Pure translation.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use rustls::CipherSuite;

use super::resource::gateway::{ServerTls, TlsProtocol};

/// Whether TLS 1.2 is to be spoken, and whether 1.3 is. Older ones are not to be had: the lowest is 1.2, also by default.
pub fn versions(tls: &ServerTls) -> (bool, bool) {
    let lowest = tls.min_protocol_version.as_ref().map_or(TlsProtocol::Auto, |version| version.value);
    let highest = match tls.max_protocol_version.as_ref().map(|version| version.value) {
        None | Some(TlsProtocol::Auto) => TlsProtocol::V1_3,
        Some(version) => version,
    };
    let spoken = |version| lowest <= version && version <= highest;
    (spoken(TlsProtocol::V1_2), spoken(TlsProtocol::V1_3))
}

/// A cipher suite of TLS 1.2 by its name in OpenSSL; none for one that is not spoken here.
pub fn cipher_suite(name: &str) -> Option<CipherSuite> {
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305" => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

/// An entry of `verifyCertificateSpki`: SHA-256 in base64.
pub fn key_digest(text: &str) -> Option<[u8; 32]> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// An entry of `verifyCertificateHash`: SHA-256 in hexadecimal, with or without colons.
pub fn certificate_digest(text: &str) -> Option<[u8; 32]> {
    HEXLOWER_PERMISSIVE.decode(text.replace(':', "").as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::place::{Place, Spanned};

    #[test]
    fn versions_are_bounded_on_both_sides() {
        use TlsProtocol::{Auto, V1_0, V1_1, V1_2, V1_3};
        let at = |version: Option<TlsProtocol>| version.map(|version| Spanned::new(version, Place::default()));
        for (lowest, highest, wanted) in [
            (None, None, (true, true)),
            (Some(Auto), Some(Auto), (true, true)),
            (Some(V1_0), Some(V1_2), (true, false)),
            (Some(V1_3), None, (false, true)),
            (None, Some(V1_1), (false, false)),
            (Some(V1_3), Some(V1_2), (false, false)),
        ] {
            let tls =
                ServerTls { min_protocol_version: at(lowest), max_protocol_version: at(highest), ..Default::default() };
            assert_eq!(versions(&tls), wanted, "{lowest:?} {highest:?}");
        }
    }

    #[test]
    fn digests_are_read_in_both_forms() {
        let colons = ["0A"; 32].join(":");
        assert_eq!(certificate_digest(&colons), Some([10; 32]));
        assert_eq!(certificate_digest(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(certificate_digest("0a"), None);
        assert_eq!(key_digest("CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo="), Some([10; 32]));
        assert_eq!(key_digest("CgoK"), None);
    }
}
