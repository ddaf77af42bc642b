//! Child processes with a place to run, and what they have used. A process ends with its value.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Pid, Signal, kill_process};

/// `USER_HZ`: the unit of times in `/proc`, the same on all architectures in use.
const TICKS_PER_SECOND: u64 = 100;

/// How long anything may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who runs where.
#[derive(Debug)]
pub(crate) struct Cores {
    /// The core of the proxy, as `taskset` takes it.
    pub(crate) proxy: String,
    /// The cores of load and upstream.
    pub(crate) others: String,
}

impl Cores {
    /// The last core that this process may use is the proxy's.
    pub(crate) fn of_this_process() -> Result<Self, String> {
        let status = fs::read_to_string("/proc/self/status")
            .map_err(|error| format!("cannot read /proc/self/status: {error}"))?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default().trim();
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("cannot read the list of cores `{list}`"));
        let mut cores = Vec::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            cores.extend(number(first)?..=number(last)?);
        }
        match cores.split_last() {
            Some((proxy, others)) if !others.is_empty() => {
                let others: Vec<String> = others.iter().map(ToString::to_string).collect();
                Ok(Self { proxy: proxy.to_string(), others: others.join(",") })
            }
            _ => Err("needs two cores: one for the proxy, one for load and upstream".to_owned()),
        }
    }
}

/// Keeps this process, and what it will start, to some cores.
pub(crate) fn keep_to(cores: &str) -> Result<(), String> {
    let id = std::process::id().to_string();
    let done = Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", cores, &id]).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("taskset: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("cannot start taskset: {error}")),
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

/// Where a command of this name lies on `PATH`, or in a folder that shells of ordinary users leave out.
pub(crate) fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A program that runs on some cores until it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program; what it prints goes to `log`.
    pub(crate) fn start(cores: &str, program: &Path, arguments: &[String], log: &Path) -> Result<Self, String> {
        let failed = |error| format!("cannot start {}: {error}", program.display());
        let output = File::create(log).map_err(failed)?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", cores]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(failed)?).stderr(output);
        Ok(Self { child: command.spawn().map_err(failed)? })
    }

    /// Waits until somebody listens on all of these ports.
    pub(crate) fn wait_for(&mut self, ports: &[u16], log: &Path) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        for port in ports {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            while std::net::TcpStream::connect(address).is_err() {
                let ended = self.child.try_wait().map_err(|error| error.to_string())?;
                if ended.is_some() || Instant::now() > deadline {
                    return Err(format!(
                        "does not listen on {address}; it said:\n{}",
                        fs::read_to_string(log).unwrap_or_default()
                    ));
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// CPU time, in user and kernel, of the process and all that it started.
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        let ticks: u64 = self.family()?.iter().map(|process| process.ticks).sum();
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Resident memory, in KiB, of the process and all that it started. Shared pages count once for each.
    pub(crate) fn memory_kib(&self) -> Result<u64, String> {
        self.sum_of_status("VmRSS:")
    }

    /// The most that it ever was.
    pub(crate) fn memory_peak_kib(&self) -> Result<u64, String> {
        self.sum_of_status("VmHWM:")
    }

    fn sum_of_status(&self, field: &str) -> Result<u64, String> {
        let value = |process: &Entry| {
            let status = fs::read_to_string(format!("/proc/{}/status", process.id)).ok()?;
            status.lines().find_map(|line| line.strip_prefix(field))?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        Ok(self.family()?.iter().filter_map(value).sum())
    }

    fn family(&self) -> Result<Vec<Entry>, String> {
        let mut others: Vec<Entry> = entries()?;
        let mut family: Vec<Entry> = others.extract_if(.., |process| process.id == self.child.id()).collect();
        let mut at = 0;
        while let Some(parent) = family.get(at).map(|process| process.id) {
            family.extend(others.extract_if(.., |process| process.parent == parent));
            at += 1;
        }
        if family.is_empty() { Err("a process ended while it was measured".to_owned()) } else { Ok(family) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(id, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A line of the process table.
#[derive(Debug)]
struct Entry {
    id: u32,
    parent: u32,
    ticks: u64,
}

fn entries() -> Result<Vec<Entry>, String> {
    let folder = fs::read_dir("/proc").map_err(|error| format!("cannot read /proc: {error}"))?;
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| entry(name.parse().ok()?)).collect())
}

fn entry(id: u32) -> Option<Entry> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; what follows is numbered from 3 in proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Entry { id, parent: u32::try_from(field(4)?).ok()?, ticks: field(14)? + field(15)? })
}
