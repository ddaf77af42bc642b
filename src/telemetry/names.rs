//! Every metric, declared once: its name, its type and what it means.

use prometheus::proto::MetricType;

/// What the `HELP` and `TYPE` lines say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Name {
    Name { name, kind: MetricType::COUNTER, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Name {
    Name { name, kind: MetricType::GAUGE, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Name {
    Name { name, kind: MetricType::HISTOGRAM, help }
}

pub(super) const REQUESTS: Name = counter(
    "http_requests_total",
    "Client requests, each charged to the version whose answer the client got (code 499: the client went away).",
);
pub(super) const REQUEST_DURATION: Name = histogram(
    "http_request_duration_seconds",
    "Time from the first request byte in to the last response byte out. Upgraded connections do not count.",
);
pub(super) const STREAM_DURATION: Name = histogram(
    "http_stream_duration_seconds",
    "Time from the first byte of a request that upgraded its connection (WebSocket) to the end of that connection.",
);
pub(super) const GRPC: Name =
    counter("grpc_requests_total", "Calls of gRPC, by the status that the client got or had to assume.");
pub(super) const UPSTREAM_DURATION: Name =
    histogram("http_upstream_duration_seconds", "Time from a request sent upstream to its response headers.");
pub(super) const UPSTREAM_ATTEMPTS: Name = counter(
    "http_upstream_attempts_total",
    "Attempts at a version, retries included, by class of the answer or by the flag of what prevented one.",
);
pub(super) const IN_FLIGHT: Name = gauge("http_requests_in_flight", "Client requests being served.");
pub(super) const REQUEST_BYTES: Name = counter("http_request_bytes_total", "Bytes of request bodies received.");
pub(super) const RESPONSE_BYTES: Name = counter("http_response_bytes_total", "Bytes of response bodies sent.");
pub(super) const FLAGS: Name =
    counter("http_response_flags_total", "Requests that ended unusually, by flag (Envoy's letters).");
pub(super) const FAILED: Name = counter(
    "serin_failed_requests_total",
    "Requests that Serin answered itself because something failed, or whose answer broke off, by error (RFC 9209) and blame.",
);
pub(super) const ABORTED: Name = counter(
    "serin_body_aborted_total",
    "Answers that ended before they were complete, by the side that ended them: client, proxy, upstream.",
);
pub(super) const PANICS: Name =
    counter("serin_panics_total", "Mistakes in Serin itself; each cost at most the request that met it.");
pub(super) const STALLS: Name = counter(
    "serin_worker_stall_seconds_total",
    "Time by which a worker came back late, 50 ms or more at once: something held up all of its requests.",
);
pub(super) const MIRRORS: Name =
    counter("serin_mirror_requests_total", "Copies of requests that were meant for a version, by what became of them.");
pub(super) const RETRIES_REFUSED: Name = counter(
    "serin_retry_budget_exhausted_total",
    "Requests not tried again because the version's retry budget was empty.",
);
pub(super) const WEIGHT: Name = gauge(
    "serin_route_weight",
    "Share of a route's requests that a version gets, 0 to 1: as the file declares it and in effect.",
);
pub(super) const HEALTHY: Name = gauge("serin_upstream_healthy", "Whether an endpoint may get requests.");
pub(super) const CONNECTIONS: Name = gauge(
    "serin_upstream_connections",
    "Connections to a version that carry a request (active) or are kept alive (idle).",
);
pub(super) const DROPPED: Name = counter(
    "serin_metrics_dropped_labelsets_total",
    "Label sets beyond the cap of 2000 a metric, which were folded into _other.",
);
pub(super) const STATE_WRITE_ERRORS: Name = counter(
    "serin_state_write_errors_total",
    "Writes of the state of a release that failed; nothing is raised until one succeeds.",
);
pub(super) const SAID_DROPPED: Name =
    counter("serin_log_dropped_total", "Lines on standard error that were lost because nobody took them.");
pub(super) const LOG_DROPPED: Name =
    counter("serin_access_log_dropped_total", "Lines of the access log that were lost because it could not keep up.");
pub(super) const DNS_FAILURES: Name =
    counter("serin_dns_failures_total", "Look-ups of endpoints' names that gave no address, by reason.");
pub(super) const DNS_AGE: Name = gauge(
    "serin_dns_answer_age_seconds",
    "Time since the last good answer for that name in use which has waited longest for one.",
);
pub(super) const CLIENTS_CLOSED: Name = counter(
    "serin_client_connections_closed_total",
    "Connections of clients that were closed from our side before their time, by reason.",
);
pub(super) const ACCEPT_ERRORS: Name = counter(
    "serin_accept_errors_total",
    "Connections of clients that could not be accepted (they wait), by what the system had no more of.",
);
pub(super) const CONNECT_ERRORS: Name = counter(
    "serin_upstream_exhausted_total",
    "Connections to endpoints that could not be opened, by what the system had no more of.",
);
pub(super) const SHED: Name = counter(
    "serin_shed_requests_total",
    "Requests that were turned away before they were routed: too many at once, a worker that comes late, memory.",
);
pub(super) const MEMORY_LIMIT: Name =
    gauge("serin_memory_limit_bytes", "The memory that the process may have, by --max-memory or by its control group.");
pub(super) const KEPT_BODIES: Name =
    gauge("serin_kept_body_bytes", "Bytes of request bodies that are kept to be sent again or to a mirror.");
pub(super) const BODIES_NOT_KEPT: Name = counter(
    "serin_bodies_not_kept_total",
    "Request bodies that were not kept, so that they could not be sent again or to a mirror, for want of memory.",
);
pub(super) const BUILD: Name = gauge("serin_build_info", "1, labelled with the version of Serin that is running.");

pub(super) const RELOADS: Name = counter(
    "serin_config_reloads_total",
    "Looks at the configuration, by result (a rejected one changes nothing) and by what caused them.",
);
pub(super) const RELOAD_SUCCESSFUL: Name = gauge(
    "serin_config_last_reload_successful",
    "Whether the last configuration looked at was valid (0: the one before it is still serving).",
);
pub(super) const RELOAD_TIMESTAMP: Name = gauge(
    "serin_config_last_reload_success_timestamp_seconds",
    "Unix time at which the last valid configuration was looked at.",
);
pub(super) const RELOAD_DURATION: Name =
    histogram("serin_config_reload_duration_seconds", "Time from a look at the configuration to its being in force.");
pub(super) const GENERATION: Name =
    gauge("serin_config_generation", "Number of the configuration in force; each one applied gets the next.");
pub(super) const CONFIG: Name = gauge("serin_config_info", "1, labelled with the hash of the configuration in force.");
pub(super) const SNAPSHOTS: Name =
    gauge("serin_config_snapshots_live", "Configurations in memory: the one in force and those old requests hold.");
pub(super) const WATCH: Name =
    gauge("serin_config_watch_healthy", "Whether changes of the configuration's files can be seen at all.");

pub(super) const ROLLOUT_STATE: Name =
    gauge("serin_rollout_state", "1 for the state that a release is in, 0 for each other one.");
pub(super) const ROLLOUT_STEP: Name =
    gauge("serin_rollout_step", "The step that a release is at, counted from 1; 0 while it is at none.");
pub(super) const ROLLOUT_WEIGHT: Name =
    gauge("serin_rollout_weight", "Share of a canary, 0 to 1: as the file declares it and in effect.");
pub(super) const ROLLOUT_EVIDENCE: Name = gauge(
    "serin_rollout_evidence",
    "log10 of the evidence that a canary is worse than stable and worse than the floor, by test.",
);
pub(super) const ROLLOUT_EVIDENCE_LIMIT: Name = gauge(
    "serin_rollout_evidence_limit",
    "log10 of the evidence that a rollback needs, against both stable and the floor.",
);
pub(super) const ROLLOUT_TRANSITIONS: Name =
    counter("serin_rollout_transitions_total", "Moves of a release from one state to another (or step), by reason.");
