//! `serin demo`: a canary release to watch and to play with, and nothing else needed. Starts what a release needs around the
//! proxy, which is the same that `serin run` starts.

mod folder;
mod live;
mod screen;
mod traffic;
mod view;

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use self::folder::{Upstream, WEIGHTS, Written};
use self::live::{Live, Look};
use self::screen::Screen;
use self::traffic::Seen;
use super::echo::{self, Behaviour, Latency, Responder};
use super::values::parse_duration;
use super::view::background::{self, Background, ended};
use super::view::signals::Signals;
use crate::app::{self, Inputs, Limits, OnDiskState, Options, Running};
use crate::config::diagnostic::Severity;
use crate::config::render::Entry;
use crate::config::settings::{Listeners, Settings};
use crate::telemetry::Buckets;

/// Where the files are, from where the command is run.
const FOLDER: &str = "serin-demo";
/// The usual ports of the proxy and its admin.
const PROXY: u16 = 8080;
const ADMIN: u16 = 15000;
/// A free port of this host.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The versions: how long they take, and the share of their answers that are errors.
const VERSIONS: [(&str, Duration, f64); 2] =
    [("v1", Duration::from_millis(5), 0.0), ("v2", Duration::from_millis(8), 0.01)];
/// Between two looks at the proxy.
const LOOK: Duration = Duration::from_millis(250);
/// How long requests may take to end when the demo does.
const DRAIN: Duration = Duration::from_secs(5);

/// See a canary release at work: two versions, traffic, the proxy and a live view, from a folder of YAML to edit
#[derive(Args, Debug)]
#[command(after_help = "\
It writes the folder ./serin-demo, starts two small servers (v2 is slower and errs
now and then), sends traffic to them through the proxy, and shows what each
version does. Edit the weights in the folder and save: they are in force at once.
Ports that other programs use are replaced by free ones; those of the two servers
stand in the folder's ServiceEntry.

Exit status: 0 ended by Ctrl-C or --for, 1 a worker died, 2 could not start.

Example:
  serin demo
  serin demo --for 10s | cat")]
pub struct Demo {
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rps: u32,

    /// End after this time [default: run until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    time: Option<Duration>,

    /// Write the files of the folder anew, whatever was edited in them
    #[arg(long)]
    reset: bool,
}

impl Demo {
    /// Runs the demo until it is told to end. 0: ended as asked; 1: a worker died; 2: it could not start.
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("error: cannot start: {error}"));
        match runtime.and_then(|runtime| runtime.block_on(self.play())) {
            Ok(code) => code,
            Err(message) => {
                eprintln!("{message}");
                ExitCode::from(2)
            }
        }
    }

    async fn play(self) -> Result<ExitCode, String> {
        // Before the first thread: a Ctrl-C that comes early must not kill.
        let mut signals = Signals::install().map_err(|error| format!("error: cannot handle signals: {error}"))?;
        let folder = Path::new(FOLDER);
        let written = folder::write(folder, self.reset)?;
        let upstreams = folder::upstreams(folder, &VERSIONS.map(|(version, ..)| version))?;
        let switch = upstreams.iter().find(|one| one.version == "v2").and_then(|one| one.listener.local_addr().ok());
        let failed = |error: io::Error| format!("error: cannot start a thread: {error}");
        let echoes = Background::start("demo-upstreams", move |end| serve(upstreams, end)).map_err(failed)?;
        // Between a look at a port and its use another program may take it.
        let running = app::start(options(folder, free_or_any(PROXY), free_or_any(ADMIN)))
            .or_else(|_| app::start(options(folder, ANY, ANY)))?;
        let target = running.listeners.first().map_or((Ipv4Addr::LOCALHOST, PROXY).into(), |bound| bound.local);
        let (seen, rate) = (Arc::new(Seen::default()), self.rps);
        let counts = Arc::clone(&seen);
        let traffic = Background::start("demo-traffic", move |end| traffic::send(target, rate, counts, end));
        let traffic = traffic.map_err(failed)?;

        let mut screen = Screen::new();
        let introduction = introduction(written, target, running.admin, switch);
        let healthy = match screen.say(&introduction) {
            Ok(()) => self.watch(&running, &mut screen, &mut signals).await,
            Err(_) => true,
        };
        traffic.end();
        tokio::select! {
            _ = running.drain(DRAIN, true) => {}
            () = signals.any() => {}
        }
        echoes.end();
        screen.close();
        let (sent, unanswered) = (seen.sent.load(Relaxed), seen.unanswered.load(Relaxed));
        // Nobody is left to be told that the reader went away.
        let _ = screen.say(&format!(
            "\nended: {sent} requests sent, {unanswered} without an answer; the files stay in {FOLDER}\n"
        ));
        Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Shows the proxy until it is time to end, or nobody looks any more; false if a worker died.
    async fn watch(&self, running: &Running, screen: &mut Screen, signals: &mut Signals) -> bool {
        let start = Instant::now();
        let mut live = Live::new(start);
        let mut looks = interval(LOOK);
        let over = async {
            match self.time {
                Some(time) => sleep_until(start + time).await,
                None => pending().await,
            }
        };
        let mut over = std::pin::pin!(over);
        loop {
            tokio::select! {
                // A look that is due comes before the end, so that the last second is shown.
                biased;
                () = signals.any() => return true,
                _ = looks.tick() => {}
                () = &mut over => return true,
            }
            if !running.look_after() {
                return false;
            }
            let view = live.look(look(running));
            if screen.show(&view, &live.fresh_events()).is_err() {
                return true;
            }
        }
    }
}

/// The proxy as `serin run` would start it, but on this host only.
fn options(folder: &Path, proxy: SocketAddr, admin: SocketAddr) -> Options {
    Options {
        inputs: Inputs::Paths { paths: vec![folder.to_owned()], recursive: false },
        settings: Settings::default(),
        listeners: Listeners { mesh: vec![proxy], port_map: Vec::new() },
        admin,
        admin_hosts: Vec::new(),
        buckets: Buckets::default(),
        workers: app::cores(),
        seed: None,
        limits: Limits { max_connections: app::connections_allowed(), ..Limits::default() },
        drain_timeout: DRAIN,
        wait_for_config: false,
        access_log: None,
        state_dir: None,
    }
}

/// This port of this host; any if it is taken.
fn free_or_any(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpListener::bind(usual).is_ok() { usual } else { ANY }
}

/// Answers for the versions.
async fn serve(upstreams: Vec<Upstream>, mut end: background::End) {
    let mut echoes = JoinSet::new();
    for Upstream { version, listener } in upstreams {
        let Some((_, latency, error_rate)) = VERSIONS.into_iter().find(|(name, ..)| *name == version) else { continue };
        let behaviour = Behaviour { latency: Latency::always(latency), error_rate };
        let responder = Responder::new(version, behaviour, rand::random()).switchable();
        // Fails only where the system has no room for it; then the view shows that the version cannot be reached.
        if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
            echoes.spawn(echo::serve(listener, responder.into()));
        }
    }
    ended(&mut end).await;
}

fn look(running: &Running) -> Look {
    let status = running.publisher.status();
    let on_disk = &status.on_disk;
    let problems = match on_disk.state {
        OnDiskState::Active => Vec::new(),
        OnDiskState::Rejected | OnDiskState::Missing => {
            let errors = on_disk.errors.iter().filter(|entry| entry.severity == Severity::Error);
            errors.map(problem).collect()
        }
    };
    Look {
        at: Instant::now(),
        versions: running.metrics.versions(),
        routes: running.routes(),
        generation: status.generation,
        problems,
    }
}

/// What is wrong, in two lines: where and what, and what to do about it.
fn problem(entry: &Entry) -> String {
    let place = match (entry.line, entry.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}: ", entry.file),
        _ if entry.file.is_empty() => String::new(),
        _ => format!("{}: ", entry.file),
    };
    let help = entry.help.as_ref().map_or_else(String::new, |help| format!("\nhelp: {help}"));
    format!("{place}{}{help}", entry.message)
}

/// What there is and what to do with it.
fn introduction(written: Written, proxy: SocketAddr, admin: SocketAddr, switch: Option<SocketAddr>) -> String {
    let state = match written {
        Written::All => "written just now",
        Written::Kept => "as you left it; --reset writes it anew",
    };
    let serin = command();
    let mut tries = vec![
        (format!("edit {FOLDER}/{WEIGHTS} and save"), "in force at once"),
        (format!("{serin} set-weight {FOLDER} v1=70 v2=30"), "the same"),
        (format!("curl http://{proxy}/"), "a request"),
        (format!("curl http://{admin}/metrics"), "for Prometheus"),
    ];
    if let Some(v2) = switch {
        tries.push((format!("curl -X POST 'http://{v2}/_echo?error_rate=20%'"), "makes v2 worse"));
    }
    let wide = tries.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let tries: String = tries.iter().map(|(what, why)| format!("  {what:wide$}  {why}\n")).collect();
    format!("The configuration is in {FOLDER}/ ({state}).\nWhile this runs, try\n{tries}Ctrl-C ends it.\n\n")
}

/// How the reader started this program, to be typed again.
fn command() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    if typed.is_empty() || typed.contains(char::is_whitespace) { "serin".to_owned() } else { typed }
}
