//! `trafficPolicy` of a host, a subset or a port: connection pools, outlier detection, retry budgets, tunnels.

use super::report::{Report, conflict, deprecated, missing};
use super::{checks, client_tls, load_balancer};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::resource::destination_rule::{
    ConnectionPool, H2UpgradePolicy, HttpPool, OutlierDetection, PortTrafficPolicy, RetryBudget, TcpPool,
    TrafficPolicy, Tunnel,
};

/// Checks the policy of a host or of a subset.
pub(super) fn check(report: &mut Report, policy: &TrafficPolicy) {
    let empty = policy.load_balancer.is_none()
        && policy.connection_pool.is_none()
        && policy.outlier_detection.is_none()
        && policy.tls.is_none()
        && policy.port_level_settings.is_empty()
        && policy.tunnel.is_none()
        && policy.proxy_protocol.is_none()
        && policy.retry_budget.is_none();
    if empty {
        report.add(missing(policy.place, "`trafficPolicy` is empty").help("leave it out, or say what the policy is"));
    }
    load_balancer::check(report, policy.load_balancer.as_ref(), policy.outlier_detection.is_some());
    pool(report, policy.connection_pool.as_ref());
    outlier(report, policy.outlier_detection.as_ref());
    client_tls::check(report, policy.tls.as_ref(), "IST0128");
    for entry in &policy.port_level_settings {
        match entry {
            Some(entry) => port_policy(report, entry),
            None => report.wrong(policy.place, "an entry of `portLevelSettings` is null"),
        }
    }
    if let Some(found) = &policy.tunnel {
        tunnel(report, found);
    }
    if let Some(version) = &policy.proxy_protocol {
        if !matches!(version.as_str(), "" | "V1" | "V2") {
            report
                .wrong(version.place, format!("`{}` is no version of the PROXY protocol: `V1` or `V2`", version.value));
        }
        if policy.tunnel.is_some() {
            report.add(conflict(version.place, "a policy cannot have both `tunnel` and `proxyProtocol`"));
        }
    }
    if let Some(budget) = &policy.retry_budget {
        retry_budget(report, budget);
    }
}

fn port_policy(report: &mut Report, entry: &PortTrafficPolicy) {
    match &entry.port {
        Some(port) => checks::port(report, port),
        None => {
            report.add(missing(entry.place, "`port` of the port policy is missing").help("write `port: {number: 80}`"))
        }
    }
    let empty = entry.load_balancer.is_none()
        && entry.connection_pool.is_none()
        && entry.outlier_detection.is_none()
        && entry.tls.is_none();
    if empty {
        report.add(missing(entry.place, "the port policy is empty"));
    }
    load_balancer::check(report, entry.load_balancer.as_ref(), entry.outlier_detection.is_some());
    pool(report, entry.connection_pool.as_ref());
    outlier(report, entry.outlier_detection.as_ref());
    client_tls::check(report, entry.tls.as_ref(), "IST0129");
}

fn pool(report: &mut Report, pool: Option<&ConnectionPool>) {
    let Some(pool) = pool else { return };
    if pool.tcp.is_none() && pool.http.is_none() {
        report.add(missing(pool.place, "`connectionPool` is empty: it needs `tcp` or `http`"));
    }
    if let Some(tcp) = &pool.tcp {
        tcp_pool(report, tcp);
    }
    if let Some(http) = &pool.http {
        http_pool(report, http);
    }
}

fn tcp_pool(report: &mut Report, tcp: &TcpPool) {
    checks::count(report, "maxConnections", tcp.max_connections.as_ref());
    for timeout in [&tcp.connect_timeout, &tcp.max_connection_duration].into_iter().flatten() {
        checks::duration(report, timeout);
    }
    if let Some(timeout) = &tcp.idle_timeout {
        checks::duration_or_zero(report, timeout);
    }
    let Some(keepalive) = &tcp.tcp_keepalive else { return };
    checks::count(report, "probes", keepalive.probes.as_ref());
    for time in [&keepalive.time, &keepalive.interval].into_iter().flatten() {
        checks::duration(report, time);
    }
}

fn http_pool(report: &mut Report, http: &HttpPool) {
    for (name, value) in [
        ("http1MaxPendingRequests", &http.http1_max_pending_requests),
        ("http2MaxRequests", &http.http2_max_requests),
        ("maxRequestsPerConnection", &http.max_requests_per_connection),
        ("maxRetries", &http.max_retries),
        ("maxConcurrentStreams", &http.max_concurrent_streams),
    ] {
        checks::count(report, name, value.as_ref());
    }
    if let Some(timeout) = &http.idle_timeout {
        checks::duration(report, timeout);
    }
    let upgrade = http.h2_upgrade_policy.as_ref().is_some_and(|policy| policy.value == H2UpgradePolicy::Upgrade);
    if let Some(client) = http.use_client_protocol.as_ref().filter(|client| client.value && upgrade) {
        let message = "`useClientProtocol` and `h2UpgradePolicy: UPGRADE` exclude each other";
        report.add(conflict(client.place, message));
    }
    let Some(keepalive) = &http.http2_keep_alive else { return };
    for (name, value) in [("interval", &keepalive.interval), ("timeout", &keepalive.timeout)] {
        match value {
            Some(value) => checks::duration(report, value),
            None => report.add(missing(keepalive.place, format!("`{name}` of `http2KeepAlive` is missing"))),
        }
    }
}

fn outlier(report: &mut Report, outlier: Option<&OutlierDetection>) {
    let Some(outlier) = outlier else { return };
    if let Some(errors) = outlier.consecutive_errors.as_ref().filter(|errors| errors.value != 0) {
        let found = deprecated(errors.place, "consecutiveErrors", "consecutive5xxErrors");
        report
            .add(found.help("it has no effect, as in Istio; use `consecutive5xxErrors` or `consecutiveGatewayErrors`"));
    }
    for (name, value) in [
        ("consecutive5xxErrors", &outlier.consecutive_5xx_errors),
        ("consecutiveGatewayErrors", &outlier.consecutive_gateway_errors),
        ("consecutiveLocalOriginFailures", &outlier.consecutive_local_origin_failures),
    ] {
        checks::count(report, name, value.as_ref());
    }
    let split = outlier.split_external_local_origin_errors.as_ref().is_some_and(|split| split.value);
    let local = outlier.consecutive_local_origin_failures.as_ref().filter(|failures| failures.value > 0 && !split);
    if let Some(local) = local {
        report.add(conflict(
            local.place,
            "`consecutiveLocalOriginFailures` needs `splitExternalLocalOriginErrors: true`",
        ));
    }
    for time in [&outlier.interval, &outlier.base_ejection_time].into_iter().flatten() {
        checks::duration(report, time);
    }
    checks::whole_percent(report, "maxEjectionPercent", outlier.max_ejection_percent.as_ref());
    checks::whole_percent(report, "minHealthPercent", outlier.min_health_percent.as_ref());
    for code in outlier.http_error_codes.iter().filter(|code| !(100..=599).contains(&code.value)) {
        report.wrong(code.place, format!("{} is no HTTP status code", code.value));
    }
}

fn tunnel(report: &mut Report, tunnel: &Tunnel) {
    if let Some(protocol) =
        tunnel.protocol.as_ref().filter(|protocol| !matches!(protocol.as_str(), "" | "CONNECT" | "POST"))
    {
        report
            .wrong(protocol.place, format!("the tunnel protocol `{}` is neither `CONNECT` nor `POST`", protocol.value));
    }
    if tunnel.target_host.is_empty() {
        report.add(missing(tunnel.place, "`targetHost` of the tunnel is missing"));
    } else if !checks::is_ip(&tunnel.target_host)
        && let Err(reason) = names::check_domain(&tunnel.target_host)
    {
        report.add(checks::bad_host(&tunnel.target_host, &reason));
    }
    checks::port(report, &tunnel.target_port.unwrap_or(Spanned::new(0, tunnel.place)));
}

fn retry_budget(report: &mut Report, budget: &RetryBudget) {
    if let Some(percent) = &budget.percent {
        checks::percent(report, "percent", percent);
    }
    checks::count(report, "minRetryConcurrency", budget.min_retry_concurrency.as_ref());
    if let Some(interval) = &budget.budget_interval {
        checks::duration_or_zero(report, interval);
    }
}
