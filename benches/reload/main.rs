//! What a large configuration and its reloads cost the requests that are under way: `cargo bench --bench reload`.
//!
//! The real binary serves thousands of VirtualServices to a constant load over kept connections. Quiet spells and spells in
//! which the files are rewritten again and again take turns (A B A B …), so that what else happens on the machine meets both.
//! Serin has one core to itself, its worker and the thread that reads share it; load and upstream have the others.
//! `-- --help` lists the options.

#[path = "../fixture/text.rs"]
mod text;

mod load;
#[path = "../peers/process.rs"]
#[allow(dead_code, reason = "the bench of the peers needs more of it")]
mod process;
mod report;
mod saves;
mod upstream;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use clap::Parser;

use load::{Client, Latencies, Load};
use process::{Cores, Process, free_port};
use report::Report;
use saves::Saves;

/// What a large configuration and its reloads cost the requests that are under way.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench reload --")]
struct Options {
    /// VirtualServices, each with a DestinationRule and a ServiceEntry
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    services: u32,

    /// Rules of each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rules: u32,

    /// Requests a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Connections that share the load
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Data-plane threads of Serin
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,

    /// Quiet spells, and as many of rewriting
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How long each spell lasts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a reload leaves behind is freed within this time.
const REST: Duration = Duration::from_secs(3);

impl Options {
    fn spell(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

fn main() -> ExitCode {
    if !env::args().any(|argument| argument == "--bench") {
        println!("measures only under `cargo bench --bench reload`");
        return ExitCode::SUCCESS;
    }
    match measure(&Options::parse()) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) -> Result<Report, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))?;
    let (config, log) = (folder.path().join("config"), folder.path().join("log"));
    std::fs::create_dir(&config).map_err(|error| format!("cannot make a folder: {error}"))?;
    let cores = Cores::of_this_process()?;
    process::keep_to(&cores.others)?;
    let upstreams = [upstream::start("v1")?, upstream::start("v2")?];
    text::write(&config, options.services as usize, options.rules as usize, upstreams);
    let port = free_port()?;
    let saves = Saves::new(&config, options.rules as usize, upstreams, port)?;
    let mut proxy = start(&cores, options, &config, port, &log)?;
    proxy.wait_for(&[port], &log)?;
    // It listens before it has read everything, and answers after.
    Client::connect(port)?.get(0, 0)?;

    let mut report = Report::new(options, proxy.memory_kib()?);
    let load = Load { port, services: options.services, rules: options.rules, rate: options.rate };
    // Connections are opened, and code and data get warm.
    load.run(options.connections, Duration::from_secs(2))?;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        thread::sleep(REST);
        report.quiet.push(load.run(options.connections, options.spell())?);
        let (busy, times) = while_saving(options, load, &saves)?;
        report.busy.push(busy);
        report.effects.extend(times);
    }
    thread::sleep(REST);
    report.memory_after_kib = proxy.memory_kib()?;
    report.memory_peak_kib = proxy.memory_peak_kib()?;
    Ok(report)
}

fn start(cores: &Cores, options: &Options, config: &Path, port: u16, log: &Path) -> Result<Process, String> {
    let text = |argument: &str| argument.to_owned();
    let arguments = [
        text("run"),
        config.display().to_string(),
        text("--listen"),
        format!("127.0.0.1:{port}"),
        text("--admin"),
        text("127.0.0.1:0"),
        text("--workers"),
        options.workers.to_string(),
    ];
    Process::start(&cores.proxy, Path::new(env!("CARGO_BIN_EXE_serin")), &arguments, log)
}

/// A spell of load with one save after the other.
fn while_saving(options: &Options, load: Load, saves: &Saves) -> Result<(Latencies, Vec<Duration>), String> {
    let (connections, spell) = (options.connections, options.spell());
    thread::scope(|scope| {
        let loading = scope.spawn(move || load.run(connections, spell));
        let mut effects = Vec::new();
        while !loading.is_finished() {
            effects.push(saves.save()?);
        }
        let latencies = loading.join().map_err(|_| "the load generator panicked".to_owned())??;
        Ok((latencies, effects))
    })
}
