//! `spec` of a DestinationRule, from the tree to its type; its connection pools are in `pool`.

use crate::config::place::Spanned;
use crate::config::resource::destination_rule::{
    ClientTls, ClientTlsMode, ConsistentHash, DestinationRule, HttpCookie, LoadBalancer, LocalityLb, LocalityShares,
    PortTrafficPolicy, SimpleLb, Subset, TrafficPolicy, Tunnel, Warmup, ZoneAwareLb,
};
use crate::config::value::StringMap;

use super::object::{At, Object};
use super::out::Out;
use super::pool::{CONNECTION_POOL, OUTLIER_DETECTION, RETRY_BUDGET, connection_pool, outlier_detection, retry_budget};
use super::shape::{Shape, many, one, value};
use super::virtual_service::port_selector;

pub(super) static DESTINATION_RULE: Shape = Shape::new(
    "the `spec` of a DestinationRule",
    &[
        value("host"),
        one("trafficPolicy", &TRAFFIC_POLICY),
        many("subsets", &SUBSET),
        value("exportTo"),
        one("workloadSelector", &WORKLOAD_SELECTOR),
    ],
);

static WORKLOAD_SELECTOR: Shape = Shape::new("`workloadSelector`", &[value("matchLabels")]);

static SUBSET: Shape =
    Shape::new("an entry of `subsets`", &[value("name"), value("labels"), one("trafficPolicy", &TRAFFIC_POLICY)]);

static TRAFFIC_POLICY: Shape = Shape::new(
    "`trafficPolicy`",
    &[
        one("loadBalancer", &LOAD_BALANCER),
        one("connectionPool", &CONNECTION_POOL),
        one("outlierDetection", &OUTLIER_DETECTION),
        one("tls", &CLIENT_TLS),
        many("portLevelSettings", &PORT_POLICY),
        one("tunnel", &TUNNEL),
        one("proxyProtocol", &PROXY_PROTOCOL),
        one("retryBudget", &RETRY_BUDGET),
    ],
);

static PORT_POLICY: Shape = Shape::new(
    "an entry of `portLevelSettings`",
    &[
        one("port", &PORT),
        one("loadBalancer", &LOAD_BALANCER),
        one("connectionPool", &CONNECTION_POOL),
        one("outlierDetection", &OUTLIER_DETECTION),
        one("tls", &CLIENT_TLS),
    ],
);

static PORT: Shape = Shape::new("`port`", &[value("number")]);

static LOAD_BALANCER: Shape = Shape::new(
    "`loadBalancer`",
    &[
        value("simple"),
        one("consistentHash", &CONSISTENT_HASH),
        one("localityLbSetting", &LOCALITY),
        one("zoneAwareLbSetting", &ZONE_AWARE),
        value("warmupDurationSecs"),
        one("warmup", &WARMUP),
    ],
);

static CONSISTENT_HASH: Shape = Shape::new(
    "`consistentHash`",
    &[
        value("httpHeaderName"),
        one("httpCookie", &COOKIE),
        value("useSourceIp"),
        value("httpQueryParameterName"),
        one("ringHash", &RING_HASH),
        one("maglev", &MAGLEV),
        value("minimumRingSize"),
    ],
);

static RING_HASH: Shape = Shape::new("`ringHash`", &[value("minimumRingSize")]);

static MAGLEV: Shape = Shape::new("`maglev`", &[value("tableSize")]);

static COOKIE: Shape =
    Shape::new("`httpCookie`", &[value("name"), value("path"), value("ttl"), many("attributes", &COOKIE_ATTRIBUTE)]);

static COOKIE_ATTRIBUTE: Shape = Shape::new("an entry of `attributes`", &[value("name"), value("value")]);

static LOCALITY: Shape = Shape::new(
    "`localityLbSetting`",
    &[many("distribute", &SHARES), many("failover", &FAILOVER), value("failoverPriority"), value("enabled")],
);

static SHARES: Shape = Shape::new("an entry of `distribute`", &[value("from"), value("to")]);

static FAILOVER: Shape = Shape::new("an entry of `failover`", &[value("from"), value("to")]);

static ZONE_AWARE: Shape =
    Shape::new("`zoneAwareLbSetting`", &[value("enabled"), many("failover", &FAILOVER), value("failoverPriority")]);

static WARMUP: Shape = Shape::new("`warmup`", &[value("duration"), value("minimumPercent"), value("aggression")]);

static CLIENT_TLS: Shape = Shape::new(
    "`tls`",
    &[
        value("mode"),
        value("clientCertificate"),
        value("privateKey"),
        value("caCertificates"),
        value("credentialName"),
        value("subjectAltNames"),
        value("sni"),
        value("insecureSkipVerify"),
        value("caCrl"),
    ],
);

static TUNNEL: Shape = Shape::new("`tunnel`", &[value("protocol"), value("targetHost"), value("targetPort")]);

static PROXY_PROTOCOL: Shape = Shape::new("`proxyProtocol`", &[value("version")]);

pub(super) fn destination_rule(at: At<'_>, out: &mut Out) -> DestinationRule {
    let object = Object::open(at, &DESTINATION_RULE, out);
    DestinationRule {
        host: object.text("host", out),
        traffic_policy: object.boxed("trafficPolicy", out, traffic_policy),
        subsets: object.rules("subsets", out, subset),
        export_to: object.strings("exportTo", out),
        workload_selector: object.one("workloadSelector", out, workload_selector),
        place: object.place(),
    }
}

fn workload_selector(at: At<'_>, out: &mut Out) -> Spanned<StringMap> {
    let object = Object::open(at, &WORKLOAD_SELECTOR, out);
    Spanned::new(object.string_map("matchLabels", out), object.place())
}

fn subset(at: At<'_>, out: &mut Out) -> Subset {
    let object = Object::open(at, &SUBSET, out);
    Subset {
        name: object.text("name", out),
        labels: object.string_map("labels", out),
        traffic_policy: object.boxed("trafficPolicy", out, traffic_policy),
        place: object.place(),
    }
}

fn traffic_policy(at: At<'_>, out: &mut Out) -> TrafficPolicy {
    let object = Object::open(at, &TRAFFIC_POLICY, out);
    TrafficPolicy {
        load_balancer: object.one("loadBalancer", out, load_balancer),
        connection_pool: object.one("connectionPool", out, connection_pool),
        outlier_detection: object.one("outlierDetection", out, outlier_detection),
        tls: object.one("tls", out, client_tls),
        port_level_settings: object.many_or_null("portLevelSettings", out, port_policy),
        tunnel: object.one("tunnel", out, tunnel),
        proxy_protocol: object.one("proxyProtocol", out, proxy_protocol),
        retry_budget: object.one("retryBudget", out, retry_budget),
        place: object.place(),
    }
}

fn port_policy(at: At<'_>, out: &mut Out) -> PortTrafficPolicy {
    let object = Object::open(at, &PORT_POLICY, out);
    PortTrafficPolicy {
        port: object.one("port", out, port_selector),
        load_balancer: object.one("loadBalancer", out, load_balancer),
        connection_pool: object.one("connectionPool", out, connection_pool),
        outlier_detection: object.one("outlierDetection", out, outlier_detection),
        tls: object.one("tls", out, client_tls),
        place: object.place(),
    }
}

fn load_balancer(at: At<'_>, out: &mut Out) -> LoadBalancer {
    let object = Object::open(at, &LOAD_BALANCER, out);
    object.only_one_of(&["simple", "consistentHash"], out);
    let simple = [
        ("UNSPECIFIED", SimpleLb::Unspecified),
        ("LEAST_CONN", SimpleLb::LeastConn),
        ("RANDOM", SimpleLb::Random),
        ("PASSTHROUGH", SimpleLb::Passthrough),
        ("ROUND_ROBIN", SimpleLb::RoundRobin),
        ("LEAST_REQUEST", SimpleLb::LeastRequest),
    ];
    LoadBalancer {
        simple: object.choice("simple", &simple, out),
        consistent_hash: object.one("consistentHash", out, consistent_hash),
        locality_lb_setting: object.one("localityLbSetting", out, locality),
        zone_aware_lb_setting: object.one("zoneAwareLbSetting", out, zone_aware),
        warmup_duration_secs: object.duration("warmupDurationSecs", out),
        warmup: object.one("warmup", out, warmup),
        place: object.place(),
    }
}

fn consistent_hash(at: At<'_>, out: &mut Out) -> ConsistentHash {
    let object = Object::open(at, &CONSISTENT_HASH, out);
    object.only_one_of(&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"], out);
    object.only_one_of(&["ringHash", "maglev"], out);
    ConsistentHash {
        http_header_name: object.string("httpHeaderName", out),
        http_cookie: object.one("httpCookie", out, cookie),
        use_source_ip: object.boolean("useSourceIp", out),
        http_query_parameter_name: object.string("httpQueryParameterName", out),
        ring_hash: object
            .one("ringHash", out, |at, out| Object::open(at, &RING_HASH, out).uint64("minimumRingSize", out)),
        maglev: object.one("maglev", out, |at, out| Object::open(at, &MAGLEV, out).uint64("tableSize", out)),
        minimum_ring_size: object.uint64("minimumRingSize", out),
        place: object.place(),
    }
}

fn cookie(at: At<'_>, out: &mut Out) -> HttpCookie {
    let object = Object::open(at, &COOKIE, out);
    HttpCookie {
        name: object.text("name", out),
        path: object.string("path", out),
        ttl: object.duration("ttl", out),
        attributes: object.many("attributes", out, |at, out| {
            let object = Object::open(at, &COOKIE_ATTRIBUTE, out);
            (object.text("name", out), object.text("value", out))
        }),
        place: object.place(),
    }
}

fn locality(at: At<'_>, out: &mut Out) -> LocalityLb {
    let object = Object::open(at, &LOCALITY, out);
    LocalityLb {
        distribute: object.many("distribute", out, |at, out| {
            let object = Object::open(at, &SHARES, out);
            LocalityShares { from: object.text("from", out), to: object.number_map("to", out), place: object.place() }
        }),
        failover: object.many("failover", out, failover),
        failover_priority: object.strings("failoverPriority", out),
        enabled: object.boolean("enabled", out),
        place: object.place(),
    }
}

fn failover(at: At<'_>, out: &mut Out) -> (Spanned<String>, Spanned<String>) {
    let object = Object::open(at, &FAILOVER, out);
    (object.text("from", out), object.text("to", out))
}

fn zone_aware(at: At<'_>, out: &mut Out) -> ZoneAwareLb {
    let object = Object::open(at, &ZONE_AWARE, out);
    ZoneAwareLb {
        enabled: object.boolean("enabled", out),
        failover: object.many("failover", out, failover),
        failover_priority: object.strings("failoverPriority", out),
        place: object.place(),
    }
}

fn warmup(at: At<'_>, out: &mut Out) -> Warmup {
    let object = Object::open(at, &WARMUP, out);
    Warmup {
        duration: object.duration("duration", out),
        minimum_percent: object.double("minimumPercent", out),
        aggression: object.double("aggression", out),
        place: object.place(),
    }
}

fn client_tls(at: At<'_>, out: &mut Out) -> ClientTls {
    let object = Object::open(at, &CLIENT_TLS, out);
    let modes = [
        ("DISABLE", ClientTlsMode::Disable),
        ("SIMPLE", ClientTlsMode::Simple),
        ("MUTUAL", ClientTlsMode::Mutual),
        ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
    ];
    ClientTls {
        mode: object.choice("mode", &modes, out),
        client_certificate: object.string("clientCertificate", out),
        private_key: object.string("privateKey", out),
        ca_certificates: object.string("caCertificates", out),
        credential_name: object.string("credentialName", out),
        subject_alt_names: object.strings("subjectAltNames", out),
        sni: object.string("sni", out),
        insecure_skip_verify: object.boolean("insecureSkipVerify", out),
        ca_crl: object.string("caCrl", out),
        place: object.place(),
    }
}

fn tunnel(at: At<'_>, out: &mut Out) -> Tunnel {
    let object = Object::open(at, &TUNNEL, out);
    Tunnel {
        protocol: object.string("protocol", out),
        target_host: object.text("targetHost", out),
        target_port: object.uint32("targetPort", out),
        place: object.place(),
    }
}

fn proxy_protocol(at: At<'_>, out: &mut Out) -> Spanned<String> {
    let object = Object::open(at, &PROXY_PROTOCOL, out);
    let version = object.choice("version", &[("V1", "V1"), ("V2", "V2")], out);
    version.map_or_else(
        || Spanned::new("V1".to_owned(), object.place()),
        |version| Spanned::new(version.value.to_owned(), version.place),
    )
}
