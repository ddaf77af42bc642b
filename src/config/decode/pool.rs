//! The part of a traffic policy about connections and their health, from the tree to its types.

use crate::config::resource::destination_rule::{
    ConnectionPool, H2UpgradePolicy, Http2KeepAlive, HttpPool, OutlierDetection, RetryBudget, TcpKeepalive, TcpPool,
};

use super::object::{At, Object};
use super::out::Out;
use super::shape::{Shape, one, value};

pub(super) static CONNECTION_POOL: Shape =
    Shape::new("`connectionPool`", &[one("tcp", &TCP_POOL), one("http", &HTTP_POOL)]);

static TCP_POOL: Shape = Shape::new(
    "`connectionPool.tcp`",
    &[
        value("maxConnections"),
        value("connectTimeout"),
        one("tcpKeepalive", &KEEPALIVE),
        value("maxConnectionDuration"),
        value("idleTimeout"),
    ],
);

static KEEPALIVE: Shape = Shape::new("`tcpKeepalive`", &[value("probes"), value("time"), value("interval")]);

static HTTP_POOL: Shape = Shape::new(
    "`connectionPool.http`",
    &[
        value("http1MaxPendingRequests"),
        value("http2MaxRequests"),
        value("maxRequestsPerConnection"),
        value("maxRetries"),
        value("idleTimeout"),
        value("h2UpgradePolicy"),
        value("useClientProtocol"),
        value("maxConcurrentStreams"),
        one("http2KeepAlive", &HTTP2_KEEP_ALIVE),
    ],
);

static HTTP2_KEEP_ALIVE: Shape = Shape::new("`http2KeepAlive`", &[value("interval"), value("timeout")]);

pub(super) static OUTLIER_DETECTION: Shape = Shape::new(
    "`outlierDetection`",
    &[
        value("consecutiveErrors"),
        value("splitExternalLocalOriginErrors"),
        value("consecutiveLocalOriginFailures"),
        value("consecutiveGatewayErrors"),
        value("consecutive5xxErrors"),
        value("interval"),
        value("baseEjectionTime"),
        value("maxEjectionPercent"),
        value("minHealthPercent"),
        value("outlierDetectionHttpErrorCodes"),
    ],
);

pub(super) static RETRY_BUDGET: Shape =
    Shape::new("`retryBudget`", &[value("percent"), value("minRetryConcurrency"), value("budgetInterval")]);

pub(super) fn connection_pool(at: At<'_>, out: &mut Out) -> ConnectionPool {
    let object = Object::open(at, &CONNECTION_POOL, out);
    ConnectionPool {
        tcp: object.one("tcp", out, tcp_pool),
        http: object.one("http", out, http_pool),
        place: object.place(),
    }
}

fn tcp_pool(at: At<'_>, out: &mut Out) -> TcpPool {
    let object = Object::open(at, &TCP_POOL, out);
    TcpPool {
        max_connections: object.int32("maxConnections", out),
        connect_timeout: object.duration("connectTimeout", out),
        tcp_keepalive: object.one("tcpKeepalive", out, keepalive),
        max_connection_duration: object.duration("maxConnectionDuration", out),
        idle_timeout: object.duration("idleTimeout", out),
        place: object.place(),
    }
}

fn keepalive(at: At<'_>, out: &mut Out) -> TcpKeepalive {
    let object = Object::open(at, &KEEPALIVE, out);
    TcpKeepalive {
        probes: object.uint32("probes", out),
        time: object.duration("time", out),
        interval: object.duration("interval", out),
        place: object.place(),
    }
}

fn http_pool(at: At<'_>, out: &mut Out) -> HttpPool {
    let object = Object::open(at, &HTTP_POOL, out);
    let upgrades = [
        ("DEFAULT", H2UpgradePolicy::Default),
        ("DO_NOT_UPGRADE", H2UpgradePolicy::DoNotUpgrade),
        ("UPGRADE", H2UpgradePolicy::Upgrade),
    ];
    HttpPool {
        http1_max_pending_requests: object.int32("http1MaxPendingRequests", out),
        http2_max_requests: object.int32("http2MaxRequests", out),
        max_requests_per_connection: object.int32("maxRequestsPerConnection", out),
        max_retries: object.int32("maxRetries", out),
        idle_timeout: object.duration("idleTimeout", out),
        h2_upgrade_policy: object.choice("h2UpgradePolicy", &upgrades, out),
        use_client_protocol: object.boolean("useClientProtocol", out),
        max_concurrent_streams: object.int32("maxConcurrentStreams", out),
        http2_keep_alive: object.one("http2KeepAlive", out, http2_keep_alive),
        place: object.place(),
    }
}

fn http2_keep_alive(at: At<'_>, out: &mut Out) -> Http2KeepAlive {
    let object = Object::open(at, &HTTP2_KEEP_ALIVE, out);
    Http2KeepAlive {
        interval: object.duration("interval", out),
        timeout: object.duration("timeout", out),
        place: object.place(),
    }
}

pub(super) fn outlier_detection(at: At<'_>, out: &mut Out) -> OutlierDetection {
    let object = Object::open(at, &OUTLIER_DETECTION, out);
    OutlierDetection {
        consecutive_errors: object.int32("consecutiveErrors", out),
        split_external_local_origin_errors: object.boolean("splitExternalLocalOriginErrors", out),
        consecutive_local_origin_failures: object.uint32("consecutiveLocalOriginFailures", out),
        consecutive_gateway_errors: object.uint32("consecutiveGatewayErrors", out),
        consecutive_5xx_errors: object.uint32("consecutive5xxErrors", out),
        interval: object.duration("interval", out),
        base_ejection_time: object.duration("baseEjectionTime", out),
        max_ejection_percent: object.int32("maxEjectionPercent", out),
        min_health_percent: object.int32("minHealthPercent", out),
        http_error_codes: object.numbers("outlierDetectionHttpErrorCodes", out),
        place: object.place(),
    }
}

pub(super) fn retry_budget(at: At<'_>, out: &mut Out) -> RetryBudget {
    let object = Object::open(at, &RETRY_BUDGET, out);
    RetryBudget {
        percent: object.double("percent", out),
        min_retry_concurrency: object.uint32("minRetryConcurrency", out),
        budget_interval: object.duration("budgetInterval", out),
        place: object.place(),
    }
}
