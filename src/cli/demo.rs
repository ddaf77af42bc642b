//! `serin demo`: a canary release to watch and to play with, and nothing else needed. Starts what a release needs around the
//! proxy, which is the same that `serin run` starts.

mod folder;
mod introduction;
mod live;
mod release;
mod screen;
mod traffic;
mod view;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use self::folder::Upstream;
use self::introduction::{Places, introduction};
use self::live::{Live, Look};
use self::release::Told;
use self::screen::Screen;
use self::traffic::Seen;
use super::admin_client::Admin;
use super::echo::{self, Behaviour, Latency, Responder};
use super::values::parse_duration;
use super::view::background::{self, Background, ended};
use super::view::show::until;
use super::view::signals::Signals;
use crate::app::{self, Farewell, Inputs, Limits, OnDiskState, Options, Running};
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

With --rollout or --bad the release of the folder's canary.yaml begins by itself,
and the screen is that of `serin rollout status --watch`. With 100 requests a
second --rollout is over after a minute or so, --bad after some ten seconds. In a
pipe the demo ends soon after the release, on a terminal when you leave it. The
report is in ./serin-demo/releases.

Exit status: 0 ended by Ctrl-C or --for, or with its release, however that went;
1 a worker died, 2 could not start.

Example:
  serin demo
  serin demo --for 10s | cat
  serin demo --rollout
  serin demo --bad | cat")]
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

    /// Show a whole release, to a v2 that is as good as v1
    #[arg(long)]
    rollout: bool,

    /// Show a release to a v2 that fails, which is rolled back
    #[arg(long, conflicts_with = "rollout")]
    bad: bool,
}

/// What there is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tale {
    /// A canary whose weights a person edits.
    Weights,
    /// A release that goes well.
    Rollout,
    /// One that is rolled back.
    Bad,
}

/// How a version answers.
type Version = (&'static str, Behaviour);

impl Tale {
    fn has_release(self) -> bool {
        self != Self::Weights
    }

    /// A release goes well only if v2 does not err even now and then; and one that goes wrong is to have one reason.
    fn versions(self) -> [Version; 2] {
        let version = |name, millis, error_rate| {
            (name, Behaviour { latency: Latency::always(Duration::from_millis(millis)), error_rate })
        };
        let v2 = match self {
            Self::Weights => version("v2", 8, 0.01),
            Self::Rollout => version("v2", 5, 0.0),
            Self::Bad => version("v2", 5, 0.2),
        };
        [version("v1", 5, 0.0), v2]
    }
}

impl Demo {
    /// Runs the demo until it is told to end. 0: ended as asked; 1: a worker died; 2: it could not start.
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("error: cannot start: {error}"));
        match runtime.and_then(|runtime| runtime.block_on(self.play())) {
            Ok(code) => code,
            Err(message) => {
                super::say(&message);
                ExitCode::from(2)
            }
        }
    }

    fn tale(&self) -> Tale {
        match (self.rollout, self.bad) {
            (_, true) => Tale::Bad,
            (true, false) => Tale::Rollout,
            (false, false) => Tale::Weights,
        }
    }

    async fn play(self) -> Result<ExitCode, String> {
        // Before the first thread: a Ctrl-C that comes early must not kill.
        let mut signals = Signals::install().map_err(|error| format!("error: cannot handle signals: {error}"))?;
        let (folder, tale) = (Path::new(FOLDER), self.tale());
        let versions = tale.versions();
        let written = folder::write(folder, self.reset, tale.has_release())?;
        let upstreams = folder::upstreams(folder, &versions.map(|(version, _)| version))?;
        let state_dir = tale.has_release().then(|| folder::new_state_dir(folder)).transpose()?;
        let switch = upstreams.iter().find(|one| one.version == "v2").and_then(|one| one.listener.local_addr().ok());
        let failed = |error: io::Error| format!("error: cannot start a thread: {error}");
        let echoes = Background::start("demo-upstreams", move |end| serve(upstreams, versions, end)).map_err(failed)?;
        // Between a look at a port and its use another program may take it.
        let running = app::start(options(folder, [free_or_any(PROXY), free_or_any(ADMIN)], state_dir.clone()))
            .or_else(|_| app::start(options(folder, [ANY, ANY], state_dir.clone())))?;
        let target = running.listeners.first().map_or((Ipv4Addr::LOCALHOST, PROXY).into(), |bound| bound.local);
        let (seen, rate) = (Arc::new(Seen::default()), self.rps);
        let counts = Arc::clone(&seen);
        let traffic = Background::start("demo-traffic", move |end| traffic::send(target, rate, counts, end));
        let traffic = traffic.map_err(failed)?;

        let mut screen = Screen::new();
        let places = Places { proxy: target, admin: running.admin.clone(), v2: switch };
        let told = match screen.say(&introduction(tale, written, places, &command())) {
            Ok(()) => self.show(&running, &mut screen, &mut signals).await?,
            Err(_) => Told::nothing(true),
        };
        traffic.end();
        tokio::select! {
            _ = running.drain(DRAIN, Farewell::Silent) => {}
            () = signals.any() => {}
        }
        echoes.end();
        screen.close();
        let conclusion = state_dir.map_or_else(String::new, |state_dir| told.conclusion(&state_dir));
        let (sent, unanswered) = (seen.sent.load(Relaxed), seen.unanswered.load(Relaxed));
        // Nobody is left to be told that the reader went away.
        let _ = screen.say(&format!(
            "\n{conclusion}ended: {sent} requests sent, {unanswered} without an answer; the files stay in {FOLDER}\n"
        ));
        Ok(if told.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Shows the release, or the proxy.
    async fn show(&self, running: &Running, screen: &mut Screen, signals: &mut Signals) -> Result<Told, String> {
        let end = self.time.map(|time| Instant::now() + time);
        if !self.tale().has_release() {
            return Ok(Told::nothing(watch(running, end, screen, signals).await));
        }
        let admin: Admin = running.admin.to_string().parse().map_err(|error| format!("error: {error}"))?;
        release::play(&admin, running, end, signals).await
    }
}

/// Shows the proxy until it is time to end, or nobody looks any more; false if a worker died.
async fn watch(running: &Running, end: Option<Instant>, screen: &mut Screen, signals: &mut Signals) -> bool {
    let mut live = Live::new(Instant::now());
    let mut looks = interval(LOOK);
    let mut over = std::pin::pin!(until(end));
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

/// The proxy as `serin run` would start it, but on this host only.
fn options(folder: &Path, [proxy, admin]: [SocketAddr; 2], state_dir: Option<PathBuf>) -> Options {
    Options {
        inputs: Inputs::Paths { paths: vec![folder.to_owned()], recursive: false },
        settings: Settings::default(),
        listeners: Listeners { mesh: vec![proxy], port_map: Vec::new() },
        admin: admin.into(),
        admin_hosts: Vec::new(),
        admin_token_file: None,
        buckets: Buckets::default(),
        workers: app::cores(),
        seed: None,
        limits: Limits { max_connections: app::connections_allowed(), ..Limits::default() },
        drain_timeout: DRAIN,
        wait_for_config: false,
        access_log: None,
        state_dir,
    }
}

/// This port of this host; any if it is taken.
fn free_or_any(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpListener::bind(usual).is_ok() { usual } else { ANY }
}

/// Answers for the versions.
async fn serve(upstreams: Vec<Upstream>, versions: [Version; 2], mut end: background::End) {
    let mut echoes = JoinSet::new();
    for Upstream { version, listener } in upstreams {
        let Some((_, behaviour)) = versions.into_iter().find(|(name, _)| *name == version) else { continue };
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

/// How the reader started this program, to be typed again.
fn command() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    if typed.is_empty() || typed.contains(char::is_whitespace) { "serin".to_owned() } else { typed }
}
