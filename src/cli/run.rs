//! `serin run`: the proxy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::admin_client::TokenOption;
use super::values::{
    AccessLogFlag, parse_access_log, parse_buckets, parse_duration, parse_port_map, parse_size, parse_split,
    parse_upstream,
};
use crate::app::{self, AdminAddress, Inputs, Limits, Options};
use crate::config::quick;
use crate::config::settings::{ExtraEndpoint, Listeners, Settings};
use crate::telemetry::Buckets;

/// Serve the configuration until told to stop.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  serin run config/ --listen 127.0.0.1:8080
  serin run --upstream v1=localhost:8081 --upstream v2=localhost:8082 --split v1=90,v2=10")]
pub struct Run {
    /// Files, or folders with *.yaml and *.yml in them
    #[arg(value_name = "PATH", required_unless_present = "upstream", conflicts_with = "upstream")]
    paths: Vec<PathBuf>,

    /// Folders with all folders below them
    #[arg(short, long)]
    recursive: bool,

    /// Without a file: a version and where it listens (repeatable)
    #[arg(long, value_name = "VERSION=HOST:PORT", value_parser = parse_upstream, requires = "split")]
    upstream: Vec<(String, String)>,

    /// Without a file: the weights of the versions
    #[arg(long, value_name = "VERSION=WEIGHT,…", value_delimiter = ',', value_parser = parse_split, requires = "upstream")]
    split: Vec<(String, u32)>,

    /// Save what --upstream and --split mean as YAML, and watch that file
    #[arg(long, value_name = "FILE", requires = "upstream")]
    write: Option<PathBuf>,

    /// Where VirtualServices without `gateways` are served (repeatable)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    listen: Vec<SocketAddr>,

    /// Where metrics, readiness and the configuration's status are served; what other machines can reach takes a token, a Unix
    /// socket is this user's alone
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", default_value = "127.0.0.1:15000")]
    admin: AdminAddress,

    /// A name, besides localhost and its address, under which the admin port may be asked (repeatable)
    #[arg(long, value_name = "NAME")]
    admin_host: Vec<String>,

    #[command(flatten)]
    admin_token: TokenOption,

    /// The buckets of duration histograms: 36 fine ones, or the eleven defaults of Prometheus
    #[arg(long, value_name = "fine|small", default_value = "fine", value_parser = parse_buckets)]
    buckets: Buckets,

    /// One more endpoint, without a ServiceEntry (repeatable)
    #[arg(long, value_name = "HOST[/SUBSET]=ADDR:PORT")]
    endpoint: Vec<ExtraEndpoint>,

    /// Bind local port L for what is served on port P (repeatable); rules still see P
    #[arg(long, value_name = "P=L", value_parser = parse_port_map)]
    port_map: Vec<(u16, u16)>,

    /// Data-plane threads [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// A lone VirtualService answers its own hosts only
    #[arg(long)]
    strict_hosts: bool,

    /// Weights are shares of their sum; otherwise they must sum to 100
    #[arg(long)]
    relative_weights: bool,

    /// Make every draw reproducible
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How long requests under way may take to end after a signal
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    drain_timeout: Duration,

    /// Log each finished request, to standard output or to a file
    #[arg(long, value_name = "off|text|json[=FILE]", default_value = "off", value_parser = parse_access_log)]
    access_log: AccessLogFlag,

    /// Keep the state of releases here, so that one that is on its way goes on after a restart [default: not kept]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// Start although the configuration is invalid or missing, and serve once it is valid
    #[arg(long)]
    wait_for_config: bool,

    #[command(flatten)]
    client: ClientLimits,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits on clients")]
struct ClientLimits {
    /// From accept, or the first byte, to the end of a request's head
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    header_timeout: Duration,

    /// Without a byte of an unfinished request body
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    body_timeout: Duration,

    /// Of a connection between requests
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = parse_duration)]
    keepalive_timeout: Duration,

    /// Without a byte in either direction while a request is under way
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    stream_idle_timeout: Duration,

    /// Without the client taking a byte of an answer (on HTTP/2, a piece: 64 KiB at most)
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    write_timeout: Duration,

    /// Connections at once [default: what the descriptor limit allows]
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,

    /// Requests under way at once; 503 for more [default: as many as connections]
    #[arg(long, value_name = "N")]
    max_requests: Option<usize>,

    /// By how much a thread may come late to its work, for a second on end, before it takes fewer requests; 503 for the rest (0: any)
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = parse_duration)]
    max_worker_delay: Duration,

    /// Memory; 503 for new requests above 90% of it (0: any) [default: what the control group may have]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_memory: Option<usize>,

    /// Of a request's head
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_size)]
    max_header_size: usize,
}

impl Run {
    /// Runs the proxy. 0: ended as asked; 2: it could not start.
    pub fn run(self) -> ExitCode {
        match self.options().and_then(app::run) {
            Ok(code) => code,
            Err(message) => {
                super::say(&message);
                ExitCode::from(2)
            }
        }
    }

    fn options(self) -> Result<Options, String> {
        let inputs = if self.upstream.is_empty() {
            Inputs::Paths { paths: self.paths, recursive: self.recursive }
        } else {
            let text = quick::yaml(&self.upstream, &self.split).map_err(|message| format!("error: {message}"))?;
            match self.write {
                Some(path) => {
                    std::fs::write(&path, text)
                        .map_err(|error| format!("error: cannot write {}: {error}", path.display()))?;
                    Inputs::Paths { paths: vec![path], recursive: false }
                }
                None => Inputs::Text(text),
            }
        };
        // As many descriptors as may be had, whatever is made of them.
        let allowed = app::connections_allowed();
        let max_connections = self.client.max_connections.unwrap_or(allowed);
        Ok(Options {
            inputs,
            settings: Settings {
                relative_weights: self.relative_weights,
                strict_hosts: self.strict_hosts,
                references: true,
                endpoints: self.endpoint,
                mesh_ports: Vec::new(),
            },
            listeners: Listeners { mesh: self.listen, port_map: self.port_map },
            admin: self.admin,
            admin_hosts: self.admin_host,
            admin_token_file: self.admin_token.file(),
            buckets: self.buckets,
            workers: self.workers.unwrap_or_else(app::cores).max(1),
            seed: self.seed,
            limits: Limits {
                header_timeout: self.client.header_timeout,
                body_timeout: self.client.body_timeout,
                keepalive_timeout: self.client.keepalive_timeout,
                stream_idle_timeout: self.client.stream_idle_timeout,
                write_timeout: self.client.write_timeout,
                max_connections,
                max_requests: self.client.max_requests.unwrap_or(max_connections),
                max_worker_delay: self.client.max_worker_delay,
                max_memory: self.client.max_memory.map(|bytes| bytes as u64),
                max_header_size: self.client.max_header_size,
            },
            drain_timeout: self.drain_timeout,
            wait_for_config: self.wait_for_config,
            access_log: self.access_log.0,
            state_dir: self.state_dir,
        })
    }
}
