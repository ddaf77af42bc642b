//! `kind: DestinationRule`. Field documentation: Istio's API reference; what each means here: docs/istio-compatibility.md.

use std::time::Duration;

use crate::config::place::{Place, Spanned};
use crate::config::value::StringMap;

/// `spec` of a DestinationRule.
#[derive(Clone, Debug, Default)]
pub struct DestinationRule {
    /// `host`; empty when absent.
    pub host: Spanned<String>,
    /// `trafficPolicy`.
    pub traffic_policy: Option<Box<TrafficPolicy>>,
    /// `subsets`.
    pub subsets: Vec<Subset>,
    /// `exportTo`.
    pub export_to: Vec<Spanned<String>>,
    /// `workloadSelector.matchLabels`.
    pub workload_selector: Option<Spanned<StringMap>>,
    /// Where `spec` stands.
    pub place: Place,
}

/// One entry of `subsets`.
#[derive(Clone, Debug, Default)]
pub struct Subset {
    /// `name`; empty when absent.
    pub name: Spanned<String>,
    /// `labels` that an endpoint must carry.
    pub labels: StringMap,
    /// `trafficPolicy`.
    pub traffic_policy: Option<Box<TrafficPolicy>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `trafficPolicy`.
#[derive(Clone, Debug, Default)]
pub struct TrafficPolicy {
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub connection_pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// `portLevelSettings`; a null entry is `None`.
    pub port_level_settings: Vec<Option<PortTrafficPolicy>>,
    /// `tunnel`.
    pub tunnel: Option<Tunnel>,
    /// `proxyProtocol`: its `version`.
    pub proxy_protocol: Option<Spanned<String>>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
    /// Where the object begins.
    pub place: Place,
}

/// One entry of `portLevelSettings`.
#[derive(Clone, Debug, Default)]
pub struct PortTrafficPolicy {
    /// `port.number`: the service port.
    pub port: Option<Spanned<i64>>,
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub connection_pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// Where the entry begins.
    pub place: Place,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default)]
pub struct LoadBalancer {
    /// `simple`.
    pub simple: Option<Spanned<SimpleLb>>,
    /// `consistentHash`.
    pub consistent_hash: Option<ConsistentHash>,
    /// `localityLbSetting`.
    pub locality_lb_setting: Option<LocalityLb>,
    /// `zoneAwareLbSetting`.
    pub zone_aware_lb_setting: Option<ZoneAwareLb>,
    /// `warmupDurationSecs` (deprecated).
    pub warmup_duration_secs: Option<Spanned<Duration>>,
    /// `warmup`.
    pub warmup: Option<Warmup>,
    /// Where the object begins.
    pub place: Place,
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimpleLb {
    /// `UNSPECIFIED`: as `LEAST_REQUEST`.
    Unspecified,
    /// `LEAST_CONN` (deprecated): as `LEAST_REQUEST`.
    LeastConn,
    /// `RANDOM`.
    Random,
    /// `PASSTHROUGH`.
    Passthrough,
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `LEAST_REQUEST`.
    LeastRequest,
}

/// `loadBalancer.consistentHash`.
#[derive(Clone, Debug, Default)]
pub struct ConsistentHash {
    /// `httpHeaderName`.
    pub http_header_name: Option<Spanned<String>>,
    /// `httpCookie`.
    pub http_cookie: Option<HttpCookie>,
    /// `useSourceIp`.
    pub use_source_ip: Option<Spanned<bool>>,
    /// `httpQueryParameterName`.
    pub http_query_parameter_name: Option<Spanned<String>>,
    /// `ringHash.minimumRingSize`; `ringHash: {}` is `Some(None)`.
    pub ring_hash: Option<Option<Spanned<i64>>>,
    /// `maglev.tableSize`; `maglev: {}` is `Some(None)`.
    pub maglev: Option<Option<Spanned<i64>>>,
    /// `minimumRingSize` (deprecated).
    pub minimum_ring_size: Option<Spanned<i64>>,
    /// Where the object begins.
    pub place: Place,
}

/// `consistentHash.httpCookie`.
#[derive(Clone, Debug, Default)]
pub struct HttpCookie {
    /// `name`; empty when absent.
    pub name: Spanned<String>,
    /// `path`.
    pub path: Option<Spanned<String>>,
    /// `ttl`; 0 is a session cookie.
    pub ttl: Option<Spanned<Duration>>,
    /// `attributes`: name and value.
    pub attributes: Vec<(Spanned<String>, Spanned<String>)>,
    /// Where the object begins.
    pub place: Place,
}

/// `loadBalancer.localityLbSetting`.
#[derive(Clone, Debug, Default)]
pub struct LocalityLb {
    /// `distribute`.
    pub distribute: Vec<LocalityShares>,
    /// `failover`: from, to.
    pub failover: Vec<(Spanned<String>, Spanned<String>)>,
    /// `failoverPriority`.
    pub failover_priority: Vec<Spanned<String>>,
    /// `enabled`.
    pub enabled: Option<Spanned<bool>>,
    /// Where the object begins.
    pub place: Place,
}

/// One entry of `localityLbSetting.distribute`.
#[derive(Clone, Debug, Default)]
pub struct LocalityShares {
    /// `from`; empty when absent.
    pub from: Spanned<String>,
    /// `to`: shares by locality.
    pub to: Vec<(Spanned<String>, Spanned<i64>)>,
    /// Where the entry begins.
    pub place: Place,
}

/// `loadBalancer.zoneAwareLbSetting`.
#[derive(Clone, Debug, Default)]
pub struct ZoneAwareLb {
    /// `enabled`.
    pub enabled: Option<Spanned<bool>>,
    /// `failover`: from, to.
    pub failover: Vec<(Spanned<String>, Spanned<String>)>,
    /// `failoverPriority`.
    pub failover_priority: Vec<Spanned<String>>,
    /// Where the object begins.
    pub place: Place,
}

/// `loadBalancer.warmup`.
#[derive(Clone, Debug, Default)]
pub struct Warmup {
    /// `duration`.
    pub duration: Option<Spanned<Duration>>,
    /// `minimumPercent`.
    pub minimum_percent: Option<Spanned<f64>>,
    /// `aggression`.
    pub aggression: Option<Spanned<f64>>,
    /// Where the object begins.
    pub place: Place,
}

/// `connectionPool`.
#[derive(Clone, Debug, Default)]
pub struct ConnectionPool {
    /// `tcp`.
    pub tcp: Option<TcpPool>,
    /// `http`.
    pub http: Option<HttpPool>,
    /// Where the object begins.
    pub place: Place,
}

/// `connectionPool.tcp`.
#[derive(Clone, Debug, Default)]
pub struct TcpPool {
    /// `maxConnections`.
    pub max_connections: Option<Spanned<i64>>,
    /// `connectTimeout`.
    pub connect_timeout: Option<Spanned<Duration>>,
    /// `tcpKeepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `maxConnectionDuration`.
    pub max_connection_duration: Option<Spanned<Duration>>,
    /// `idleTimeout`; 0 is off.
    pub idle_timeout: Option<Spanned<Duration>>,
    /// Where the object begins.
    pub place: Place,
}

/// `connectionPool.tcp.tcpKeepalive`.
#[derive(Clone, Debug, Default)]
pub struct TcpKeepalive {
    /// `probes`.
    pub probes: Option<Spanned<i64>>,
    /// `time`.
    pub time: Option<Spanned<Duration>>,
    /// `interval`.
    pub interval: Option<Spanned<Duration>>,
    /// Where the object begins.
    pub place: Place,
}

/// `connectionPool.http`.
#[derive(Clone, Debug, Default)]
pub struct HttpPool {
    /// `http1MaxPendingRequests`.
    pub http1_max_pending_requests: Option<Spanned<i64>>,
    /// `http2MaxRequests`.
    pub http2_max_requests: Option<Spanned<i64>>,
    /// `maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<Spanned<i64>>,
    /// `maxRetries`.
    pub max_retries: Option<Spanned<i64>>,
    /// `idleTimeout`.
    pub idle_timeout: Option<Spanned<Duration>>,
    /// `h2UpgradePolicy`.
    pub h2_upgrade_policy: Option<Spanned<H2UpgradePolicy>>,
    /// `useClientProtocol`.
    pub use_client_protocol: Option<Spanned<bool>>,
    /// `maxConcurrentStreams`.
    pub max_concurrent_streams: Option<Spanned<i64>>,
    /// `http2KeepAlive`.
    pub http2_keep_alive: Option<Http2KeepAlive>,
    /// Where the object begins.
    pub place: Place,
}

/// `connectionPool.http.h2UpgradePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2UpgradePolicy {
    /// `DEFAULT`.
    Default,
    /// `DO_NOT_UPGRADE`.
    DoNotUpgrade,
    /// `UPGRADE`.
    Upgrade,
}

/// `connectionPool.http.http2KeepAlive`.
#[derive(Clone, Debug, Default)]
pub struct Http2KeepAlive {
    /// `interval`.
    pub interval: Option<Spanned<Duration>>,
    /// `timeout`.
    pub timeout: Option<Spanned<Duration>>,
    /// Where the object begins.
    pub place: Place,
}

/// `outlierDetection`.
#[derive(Clone, Debug, Default)]
pub struct OutlierDetection {
    /// `consecutiveErrors` (deprecated, ignored by Istio too).
    pub consecutive_errors: Option<Spanned<i64>>,
    /// `splitExternalLocalOriginErrors`.
    pub split_external_local_origin_errors: Option<Spanned<bool>>,
    /// `consecutiveLocalOriginFailures`.
    pub consecutive_local_origin_failures: Option<Spanned<i64>>,
    /// `consecutiveGatewayErrors`.
    pub consecutive_gateway_errors: Option<Spanned<i64>>,
    /// `consecutive5xxErrors`.
    pub consecutive_5xx_errors: Option<Spanned<i64>>,
    /// `interval`.
    pub interval: Option<Spanned<Duration>>,
    /// `baseEjectionTime`.
    pub base_ejection_time: Option<Spanned<Duration>>,
    /// `maxEjectionPercent`.
    pub max_ejection_percent: Option<Spanned<i64>>,
    /// `minHealthPercent`.
    pub min_health_percent: Option<Spanned<i64>>,
    /// `outlierDetectionHttpErrorCodes`.
    pub http_error_codes: Vec<Spanned<i64>>,
    /// Where the object begins.
    pub place: Place,
}

/// `tls` of a traffic policy.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// `mode`; absent is `DISABLE`.
    pub mode: Option<Spanned<ClientTlsMode>>,
    /// `clientCertificate`: a file.
    pub client_certificate: Option<Spanned<String>>,
    /// `privateKey`: a file.
    pub private_key: Option<Spanned<String>>,
    /// `caCertificates`: a file.
    pub ca_certificates: Option<Spanned<String>>,
    /// `credentialName`.
    pub credential_name: Option<Spanned<String>>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<Spanned<String>>,
    /// `sni`.
    pub sni: Option<Spanned<String>>,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: Option<Spanned<bool>>,
    /// `caCrl`: a file.
    pub ca_crl: Option<Spanned<String>>,
    /// Where the object begins.
    pub place: Place,
}

/// `tls.mode` of a traffic policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// `DISABLE`.
    Disable,
    /// `SIMPLE`.
    Simple,
    /// `MUTUAL`.
    Mutual,
    /// `ISTIO_MUTUAL`.
    IstioMutual,
}

/// `tunnel`.
#[derive(Clone, Debug, Default)]
pub struct Tunnel {
    /// `protocol`.
    pub protocol: Option<Spanned<String>>,
    /// `targetHost`; empty when absent.
    pub target_host: Spanned<String>,
    /// `targetPort`.
    pub target_port: Option<Spanned<i64>>,
    /// Where the object begins.
    pub place: Place,
}

/// `retryBudget`.
#[derive(Clone, Debug, Default)]
pub struct RetryBudget {
    /// `percent`.
    pub percent: Option<Spanned<f64>>,
    /// `minRetryConcurrency`.
    pub min_retry_concurrency: Option<Spanned<i64>>,
    /// `budgetInterval`.
    pub budget_interval: Option<Spanned<Duration>>,
    /// Where the object begins.
    pub place: Place,
}
