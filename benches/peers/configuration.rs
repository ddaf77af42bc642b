//! The configuration of every proxy, and of the upstream. All do the same: 90 of 100 requests to `v1`, 10 to `v2`, chosen
//! anew for each request, over connections that are kept, without an access log and without limits that a load would meet.
//! Where a proxy's buffers are small by default they are 64 KiB here, with which each does best at large bodies.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Where a proxy listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// HTTP/1.1.
    pub(crate) http1: u16,
    /// HTTP/2 with prior knowledge; for those that tell the two apart, the same.
    pub(crate) http2: u16,
    /// The admin server of those that must have one.
    pub(crate) admin: u16,
}

/// What 64 bytes of body look like.
const SMALL: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\\n";

/// Writes nginx's file and returns the arguments that make it stay in the foreground and within its folder.
pub(crate) fn nginx_files(folder: &Path, text: &str) -> Result<Vec<String>, String> {
    let file = folder.join("nginx.conf");
    fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let text = |path: &Path| path.display().to_string();
    Ok(vec![
        "-p".into(),
        text(folder),
        "-e".into(),
        "stderr".into(),
        "-c".into(),
        text(&file),
        "-g".into(),
        "daemon off;".into(),
    ])
}

/// What both uses of nginx have in common: everything it writes stays in its folder.
fn nginx(folder: &Path, http: &str) -> String {
    let folder = folder.display();
    let mut places = String::new();
    for place in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        // Writing to a string cannot fail.
        let _ = writeln!(places, "  {place}_temp_path {folder}/{place};");
    }
    format!(
        "worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
{places}  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_max_body_size 0;
{http}}}
"
    )
}

/// The upstream: `v1` and `v2` on ports of their own, and its counters on a third. An upload is read to its end before it is
/// answered, as a service does: `mirror` reads it, and the file is there for the method to be refused on.
pub(crate) fn nginx_upstream(folder: &Path, ports: [u16; 2], status: u16) -> String {
    let place = folder.display();
    let mut servers = format!("  server {{ listen 127.0.0.1:{status}; location / {{ stub_status; }} }}\n");
    for (port, version) in ports.into_iter().zip(["v1", "v2"]) {
        let _ = write!(
            servers,
            "  server {{
    listen 127.0.0.1:{port};
    add_header x-version {version};
    location = /small {{ return 200 \"{SMALL}\"; }}
    location = /upload {{ mirror /nothing; client_body_buffer_size 2m; error_page 405 =200 /done; root {place}; }}
    location = /done {{ return 200 \"got it\\n\"; }}
    location = /nothing {{ internal; return 204; }}
    location / {{ root {place}; }}
  }}
"
        );
    }
    nginx(folder, &format!("  sendfile on;\n  open_file_cache max=16;\n{servers}"))
}

/// nginx as a proxy. Bodies never go through files, as large ones would by default.
pub(crate) fn nginx_proxy(folder: &Path, ports: Ports, upstream: [u16; 2]) -> String {
    let Ports { http1, http2, .. } = ports;
    let [v1, v2] = upstream;
    let http = format!(
        "  split_clients \"$connection-$connection_requests\" $version {{ 90% v1; * v2; }}
  upstream v1 {{ server 127.0.0.1:{v1}; keepalive 256; keepalive_requests 1000000000; }}
  upstream v2 {{ server 127.0.0.1:{v2}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{http1};
    listen 127.0.0.1:{http2} http2;
    location / {{
      proxy_pass http://$version;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_request_buffering off;
      client_body_buffer_size 64k;
      proxy_buffer_size 16k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
    }}
  }}
"
    );
    nginx(folder, &http)
}

/// `balance random(1)` is one weighted draw; plain `random` would draw twice and compare the loads.
pub(crate) fn haproxy(ports: Ports, upstream: [u16; 2]) -> String {
    let Ports { http1, http2, .. } = ports;
    let [v1, v2] = upstream;
    format!(
        "global
  nbthread 1
  tune.bufsize 65536
  maxconn 4096
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend front
  bind 127.0.0.1:{http1}
  bind 127.0.0.1:{http2} proto h2
  default_backend both
backend both
  balance random(1)
  server v1 127.0.0.1:{v1} weight 90
  server v2 127.0.0.1:{v2} weight 10
"
    )
}

/// Envoy, with the circuit breakers out of the way and without the identifiers that it gives requests by default.
pub(crate) fn envoy(ports: Ports, upstream: [u16; 2]) -> String {
    let mut clusters = String::new();
    for (port, version) in upstream.into_iter().zip(["v1", "v2"]) {
        let _ = write!(
            clusters,
            "
  - name: {version}
    type: STATIC
    connect_timeout: 10s
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
    load_assignment:
      cluster_name: {version}
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]"
        );
    }
    format!(
        "static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: AUTO
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ['*']
              routes:
              - match: {{prefix: /}}
                route: {{weighted_clusters: {{clusters: [{{name: v1, weight: 90}}, {{name: v2, weight: 10}}]}}}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:{clusters}
",
        ports.http1
    )
}

/// Caddy, which would keep its state in the home folder.
pub(crate) fn caddy(folder: &Path, ports: Ports, upstream: [u16; 2]) -> String {
    let [v1, v2] = upstream;
    format!(
        "{{
  admin off
  auto_https off
  persist_config off
  storage file_system {}
  log default {{
    level ERROR
  }}
  servers {{
    protocols h1 h2c
  }}
}}
http://127.0.0.1:{} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{v1} 127.0.0.1:{v2} {{
    lb_policy weighted_round_robin 9 1
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
",
        folder.display(),
        ports.http1
    )
}

/// Serin, as an operator would write it.
pub(crate) fn serin(upstream: [u16; 2]) -> String {
    let [v1, v2] = upstream;
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: both}}
spec:
  hosts: [both.example]
  http:
  - route:
    - destination: {{host: both.example, subset: v1}}
      weight: 90
    - destination: {{host: both.example, subset: v2}}
      weight: 10
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: both}}
spec:
  host: both.example
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: both}}
spec:
  hosts: [both.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: {v1}}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{http: {v2}}}, labels: {{version: v2}}}}
"
    )
}
