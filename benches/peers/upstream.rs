//! What stands behind the proxies: one nginx that answers as `v1` on one port and as `v2` on another.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::configuration;
use crate::process::{Cores, Process, free_port, on_path};

/// The header in which the upstream says which version answered.
pub(crate) const VERSION_HEADER: &str = "x-version";

/// The running upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where `v1` and `v2` listen.
    pub(crate) ports: [u16; 2],
    status: u16,
    _process: Process,
}

impl Upstream {
    /// Starts it on the cores that are not the proxy's.
    pub(crate) fn start(folder: &Path, cores: &Cores) -> Result<Self, String> {
        let nginx =
            on_path("nginx").ok_or("the upstream is nginx: install the package nginx-light (Debian) or nginx")?;
        let folder = folder.join("upstream");
        let files = [("64k", 64 * 1024), ("1m", 1024 * 1024), ("upload", 1)];
        fs::create_dir(&folder).map_err(|error| format!("cannot make a folder: {error}"))?;
        for (name, length) in files {
            fs::write(folder.join(name), vec![b'x'; length])
                .map_err(|error| format!("cannot write a file: {error}"))?;
        }
        let (ports, status) = ([free_port()?, free_port()?], free_port()?);
        let arguments = configuration::nginx_files(&folder, &configuration::nginx_upstream(&folder, ports, status))?;
        let log = folder.join("log");
        let mut process = Process::start(&cores.others, &nginx, &arguments, &log)?;
        process.wait_for(&[ports[0], ports[1], status], &log).map_err(|error| format!("upstream: {error}"))?;
        Ok(Self { ports, status, _process: process })
    }

    /// How many connections it has accepted so far.
    pub(crate) fn connections(&self) -> Result<u64, String> {
        let answer = Client::connect(self.status)?.get("/")?;
        let mut numbers = answer.body.split_whitespace().filter_map(|word| word.parse().ok());
        // "Active connections: 1 … accepts handled requests 7 7 9".
        numbers.nth(1).ok_or_else(|| format!("the upstream's status is unreadable: {}", answer.body))
    }
}

/// A client with one connection, for a look rather than for load.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// What it got.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The header in which the upstream says who answered.
    pub(crate) version: String,
    body: String,
}

impl Client {
    /// Connects to a port of this machine.
    pub(crate) fn connect(port: u16) -> Result<Self, String> {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| format!("cannot connect: {error}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks for a path and wants a 200 with a `content-length`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.exchange(path).map_err(|error| format!("GET {path}: {error}"))
    }

    fn exchange(&mut self, path: &str) -> std::io::Result<Answer> {
        self.stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())?;
        let (mut version, mut length, mut line) = (String::new(), 0, String::new());
        self.stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(format!("answered {line:?}")));
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case(VERSION_HEADER) => {
                    value.trim().clone_into(&mut version)
                }
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0)
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { version, body: String::from_utf8_lossy(&body).into_owned() })
    }
}
