//! `spec` of a Gateway of networking.istio.io, from the tree to its type.

use crate::config::place::Spanned;
use crate::config::resource::gateway::{
    Gateway, Server, ServerPort, ServerTls, ServerTlsMode, TlsCertificate, TlsProtocol,
};

use super::object::{At, Object};
use super::out::Out;
use super::shape::{Shape, many, one, value};

pub(super) static GATEWAY: Shape =
    Shape::new("the `spec` of a Gateway", &[many("servers", &SERVER), value("selector")]);

static SERVER: Shape = Shape::new(
    "an entry of `servers`",
    &[one("port", &PORT), value("bind"), value("hosts"), one("tls", &TLS), value("defaultEndpoint"), value("name")],
);

static PORT: Shape = Shape::new("`port`", &[value("number"), value("protocol"), value("name"), value("targetPort")]);

static TLS: Shape = Shape::new(
    "`tls`",
    &[
        value("httpsRedirect"),
        value("mode"),
        value("serverCertificate"),
        value("privateKey"),
        value("caCertificates"),
        value("caCrl"),
        value("credentialName"),
        value("credentialNames"),
        value("caCertCredentialName"),
        many("tlsCertificates", &CERTIFICATE),
        value("subjectAltNames"),
        value("verifyCertificateSpki"),
        value("verifyCertificateHash"),
        value("minProtocolVersion"),
        value("maxProtocolVersion"),
        value("cipherSuites"),
    ],
);

static CERTIFICATE: Shape = Shape::new(
    "an entry of `tlsCertificates`",
    &[value("serverCertificate"), value("privateKey"), value("caCertificates")],
);

pub(super) fn gateway(at: At<'_>, out: &mut Out) -> Gateway {
    let object = Object::open(at, &GATEWAY, out);
    let selector = object.field("selector").map(|entry| entry.place);
    Gateway {
        servers: object.rules("servers", out, server),
        selector: selector.map(|place| Spanned::new(object.string_map("selector", out), place)),
        place: object.place(),
    }
}

fn server(at: At<'_>, out: &mut Out) -> Server {
    let object = Object::open(at, &SERVER, out);
    Server {
        port: object.one("port", out, port),
        bind: object.string("bind", out),
        hosts: object.strings("hosts", out),
        tls: object.one("tls", out, tls),
        default_endpoint: object.string("defaultEndpoint", out),
        name: object.string("name", out),
        place: object.place(),
    }
}

fn port(at: At<'_>, out: &mut Out) -> ServerPort {
    let object = Object::open(at, &PORT, out);
    ServerPort {
        number: object.uint32("number", out).unwrap_or_else(|| Spanned::new(0, object.place())),
        protocol: object.text("protocol", out),
        name: object.text("name", out),
        target_port: object.uint32("targetPort", out),
        place: object.place(),
    }
}

fn tls(at: At<'_>, out: &mut Out) -> ServerTls {
    let object = Object::open(at, &TLS, out);
    let modes = [
        ("PASSTHROUGH", ServerTlsMode::Passthrough),
        ("SIMPLE", ServerTlsMode::Simple),
        ("MUTUAL", ServerTlsMode::Mutual),
        ("AUTO_PASSTHROUGH", ServerTlsMode::AutoPassthrough),
        ("ISTIO_MUTUAL", ServerTlsMode::IstioMutual),
        ("OPTIONAL_MUTUAL", ServerTlsMode::OptionalMutual),
    ];
    let versions = [
        ("TLS_AUTO", TlsProtocol::Auto),
        ("TLSV1_0", TlsProtocol::V1_0),
        ("TLSV1_1", TlsProtocol::V1_1),
        ("TLSV1_2", TlsProtocol::V1_2),
        ("TLSV1_3", TlsProtocol::V1_3),
    ];
    ServerTls {
        https_redirect: object.boolean("httpsRedirect", out),
        mode: object.choice("mode", &modes, out),
        server_certificate: object.string("serverCertificate", out),
        private_key: object.string("privateKey", out),
        ca_certificates: object.string("caCertificates", out),
        ca_crl: object.string("caCrl", out),
        credential_name: object.string("credentialName", out),
        credential_names: object.strings("credentialNames", out),
        ca_cert_credential_name: object.string("caCertCredentialName", out),
        tls_certificates: object.many("tlsCertificates", out, certificate),
        subject_alt_names: object.strings("subjectAltNames", out),
        verify_certificate_spki: object.strings("verifyCertificateSpki", out),
        verify_certificate_hash: object.strings("verifyCertificateHash", out),
        min_protocol_version: object.choice("minProtocolVersion", &versions, out),
        max_protocol_version: object.choice("maxProtocolVersion", &versions, out),
        cipher_suites: object.strings("cipherSuites", out),
        place: object.place(),
    }
}

fn certificate(at: At<'_>, out: &mut Out) -> TlsCertificate {
    let object = Object::open(at, &CERTIFICATE, out);
    TlsCertificate {
        server_certificate: object.string("serverCertificate", out),
        private_key: object.string("privateKey", out),
        ca_certificates: object.string("caCertificates", out),
        place: object.place(),
    }
}
