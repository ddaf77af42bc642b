//! Other proxies, where they are installed, in front of the same upstream: for figures that stand beside Serin's.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::config::Config;
use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::support::upstream::Refusing;

/// A proxy that is measured.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) listen: SocketAddr,
    process: Process,
}

enum Process {
    Serin(Box<Proxy>, Config),
    Other { child: Child, folder: TempDir },
}

impl Subject {
    /// Serin, and those that are here: nginx, HAProxy and, with `ENVOY` naming its binary, Envoy.
    pub(super) fn all(upstream: u16) -> Vec<Self> {
        let config = Config::single(&[upstream]);
        let proxy = Proxy::with(&config, &["--workers", "2"]);
        let mut all =
            vec![Self { name: "serin", listen: proxy.listen, process: Process::Serin(Box::new(proxy), config) }];
        all.extend(Self::start("nginx", upstream, |folder, port| {
            let place = folder.display();
            let text = format!(
                "daemon off; worker_processes 2; pid {place}/pid; error_log {place}/log;\n\
                 events {{ worker_connections 16384; }}\n\
                 http {{ access_log off; keepalive_timeout 1h; client_body_temp_path {place}/body;\n\
                 proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
                 upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; }}\n\
                 map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }} }} }}\n"
            );
            fs::write(folder.join("conf"), text).unwrap();
            vec!["-c".to_owned(), format!("{place}/conf"), "-p".to_owned(), place.to_string()]
        }));
        all.extend(Self::start("haproxy", upstream, |folder, port| {
            let text = format!(
                "global\n maxconn 9400\n nbthread 2\ndefaults\n mode http\n timeout connect 10s\n timeout client 1h\n\
                 \x20timeout server 1h\n timeout tunnel 1h\n http-reuse safe\nfrontend front\n bind 127.0.0.1:{port}\n\
                 \x20default_backend all\nbackend all\n server v1 127.0.0.1:{upstream}\n"
            );
            fs::write(folder.join("conf"), text).unwrap();
            vec!["-W".to_owned(), "-db".to_owned(), "-f".to_owned(), folder.join("conf").display().to_string()]
        }));
        all
    }

    fn start(name: &'static str, _: u16, write: impl Fn(&Path, u16) -> Vec<String>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = Refusing::new().port;
        let arguments = write(folder.path(), port);
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let started =
            Command::new(name).args(arguments).env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = started else {
            println!("{name} is not here");
            return None;
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(name, || TcpStream::connect(listen).is_ok());
        Some(Self { name, listen, process: Process::Other { child, folder } })
    }

    fn process(&self) -> u32 {
        match &self.process {
            Process::Serin(proxy, _) => proxy.process(),
            Process::Other { child, .. } => child.id(),
        }
    }

    /// Memory of the process and those it has started, in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process())).unwrap();
        let children = threads.filter_map(Result::ok).filter_map(|thread| {
            let children = fs::read_to_string(thread.path().join("children")).ok()?;
            Some(children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        });
        let all: Vec<u32> = children.flatten().chain([self.process()]).collect();
        all.into_iter().map(resident).sum()
    }

    /// Makes it read a configuration that differs, and waits for nothing.
    pub(super) fn reload(&mut self, round: usize) {
        match &self.process {
            Process::Serin(proxy, config) => proxy.save_by_rename(&format!("# {round}\n{}", config.yaml())),
            Process::Other { folder, .. } => {
                let path = folder.path().join("conf");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(&path, format!("{text}# {round}\n")).unwrap();
                self.signal(if self.name == "haproxy" { Signal::USR2 } else { Signal::HUP });
            }
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process()).unwrap()).unwrap();
        let _ = kill_process(pid, signal);
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Process::Other { child, .. } = &mut self.process {
            // With it go those it has started.
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            let _ = kill_process(pid, Signal::TERM);
            let _ = child.wait();
        }
    }
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
