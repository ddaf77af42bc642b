//! `trafficPolicy` of a host, a subset or a port: connection pools, outlier detection, retry budgets, tunnels.

use super::report::{Report, conflict, deprecated, missing, no_effect, unsupported};
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
        report.add(
            unsupported(found.place, "`tunnel` carries TCP and TLS routes, and this proxy routes HTTP alone")
                .help("remove it; to reach the endpoints through another proxy, declare that proxy as the endpoint"),
        );
    }
    if let Some(version) = &policy.proxy_protocol {
        if !matches!(version.as_str(), "" | "V1" | "V2") {
            report
                .wrong(version.place, format!("`{}` is no version of the PROXY protocol: `V1` or `V2`", version.value));
        }
        if policy.tunnel.is_some() {
            report.add(conflict(version.place, "a policy cannot have both `tunnel` and `proxyProtocol`"));
        }
        let message = "`proxyProtocol` names one client for a connection, and those to endpoints are shared by many";
        report.add(
            unsupported(version.place, message)
                .help("remove it; the endpoint finds the client of each request in `x-forwarded-for`"),
        );
    }
    if let Some(budget) = &policy.retry_budget {
        retry_budget(report, budget);
        let http = policy.connection_pool.as_ref().and_then(|pool| pool.http.as_ref());
        if let Some(limit) = http.and_then(|http| http.max_retries.as_ref()).filter(|limit| limit.value > 0) {
            report.add(no_effect(limit.place, "`maxRetries` has no effect beside a `retryBudget`"));
        }
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

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_fails, each_passes, errors, warnings};

    fn policies(cases: &[(&str, &str)]) {
        let specs: Vec<_> =
            cases.iter().map(|(policy, wanted)| (format!("  host: a\n  trafficPolicy: {policy}"), *wanted)).collect();
        each_fails("DestinationRule", &specs.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect::<Vec<_>>());
        let subsets: Vec<_> = cases
            .iter()
            .map(|(policy, wanted)| (format!("  host: a\n  subsets: [{{name: v1, trafficPolicy: {policy}}}]"), *wanted))
            .collect();
        each_fails(
            "DestinationRule",
            &subsets.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect::<Vec<_>>(),
        );
    }

    #[test]
    fn a_policy_says_something() {
        policies(&[
            ("{}", "`trafficPolicy` is empty"),
            ("{portLevelSettings: [{port: {number: 80}}]}", "the port policy is empty"),
            ("{portLevelSettings: [{loadBalancer: {simple: RANDOM}}]}", "`port` of the port policy is missing"),
            ("{portLevelSettings: [null]}", "is null"),
            ("{connectionPool: {}}", "`connectionPool` is empty"),
            (
                "{tunnel: {targetHost: a, targetPort: 80}, proxyProtocol: {version: V1}}",
                "both `tunnel` and `proxyProtocol`",
            ),
            ("{tunnel: {targetHost: a}}", "is not between 1 and 65535"),
            ("{tunnel: {protocol: GET, targetHost: a, targetPort: 80}}", "neither `CONNECT` nor `POST`"),
            ("{retryBudget: {percent: 101}}", "not between 0 and 100"),
        ]);
    }

    #[test]
    fn a_limit_on_retries_means_nothing_beside_a_budget() {
        let of = |policy: &str| warnings("DestinationRule", &format!("  host: a\n  trafficPolicy: {policy}"));
        let (limit, budget) = ("connectionPool: {http: {maxRetries: 1}}", "retryBudget: {percent: 5}");
        assert_eq!(of(&format!("{{{limit}, {budget}}}")), ["`maxRetries` has no effect beside a `retryBudget`"]);
        assert!(of(&format!("{{{limit}}}")).is_empty() && of(&format!("{{{budget}}}")).is_empty());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_after_what_is_wrong_with_it() {
        let (tunnel, protocol) = ("carries TCP and TLS routes", "names one client for a connection");
        for (policy, wanted) in [
            ("{tunnel: {protocol: CONNECT, targetHost: a, targetPort: 80}}", &[tunnel][..]),
            ("{tunnel: {targetHost: a}}", &["not between 1 and 65535", tunnel]),
            ("{proxyProtocol: {version: V2}}", &[protocol]),
            ("{proxyProtocol: {}}", &[protocol]),
        ] {
            let found = errors("DestinationRule", &format!("  host: a\n  trafficPolicy: {policy}"));
            assert_eq!(found.len(), wanted.len(), "{policy}: {found:?}");
            assert!(found.iter().zip(wanted).all(|(found, wanted)| found.contains(wanted)), "{policy}: {found:?}");
        }
    }

    #[test]
    fn what_is_in_force_or_off_is_not_refused() {
        each_passes(
            "DestinationRule",
            &[
                "  host: a\n  trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {connectTimeout: 1s, \
                 maxConnections: 0}, http: {maxRequestsPerConnection: 1, h2UpgradePolicy: DEFAULT}}, tls: {mode: DISABLE}}",
                "  host: a\n  trafficPolicy: {loadBalancer: {warmup: {duration: 1s, minimumPercent: 0, aggression: 2}}, \
                 connectionPool: {http: {useClientProtocol: true}}, retryBudget: {percent: 0.5, budgetInterval: 0s}}",
            ],
        );
    }

    #[test]
    fn pools_have_possible_limits() {
        policies(&[
            ("{connectionPool: {tcp: {maxConnections: -1}}}", "must not be negative"),
            ("{connectionPool: {tcp: {connectTimeout: 0s}}}", "at least 1ms"),
            ("{connectionPool: {tcp: {idleTimeout: 1.0001s}}}", "whole number of milliseconds"),
            ("{connectionPool: {http: {idleTimeout: 0s}}}", "at least 1ms"),
            ("{connectionPool: {http: {maxRetries: -1}}}", "must not be negative"),
            ("{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}", "exclude each other"),
            ("{connectionPool: {http: {http2KeepAlive: {interval: 5s}}}}", "`timeout` of `http2KeepAlive` is missing"),
        ]);
        each_passes("DestinationRule", &["  host: a\n  trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0s}}}"]);
    }

    #[test]
    fn outlier_detection_counts_and_shares() {
        policies(&[
            ("{outlierDetection: {maxEjectionPercent: 101}}", "not between 0 and 100"),
            ("{outlierDetection: {minHealthPercent: -1}}", "not between 0 and 100"),
            ("{outlierDetection: {interval: 0s}}", "at least 1ms"),
            ("{outlierDetection: {consecutiveLocalOriginFailures: 5}}", "needs `splitExternalLocalOriginErrors: true`"),
        ]);
        let old = warnings("DestinationRule", "  host: a\n  trafficPolicy: {outlierDetection: {consecutiveErrors: 5}}");
        assert_eq!(old, ["`consecutiveErrors` is deprecated"]);
    }

    #[test]
    fn tls_names_the_files_that_its_mode_needs() {
        policies(&[
            ("{tls: {mode: MUTUAL, privateKey: k}}", "mutual TLS needs `clientCertificate`"),
            ("{tls: {mode: MUTUAL, clientCertificate: c}}", "mutual TLS needs `privateKey`"),
            ("{tls: {mode: SIMPLE, caCertificates: c, insecureSkipVerify: true}}", "not to verify"),
            ("{tls: {mode: SIMPLE, subjectAltNames: [a], insecureSkipVerify: true}}", "not to verify"),
            ("{tls: {mode: SIMPLE, credentialName: s, caCertificates: c}}", "exclude each other"),
            ("{tls: {mode: SIMPLE, credentialName: s}}", "Kubernetes secret"),
            ("{tls: {mode: ISTIO_MUTUAL}}", "certificates that Istio issues"),
        ]);
        let unverified = warnings("DestinationRule", "  host: a\n  trafficPolicy: {tls: {mode: SIMPLE}}");
        assert!(unverified[0].contains("no `caCertificates`"), "{unverified:?}");
    }

    #[test]
    fn load_balancers_choose_in_one_way() {
        let hash = |fields: &str| format!("{{loadBalancer: {{consistentHash: {{{fields}}}}}}}");
        let cases = [
            (hash("httpCookie: {ttl: 1s}"), "`name` of the cookie is missing"),
            (hash("useSourceIp: true, maglev: {}"), "`tableSize` of `maglev` is missing"),
            (hash("useSourceIp: true, maglev: {tableSize: 65536}"), "is no prime"),
            (hash("useSourceIp: true, maglev: {tableSize: 5000011}"), "not below 5000011"),
            (hash("useSourceIp: true, minimumRingSize: 8, ringHash: {}"), "exclude each other"),
            ("{loadBalancer: {simple: PASSTHROUGH}}".to_owned(), "original destination"),
            ("{loadBalancer: {warmup: {}}}".to_owned(), "`duration` of the warmup is missing"),
            ("{loadBalancer: {warmup: {duration: 1s, aggression: 0.9}}}".to_owned(), "below 1"),
            ("{loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}}".to_owned(), "both `localityLbSetting`"),
            (locality("distribute: [{from: a/*, to: {a/b: 90}}]"), "sum to 90, not 100"),
            (locality("distribute: [{from: a/*, to: {a/b: 50, a/*: 50}}]"), "overlaps an earlier one"),
            (locality("distribute: [{from: a//b, to: {a: 100}}]"), "is empty"),
            (locality("failover: [{from: a, to: a}]"), "cannot fail over to itself"),
            (locality("failover: [{from: a/b, to: c}]"), "is no region"),
            (locality("failover: [{from: a, to: b}], distribute: [{from: a, to: {a: 100}}]"), "exclude each other"),
        ];
        policies(&cases.iter().map(|(policy, wanted)| (policy.as_str(), *wanted)).collect::<Vec<_>>());
        let fine = hash("useSourceIp: true, maglev: {tableSize: 65537}");
        each_passes("DestinationRule", &[&format!("  host: a\n  trafficPolicy: {fine}")]);
    }

    #[test]
    fn only_some_load_balancers_warm_up() {
        let of = |fields: &str| {
            let policy = format!("  host: a\n  trafficPolicy: {{loadBalancer: {{{fields}}}}}");
            warnings("DestinationRule", &policy)
        };
        let warmup = "warmup: {duration: 1s}";
        for simple in ["", "simple: ROUND_ROBIN, ", "simple: LEAST_REQUEST, "] {
            assert!(of(&format!("{simple}{warmup}")).is_empty(), "{simple}");
        }
        for other in ["simple: RANDOM", "consistentHash: {useSourceIp: true}"] {
            assert!(of(&format!("{other}, {warmup}"))[0].contains("has no effect here"), "{other}");
        }
        assert_eq!(of("warmupDurationSecs: 1s"), ["`warmupDurationSecs` is deprecated"]);
        assert_eq!(of(&format!("warmupDurationSecs: 1s, {warmup}")).len(), 2);
    }

    fn locality(fields: &str) -> String {
        format!("{{loadBalancer: {{localityLbSetting: {{{fields}}}}}}}")
    }
}
