//! What a traffic policy of the configuration means to a cluster.

use std::time::Duration;

use crate::config::place::Spanned;
use crate::config::resource::destination_rule::{
    self as config, ConnectionPool, ConsistentHash, H2UpgradePolicy, HttpPool, LoadBalancer, OutlierDetection,
    SimpleLb, TcpPool,
};
use crate::config::traffic::Policy;
use crate::upstream::hash::{CookieKey, HashKey};
use crate::upstream::transport::{Http2Policy, Keepalive};
use crate::upstream::{Balance, ClusterPolicy, OutlierPolicy, RetryBudget, Warmup};

/// Istio's default of `minimumRingSize`.
const RING_SIZE: u32 = 1024;
/// Envoy's default of `tableSize`.
const MAGLEV_SIZE: u32 = 65_537;

/// Istio's default of `minimumPercent`.
const LEAST_WARM: f64 = 10.0;

/// The policy of a cluster; `protocol` is that of its service port, in upper case.
pub(super) fn cluster_policy(written: Policy<'_>, protocol: Option<&str>) -> ClusterPolicy {
    let (balance, hash_key) = written.load_balancer.map_or_else(Default::default, balance);
    let warmup = written.load_balancer.and_then(warmup);
    let warmup = warmup.filter(|_| matches!(balance, Balance::RoundRobin | Balance::LeastRequest));
    let mut policy = ClusterPolicy { balance, warmup, hash_key, ..ClusterPolicy::default() };
    if matches!(protocol, Some("HTTP2" | "GRPC" | "GRPC-WEB")) {
        policy.transport.http2 = Some(Http2Policy::default());
    }
    if let Some(pool) = written.connection_pool {
        connection_pool(&mut policy, pool);
    }
    policy.retry_budget = written.retry_budget.map(retry_budget);
    policy.outlier = written.outlier_detection.map(outlier);
    policy
}

fn balance(written: &LoadBalancer) -> (Balance, Option<HashKey>) {
    let Some(hash) = &written.consistent_hash else {
        let balance = match value(written.simple) {
            Some(SimpleLb::RoundRobin) => Balance::RoundRobin,
            Some(SimpleLb::Random) => Balance::Random,
            _ => Balance::LeastRequest,
        };
        return (balance, None);
    };
    let balance = match (&hash.maglev, &hash.ring_hash) {
        (Some(size), _) => Balance::Maglev { size: limit(*size).unwrap_or(MAGLEV_SIZE) },
        (None, Some(minimum)) => Balance::Ring { minimum: limit(*minimum).unwrap_or(RING_SIZE) },
        (None, None) => Balance::Ring { minimum: limit(hash.minimum_ring_size).unwrap_or(RING_SIZE) },
    };
    (balance, hash_key(hash))
}

/// `warmup`, else what came before it.
fn warmup(written: &LoadBalancer) -> Option<Warmup> {
    let (duration, minimum, aggression) = match &written.warmup {
        Some(warmup) => (warmup.duration, value(warmup.minimum_percent), value(warmup.aggression)),
        None => (written.warmup_duration_secs, None, None),
    };
    let duration = value(duration).filter(|duration| !duration.is_zero())?;
    let minimum = minimum.unwrap_or(LEAST_WARM) / 100.0;
    Some(Warmup { duration, minimum, aggression: aggression.unwrap_or(1.0) })
}

/// What chooses; none where nothing does, or a header has a name that no request can have.
fn hash_key(hash: &ConsistentHash) -> Option<HashKey> {
    if let Some(name) = &hash.http_header_name {
        return name.parse().ok().map(HashKey::Header);
    }
    if let Some(cookie) = &hash.http_cookie {
        let text = |(name, value): &(Spanned<String>, Spanned<String>)| (name.value.clone(), value.value.clone());
        return Some(HashKey::Cookie(CookieKey {
            name: cookie.name.value.clone(),
            ttl: value(cookie.ttl),
            path: cookie.path.as_ref().map(|path| path.value.clone()).filter(|path| !path.is_empty()),
            attributes: cookie.attributes.iter().map(text).collect(),
        }));
    }
    if value(hash.use_source_ip) == Some(true) {
        return Some(HashKey::SourceIp);
    }
    hash.http_query_parameter_name.as_ref().map(|name| HashKey::Query(name.value.clone()))
}

fn connection_pool(policy: &mut ClusterPolicy, ConnectionPool { tcp, http, .. }: &ConnectionPool) {
    if let Some(tcp) = tcp {
        tcp_pool(policy, tcp);
    }
    if let Some(http) = http {
        http_pool(policy, http);
    }
    if policy.idle_timeout.is_zero() {
        policy.idle_timeout = Duration::MAX;
    }
}

fn tcp_pool(policy: &mut ClusterPolicy, tcp: &TcpPool) {
    policy.connect_timeout = value(tcp.connect_timeout).unwrap_or(policy.connect_timeout);
    policy.idle_timeout = value(tcp.idle_timeout).unwrap_or(policy.idle_timeout);
    policy.max_connection_age = value(tcp.max_connection_duration);
    policy.limits.connections = limit(tcp.max_connections);
    if let Some(keepalive) = &tcp.tcp_keepalive {
        let own = Keepalive::default();
        policy.transport.keepalive = Keepalive {
            time: value(keepalive.time).unwrap_or(own.time),
            interval: value(keepalive.interval).unwrap_or(own.interval),
            probes: limit(keepalive.probes).unwrap_or(own.probes),
        };
    }
}

fn http_pool(policy: &mut ClusterPolicy, http: &HttpPool) {
    policy.idle_timeout = value(http.idle_timeout).unwrap_or(policy.idle_timeout);
    policy.max_requests = limit(http.max_requests_per_connection).unwrap_or(0);
    policy.limits.pending = limit(http.http1_max_pending_requests);
    policy.limits.requests = limit(http.http2_max_requests);
    policy.limits.retries = limit(http.max_retries);
    if value(http.h2_upgrade_policy) == Some(H2UpgradePolicy::Upgrade) {
        policy.transport.http2.get_or_insert_default();
    }
    if value(http.use_client_protocol) == Some(true) {
        policy.transport.http2.get_or_insert_default();
        policy.transport.as_client = true;
    }
    if let Some(http2) = &mut policy.transport.http2 {
        http2.streams = limit(http.max_concurrent_streams).unwrap_or(http2.streams);
        if let Some(keepalive) = &http.http2_keep_alive {
            http2.ping_interval = value(keepalive.interval).unwrap_or(http2.ping_interval);
            http2.ping_timeout = value(keepalive.timeout).unwrap_or(http2.ping_timeout);
        }
    }
}

fn retry_budget(written: &config::RetryBudget) -> RetryBudget {
    let own = RetryBudget::default();
    RetryBudget {
        percent: value(written.percent).unwrap_or(own.percent),
        minimum: limit(written.min_retry_concurrency).unwrap_or(own.minimum),
        interval: value(written.budget_interval).unwrap_or(own.interval),
    }
}

fn outlier(written: &OutlierDetection) -> OutlierPolicy {
    let own = OutlierPolicy::default();
    // Here 0 is off and nothing is the default, unlike in a pool.
    let threshold = |given: Option<Spanned<i64>>, default: u32| {
        given.map_or(default, |given| u32::try_from(given.value).unwrap_or(default))
    };
    OutlierPolicy {
        server_errors: threshold(written.consecutive_5xx_errors, own.server_errors),
        gateway_errors: threshold(written.consecutive_gateway_errors, own.gateway_errors),
        local_failures: threshold(written.consecutive_local_origin_failures, own.local_failures),
        split: value(written.split_external_local_origin_errors).unwrap_or(own.split),
        interval: value(written.interval).unwrap_or(own.interval),
        base_ejection: value(written.base_ejection_time).unwrap_or(own.base_ejection),
        max_ejection_percent: limit(written.max_ejection_percent).unwrap_or(own.max_ejection_percent),
        min_health_percent: threshold(written.min_health_percent, own.min_health_percent),
        error_codes: written.http_error_codes.iter().filter_map(|code| u16::try_from(code.value).ok()).collect(),
    }
}

fn value<T: Copy>(written: Option<Spanned<T>>) -> Option<T> {
    written.map(|written| written.value)
}

/// A number that is set: 0 means unset.
fn limit(written: Option<Spanned<i64>>) -> Option<u32> {
    let given = value(written).filter(|&number| number > 0)?;
    Some(u32::try_from(given).unwrap_or(u32::MAX))
}
